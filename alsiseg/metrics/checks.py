"""What the measures ask of labels, pairs and voxel sizes."""

import math

import numpy as np

from alsiseg.phases import check_labels
from alsiseg.topology import Sliceable


def check_pair(prediction: Sliceable, truth: Sliceable) -> None:
    """Refuse two arrays or volumes that hold no whole numbers, or not the same, not empty, shape."""
    check_whole_numbers(prediction, "the predicted labels")
    check_whole_numbers(truth, "the true labels")
    check_same_shape(prediction, truth)
    check_not_empty(truth)


def check_whole_numbers(labels: Sliceable, what: str = "labels") -> None:
    """Refuse what has no whole numbers; values are checked slab by slab."""
    check_labels(np.empty(0, getattr(labels, "dtype", object)), what)


def check_same_shape(prediction: Sliceable, truth: Sliceable) -> None:
    """Refuse two arrays or volumes of different shapes."""
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction and truth must have the same shape, got {prediction.shape} and {truth.shape}; "
            "crop both to the same slices, rows and columns"
        )


def check_volume(labels_zyx: Sliceable, what: str = "labels") -> None:
    """Refuse what has no whole numbers, not three axes, or no voxel."""
    check_whole_numbers(labels_zyx, what)
    if len(labels_zyx.shape) != 3:
        raise ValueError(
            f"{what} must be a volume with axes z, y, x, got shape {tuple(labels_zyx.shape)}; "
            "a single slice is a volume too: labels_yx[np.newaxis]"
        )
    check_not_empty(labels_zyx, what)


def check_slice_or_volume(labels: Sliceable, what: str = "labels") -> None:
    """Refuse what has neither two nor three axes."""
    if len(labels.shape) not in (2, 3):
        raise ValueError(
            f"{what} must be a slice (Y, X) or a volume (Z, Y, X), got shape {tuple(labels.shape)}; "
            "give one channel without a batch axis"
        )


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
