"""The slices a network is corrected on, in memory: those that a user vouches for, and those of its first training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from alsiseg import dataset, runs
from alsiseg.dataset import GreyScale
from alsiseg.phases import check_labels
from alsiseg.volumes import Volume
from alsiseg.weightmaps import weight_regions

NOT_COUNTED = 4  # the region after those of `weightmaps.weight_regions`; its weight is 0

Grey = NDArray | Volume
Labels = NDArray[np.uint8] | Volume
Corrected = NDArray[np.bool_] | Volume | Sequence[int]


@dataclass(frozen=True)
class Material:
    """Slices of one specimen that are learned from, with the slices around them.

    Attributes
    ----------
    z_numbers : list of int
        Which slices of the volume count, N of them.
    grey_myx : float32 tensor
        These slices and their neighbours, each once, normalised by the volume's own grey scale.
    windows : int array (N, n_slices)
        Which of `grey_myx` lie around each slice that counts.
    labels_nyx : uint8 tensor
    region_nyx : uint8 tensor
        Which weight every pixel has (`weightmaps.weight_regions`, made on whole slices), or `NOT_COUNTED`.
    painted : list of int array, or None
        Numbers of the pixels that were corrected in each slice; None where whole slices count.
    scale : GreyScale
    checksums : dict
        SHA-256 of the grey values and labels of these slices.
    """

    z_numbers: list[int]
    grey_myx: Tensor
    windows: NDArray[np.int64]
    labels_nyx: Tensor
    region_nyx: Tensor
    painted: list[NDArray[np.int64]] | None
    scale: GreyScale
    checksums: dict[str, str]

    def __len__(self) -> int:
        return len(self.z_numbers)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Rows and columns of a slice."""
        n_y, n_x = self.labels_nyx.shape[1:]
        return n_y, n_x

    @property
    def counted_nyx(self) -> NDArray[np.bool_]:
        """Mark the pixels that are learned from."""
        return (self.region_nyx != NOT_COUNTED).numpy()

    def window(self, index: int) -> Tensor:
        """Grey (n_slices, Y, X) around one of the slices that count."""
        return self.grey_myx[self.windows[index]]


def corrected_slices(shape_zyx: tuple[int, ...], corrected: Corrected) -> tuple[list[int], list | None]:
    """Tell which slices were corrected and, where a volume says it, which of their pixels.

    Raises
    ------
    ValueError, TypeError
        When nothing was corrected, or it does not fit the scan.
    """
    if isinstance(corrected, Sequence) or corrected.ndim == 1:
        return _numbered_slices(shape_zyx, np.asarray(corrected)), None
    if corrected.shape != shape_zyx or corrected.dtype != bool:
        raise ValueError(
            f"the corrected voxels must be a boolean volume of the scan's shape {shape_zyx} or slice numbers, "
            f"got {corrected.dtype} of shape {tuple(corrected.shape)}; mark the voxels you painted"
        )
    painted = {z: np.flatnonzero(corrected[z]) for z in range(shape_zyx[0])}
    painted = {z: pixels for z, pixels in painted.items() if len(pixels)}
    if not painted:
        raise ValueError("needs slices with corrections, found none painted; correct a region and mark it as corrected")
    return list(painted), list(painted.values())


def _numbered_slices(shape_zyx: tuple[int, ...], numbers: NDArray) -> list[int]:
    if not len(numbers):
        raise ValueError("needs slices with corrections, found none; name at least one slice that you corrected")
    if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= shape_zyx[0]:
        raise ValueError(
            f"the corrected slices must be whole numbers from 0 to {shape_zyx[0] - 1}, got {numbers.tolist()[:8]}; "
            "name slices of this scan"
        )
    return np.unique(numbers).tolist()


def gather(
    grey_zyx: Grey,
    labels_zyx: Labels,
    z_numbers: list[int],
    *,
    n_slices: int,
    painted: list | None = None,
    reach_px: float = 0,
) -> Material:
    """Read slices with their neighbours; of a volume on disk nothing else, but what its grey scale needs.

    All of a slice counts, or with `painted` pixels what lies within `reach_px` of one.

    Raises
    ------
    ValueError, TypeError
        When grey and labels do not belong together, grey values are not finite, or labels are no phases.
    """
    windows = np.stack([dataset.context_slices(z, grey_zyx.shape[0], n_slices) for z in z_numbers])
    needed, places = np.unique(windows, return_inverse=True)
    grey_myx = np.stack([np.asarray(grey_zyx[int(z)]) for z in needed])
    if not np.isfinite(grey_myx).all():
        raise ValueError(
            "needs finite grey values, found NaN or infinite ones near the corrected slices; mend the scan"
        )
    labels_nyx = np.stack([np.asarray(labels_zyx[z]) for z in z_numbers])
    check_labels(labels_nyx, "the corrected slices")
    labels_nyx = labels_nyx.astype(np.uint8)
    region_nyx = weight_regions(labels_nyx)
    if painted is not None:
        region_nyx[~_near(painted, labels_nyx.shape, reach_px)] = NOT_COUNTED
    scale = dataset.grey_scale(grey_zyx)
    return Material(
        z_numbers=z_numbers,
        grey_myx=torch.from_numpy(scale.normalise(grey_myx)),
        windows=places.reshape(windows.shape),
        labels_nyx=torch.from_numpy(labels_nyx),
        region_nyx=torch.from_numpy(region_nyx),
        painted=painted,
        scale=scale,
        checksums={"grey_sha256": runs.checksum(grey_myx), "labels_sha256": runs.checksum(labels_nyx)},
    )


def _near(painted: list[NDArray[np.int64]], shape_nyx: tuple[int, ...], reach_px: float) -> NDArray[np.bool_]:
    """Mark the pixels within a distance of a painted one of their slice."""
    apart_nyx = np.ones(shape_nyx, bool)
    for apart_yx, pixels in zip(apart_nyx, painted, strict=True):
        apart_yx.reshape(-1)[pixels] = False
        apart_yx[...] = ndimage.distance_transform_edt(apart_yx) > reach_px
    return ~apart_nyx
