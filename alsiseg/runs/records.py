"""What a run says about itself: settings, truth, labels of the test section."""

import hashlib
import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import volumes
from alsiseg.metrics import NetworkMeasure
from alsiseg.runs.files import FORMAT, contents_of, read_header, read_json, write_json
from alsiseg.runs.places import SETTINGS, header_of, located, name_of


def checksum(array: NDArray) -> str:
    """SHA-256 of the values of an array (not of the file they came from)."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def versions() -> dict[str, str]:
    """Name the versions that decide the numbers."""
    packages = ("alsiseg", "torch", "numpy", "scipy", "scikit-image", "connected-components-3d")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def start(run_dir: Path, settings: dict[str, Any], truth: dict[str, NetworkMeasure]) -> None:
    """Make a run folder with its settings and the measures of the test truth.

    Raises
    ------
    ValueError
        When the folder holds epochs of a run whose settings are gone.
    """
    discard_unfinished(run_dir)
    for name in ("resume", "checkpoints", "history.csv"):
        if (run_dir / name).exists():
            raise ValueError(f"needs a folder without a run, found {name} but no settings in {run_dir}; choose another")
    write_json(run_dir / "truth.json", {name: asdict(measure) for name, measure in truth.items()})
    write_json(run_dir / SETTINGS, {"format": FORMAT, **settings, "versions": versions()})


def discard_unfinished(run_dir: Path) -> None:
    """Remove what a killed program left of files that it was writing."""
    names = (SETTINGS, "truth.json", "best.json", "history.csv", "accuracy_per_slice.csv")
    for pattern in (*names, "checkpoints/*", "resume/*", "test/*"):
        volumes.discard_partial(run_dir / pattern)


def read_settings(run_dir: str | Path) -> dict[str, Any]:
    """Read `settings.json`, or what an exported network says of its run; one sentence when there is neither."""
    path = header_of(located(run_dir))
    if not path.is_file():
        raise FileNotFoundError(f"needs a run with {path.name}, found none in {path.parent}; train first")
    return read_header(path)


def amend(run_dir: Path, entries: dict[str, Any]) -> None:
    """Replace entries of `settings.json`, such as how many epochs a training of so many minutes came to."""
    write_json(run_dir / SETTINGS, read_settings(run_dir) | entries)


def parent(run_dir: Path, epoch: int, seen_from: Path) -> dict[str, Any]:
    """Say which network of a run another run begins with, for that run's settings.

    Returns
    -------
    dict
        `run`, the way from the folder `seen_from` to the parent's, or the name of a network that comes with alsiseg;
        `epoch`; `sha256` of the file that holds the network.
    """
    places = (run_dir / folder / f"epoch_{epoch:04d}.json" for folder in ("checkpoints", "resume"))
    path = next((path for path in (*places, header_of(run_dir)) if path.is_file()), None)
    header = {} if path is None else read_header(path)
    if header.get("epoch") != epoch:
        raise FileNotFoundError(f"needs the network of epoch {epoch}, found none in {run_dir}; ask for a kept one")
    way = name_of(run_dir) or Path(os.path.relpath(run_dir.resolve(), seen_from.resolve())).as_posix()
    return {"run": way, "epoch": epoch, "sha256": header["sha256"]}


def exists(run_dir: Path) -> bool:
    """Whether a run was started in `run_dir`."""
    return (Path(run_dir) / SETTINGS).is_file()


def differences(run_dir: Path, settings: dict[str, Any]) -> list[str]:
    """Name the settings in which a new call differs from the run in `run_dir`.

    The number of epochs may grow; the draws of an epoch do not depend on it.
    """
    before, now = _deciding(read_settings(run_dir)), _deciding(json.loads(json.dumps(settings)))
    changed = [key for key in before | now if before.get(key) != now.get(key)]
    return [f"{key} {before.get(key)} -> {now.get(key)}" for key in changed]


def identity(run_dir: Path) -> str:
    """SHA-256 of the settings that decide the numbers of a run: what a state belongs to."""
    return hashlib.sha256(json.dumps(_deciding(read_settings(run_dir)), sort_keys=True).encode()).hexdigest()


def _deciding(settings: dict[str, Any]) -> dict[str, Any]:
    # what the grey looks like follows from the data, whose checksums are compared; runs of before have no record of it
    ignored = ("format", "versions.", "config.epochs", "config.kept_every", "likeness.", "further_likeness.")
    return {key: value for key, value in _flat(settings).items() if not key.startswith(ignored)}


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def set_aside(run_dir: Path) -> Path:
    """Rename a run that is to be trained anew, so that nothing is lost."""
    number = 1
    while (aside := run_dir.with_name(f"{run_dir.name}.before-{number}")).exists():
        number += 1
    return run_dir.rename(aside)


def read_truth(run_dir: str | Path) -> dict[str, NetworkMeasure]:
    """Read the measures of the test truth."""
    path = located(run_dir) / "truth.json"
    if not path.is_file():
        raise FileNotFoundError(f"needs a run folder with truth.json, found none in {run_dir}; train first")
    with contents_of(path):
        return {name: NetworkMeasure(**values) for name, values in read_json(path).items()}


def save_test_truth(run_dir: Path, truth_zyx: NDArray[np.uint8], voxel_size_um: float | None) -> Path:
    """Keep the true labels of the test section."""
    return volumes.write(run_dir / "test" / "truth.tif", truth_zyx, voxel_size_um=voxel_size_um)


def save_prediction(run_dir: Path, labels_zyx: NDArray[np.uint8], epoch: int, voxel_size_um: float | None) -> Path:
    """Keep the labels that the network of one epoch gives the test section."""
    return volumes.write(run_dir / "test" / f"epoch_{epoch:04d}.tif", labels_zyx, voxel_size_um=voxel_size_um)


def read_test(run_dir: str | Path, epoch: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read true and predicted labels of the test section, each (Z, Y, X), for a kept epoch."""
    folder = located(run_dir) / "test"
    return volumes.open(folder / "truth.tif")[:], volumes.open(folder / f"epoch_{epoch:04d}.tif")[:]
