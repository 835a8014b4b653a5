"""Segment the volume of a layer, slab by slab; it can be followed and stopped."""

import math
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alsiseg import devices, likeness, prediction, runs
from alsiseg.plugin.work import Progress
from alsiseg.prediction import planning, tasks
from alsiseg.prediction.options import Options
from alsiseg.prediction.pipeline import Clock
from alsiseg.prediction.slabs import view_images
from alsiseg.prediction.tiles import aligned
from alsiseg.runs import Trained

SLABS_TO_SEE = 8  # in so many steps, at least, a volume grows on the screen
STEPS_OF_A_SLAB = 3  # read, normalise, to host: what `tasks` times once a slab; forward and argmax once a batch
LAST, EPOCH = "the last", "epoch"  # as the form shows them


@dataclass(frozen=True, eq=False)
class Segmented:
    """What a network says about the volume of a layer.

    Attributes
    ----------
    labels_zyx, uncertainty_zyx
        See `prediction.Prediction`.
    device
        Where it was computed.
    warnings
        Sentences that say in what the scan is unlike those the network was trained on.
    """

    labels_zyx: NDArray[np.uint8]
    uncertainty_zyx: NDArray[np.uint8] | None
    device: str
    warnings: tuple[str, ...]


def epochs(run: Path) -> list[str]:
    """List what may be chosen of a run: the last network, and each that was kept."""
    run = runs.shipped().get(str(run), run)
    kept = runs.kept_epochs(run) if (run / "checkpoints").is_dir() else []
    return [LAST, *(f"{EPOCH} {number}" for number in reversed(kept))]


def load(run: Path | None, epoch: str = LAST) -> Trained:
    """Load the network of a run folder, of a file in its `checkpoints`, or of those that come with alsiseg by name.

    Raises
    ------
    ValueError, OSError
        When nothing is chosen, or there is no whole network.
    """
    if run is None or str(run) in ("", "."):
        names = "".join(f", or type {name}" for name in runs.shipped())
        raise ValueError(
            f"needs a trained network, no run folder is chosen; choose the folder that alsiseg train wrote{names}"
        )
    if run.suffix in (".safetensors", ".json") and run.parent.name == "checkpoints":
        number = run.stem.removeprefix("epoch_")
        return runs.load_network(run.parent.parent, int(number) if number.isdigit() else None)
    return runs.load_network(run, None if epoch == LAST else int(epoch.removeprefix(EPOCH)))


def segment(
    grey_zyx: Any,
    trained: Trained,
    progress: Progress,
    *,
    options: Options | None = None,
    voxel_size_um: float | None = None,
    device: str = "auto",
) -> Segmented:
    """Segment a volume (Z, Y, X), which is read slab by slab; the labels are kept in memory.

    Raises
    ------
    Stopped
        When the user asked to stop.
    ValueError, TypeError
        As `prediction.segment` does, or when there is no memory for the labels.
    """
    options = options or Options()
    _check_memory(tuple(map(int, grey_zyx.shape)), options)
    progress.begin("comparing the scan with those of the training")
    unlike = likeness.warnings(grey_zyx, trained.run_dir, voxel_size_um=voxel_size_um)
    task = tasks.prepare(grey_zyx, trained, device=device, options=options)
    task.plan = _finer(task)
    progress.begin(f"segmenting on {_device(task)}")
    n_steps, steps = _n_steps(task), count(1)
    task.clock = Clock(synchronise=lambda: progress.at(next(steps) / n_steps))
    whole = {name: np.zeros(task.shape_zyx, np.uint8) for name in options.maps}
    for slab in tasks.slab_maps(task):
        for name, map_zyx in slab.maps.items():
            whole[name][slab.z.start : slab.z.stop] = map_zyx
    return Segmented(whole["labels"], whole.get("uncertainty"), _device(task), tuple(unlike))


def _device(task: tasks.Task) -> str:
    return "the processor (no GPU)" if task.device.type == "cpu" else str(task.device)


def _check_memory(shape_zyx: tuple[int, ...], options: prediction.Options) -> None:
    """Refuse labels that do not fit into memory."""
    needed, free = math.prod(shape_zyx) * len(options.maps), planning.free_bytes(devices.choose("cpu"))[0]
    if needed > free:
        raise ValueError(
            f"needs {planning.gib(needed)} of memory for the labels, may use {planning.gib(free)}; write them to a "
            "file with the command alsiseg segment, and open that"
        )


def _finer(task: tasks.Task) -> prediction.Plan:
    """Cut a small volume into several slabs where that costs nothing, so that a stop is heard soon."""
    if task.options.three_views:  # every slab reads its surroundings again
        return task.plan
    return replace(task.plan, slab_slices=min(task.plan.slab_slices, max(4, -(-task.shape_zyx[0] // SLABS_TO_SEE))))


def _n_steps(task: tasks.Task) -> int:
    """How often the task looks at its clock: for every batch twice, and some times a slab."""
    n_y, n_x = map(aligned, task.shape_zyx[1:])
    n_slices, total = task.trained.network.config.n_slices, 0
    for slab in task.slabs:
        total += STEPS_OF_A_SLAB
        shapes_only = torch.empty((len(slab.read), n_y, n_x), device="meta")
        for view in task.options.views:
            images = view_images(
                view,
                slab,
                shapes_only,
                task.shape_zyx,
                n_slices=n_slices,
                tile_px=task.plan.tile_px,
                halo=task.halo,
            )
            n_batches = -(-images.n_images // max(1, task.plan.batch_px // images.window_px))
            n_passes = max(task.options.dropout_passes, 1)
            total += 2 * n_passes * n_batches * len(images.rows) * len(images.columns)
    return total
