"""How often the intervals given with a segmentation hold the truth: ``python -m alsiseg.study.coverage --run RUN_DIR``.

Specimens that served for nothing else are grown, scanned and segmented by one network along three views; of every
measure each kind of interval is made and compared with the truth of that specimen (`counting`).

"spread" and "bootstrap" are what `alsiseg segment --spread` and `alsiseg measure` rest on. They say how far a network
disagrees with itself, and how much another volume of the alloy would differ; neither knows what the network always
gets wrong. "calibrated" does, from validation specimens (seeds from 500 on, the reported ones from 1001 on), and is
stored with the run. It is made on castings of the kind that the network learned from, and tried on the other kind too.
For a network that learned from both kinds, say `--calibrate-on slow,fast`.
"""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import calibration, figures, likeness, metrics, phantom, prediction, runs, volumes
from alsiseg.calibration import Calibration
from alsiseg.progress import steps
from alsiseg.study.coverage.counting import (
    KINDS,
    LEVELS,
    Bootstrapped,
    Measured,
    Row,
    Share,
    columns,
    error_table,
    rows_of,
    sentence,
    shares,
    table,
    within_views,
)
from alsiseg.study.plan import UNSEEN_SEED

FIRST_VALIDATION, FIRST_UNSEEN = 500, UNSEEN_SEED + 1
MOST_VALIDATION = 100  # so that no seed is of both kinds
OPTIONS = prediction.Options(three_views=True, members=True)


@dataclass(frozen=True)
class Plan:
    """Which specimens are segmented, and how they are scanned and measured.

    Attributes
    ----------
    shape_zyx : tuple of int
        Of every specimen.
    n_angles, difficulty, voxel_size_um
        Of their scans: as in training.
    n_specimens, n_validation : int
        Specimens of each casting: reported ones, and those that the calibration is made on.
    castings, calibration_castings : tuple of str
        Kinds of reported specimens, and of those that the calibration is made on.
    min_voxels : int
        Particles with fewer voxels are removed from labels and truth alike.
    """

    shape_zyx: tuple[int, int, int] = (64, 128, 128)
    n_angles: int = 360
    difficulty: str = "clean"
    voxel_size_um: float = 1.2
    n_specimens: int = 10
    n_validation: int = 10
    castings: tuple[str, ...] = ("slow", "fast")
    calibration_castings: tuple[str, ...] = ("slow",)
    min_voxels: int = 1

    def __post_init__(self) -> None:
        for castings in (self.castings, self.calibration_castings):
            unknown = [name for name in castings if name not in phantom.SPECIMENS]
            if unknown or not castings:
                known = ", ".join(phantom.SPECIMENS)
                raise ValueError(f"castings must be among {known}, got {', '.join(unknown) or 'none'}")
        if self.n_specimens < 1 or not calibration.MIN_SPECIMENS <= self.n_validation <= MOST_VALIDATION:
            raise ValueError(
                f"coverage needs 1 specimen or more, and {calibration.MIN_SPECIMENS} to {MOST_VALIDATION} to calibrate "
                f"on, got {self.n_specimens} and {self.n_validation}"
            )

    @property
    def validation(self) -> list[tuple[str, int]]:
        """Casting and seed of the specimens that the calibration is made on."""
        return [
            (casting, FIRST_VALIDATION + i)
            for casting, i in product(self.calibration_castings, range(self.n_validation))
        ]

    @property
    def unseen(self) -> list[tuple[str, int]]:
        """Casting and seed of the specimens that are reported."""
        return [(casting, FIRST_UNSEEN + i) for casting, i in product(self.castings, range(self.n_specimens))]


def run(
    plan: Plan, run_dir: str | Path, home: str | Path, *, epoch: int | None = None, device: str = "auto"
) -> list[Row]:
    """Measure what is not measured yet, store the calibration with the run, make every interval and write all down.

    Parameters
    ----------
    plan
    run_dir
        A run whose network is tried; gets `calibration.json`.
    home
        Folder for specimens and results: `coverage.csv` (a row for every interval), `coverage.md`, `coverage.png`.
        Specimens that were measured with the same network and plan are not measured again.
    epoch
        The last kept one unless given.
    device
        "auto", "cpu", "cuda", ...
    """
    home, trained = Path(home), runs.load_network(run_dir, epoch)
    places = [*plan.validation, *plan.unseen]
    found = {
        place: measured(plan, trained, home, *place, device=device)
        for place in steps(places, "coverage", total=len(places), unit=" specimens")
    }
    made = calibrated(plan, trained, [found[place] for place in plan.validation])
    calibration.save(made, trained.run_dir)
    unseen = {place: found[place] for place in plan.unseen}
    rows = [row for place, one in unseen.items() for row in rows_of(*place, one, made)]
    _write(rows, home / "coverage.csv")
    counted = shares(rows)
    figures.save(figures.coverage(columns(counted)), "coverage", home / "figures", columns(counted))
    with volumes.written_whole(home / "coverage.md") as partial:
        partial.write_text(report(plan, made, unseen, rows), encoding="utf-8")
    return rows


def measured(plan: Plan, trained: runs.Trained, home: Path, casting: str, seed: int, *, device: str) -> Measured:
    """Grow, scan, segment and measure one specimen, unless that has been done."""
    name, made_by = f"{casting}_{seed}_{plan.difficulty}", _made_by(plan, trained)
    path = home / "measured" / f"{name}.json"
    if path.is_file() and (before := json.loads(path.read_text("utf-8"))).pop("made_by", None) == made_by:
        return Measured(**before)
    paths = phantom.make(
        home / "specimens" / name,
        specimen=casting,
        shape_zyx=plan.shape_zyx,
        seed=seed,
        difficulty=plan.difficulty,
        modalities=("synchrotron",),
        n_angles=plan.n_angles,
        voxel_size_um=plan.voxel_size_um,
        n_processes=1,
    )
    found = _measured(plan, trained, volumes.open(paths["synchrotron"]), volumes.open(paths["truth"])[:], device)
    with volumes.written_whole(path) as partial:
        partial.write_text(json.dumps({"made_by": made_by, **asdict(found)}, indent=1) + "\n", encoding="utf-8")
    return found


def _made_by(plan: Plan, trained: runs.Trained) -> dict[str, Any]:
    """All that decides what is measured of a specimen."""
    which = ("n_specimens", "n_validation", "castings", "calibration_castings")
    how = {name: value for name, value in asdict(plan).items() if name not in which}
    return json.loads(json.dumps({"network": calibration.checksum(trained), "levels": LEVELS, **how}))


def _measured(
    plan: Plan, trained: runs.Trained, grey_zyx: volumes.Volume, truth_zyx: NDArray[np.uint8], device: str
) -> Measured:
    """Segment a scan and measure labels, views and truth alike."""
    found = prediction.predict(grey_zyx, trained, device=device, options=OPTIONS)

    def networks(labels_zyx: NDArray[np.uint8]) -> calibration.Measures:
        return calibration.measured(labels_zyx, voxel_size_um=plan.voxel_size_um, min_voxels=plan.min_voxels)

    return Measured(
        ours=networks(found.labels_zyx),
        truth=networks(truth_zyx),
        views=[networks(view_zyx) for view_zyx in found.members.values()],
        bootstrap=_bootstrapped(metrics.without_specks(found.labels_zyx, plan.min_voxels), plan.voxel_size_um),
        accuracy_pct=100 * metrics.accuracy(found.labels_zyx, truth_zyx),
        warnings=likeness.warnings(grey_zyx, trained.run_dir),
    )


def _bootstrapped(labels_zyx: NDArray[np.uint8], voxel_size_um: float) -> Bootstrapped:
    """Ends of the bootstrap intervals at every level."""
    at_levels = [
        metrics.network_intervals(labels_zyx, voxel_size_um=voxel_size_um, bootstrap=metrics.Bootstrap(level=level))
        for level in LEVELS
    ]
    return {
        network: {
            measure: [(at[network][measure].low, at[network][measure].high) for at in at_levels] for measure in of
        }
        for network, of in at_levels[0].items()
    }


def calibrated(plan: Plan, trained: runs.Trained, found: Sequence[Measured]) -> Calibration:
    """Make the calibration from what was measured of the validation specimens."""
    return Calibration(
        network_sha256=calibration.checksum(trained),
        epoch=trained.epoch,
        options=calibration.decisive(OPTIONS),
        connectivity=26,
        min_voxels=plan.min_voxels,
        voxel_size_um=plan.voxel_size_um,
        n_voxels=int(np.prod(plan.shape_zyx)),
        specimens=f"simulated castings, {' and '.join(plan.calibration_castings)}, {plan.difficulty}",
        errors=calibration.errors_of([(one.ours, one.truth) for one in found]),
    )


def _write(rows: Iterable[Row], path: Path) -> None:
    with volumes.written_whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        lines.writeheader()
        lines.writerows(asdict(row) for row in rows)


def report(plan: Plan, made: Calibration, unseen: dict[tuple[str, int], Measured], rows: Sequence[Row]) -> str:
    """Write what was found as Markdown."""
    size, counted = " x ".join(map(str, plan.shape_zyx)), shares(rows)
    learned_on = "` and `".join(plan.calibration_castings)
    parts = [
        f"# How often intervals hold the truth\n\n{plan.n_specimens} specimens of each casting ({size} voxels, "
        f"`{plan.difficulty}`, seeds from {FIRST_UNSEEN}), segmented along three views by the network of epoch "
        f"{made.epoch}; calibrated on {made.n_specimens} of `{learned_on}` (seeds from {FIRST_VALIDATION}). "
        f"With so many specimens a share of 95 % comes out between {_band(counted)}; -+ is one standard error of the "
        "mean over specimens.\n"
    ]
    for casting in plan.castings:
        found = [one for (of, _), one in unseen.items() if of == casting]
        accuracy = float(np.mean([one.accuracy_pct for one in found]))
        warned = sum(bool(one.warnings) for one in found)
        said = [f"* {line}" for line in (within_views(found), *(sentence(rows, casting, kind) for kind in KINDS))]
        parts.append(
            f"## `{casting}`\n\nAccuracy {accuracy:.2f} % on average; `likeness` warned of {warned} of {len(found)} "
            "scans.\n\n" + "\n".join(said) + f"\n\n{table(counted, casting)}"
        )
    parts.append(f"## Errors on the validation specimens\n\n{error_table(made)}")
    return "\n".join(parts)


def _band(counted: Sequence[Share]) -> str:
    last = next(share for share in counted if share.level == LEVELS[-1])
    return f"{100 * last.low:.0f} and {100 * last.high:.0f} %"
