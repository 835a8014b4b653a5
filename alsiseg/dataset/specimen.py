"""One labelled specimen in memory: its grey scale, and grey, labels and weights as tensors."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alsiseg.phases import check_labels
from alsiseg.volumes import Volume
from alsiseg.weightmaps import PixelWeights, weight_regions


@dataclass(frozen=True)
class GreyScale:
    """Robust grey statistics of one volume: mean, spread and range without the extreme per cent."""

    mean: float
    spread: float
    range: float

    def normalise(self, grey: NDArray) -> NDArray[np.float32]:
        """Shift and scale grey values to mean 0 and spread 1."""
        return ((grey.astype(np.float32) - self.mean) / self.spread).astype(np.float32)

    @property
    def normalised_range(self) -> float:
        """Grey range in units of the spread: what brightness and noise are fractions of."""
        return self.range / self.spread


def grey_scale(grey_zyx: NDArray | Volume, *, n_slices: int = 32) -> GreyScale:
    """Measure a volume's own grey scale on at most `n_slices` evenly spread slices.

    Values beyond the 0.5 and 99.5 percentiles are clipped first, so that rings and hot pixels do not count.

    Raises
    ------
    ValueError
        When the volume has one grey value only.
    """
    z = np.unique(np.linspace(0, grey_zyx.shape[0] - 1, n_slices).round().astype(int))
    sample = np.stack([np.asarray(grey_zyx[int(i)]) for i in z]).astype(np.float32)
    low, high = np.percentile(sample, [0.5, 99.5])
    if not high > low:
        raise ValueError(f"needs a grey volume with contrast, found the value {low:g} almost everywhere")
    clipped = sample.clip(low, high)
    return GreyScale(float(clipped.mean()), float(clipped.std()), float(high - low))


@dataclass(frozen=True)
class LabelledVolume:
    """Grey, labels and weights of one specimen, once in memory, as tensors on one device.

    Attributes
    ----------
    grey_zyx : float32 tensor
        Normalised grey.
    labels_zyx : uint8 tensor
    region_zyx : uint8 tensor
        Which weight every voxel has (`weightmaps.weight_regions`), made on whole slices: a crop border
        changes none.
    weight_of_region : float32 tensor (regions,)
    """

    grey_zyx: Tensor
    labels_zyx: Tensor
    region_zyx: Tensor
    weight_of_region: Tensor

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.grey_zyx.device

    @property
    def weight_zyx(self) -> Tensor:
        """Weight of every voxel, float32, made anew at every call."""
        return self.weigh(self.region_zyx)

    def weigh(self, region: Tensor) -> Tensor:
        """Weight of every pixel of a part of `region_zyx`, float32 of the same shape."""
        return self.weight_of_region.index_select(0, region.reshape(-1).int()).reshape(region.shape)

    def to(self, device: str | torch.device) -> "LabelledVolume":
        """Bring the volume to a device; what is there already is not copied."""
        return LabelledVolume(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def check_pair(grey_zyx: NDArray | Volume, labels_zyx: NDArray | Volume) -> None:
    """Refuse labels of another shape than the scan, and what is no volume; reads no voxel."""
    if grey_zyx.shape != labels_zyx.shape:
        raise ValueError(
            f"grey and labels must have the same shape (z, y, x), got {tuple(grey_zyx.shape)} and "
            f"{tuple(labels_zyx.shape)}; give the labels of this scan"
        )
    if len(grey_zyx.shape) != 3:
        raise ValueError(f"needs volumes with three axes (z, y, x), got the shape {tuple(grey_zyx.shape)}")


def labelled_volume(
    grey_zyx: NDArray, labels_zyx: NDArray[np.uint8], weights: PixelWeights, scale: GreyScale
) -> LabelledVolume:
    """Check that grey and labels belong together and bring them, with their weights, into tensors."""
    check_pair(grey_zyx, labels_zyx)
    labels_zyx = np.asarray(labels_zyx)
    check_labels(labels_zyx)
    labels_zyx = labels_zyx.astype(np.uint8)
    return LabelledVolume(
        grey_zyx=torch.from_numpy(scale.normalise(np.asarray(grey_zyx))),
        labels_zyx=torch.from_numpy(labels_zyx),
        region_zyx=torch.from_numpy(weight_regions(labels_zyx)),
        weight_of_region=torch.from_numpy(weights.of_region),
    )
