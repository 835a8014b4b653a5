"""Correct and retrain: a network learns from what a user mended in its segmentation of another scan.

The user corrects labels in some slices. What counts are the corrected voxels and their surroundings in the slice,
which whoever mends a region has looked at; where slices are named instead, their user vouches for all of them. The
rest is not learned from: it would teach the network its own mistakes. The loss, its pixel weights and the
augmentation are those of the run that is corrected.

`material` holds the slices, `patches` draws and cuts what the network sees, `measuring` measures whole slices after
every epoch, `session` trains, `folder` keeps the new run.
"""

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from threading import Event

from alsiseg import devices, runs, volumes
from alsiseg.correcting import folder
from alsiseg.correcting.folder import CORRECTIONS, NOT_CORRECTED
from alsiseg.correcting.material import Corrected, Grey, Labels
from alsiseg.correcting.measuring import Measured
from alsiseg.correcting.session import Clock, Session, prepare, settings
from alsiseg.correcting.settings import CorrectingConfig
from alsiseg.progress import steps

__all__ = ["CORRECTIONS", "NOT_CORRECTED", "Corrected", "CorrectingConfig", "fine_tune"]

OnEpoch = Callable[[int, float, float], None]


def fine_tune(
    run_dir: str | Path,
    new_run_dir: str | Path,
    grey_zyx: Grey,
    labels_zyx: Labels,
    corrected_zyx: Corrected,
    *,
    minutes: float,
    seed: int = 0,
    device: str = "auto",
    on_epoch: OnEpoch | None = None,
    stop: Event | None = None,
    original: tuple[Grey, Labels] | None = None,
    voxel_size_um: float | None = None,
    config: CorrectingConfig | None = None,
) -> Path:
    """Train a network of a run further, for some minutes, on the slices in which a user corrected its labels.

    The result is a run folder like any other: `runs.load_network` gives the best network, `history.csv` one row per
    epoch. Epoch 0 is the network before the correction. Train and test section are both the corrected slices, so
    that `accuracy`, counted near the corrections, says how well these were taken up, not how good the network is
    elsewhere; the column
    `corrections_accuracy` is that of the corrected voxels alone, `original_accuracy` that on test slices of the
    first training. The epoch of the highest accuracy is kept. `settings.json` names the parent, `corrections.tif`
    holds the phase of every corrected voxel and 255 where nothing was corrected.

    The scan is normalised by its own grey values, as prediction does with every scan, not by those of the parent:
    the network is to see the same numbers while it learns and when it is used.

    Parameters
    ----------
    run_dir, new_run_dir
        The run that is corrected, which stays as it is, and the folder of the new one.
    grey_zyx, labels_zyx
        (Z, Y, X) the user's scan, and its segmentation with the corrections in it; of volumes on disk only the
        corrected slices and their neighbours are read, and what the grey scale needs.
    corrected_zyx
        Boolean volume (Z, Y, X) of the corrected voxels: they and what lies near them in their slice count. Or
        the numbers, from 0, of slices that are right from edge to edge: they count in full.
    minutes
        How long it may take in all; at least one step is made.
    on_epoch
        Called after every epoch with its number, the loss per pixel of the corrected slices and the seconds left;
        first with 0 for the network before the correction.
    stop
        Ends the training soon when set (Ctrl-C does at once): the best epoch so far is kept. The epoch under way is
        given up, unless it is the first.
    original
        Grey and labels that the run was trained on: half of the images come from their training slices then, so
        that the network does not forget them. Of a run that is a correction itself, those of the first one.
    voxel_size_um
        For `corrections.tif` and the measures; taken from the scan or the labels where they know it.
    config
        `CorrectingConfig()` unless given.

    Raises
    ------
    ValueError, TypeError
        When nothing is corrected, labels are no phases, or scan, labels, corrections and run do not fit together.
    FileExistsError
        When there is something at `new_run_dir`.
    FloatingPointError
        When the loss is not finite; what was kept before stays.
    InterruptedError
        When it was stopped before the first step: nothing is written then.
    """
    new_run_dir, clock, config = Path(new_run_dir), Clock(minutes, stop), config or CorrectingConfig()
    _check_place(new_run_dir)
    trained = runs.load_network(run_dir, config.epoch)
    voxel_size_um = voxel_size_um or _voxel_size_um(grey_zyx, labels_zyx)
    session = prepare(
        trained,
        grey_zyx,
        labels_zyx,
        corrected_zyx,
        original,
        config,
        seed=seed,
        device=device,
        voxel_size_um=voxel_size_um,
    )
    written = settings(session, trained, new_run_dir, tuple(grey_zyx.shape), minutes)
    keeper = folder.Keeper(new_run_dir, written, session.corrected, labels_zyx, voxel_size_um)
    with runs.locked(new_run_dir), devices.kernels(deterministic=session.task.config.deterministic):
        _check_place(new_run_dir)  # what another one has written meanwhile
        for epoch, measured, images_per_s in _epochs(session, clock):
            keeper.add(epoch, measured, images_per_s, session.network)
            if on_epoch is not None:
                on_epoch(epoch, measured.loss, clock.seconds_left)
    print(keeper.summary(), flush=True)
    return new_run_dir


def _epochs(session: Session, clock: Clock) -> Iterator[tuple[int, Measured, float]]:
    """Measure, then train and measure until the time is over: number, what was measured and images/s of each epoch."""
    yield 0, session.measure(), 0.0
    if clock.is_stopped:
        raise InterruptedError("the correction was stopped before its first step; nothing was written")
    measuring_s = clock.seconds_gone
    with steps(None, "correcting", round(clock.seconds), unit=" s") as bar:
        bar.bar_format = "{l_bar}{bar}| {remaining} left{postfix}"  # a speed in seconds per second says nothing
        for epoch in count(1):
            started = time.perf_counter()
            n_steps = session.train(epoch, clock, bar, reserved_s=measuring_s)
            trained_s = time.perf_counter() - started
            if not n_steps or (clock.is_stopped and epoch > 1):
                return
            measured = session.measure()
            measuring_s = time.perf_counter() - started - trained_s
            bar.set_postfix_str(f"epoch {epoch}, {100 * measured.accuracy:.1f} % as corrected", refresh=False)
            yield epoch, measured, n_steps * session.task.config.batch / trained_s
            if clock.is_over(measuring_s):
                return


def _check_place(new_run_dir: Path) -> None:
    """Refuse a folder that holds something, before time is spent."""
    if new_run_dir.exists() and (not new_run_dir.is_dir() or any(new_run_dir.iterdir())):
        raise FileExistsError(f"needs a new folder for the corrected run, {new_run_dir} exists already; choose another")
    volumes.check_place(new_run_dir / "settings.json")


def _voxel_size_um(*volumes_zyx: Grey) -> float | None:
    """Voxel size that one of the volumes knows."""
    sizes = (getattr(volume_zyx, "voxel_size_um", None) for volume_zyx in volumes_zyx)
    return next((size for size in sizes if size), None)
