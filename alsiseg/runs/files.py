"""Files of a run: written whole, and verified when they are read."""

import hashlib
import json
import math
import re
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from alsiseg.unet import UNet, UNetConfig
from alsiseg.volumes import written_whole

FORMAT = "alsiseg run 1"
EPOCH = re.compile(r"epoch_([0-9]{4}|[1-9][0-9]{4,11})")
CHECKSUM = "checksum"  # the key of a JSON file that holds the SHA-256 of the rest of it
PIECE_BYTES = 2**24
LARGEST_NUMBER = 2**40  # of a size or an epoch: beyond it nothing was written by alsiseg

Settings = TypeVar("Settings")
Layout = tuple[torch.Size, torch.dtype]


def numbered(folder: Path, suffix: str = ".json") -> dict[int, Path]:
    """Files of the epochs in a folder, by epoch; a network or a state is complete when its JSON is there."""
    named = {path: EPOCH.fullmatch(path.stem) for path in folder.glob(f"epoch_*{suffix}")}
    return dict(sorted((int(name[1]), path) for path, name in named.items() if name))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file with the checksum of its content."""
    text = json.dumps(content | {CHECKSUM: _checksum(content)}, indent=2)
    with written_whole(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file and compare it with its checksum; files of the first version have none."""
    with contents_of(path):
        content = json.loads(path.read_text(encoding="utf-8"))
        expected = content.pop(CHECKSUM, None)
        if expected not in (None, _checksum(content)):
            raise ValueError("its checksum differs")
        return content


def read_header(path: Path) -> dict[str, Any]:
    """Read a JSON file of this format."""
    content = read_json(path)
    if content.get("format") != FORMAT:
        found = str(content.get("format"))[:40]
        raise ValueError(f"needs the format {FORMAT!r}, {path} has {found!r}; use the version of alsiseg that wrote it")
    return content


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def contents_of(path: Path) -> Iterator[None]:
    """Say in one sentence when a file does not hold what alsiseg writes there."""
    try:
        yield
    except (LookupError, AttributeError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and str(path.parent) in str(error):
            raise  # a file named already
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is damaged or was not written by alsiseg ({reason}); train again") from error


def whole_number(header: Mapping[str, Any], name: str) -> int:
    """Take a number that says how many or which one from what was read."""
    value = header[name]
    if type(value) is not int or not 0 <= value <= LARGEST_NUMBER:
        _refuse(name, "a whole number from 0", value)
    return value


def settings_from(kind: type[Settings], values: Any) -> Settings:  # Any: whatever the file holds
    """Make settings of numbers from what was read, whatever that is."""
    if not isinstance(values, dict):
        _refuse(kind.__name__, "named values", values)
    kinds = typing.get_type_hints(kind)
    for name, value in values.items():
        if kinds.get(name) is int:
            whole_number(values, name)
        elif kinds.get(name) is float and not (type(value) in (int, float) and math.isfinite(value)):
            _refuse(name, "a finite number", value)
    return kind(**values)


def _refuse(name: str, needed: str, found: object) -> NoReturn:
    raise ValueError(f"{name} must be {needed}, found {str(found)[:40]!r}")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors, compare what the disk then holds with what was meant, and give its SHA-256.

    The bytes are made in memory, so that a full disk is an `OSError` like any other.
    """
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {"format": FORMAT})
    with written_whole(path) as partial:
        partial.write_bytes(content)
        if not _holds(partial, content):
            raise OSError(f"needs a disk that keeps what is written, {path} came back changed; choose another one")
    return hashlib.sha256(content).hexdigest()


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file holds exactly these bytes."""
    with path.open("rb") as file:
        pieces = range(0, len(content), PIECE_BYTES)
        return all(file.read(PIECE_BYTES) == content[i : i + PIECE_BYTES] for i in pieces) and not file.read(1)


def read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read tensors whose checksum is known; runs nothing from the file."""
    content = path.read_bytes() if path.is_file() else None
    if content is None or hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is missing or damaged (its checksum differs); use another epoch or train again")
    try:
        return load(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); train again") from error


def is_whole(path: Path, sha256: str) -> bool:
    """Whether the file is there with this checksum."""
    return path.is_file() and _digest(path) == sha256


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def network_from(config: UNetConfig, tensors: Mapping[str, Tensor]) -> UNet:
    """Build a network with the weights that were read, after comparing every name and shape.

    The comparison needs no memory, so that settings of a network too large to build are refused first.
    """
    with torch.device("meta"):
        needed = layouts(UNet(config).state_dict())
    check_layouts(tensors, needed)
    network = UNet(config)
    network.load_state_dict(dict(tensors))
    return network


def layouts(tensors: Mapping[str, Tensor]) -> dict[str, Layout]:
    """Shape and type of every tensor."""
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def check_layouts(tensors: Mapping[str, Tensor], needed: Mapping[str, Layout]) -> None:
    """Refuse tensors that are not exactly those needed."""
    found = layouts(tensors)
    for name in sorted({*needed, *found}):
        if name not in found or name not in needed:
            raise ValueError(f"the tensor {name} is {'missing' if name in needed else 'not part of this network'}")
        if found[name] != needed[name]:
            shapes = [
                f"{tuple(shape)} {str(dtype).removeprefix('torch.')}" for shape, dtype in (needed[name], found[name])
            ]
            raise ValueError(f"size mismatch of the tensor {name}: needs {shapes[0]}, found {shapes[1]}")
