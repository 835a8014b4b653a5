"""Hand a trained network on: ONNX or safetensors, with a model card beside it.

`cards` gathers from the run folder what a card says, `limits` what the numbers of the run do not allow, `usage` how
the network is used, `text` writes it down; `onnx_files` makes the ONNX file, `checks` runs it beside alsiseg;
`packing` makes the small run folders of the networks that come with alsiseg.
"""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from alsiseg import runs, volumes
from alsiseg.exporting import onnx_files
from alsiseg.exporting.cards import as_json, card_of, model_card
from alsiseg.exporting.checks import Check, Grey, check_onnx, compare, generated_grey
from alsiseg.exporting.packing import CARD_MD, pack, summary
from alsiseg.exporting.text import as_markdown
from alsiseg.exporting.usage import python_lines
from alsiseg.runs import Trained
from alsiseg.runs.files import read_header, write_json

__all__ = [
    "CARD_MD",
    "Check",
    "as_markdown",
    "check_onnx",
    "compare",
    "export",
    "files_of",
    "model_card",
    "pack",
    "summary",
]

Say = Callable[[str], object]


def export(
    run_dir: str | Path,
    out: str | Path,
    *,
    epoch: int | None = None,
    check_with: Grey | None = None,
    overwrite: bool = False,
    say: Say | None = None,
) -> Path:
    """Write the network of a run as ONNX or safetensors, and its model card as JSON and Markdown beside it.

    Parameters
    ----------
    run_dir
        A run folder; the card is made from it alone.
    out
        Ends in .onnx or .safetensors. The files of `files_of` get their names when all of them are whole.
    epoch
        A kept epoch; the last one unless given.
    check_with : (Z, Y, X)
        A scan. An ONNX file is always run in onnxruntime on generated grey before it gets its name; with a scan on
        some slices from its middle too.
    overwrite
        Whether files of these names may be replaced.
    say : callable or None
        Called with sentences on what is done and what the checks found.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ValueError
        When a file exists, the run is damaged, or the ONNX file gives other numbers than the network.
    ImportError
        When ONNX is asked for and its packages are not installed.
    OSError
        When there is no such run or epoch, or nothing can be written there.
    """
    out, say = Path(out), say or (lambda sentence: None)
    _check_free(files_of(out), overwrite)
    if out.suffix == ".onnx":
        onnx_files.check_installed()
    elif check_with is not None:
        raise ValueError(f"only ONNX files are checked with a scan, got {out}; leave the scan out")
    trained = runs.load_network(run_dir, epoch)
    card = card_of(trained)
    make = _onnx if out.suffix == ".onnx" else _tensors
    contents, made = make(out, trained, card, check_with, say)
    file = {"name": out.name, "sha256": hashlib.sha256(contents[out]).hexdigest(), **made}
    card |= {"file": file, "use": card["use"] | python_lines(out.name, card["network"])}
    *_, card_json, card_md = files_of(out)
    contents |= {card_json: as_json(card).encode(), card_md: as_markdown(card).encode()}
    _write_together(contents)
    return out


def files_of(out: str | Path) -> list[Path]:
    """List the files that `export` writes: the network, for safetensors its header, and the card twice."""
    out = Path(out)
    if out.suffix not in (".onnx", ".safetensors"):
        raise ValueError(f"needs a name that ends in .onnx or .safetensors, got {out}; choose another")
    header = [out.with_suffix(".json")] if out.suffix == ".safetensors" else []
    return [out, *header, out.with_suffix(".card.json"), out.with_suffix(".card.md")]


def _check_free(paths: list[Path], overwrite: bool) -> None:
    for path in paths:
        volumes.check_place(path)
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists already; choose another name or say --overwrite")


def _onnx(
    out: Path, trained: Trained, card: dict[str, Any], scan: Grey | None, say: Say
) -> tuple[dict[Path, bytes], dict[str, Any]]:
    """Make the ONNX file and run it."""
    say(f"making an ONNX file of {card['network']['n_parameters']:,} parameters, at the published width in a minute")
    content, described = onnx_files.made(trained, card)
    checks = {"generated grey": compare(content, trained, generated_grey())}
    if scan is not None:
        checks["a scan"] = compare(content, trained, scan)
    for what, check in checks.items():
        check.refuse_another_function()
        say(f"checked on {what}: {check}")
    return {out: content}, described | {"checks": {what: check.as_dict() for what, check in checks.items()}}


def _tensors(
    out: Path, trained: Trained, card: dict[str, Any], scan: Grey | None, say: Say
) -> tuple[dict[Path, bytes], dict[str, Any]]:
    """Make the file of a kept network again; its header rebuilds it, and holds the settings of its run."""
    with TemporaryDirectory() as place:
        network = runs.save_network(Path(place), trained.network, trained.grey_scale, trained.epoch)
        described = network.with_suffix(".json")
        write_json(described, runs.read_settings(trained.run_dir) | read_header(described))
        _, header = files_of(out)[:2]
        contents = {out: network.read_bytes(), header: described.read_bytes()}
    return contents, {"format": "safetensors", "header": header.name}


def _write_together(contents: dict[Path, bytes]) -> None:
    """Write files beside their places and rename them when all are whole, the network last."""
    with ExitStack() as whole:
        partials = [whole.enter_context(volumes.written_whole(path)) for path in contents]
        for partial, content in zip(partials, contents.values(), strict=True):
            partial.write_bytes(content)
