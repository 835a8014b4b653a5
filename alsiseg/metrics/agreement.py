"""How well labels agree with the truth, voxel by voxel and surface by surface."""

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from alsiseg.metrics.checks import check_not_empty, check_pair, check_same_shape, check_volume, check_voxel_size, slabs
from alsiseg.phases import Phase, check_labels
from alsiseg.topology import Connectivity, Sliceable, check_connectivity, check_network
from alsiseg.weightmaps import interface_mask

HAUSDORFF_PCT = 95
Counts = NDArray[np.int64]


def accuracy(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Share of correctly labelled pixels, 0..1, of two label arrays of the same shape.

    Raises
    ------
    TypeError, ValueError
        When they are not labels, differ in shape, or hold no pixel.
    """
    check_pair(prediction, truth)
    return np.count_nonzero(prediction == truth) / truth.size


def accuracy_per_slice(prediction_zyx: NDArray[np.uint8], truth_zyx: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of correctly labelled pixels of every slice, float64 (Z,) in 0..1 (Fig. 5a).

    Raises
    ------
    TypeError, ValueError
        When they are not label volumes of the same shape, or hold no pixel.
    """
    check_pair(prediction_zyx, truth_zyx)
    check_volume(truth_zyx)
    pixels_per_slice = truth_zyx[0].size
    n_correct = [
        np.count_nonzero(prediction_yx == truth_yx)
        for prediction_yx, truth_yx in zip(prediction_zyx, truth_zyx, strict=True)
    ]
    return np.array(n_correct) / pixels_per_slice


def best_naming(classes: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Name three unnamed classes (of a threshold, say) so that most voxels agree with the truth.

    The kindest reading of a segmentation by grey value alone, to compare a network with.

    Parameters
    ----------
    classes : uint8 array
        Values 0, 1, 2 without a meaning.
    truth : uint8 array of the same shape
        Phases.
    """
    check_pair(classes, truth)
    namings = [np.array(naming, dtype=np.uint8) for naming in permutations(Phase)]
    best = max(namings, key=lambda naming: np.count_nonzero(naming[classes] == truth))
    return best[classes]


def dice_per_phase(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[Phase, float]:
    """Dice coefficient of every phase: twice the voxels in common / the voxels of both, 0..1.

    A phase that neither holds is predicted without fault: 1.0.

    Raises
    ------
    TypeError, ValueError
        When they are not labels, differ in shape, or hold no pixel.
    """
    check_pair(prediction, truth)
    return _dice(_confusion(prediction, truth))


def iou_per_phase(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[Phase, float]:
    """Intersection over union of every phase: voxels in common / voxels of either, 0..1.

    A phase that neither holds is predicted without fault: 1.0. Equals Dice / (2 - Dice).

    Raises
    ------
    TypeError, ValueError
        When they are not labels, differ in shape, or hold no pixel.
    """
    check_pair(prediction, truth)
    return _iou(_confusion(prediction, truth))


def interface_accuracy(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Share of correct pixels, 0..1, where the truth has a silicon-aluminide interface (Fig. 4b).

    The band is `weightmaps.interface_mask` of the truth. NaN when the truth has no interface.

    Raises
    ------
    TypeError, ValueError
        When they are not label slices or volumes of the same shape, or hold no pixel.
    """
    check_pair(prediction, truth)
    return _share_right(_confusion(prediction, truth, where=interface_mask(truth)))


def volume_fractions_pct(labels: NDArray[np.uint8]) -> dict[Phase, float]:
    """Share of every phase in vol.%; the three add up to 100.

    Raises
    ------
    TypeError, ValueError
        When the array does not hold labels, or nothing at all.
    """
    check_labels(labels)
    check_not_empty(labels)
    return {phase: 100 * np.count_nonzero(labels == phase) / labels.size for phase in Phase}


@dataclass(frozen=True)
class Agreement:
    """How far a volume of labels agrees with the truth.

    Attributes
    ----------
    accuracy
        Share of the voxels with the right label, 0..1.
    interface_accuracy
        The same where the truth has a silicon-aluminide interface; NaN without any.
    dice, iou
        By phase, 0..1; 1.0 for a phase that neither holds.
    """

    accuracy: float
    interface_accuracy: float
    dice: dict[Phase, float]
    iou: dict[Phase, float]


def compare(prediction_zyx: Sliceable, truth_zyx: Sliceable) -> Agreement:
    """Compare two volumes of labels, slab by slab, whatever their size.

    Raises
    ------
    TypeError, ValueError
        When they are not label volumes of the same shape, or hold no voxel.
    """
    check_volume(prediction_zyx, "the predicted labels")
    check_volume(truth_zyx, "the true labels")
    check_same_shape(prediction_zyx, truth_zyx)
    everywhere, in_band = np.zeros((2, len(Phase), len(Phase)), dtype=np.int64)
    pairs = zip(
        slabs(prediction_zyx, what="the predicted labels"), slabs(truth_zyx, what="the true labels"), strict=True
    )
    for (_, ours_zyx), (_, true_zyx) in pairs:
        everywhere += _confusion(ours_zyx, true_zyx)
        in_band += _confusion(ours_zyx, true_zyx, where=interface_mask(true_zyx))
    return Agreement(_share_right(everywhere), _share_right(in_band), _dice(everywhere), _iou(everywhere))


def _confusion(
    prediction: NDArray[np.uint8], truth: NDArray[np.uint8], *, where: NDArray[np.bool_] | None = None
) -> Counts:
    """Count the pixels by true (row) and predicted (column) phase."""
    both = truth * np.uint8(len(Phase)) + prediction if truth.dtype == np.uint8 else truth * len(Phase) + prediction
    both = both.ravel() if where is None else both[where]
    return np.bincount(both, minlength=len(Phase) ** 2).reshape(len(Phase), len(Phase))


def _share_right(confusion: Counts) -> float:
    total = int(confusion.sum())
    return int(confusion.trace()) / total if total else math.nan


def _dice(confusion: Counts) -> dict[Phase, float]:
    in_both = confusion.sum(axis=0) + confusion.sum(axis=1)
    return {p: 2 * int(confusion[p, p]) / int(in_both[p]) if in_both[p] else 1.0 for p in Phase}


def _iou(confusion: Counts) -> dict[Phase, float]:
    in_either = confusion.sum(axis=0) + confusion.sum(axis=1) - confusion.diagonal()
    return {p: int(confusion[p, p]) / int(in_either[p]) if in_either[p] else 1.0 for p in Phase}


def without_specks(
    labels_zyx: NDArray[np.uint8], min_voxels: int, *, connectivity: Connectivity = 26
) -> NDArray[np.uint8]:
    """Turn particles of silicon or of aluminide with fewer than `min_voxels` voxels into matrix.

    What a scan cannot resolve should not decide a comparison: apply it to the prediction and to the
    truth, with the same `min_voxels`, before measuring both. A speck of one phase that touches the other
    is a speck too. Particles are those of connected-components-3d; memory: 11 bytes a voxel.

    Raises
    ------
    TypeError, ValueError
        When the labels are not a volume, `min_voxels` is below 1, or the connectivity neither 6 nor 26.
    """
    import cc3d

    check_volume(labels_zyx)
    check_labels(labels_zyx)
    check_connectivity(connectivity)
    if min_voxels < 1:
        raise ValueError(f"min_voxels must be 1 (nothing is removed) or more, got {min_voxels}")
    return cc3d.dust(np.asarray(labels_zyx, dtype=np.uint8), threshold=min_voxels, connectivity=connectivity)


@dataclass(frozen=True)
class SurfaceDistance:
    """How far two surfaces lie apart.

    Attributes
    ----------
    mean_um
        Mean distance of the voxels of each surface from the other surface.
    hausdorff95_um
        Distance within which 95 % of the voxels of either surface lie from the other, the larger of both ways.
    """

    mean_um: float
    hausdorff95_um: float


def surface_distance(
    first_zyx: NDArray[np.bool_], second_zyx: NDArray[np.bool_], *, voxel_size_um: float
) -> SurfaceDistance:
    """Measure how far the surfaces of two masks of one shape lie apart; the order does not matter.

    The surface of a mask are its voxels with a face to the outside of the mask; the faces of the volume
    are no surface. Distances are those between voxel centres (Euclidean distance transform), so surfaces less
    than half a voxel apart are at 0. Two masks without a surface agree: 0 um. When only one
    has a surface both distances are infinite. Memory: about 10 bytes a voxel.

    Raises
    ------
    TypeError, ValueError
        When the masks are not boolean volumes of one shape, or the voxel size is not above 0.
    """
    for mask_zyx in (first_zyx, second_zyx):
        check_network(mask_zyx, "surface_distance")
    check_same_shape(first_zyx, second_zyx)
    check_voxel_size(voxel_size_um)
    surfaces = [_surface(mask_zyx) for mask_zyx in (first_zyx, second_zyx)]
    n_with_surface = sum(bool(surface.any()) for surface in surfaces)
    if n_with_surface < 2:
        distance = 0.0 if n_with_surface == 0 else math.inf
        return SurfaceDistance(distance, distance)
    ways = [voxel_size_um * way for way in (_distances(*surfaces), _distances(*reversed(surfaces)))]
    return SurfaceDistance(
        mean_um=float(np.concatenate(ways).mean()),
        hausdorff95_um=float(max(np.percentile(way, HAUSDORFF_PCT) for way in ways)),
    )


def _surface(mask_zyx: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the voxels with a face to the outside of the mask."""
    from scipy.ndimage import binary_erosion

    return mask_zyx & ~binary_erosion(mask_zyx, border_value=1)


def _distances(surface_zyx: NDArray[np.bool_], other_zyx: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance, in voxels, of each voxel of a surface from the other surface."""
    # The exact transform that PoreSpy uses: a twelfth of the memory of scipy's, and three times as fast.
    from edt import edt

    distance_zyx = edt(~other_zyx, parallel=0)
    return distance_zyx[surface_zyx].astype(np.float64)
