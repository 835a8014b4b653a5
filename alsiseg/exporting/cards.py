"""What a model card says: read from the run folder, nothing typed by hand."""

import json
import math
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import numpy as np

from alsiseg import metrics, runs, volumes
from alsiseg.exporting.limits import limits
from alsiseg.exporting.usage import commands
from alsiseg.phases import PHASE_NAMES, Phase
from alsiseg.runs import Trained
from alsiseg.runs.files import contents_of, read_json
from alsiseg.unet import ALIGNMENT, UNetConfig, n_parameters

FORMAT = "alsiseg model card 1"
QUANTITIES = ("volume_fraction_pct", "interconnectivity", "euler_number")
SCATTER_EPOCHS = 5
VALIDATION = "validation.json"  # in a packed run: what was measured on other specimens


def model_card(run_dir: str | Path, epoch: int | None = None) -> dict[str, Any]:
    """Gather what a model card says about the network of a kept epoch, the last one unless given.

    Returns
    -------
    dict
        Plain values that JSON can hold; the same for the same run and version. `data`, `settings`, `measures` and
        `versions` come from the run folder; `limits` are sentences made of its numbers; None where it says nothing.

    Raises
    ------
    ValueError
        When the run is damaged, or its network tells other than the three phases apart.
    OSError
        When there is no run or no such epoch.
    """
    return card_of(runs.load_network(run_dir, epoch))


def card_of(trained: Trained) -> dict[str, Any]:
    """Gather the card of a loaded network; see `model_card`."""
    _check_phases(trained.network.config)
    settings, measures = runs.read_settings(trained.run_dir), _measures(trained.run_dir, trained.epoch)
    with contents_of(trained.run_dir / "settings.json"):
        return _gathered(trained, settings, measures)


def _gathered(trained: Trained, settings: dict[str, Any], measures: dict[str, Any] | None) -> dict[str, Any]:
    run, package = trained.run_dir.resolve().name, metadata("alsiseg").json
    learned = {
        "data": _data(settings, trained.run_dir),
        "parent": dict(settings.get("parent", {})) or None,
        "correction": dict(settings.get("correction", {})) or None,
        "settings": _training(settings),
        "measures": measures,
        "validation": _validation(trained.run_dir),
    }
    return {
        "format": FORMAT,
        "name": f"{run}, epoch {trained.epoch}",
        "what": _what(trained),
        "network": _network(trained),
        "input": _input(trained.network.config),
        "output": _output(),
        **learned,
        "limits": limits(learned),
        "use": commands(run, trained.epoch),
        "versions": {"of the training": dict(settings.get("versions", {})) or None, "of this card": runs.versions()},
        "licence_of_the_code": package["license_expression"],
        "cite": [url.partition(", ")[2] for url in package["project_url"] if url.startswith("Paper,")],
    }


def as_json(card: dict[str, Any]) -> str:
    """Write a card as JSON."""
    return json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _check_phases(config: UNetConfig) -> None:
    if config.n_classes != len(Phase):
        raise ValueError(
            f"needs a network for the {len(Phase)} phases, this one tells {config.n_classes} classes apart; train one "
            "on labels 0, 1 and 2"
        )


def _what(trained: Trained) -> str:
    config, phases = trained.network.config, ", ".join(PHASE_NAMES[phase] for phase in Phase)
    return (
        f"U-Net with {n_parameters(trained.network):,} parameters that gives every voxel of a tomograph of an Al-Si "
        f"cast alloy its phase ({phases}) from the grey values of {config.n_slices} consecutive slices."
    )


def _network(trained: Trained) -> dict[str, Any]:
    config = trained.network.config
    return {
        "epoch": trained.epoch,
        "phases": [PHASE_NAMES[phase] for phase in Phase],
        "n_slices": config.n_slices,
        "stem_channels": config.stem_channels,
        "n_parameters": n_parameters(trained.network),
        "sha256": runs.parent(trained.run_dir, trained.epoch, trained.run_dir)["sha256"],
        "grey_scale_of_training": dict(vars(trained.grey_scale)),
    }


def _input(config: UNetConfig) -> str:
    n, side = config.n_slices, config.n_slices // 2
    return (
        f"float32 (images, {n}, rows, columns): the slices z - {side} to z + {side} of the scan, where beyond the ends "
        f"the outermost slice is repeated. Rows and columns are multiples of {ALIGNMENT}; others are mirrored at the "
        "last pixel up to the next one. The grey is normalised over the whole scan, (grey - mean) / spread: mean and "
        "standard deviation of at most 32 evenly spread slices, clipped to their 0.5 and 99.5 percentiles."
    )


def _output() -> str:
    phases = ", ".join(f"{phase.value} {PHASE_NAMES[phase]}" for phase in Phase)
    return f"float32 (images, {len(Phase)}, rows, columns): logits of slice z; the largest is the phase ({phases})."


def _data(settings: dict[str, Any], run_dir: Path) -> dict[str, Any]:
    """The volume that the network was trained on, as the run recorded it."""
    likeness, truth = settings.get("likeness"), run_dir / "test" / "truth.tif"
    size_um = (likeness or {}).get("voxel_size_um")
    test = volumes.open(truth) if truth.is_file() else None
    split, crop_px = settings.get("split"), settings.get("crop_px")
    section = split and crop_px and [split["test"][1] - split["test"][0], crop_px, crop_px]  # of a packed run
    return {
        **settings.get("data", {}),
        "specimens": settings.get("specimens"),
        "epoch_chosen_by": settings.get("epoch_chosen_by"),
        "further_volumes": [one["data"] for one in settings.get("further_volumes", {}).values()],
        "voxel_size_um": size_um or (test and test.voxel_size_um),
        "slices": split and {name: [start + 1, stop] for name, (start, stop) in split.items()},
        "test_section_zyx": list(test.shape) if test else section,
        "likeness": likeness,
    }


def _training(settings: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration, with the crop that it came to."""
    config = settings.get("config")
    return config and config | {name: settings[name] for name in ("crop_px",) if name in settings}


def _measures(run_dir: Path, epoch: int) -> dict[str, Any] | None:
    """What was measured of the test section after the epoch; None when nothing was recorded."""
    if not (run_dir / "history.csv").is_file():
        return None
    history = runs.read_history(run_dir)
    if epoch >= len(history["epoch"]):
        return None
    with contents_of(run_dir / "history.csv"):
        row = {name: column[epoch].item() for name, column in history.items()}
        plain = ("accuracy", "interface_accuracy", "train_loss", "test_loss")
        networks = {name: _compared(name, row, run_dir) for name in _networks_of(row)}
        first = max(1, epoch - SCATTER_EPOCHS + 1)
        scatter = {name: _range(history[f"{name}_euler_number"][first : epoch + 1]) for name in networks}
        return {
            **{name: row[name] if math.isfinite(row[name]) else None for name in plain},
            "dice": _dice(run_dir, epoch),
            "networks": networks,
            "euler_numbers_of_epochs": {"first": first, "last": epoch, **scatter},
            "n_epochs_trained": len(history["epoch"]) - 1,
            "best_epochs": dict(vars(runs.best_epochs(run_dir))) if _truth(run_dir) else None,
        }


def _validation(run_dir: Path) -> list[dict[str, Any]] | None:
    """What was measured on specimens that had no part in the training, a record for each and each recipe."""
    path = run_dir / VALIDATION
    return read_json(path)["rows"] if path.is_file() else None


def _networks_of(row: dict[str, float]) -> list[str]:
    return [name.removesuffix("_euler_number") for name in row if name.endswith("_euler_number")]


def _compared(name: str, row: dict[str, float], run_dir: Path) -> dict[str, dict[str, float | None]]:
    """The measures of a network, found and true."""
    true = _truth(run_dir).get(name)
    found = {what: row[f"{name}_{what}"] for what in QUANTITIES}
    found["euler_number"] = int(found["euler_number"])
    return {
        what: {"found": value, "truth": None if true is None else getattr(true, what)} for what, value in found.items()
    }


def _truth(run_dir: Path) -> dict[str, metrics.NetworkMeasure]:
    return runs.read_truth(run_dir) if (run_dir / "truth.json").is_file() else {}


def _range(values: np.ndarray) -> list[int]:
    return [int(values.min()), int(values.max())]


def _dice(run_dir: Path, epoch: int) -> dict[str, float] | None:
    """Dice coefficients of the phases on the test section, where its labels were kept."""
    if not (run_dir / "test" / f"epoch_{epoch:04d}.tif").is_file():
        return None
    truth_zyx, labels_zyx = runs.read_test(run_dir, epoch)
    return {PHASE_NAMES[phase]: value for phase, value in metrics.dice_per_phase(labels_zyx, truth_zyx).items()}
