"""The run folder: everything about one training, whole or not there at all.

::

    settings.json                        what repeats the run: configuration, checksums of the data, versions
    truth.json                           the measures of the test truth, for the dashed lines
    history.csv                          one row per epoch, epoch 0 is the untrained network
    accuracy_per_slice.csv               one row per epoch, one column per test slice
    checkpoints/epoch_0050.safetensors   the network, with epoch_0050.json beside it
    test/truth.tif, test/epoch_0050.tif  labels of the test section: true, and as that network gives them
    resume/                              the last complete state of network and optimiser

Nothing here is pickled: loading a file runs no code from it.
"""

import csv
import hashlib
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alsiseg import volumes
from alsiseg.dataset import GreyScale
from alsiseg.metrics import NetworkMeasure
from alsiseg.unet import UNet, UNetConfig
from alsiseg.volumes import written_whole

FORMAT = "alsiseg run 1"


@dataclass(frozen=True)
class Trained:
    """A network as a run left it.

    Attributes
    ----------
    network : UNet
        In evaluation mode, on the CPU.
    grey_scale : GreyScale
        Of the volume it was trained on.
    epoch : int
    run_dir : Path
    """

    network: UNet
    grey_scale: GreyScale
    epoch: int
    run_dir: Path


def checksum(array: NDArray) -> str:
    """SHA-256 of the values of an array (not of the file they came from)."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def versions() -> dict[str, str]:
    """Name the versions that decide the numbers."""
    packages = ("alsiseg", "torch", "numpy", "scipy", "scikit-image", "connected-components-3d")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def start(run_dir: Path, settings: dict[str, Any], truth: dict[str, NetworkMeasure]) -> None:
    """Make a run folder with its settings and the measures of the test truth."""
    _write_json(run_dir / "truth.json", {name: asdict(measure) for name, measure in truth.items()})
    _write_json(run_dir / "settings.json", {"format": FORMAT, **settings, "versions": versions()})


def read_settings(run_dir: Path) -> dict[str, Any]:
    """Read `settings.json`; say so in one sentence when the folder is no run."""
    path = Path(run_dir) / "settings.json"
    if not path.is_file():
        raise FileNotFoundError(f"needs a run folder with settings.json, found none in {run_dir}; train first")
    return _read_json(path)


def exists(run_dir: Path) -> bool:
    """Whether a run was started in `run_dir`."""
    return (Path(run_dir) / "settings.json").is_file()


def differences(run_dir: Path, settings: dict[str, Any]) -> list[str]:
    """Name the settings in which a new call differs from the run in `run_dir`.

    The number of epochs may grow; the draws of an epoch do not depend on it.
    """
    before, now = _flat(read_settings(run_dir)), _flat(json.loads(json.dumps(settings)))
    ignored = ("format", "versions.", "config.epochs", "config.kept_every")
    keys = [key for key in before | now if not key.startswith(ignored)]
    return [f"{key} {before.get(key)} -> {now.get(key)}" for key in keys if before.get(key) != now.get(key)]


def extend(run_dir: Path, settings: dict[str, Any]) -> None:
    """Enter in `settings.json` how many epochs a continued run is to have, and which are kept."""
    before = read_settings(run_dir)
    config = before["config"] | {key: settings["config"][key] for key in ("epochs", "kept_every")}
    if config != before["config"]:
        _write_json(run_dir / "settings.json", before | {"config": config})


def set_aside(run_dir: Path) -> Path:
    """Rename a run that is to be trained anew, so that nothing is lost."""
    number = 1
    while (aside := run_dir.with_name(f"{run_dir.name}.before-{number}")).exists():
        number += 1
    return run_dir.rename(aside)


def record(run_dir: Path, row: dict[str, float], accuracy_z: NDArray[np.float64]) -> None:
    """Add one epoch to the histories, in place of any row of the same or a later epoch."""
    _append_row(run_dir / "history.csv", row)
    slices = {f"slice_{z + 1}": float(value) for z, value in enumerate(accuracy_z)}
    _append_row(run_dir / "accuracy_per_slice.csv", {"epoch": row["epoch"], **slices})


def read_history(run_dir: Path) -> dict[str, NDArray[np.float64]]:
    """Read `history.csv` as one array per column.

    Columns: `epoch` (0 is the untrained network), `train_loss` and `test_loss` (per pixel), `accuracy` and
    `interface_accuracy` (0..1, test section), for each network `_volume_fraction_pct`, `_interconnectivity`
    (0..1), `_euler_number`, and `images_per_s`.
    """
    return _read_columns(Path(run_dir) / "history.csv")


def read_accuracy_per_slice(run_dir: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read the epochs (E,) and the accuracy of every test slice (E, Z), 0..1."""
    columns = _read_columns(Path(run_dir) / "accuracy_per_slice.csv")
    epochs = columns.pop("epoch").astype(np.int64)
    return epochs, np.stack(list(columns.values()), axis=1)


def read_truth(run_dir: Path) -> dict[str, NetworkMeasure]:
    """Read the measures of the test truth."""
    path = Path(run_dir) / "truth.json"
    if not path.is_file():
        raise FileNotFoundError(f"needs a run folder with truth.json, found none in {run_dir}; train first")
    with _contents_of(path):
        measures = json.loads(path.read_text())
        return {name: NetworkMeasure(**values) for name, values in measures.items()}


def save_network(run_dir: Path, network: UNet, grey_scale: GreyScale, epoch: int) -> Path:
    """Keep the network of one epoch for use: safetensors, and a JSON with what rebuilds it."""
    path = run_dir / "checkpoints" / f"epoch_{epoch:04d}.safetensors"
    digest = _write_tensors(path, _on_cpu(network.state_dict()))
    header = {"format": FORMAT, "epoch": epoch, "unet": asdict(network.config), "grey_scale": asdict(grey_scale)}
    _write_json(path.with_suffix(".json"), {**header, "sha256": digest})
    return path


def save_test_truth(run_dir: Path, truth_zyx: NDArray[np.uint8], voxel_size_um: float | None) -> Path:
    """Keep the true labels of the test section."""
    return volumes.write(run_dir / "test" / "truth.tif", truth_zyx, voxel_size_um=voxel_size_um)


def save_prediction(run_dir: Path, labels_zyx: NDArray[np.uint8], epoch: int, voxel_size_um: float | None) -> Path:
    """Keep the labels that the network of one epoch gives the test section."""
    return volumes.write(run_dir / "test" / f"epoch_{epoch:04d}.tif", labels_zyx, voxel_size_um=voxel_size_um)


def read_test(run_dir: Path, epoch: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read true and predicted labels of the test section, each (Z, Y, X), for a kept epoch."""
    folder = Path(run_dir) / "test"
    return volumes.open(folder / "truth.tif")[:], volumes.open(folder / f"epoch_{epoch:04d}.tif")[:]


def kept_epochs(run_dir: Path) -> list[int]:
    """List the epochs whose network was kept whole."""
    kept = (Path(run_dir) / "checkpoints").glob("epoch_*.json")
    return sorted(int(number) for path in kept if (number := path.stem.removeprefix("epoch_")).isdecimal())


def load_network(run_dir: str | Path, epoch: int | None = None) -> Trained:
    """Load the network of a kept epoch, or of the last complete one (also of a training that was stopped).

    Raises
    ------
    FileNotFoundError
        When there is no run or no such epoch; the message lists the epochs there are.
    ValueError
        When the file is damaged or of another format.
    """
    run_dir = Path(run_dir)
    settings = read_settings(run_dir)
    kept, complete = kept_epochs(run_dir), _complete_epoch(run_dir)
    usable = sorted({*kept, complete} - {-1, 0})
    if not usable or (epoch is not None and epoch not in usable):
        wanted, found = "any epoch" if epoch is None else f"epoch {epoch}", ", ".join(map(str, usable)) or "none"
        raise FileNotFoundError(f"needs the network of {wanted}, {run_dir} has kept {found}; ask for a kept one")
    epoch = usable[-1] if epoch is None else epoch
    if epoch in kept:
        network, scale = _read_checkpoint(run_dir / "checkpoints" / f"epoch_{epoch:04d}.safetensors")
    else:
        with _contents_of(run_dir / "settings.json"):
            network = UNet(UNetConfig(**settings["config"]["unet"]))
            scale = GreyScale(**settings["grey_scale"])
        network.load_state_dict(_network_tensors(_read_state(run_dir)[1]))
    return Trained(network.eval(), scale, epoch, run_dir)


def _read_checkpoint(path: Path) -> tuple[UNet, GreyScale]:
    header = _read_json(path.with_suffix(".json"))
    with _contents_of(path.with_suffix(".json")):
        network = UNet(UNetConfig(**header["unet"]))
        network.load_state_dict(_read_tensors(path, header["sha256"]))
        return network, GreyScale(**header["grey_scale"])


def save_state(run_dir: Path, network: UNet, optimiser: torch.optim.Optimizer, epoch: int) -> None:
    """Replace the state to resume from; a stop at any moment leaves the previous or the new one.

    The tensors go to a file of their own per epoch; `state.json` names the valid one and is replaced last.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    path = run_dir / "resume" / f"epoch_{epoch:04d}.safetensors"
    digest = _write_tensors(path, _on_cpu(tensors))
    _write_json(run_dir / "resume" / "state.json", {"format": FORMAT, "epoch": epoch, "sha256": digest})
    for old in path.parent.glob("epoch_*.safetensors"):
        if old != path:
            old.unlink()


def load_state(run_dir: Path, network: UNet, optimiser: torch.optim.Optimizer) -> int:
    """Bring network and optimiser to the last complete epoch and return its number; -1 when there is none."""
    if _complete_epoch(run_dir) < 0:
        return -1
    epoch, tensors = _read_state(run_dir)
    with _contents_of(run_dir / "resume" / "state.json"):
        network.load_state_dict(_network_tensors(tensors))
        optimiser.load_state_dict({**optimiser.state_dict(), "state": _moments(tensors, network)})
    return epoch


def _complete_epoch(run_dir: Path) -> int:
    """Number of the epoch whose state `save_state` kept, -1 when there is none."""
    pointer = run_dir / "resume" / "state.json"
    if not pointer.is_file():
        return -1
    state = _read_json(pointer)
    with _contents_of(pointer):
        return int(state["epoch"])


def _read_state(run_dir: Path) -> tuple[int, dict[str, Tensor]]:
    pointer = run_dir / "resume" / "state.json"
    state = _read_json(pointer)
    with _contents_of(pointer):
        tensors = _read_tensors(pointer.with_name(f"epoch_{state['epoch']:04d}.safetensors"), state["sha256"])
        return state["epoch"], tensors


def _network_tensors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("network."): t for name, t in state.items() if name.startswith("network.")}


def _moments(tensors: dict[str, Tensor], network: UNet) -> dict[int, dict[str, Tensor]]:
    """Adam's running means per parameter, laid out in memory as the parameter is.

    In another layout the same steps would round differently.
    """
    parameters = list(network.parameters())
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".")
            like = parameters[int(index)]
            laid_out = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.ndim else tensor
            moments.setdefault(int(index), {})[key] = laid_out
    return moments


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    with written_whole(path) as partial:
        save_file(tensors, partial, metadata={"format": FORMAT})
        return hashlib.sha256(partial.read_bytes()).hexdigest()


def _read_tensors(path: Path, sha256: str) -> dict[str, Tensor]:
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ValueError(f"{path} is missing or damaged (its checksum differs); use another epoch or train again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); train again") from error


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of this format."""
    with _contents_of(path):
        content = json.loads(path.read_text())
        found = content.get("format")
    if found != FORMAT:
        raise ValueError(f"needs the format {FORMAT!r}, {path} has {found!r}; use the version of alsiseg that wrote it")
    return content


@contextmanager
def _contents_of(path: Path) -> Iterator[None]:
    """Say in one sentence when a file does not hold what alsiseg writes there."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, ValueError) and str(path.parent) in str(error):
            raise  # a file named already
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is damaged or was not written by alsiseg ({reason}); train again") from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")


def _append_row(path: Path, row: dict[str, float]) -> None:
    rows: list[dict[str, Any]] = []
    if path.is_file():
        with _contents_of(path), path.open(newline="") as file:
            rows = [old for old in csv.DictReader(file) if float(old["epoch"]) < row["epoch"]]
    with written_whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        writer.writeheader()
        writer.writerows([*rows, row])


def _read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    if not path.is_file():
        raise FileNotFoundError(f"needs a run with {path.name}, found none in {path.parent}; train first")
    with _contents_of(path), path.open(newline="") as file:
        rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
