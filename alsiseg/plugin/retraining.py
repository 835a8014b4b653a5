"""Correct labels by hand, let the network learn from them, and say what became better and what worse."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import correcting, runs
from alsiseg.plugin import originals, segmenting
from alsiseg.plugin.layers import check_same_shape
from alsiseg.plugin.originals import Pair
from alsiseg.plugin.work import Progress

FORGETS = "It saw only your corrections: name the data of its first training, and it forgets less of the rest."


@dataclass(frozen=True)
class Agreement:
    """How labels agree with the corrected ones, in per cent of the voxels; None where there are none.

    Attributes
    ----------
    corrected_voxels_pct
        In the voxels that were painted over.
    corrected_slices_pct
        In the slices with corrections, painted or not.
    other_slices_pct
        In all other slices, with the labels as they were before.
    """

    corrected_voxels_pct: float
    corrected_slices_pct: float
    other_slices_pct: float | None

    @classmethod
    def of(cls, labels_zyx: NDArray, corrected_zyx: NDArray, painted_zyx: NDArray[np.bool_]) -> "Agreement":
        """Compare labels with the corrected ones, where and beside where they were painted."""
        alike, touched = labels_zyx == corrected_zyx, painted_zyx.any(axis=(1, 2))
        return cls(
            100 * float(alike[painted_zyx].mean()),
            100 * float(alike[touched].mean()),
            None if touched.all() else 100 * float(alike[~touched].mean()),
        )


@dataclass(frozen=True, eq=False)
class Retrained:
    """What came of a correction.

    Attributes
    ----------
    run_dir
        The new run.
    labels_zyx
        The scan as the new network sees it.
    before, after
        How the labels agree with the corrected ones.
    n_epochs
        Epochs that the network learned.
    with_original
        Whether it also saw again what it was first trained on.
    """

    run_dir: Path
    labels_zyx: NDArray[np.uint8]
    before: Agreement
    after: Agreement
    n_epochs: int
    with_original: bool = False

    def __str__(self) -> str:
        """Say before and after in words."""
        rows = [
            ("voxels you corrected", self.before.corrected_voxels_pct, self.after.corrected_voxels_pct),
            ("slices you corrected", self.before.corrected_slices_pct, self.after.corrected_slices_pct),
            ("all other slices", self.before.other_slices_pct, self.after.other_slices_pct),
        ]
        lines = [f"{what}: {one:.1f} % -> {other:.1f} %" for what, one, other in rows if one is not None]
        kept = "Half of what it saw came from its first training." if self.with_original else FORGETS
        return "Agreement with your labels, before -> after\n" + "\n".join([*lines, kept])


def painted(before_zyx: NDArray, corrected_zyx: NDArray) -> NDArray[np.bool_]:
    """Mark the voxels whose phase was changed.

    Raises
    ------
    ValueError
        When the two are of different scans, or nothing was changed.
    """
    check_same_shape(before_zyx, corrected_zyx, "needs corrections of the same scan as the prediction")
    changed_zyx = before_zyx != corrected_zyx
    if not changed_zyx.any():
        raise ValueError(
            "needs corrections, found none: the labels are still those of the prediction; choose a phase and paint "
            "over what is wrong"
        )
    return changed_zyx


def new_run_dir(run_dir: Path) -> Path:
    """Name a folder for the correction of a run that is not there yet: beside it, at home for one of alsiseg's own."""
    if not run_dir.exists() and str(run_dir) in runs.shipped():
        run_dir = Path.home() / run_dir
    if run_dir.parent.name == "checkpoints":  # a file of a network was chosen
        run_dir = run_dir.parent.parent
    number = 1
    while (free := run_dir.with_name(f"{run_dir.name}_corrected_{number}")).exists():
        number += 1
    return free


def retrain(
    run_dir: Path,
    new_dir: Path,
    grey_zyx: Any,
    before_zyx: NDArray[np.uint8],
    corrected_zyx: NDArray[np.uint8],
    progress: Progress,
    *,
    minutes: float,
    original: Pair | None = None,
    opened: Sequence[Any] = (),
    voxel_size_um: float | None = None,
    device: str = "auto",
) -> Retrained:
    """Fine-tune a network of a run on the corrected slices, and segment the scan again with it.

    Half of what the network sees comes from its first training: from `original`, or where that is not given from the
    volumes `opened` if its scan and its labels are among them. Stopping during the training keeps the best epoch so
    far and does not segment.

    Raises
    ------
    Stopped
        When the user asked to stop.
    ValueError, TypeError, OSError
        As `correcting.fine_tune` does.
    """
    painted_zyx = painted(before_zyx, corrected_zyx)
    check_same_shape(grey_zyx, corrected_zyx, "needs corrections of the scan that is chosen")
    trained = segmenting.load(run_dir)
    if original is None and opened:
        progress.begin("looking for the data of the first training")
        original = originals.among(opened, trained.run_dir)
    progress.begin("learning from the corrections", lasts_s=60 * minutes)
    epochs: list[int] = []

    def told(epoch: int, loss: float, seconds_left: float) -> None:
        epochs.append(epoch)
        progress.what = f"learning from the corrections, epoch {epoch}, loss {loss:.3f}"

    common: dict[str, Any] = {"voxel_size_um": voxel_size_um, "device": device}
    learning = {"minutes": minutes, "on_epoch": told, "stop": progress.stop, "original": original, **common}
    config = correcting.CorrectingConfig(epoch=trained.epoch)
    correcting.fine_tune(trained.run_dir, new_dir, grey_zyx, corrected_zyx, painted_zyx, config=config, **learning)
    after_zyx = segmenting.segment(grey_zyx, runs.load_network(new_dir), progress, **common).labels_zyx
    before, after = (Agreement.of(labels, corrected_zyx, painted_zyx) for labels in (before_zyx, after_zyx))
    return Retrained(new_dir, after_zyx, before, after, max(epochs, default=0), original is not None)
