"""What the measures ask of labels, pairs and voxel sizes, and how volumes are read slab by slab."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.phases import check_labels
from alsiseg.topology import Sliceable

VOXELS_AT_ONCE = 2**24  # labels held at once where a volume is read in slabs, unless a slice is larger


def check_pair(prediction: NDArray[Any], truth: NDArray[Any]) -> None:
    """Refuse two arrays that are not labels of the same, not empty, shape."""
    check_labels(prediction, "the predicted labels")
    check_labels(truth, "the true labels")
    check_same_shape(prediction, truth)
    check_not_empty(truth)


def check_same_shape(prediction: Sliceable, truth: Sliceable) -> None:
    """Refuse two arrays or volumes of different shapes."""
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction and truth must have the same shape, got {prediction.shape} and {truth.shape}; "
            "crop both to the same slices, rows and columns"
        )


def check_volume(labels_zyx: Sliceable, what: str = "labels") -> None:
    """Refuse what has no whole numbers, not three axes, or no voxel; values are checked slab by slab."""
    check_labels(np.empty(0, getattr(labels_zyx, "dtype", object)), what)
    if len(labels_zyx.shape) != 3:
        raise ValueError(
            f"{what} must be a volume with axes z, y, x, got shape {tuple(labels_zyx.shape)}; "
            "a single slice is a volume too: labels_yx[np.newaxis]"
        )
    check_not_empty(labels_zyx, what)


def check_not_empty(labels: Sliceable, what: str = "labels") -> None:
    """Refuse an array without any voxel."""
    if not math.prod(labels.shape):
        raise ValueError(f"{what} must hold at least one voxel, got shape {tuple(labels.shape)}; check the crop")


def check_voxel_size(voxel_size_um: float) -> None:
    """Refuse a voxel size that is not a length."""
    if not (math.isfinite(voxel_size_um) and voxel_size_um > 0):
        raise ValueError(
            f"voxel_size_um must be a length above 0 in micrometres, got {voxel_size_um}; the paper's scans have 1.2"
        )


def slabs(
    labels_zyx: Sliceable, *, start: int = 0, stop: int | None = None, n_shared: int = 0, what: str = "labels"
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Read the slices from `start` to `stop` in slabs, and check that they hold labels.

    Yields
    ------
    z : int
        The first slice of the slab.
    slab_zyx : array
        Slices from z on, at most `VOXELS_AT_ONCE` voxels unless a slice is larger; then `n_shared` slices
        more, with which the next slab begins, where there are any.
    """
    n_z, n_y, n_x = labels_zyx.shape
    stop = n_z if stop is None else stop
    n_slices = max(1, VOXELS_AT_ONCE // max(1, n_y * n_x))
    for z in range(start, stop, n_slices):
        slab_zyx = np.asarray(labels_zyx[z : min(z + n_slices + n_shared, stop)])
        check_labels(slab_zyx, what)
        yield z, slab_zyx
