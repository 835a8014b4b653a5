"""Segment a grey volume of any size with a trained network.

`tasks` reads slabs ahead, runs the network and takes the argmax on the device, and hands the labels on, side by side
(`pipeline`); `slabs` arranges the grey as images of each view; `tiles` knows which windows give exactly what whole
slices give; `inference` makes the network ready; `planning` fits the work into memory; `journal`, `maps` and `files`
write volumes that a stopped call continues; `workers` spreads slabs over a dask.distributed cluster; `spread` tells how
far the measures differ between views and passes; `votes` keeps the probabilities of each of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alsiseg.prediction import tasks
from alsiseg.prediction.files import segment_to_file
from alsiseg.prediction.options import Options, Plan
from alsiseg.prediction.slabs import Grey
from alsiseg.prediction.spread import Spread, spread
from alsiseg.prediction.tiles import halo_px
from alsiseg.prediction.votes import probabilities
from alsiseg.runs import Trained

__all__ = [
    "Options",
    "Plan",
    "Prediction",
    "Spread",
    "halo_px",
    "predict",
    "probabilities",
    "segment",
    "segment_to_file",
    "segmented_slices",
    "spread",
]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says about a volume.

    Attributes
    ----------
    labels_zyx : uint8 (Z, Y, X)
        Phases.
    uncertainty_zyx : uint8 (Z, Y, X) or None
        Entropy of the averaged probabilities: 0 one sure phase, 255 three equally likely ones.
    members : dict
        Labels of every view and pass, by name; empty unless asked for.
    """

    labels_zyx: NDArray[np.uint8]
    uncertainty_zyx: NDArray[np.uint8] | None
    members: dict[str, NDArray[np.uint8]]


def segment(
    grey_zyx: Grey, trained: Trained | str | Path, *, device: str = "auto", options: Options | None = None
) -> NDArray[np.uint8]:
    """Give every voxel of a grey volume its phase.

    Parameters
    ----------
    grey_zyx : (Z, Y, X)
        Anything with `shape` and `dtype` that can be sliced; only a slab at a time is read. It is normalised by its
        own robust grey statistics, so that a scan with other grey levels can be segmented too.
    trained
        A network from `runs.load_network`, or a run folder (its last epoch).
    device
        "auto", "cpu", "cuda", ...
    options
        `Options()` unless given.

    Returns
    -------
    labels_zyx : uint8 (Z, Y, X)
        Phases. The outermost slice stands in for missing neighbours at both ends.

    Raises
    ------
    ValueError, TypeError
        When the volume, the network and the options do not fit together, or memory cannot hold the smallest tiles.
    """
    return predict(grey_zyx, trained, device=device, options=options).labels_zyx


def predict(
    grey_zyx: Grey, trained: Trained | str | Path, *, device: str = "auto", options: Options | None = None
) -> Prediction:
    """Segment a volume into memory, with whatever `options` ask for beside the labels; see `segment`."""
    options = options or Options()
    task = tasks.prepare(grey_zyx, trained, device=device, options=options)
    whole = {name: np.empty(task.shape_zyx, np.uint8) for name in options.maps}
    for slab in tasks.slab_maps(task):
        for name, map_zyx in slab.maps.items():
            whole[name][slab.z.start : slab.z.stop] = map_zyx
    return Prediction(whole.pop("labels"), whole.pop("uncertainty", None), whole)


def segmented_slices(
    grey_zyx: Grey, trained: Trained | str | Path, *, device: str = "auto", options: Options | None = None
) -> Iterator[NDArray[np.uint8]]:
    """Yield the labels of one slice (Y, X) after the other; see `segment`."""
    task = tasks.prepare(grey_zyx, trained, device=device, options=options or Options())
    for slab in tasks.slab_maps(task):
        yield from slab.maps["labels"]
