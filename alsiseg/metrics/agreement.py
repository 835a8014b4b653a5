"""How well labels agree with the truth, voxel by voxel and surface by surface."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.metrics.checks import (
    check_not_empty,
    check_pair,
    check_same_shape,
    check_slice_or_volume,
    check_volume,
    check_voxel_size,
    check_whole_numbers,
)
from alsiseg.metrics.slabs import n_slices_at_once, parts, run
from alsiseg.metrics.workers import Task, active_client
from alsiseg.phases import Phase, check_labels
from alsiseg.topology import Connectivity, Sliceable, check_connectivity, check_network
from alsiseg.weightmaps import interface_mask

if TYPE_CHECKING:
    from distributed import Client

HAUSDORFF_PCT = 95
Counts = NDArray[np.int64]


def accuracy(prediction: Sliceable, truth: Sliceable, *, client: "Client | None" = None) -> float:
    """Share of correctly labelled pixels, 0..1, of two label arrays or volumes of the same shape.

    Raises
    ------
    TypeError, ValueError
        When they are not labels, differ in shape, or hold no pixel.
    """
    return _share_right(confusion(prediction, truth, client=client))


def accuracy_per_slice(
    prediction_zyx: Sliceable, truth_zyx: Sliceable, *, client: "Client | None" = None
) -> NDArray[np.float64]:
    """Share of correctly labelled pixels of every slice, float64 (Z,) in 0..1 (Fig. 5a).

    Raises
    ------
    TypeError, ValueError
        When they are not label volumes of the same shape, or hold no pixel.
    """
    check_pair(prediction_zyx, truth_zyx)
    check_volume(truth_zyx)
    (per_slice,) = _confusion_per_slice(prediction_zyx, truth_zyx, client=client)
    return per_slice.trace(axis1=1, axis2=2) / per_slice.sum(axis=(1, 2))


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
    counts = confusion(classes, truth)
    namings = [np.array(naming, dtype=np.uint8) for naming in permutations(Phase)]
    best = max(namings, key=lambda naming: counts[naming, np.arange(len(Phase))].sum())
    return best[classes]


def confusion(prediction: Sliceable, truth: Sliceable, *, client: "Client | None" = None) -> Counts:
    """Count the pixels by true (row) and predicted (column) phase, int64 (3, 3).

    Parameters
    ----------
    prediction, truth
        Labels of one shape: arrays, or volumes (Z, Y, X) that need only ``shape``, ``dtype`` and slicing
        along z, read slab by slab, whatever their size.
    client
        A dask.distributed client whose workers count the slabs of volumes; the active one of this
        process, if there is one, unless given. So for all measures of agreement; the numbers are the same.

    Raises
    ------
    TypeError, ValueError
        When they are not labels, differ in shape, or hold no pixel.
    """
    check_pair(prediction, truth)
    return _confusion_per_slice(prediction, truth, client=client).sum(axis=(0, 1))


def dice_per_phase(prediction: Sliceable, truth: Sliceable, *, client: "Client | None" = None) -> dict[Phase, float]:
    """Dice coefficient of every phase: twice the voxels in common / the voxels of both, 0..1.

    A phase that neither holds is predicted without fault: 1.0.

    Raises
    ------
    TypeError, ValueError
        When they are not labels, differ in shape, or hold no pixel.
    """
    return _dice(confusion(prediction, truth, client=client))


def iou_per_phase(prediction: Sliceable, truth: Sliceable, *, client: "Client | None" = None) -> dict[Phase, float]:
    """Intersection over union of every phase: voxels in common / voxels of either, 0..1.

    A phase that neither holds is predicted without fault: 1.0. Equals Dice / (2 - Dice).

    Raises
    ------
    TypeError, ValueError
        When they are not labels, differ in shape, or hold no pixel.
    """
    return _iou(confusion(prediction, truth, client=client))


def interface_accuracy(prediction: Sliceable, truth: Sliceable, *, client: "Client | None" = None) -> float:
    """Share of correct pixels, 0..1, where the truth has a silicon-aluminide interface (Fig. 4b).

    The band is `weightmaps.interface_mask` of the truth. NaN when the truth has no interface.

    Raises
    ------
    TypeError, ValueError
        When they are not label slices or volumes of the same shape, or hold no pixel.
    """
    check_pair(prediction, truth)
    check_slice_or_volume(truth)
    _, in_band = _confusion_per_slice(prediction, truth, with_band=True, client=client)
    return _share_right(in_band.sum(axis=0))


def volume_fractions_pct(labels: Sliceable, *, client: "Client | None" = None) -> dict[Phase, float]:
    """Share of every phase in vol.%; the three add up to 100.

    Raises
    ------
    TypeError, ValueError
        When the array does not hold labels, or nothing at all.
    """
    check_whole_numbers(labels)
    check_not_empty(labels)
    counts = np.sum(list(_over_slabs(_phase_counts, [labels], client)), axis=0)
    return {phase: float(100 * counts[phase] / counts.sum()) for phase in Phase}


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


def compare(prediction_zyx: Sliceable, truth_zyx: Sliceable, *, client: "Client | None" = None) -> Agreement:
    """Compare two volumes of labels in one pass, slab by slab, whatever their size.

    Raises
    ------
    TypeError, ValueError
        When they are not label volumes of the same shape, or hold no voxel.
    """
    check_volume(prediction_zyx, "the predicted labels")
    check_volume(truth_zyx, "the true labels")
    check_same_shape(prediction_zyx, truth_zyx)
    per_slice = _confusion_per_slice(prediction_zyx, truth_zyx, with_band=True, client=client)
    everywhere, in_band = per_slice.sum(axis=1)
    return Agreement(_share_right(everywhere), _share_right(in_band), _dice(everywhere), _iou(everywhere))


def _confusion_per_slice(
    prediction: Sliceable, truth: Sliceable, *, with_band: bool = False, client: "Client | None"
) -> Counts:
    """Confusion of every slice, (1, Z, 3, 3), or (2, Z, 3, 3) with that at the interfaces of the truth."""
    count = partial(_slab_confusion, with_band=with_band)
    return np.concatenate(list(_over_slabs(count, [prediction, truth], client)), axis=1)


def _over_slabs(work: Callable[..., Counts], labels: list[Sliceable], client: "Client | None") -> Iterator[Counts]:
    """Do some work on the slabs of volumes; other arrays are taken as a whole, with three axes."""
    if len(labels[0].shape) != 3:
        shape = (1, *labels[0].shape) if len(labels[0].shape) == 2 else (1, 1, -1)
        return iter([work(*(np.asarray(array).reshape(shape) for array in labels))])
    client = client or active_client()
    each = parts(0, labels[0].shape[0], n_slices_at_once(labels, client))
    return run([Task(z, work) for z in each], labels, client)


def _slab_confusion(ours_zyx: NDArray[Any], true_zyx: NDArray[Any], *, with_band: bool) -> Counts:
    """Check and count a slab; a slice at a time, because bincount widens what it counts."""
    check_labels(ours_zyx, "the predicted labels")
    check_labels(true_zyx, "the true labels")
    both_zyx = true_zyx.astype(np.uint8) * np.uint8(len(Phase)) + ours_zyx.astype(np.uint8)
    counted = [[_square(both_yx) for both_yx in both_zyx]]
    if with_band:
        counted.append([_square(both_yx[interface_mask(t)]) for both_yx, t in zip(both_zyx, true_zyx, strict=True)])
    return np.array(counted)


def _square(both: NDArray[np.uint8]) -> Counts:
    return np.bincount(both.ravel(), minlength=len(Phase) ** 2).reshape(len(Phase), len(Phase))


def _phase_counts(labels_zyx: NDArray[Any]) -> Counts:
    """Voxels of every phase."""
    check_labels(labels_zyx)
    return np.array([np.count_nonzero(labels_zyx == phase) for phase in Phase])


def _share_right(confused: Counts) -> float:
    total = int(confused.sum())
    return int(confused.trace()) / total if total else math.nan


def _dice(confused: Counts) -> dict[Phase, float]:
    in_both = confused.sum(axis=0) + confused.sum(axis=1)
    return {p: 2 * int(confused[p, p]) / int(in_both[p]) if in_both[p] else 1.0 for p in Phase}


def _iou(confused: Counts) -> dict[Phase, float]:
    in_either = confused.sum(axis=0) + confused.sum(axis=1) - confused.diagonal()
    return {p: int(confused[p, p]) / int(in_either[p]) if in_either[p] else 1.0 for p in Phase}


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
        When the labels are not a volume, `min_voxels` is below 1, or the connectivity is none of 6, 18, 26.
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
