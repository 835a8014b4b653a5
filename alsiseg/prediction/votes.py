"""What every view and pass says by itself: the probabilities that `predict` averages and forgets."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray

from alsiseg.phases import Phase
from alsiseg.prediction import tasks
from alsiseg.prediction.inference import Inference
from alsiseg.prediction.options import Options
from alsiseg.prediction.slabs import Grey, SlabReader
from alsiseg.runs import Trained


def probabilities(
    grey_zyx: Grey, trained: Trained | str | Path, *, device: str = "auto", options: Options | None = None
) -> dict[str, NDArray[np.float32]]:
    """Give the probability of every phase at every voxel, for each view and pass by itself.

    `segment` takes, at every voxel, the phase with the largest sum of them. Whoever wants to weigh views, networks
    or phases otherwise begins here. Memory: 12 bytes a voxel for each view and pass.

    Parameters
    ----------
    grey_zyx, trained, device, options
        As for `segment`.

    Returns
    -------
    dict
        By the names of `Options.member_names`, as in "view z": float32 (phases, Z, Y, X), from 0 to 1.

    Raises
    ------
    ValueError, TypeError
        As for `segment`.
    """
    options = replace(options or Options(), uncertainty=True)  # which asks the network for more than logits
    task = tasks.prepare(grey_zyx, trained, device=device, options=options)
    whole = {name: np.empty((len(Phase), *task.shape_zyx), np.float32) for name in options.member_names}
    inference = Inference(task.trained.network, task.device, symmetries=options.symmetries)
    reader = SlabReader(task.grey_zyx)
    with torch.inference_mode():
        for slab in task.slabs:
            read_zyx = tasks.read_slab(task, slab, reader).to(task.device.name)
            work = tasks._SlabWork(task, inference, slab, read_zyx, Event())
            for member, name in enumerate(options.member_names):
                _vote(work, member, whole[name][:, slab.core.start : slab.core.stop])
    return whole


def _vote(work: tasks._SlabWork, member: int, into_czyx: NDArray[np.float32]) -> None:
    """Write the probabilities of one view or pass into their part of the volume."""
    options = work.task.options
    view = options.views[member // max(options.dropout_passes, 1)]
    target = np.moveaxis(into_czyx, 1 + "zyx".index(view), 1)
    for place, scores in work._passed(view, member=member):
        target[(slice(None), *place)] = scores.movedim(1, 0).cpu().numpy()
