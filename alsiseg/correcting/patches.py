"""Patches of the slices that count, drawn first and cut afterwards: more of them where something was corrected."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from alsiseg.correcting.material import Material
from alsiseg.dataset import LabelledVolume
from alsiseg.weightmaps import PixelWeights

JITTER = 4  # a patch lies up to a fourth of its edge off the voxel it was drawn for


@dataclass(frozen=True)
class Patch:
    """A square of a slice: which material, which of its slices, first row and column."""

    material: int
    index: int
    top: int
    left: int


def draw_patches(
    materials: Sequence[Material], numbers: Sequence[int], crop_px: int, *, seed: int, epoch: int
) -> list[Patch]:
    """Draw the patches of an epoch: `numbers` of each material, every slice as likely as any other.

    Each is laid round a painted pixel of the slice, up to a quarter of the edge off it, or anywhere where whole
    slices count. The key keeps clear of those that the changes of an epoch are drawn with.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, 2**32 + epoch]))
    drawn = []
    for number, (material, n_patches) in enumerate(zip(materials, numbers, strict=True)):
        for index in random.integers(len(material), size=n_patches).tolist():
            drawn.append(Patch(number, index, *_corner(random, material, index, crop_px)))
    return drawn


def _corner(random: np.random.Generator, material: Material, index: int, crop_px: int) -> tuple[int, int]:
    """First row and column of a patch."""
    if material.painted is None:
        top, left = (int(random.integers(n - crop_px + 1)) for n in material.shape_yx)
        return top, left
    pixel = np.unravel_index(int(random.choice(material.painted[index])), material.shape_yx)
    reach = crop_px // JITTER
    corner = np.array(pixel) - crop_px // 2 + random.integers(-reach, reach + 1, size=2)
    top, left = corner.clip(0, np.array(material.shape_yx) - crop_px).tolist()
    return top, left


def cut(
    materials: Sequence[Material], patches: Sequence[Patch], crop_px: int, n_slices: int, weights: PixelWeights
) -> tuple[LabelledVolume, range]:
    """Stack patches with their neighbours above each other, as the volume that `training.train_epoch` cuts from.

    Returns
    -------
    volume : LabelledVolume
        `n_slices` slices a patch, of crop_px x crop_px pixels.
    middle : range
        The slices of it that are trained on: the middle one of each patch.
    """
    shape = (len(patches) * n_slices, crop_px, crop_px)
    middle = range(n_slices // 2, shape[0], n_slices)
    grey = materials[0].grey_myx.new_empty(shape)
    labels, region = (materials[0].labels_nyx.new_zeros(shape) for _ in range(2))
    for z, patch in zip(middle, patches, strict=True):
        material, index = materials[patch.material], patch.index
        rows, columns = slice(patch.top, patch.top + crop_px), slice(patch.left, patch.left + crop_px)
        first = z - n_slices // 2
        grey[first : first + n_slices] = material.grey_myx[material.windows[index], rows, columns]
        labels[z] = material.labels_nyx[index, rows, columns]
        region[z] = material.region_nyx[index, rows, columns]
    return LabelledVolume(grey, labels, region, weight_of_region(weights)), middle


def weight_of_region(weights: PixelWeights) -> torch.Tensor:
    """Weight of every region of a `Material`."""
    return torch.from_numpy(np.append(weights.of_region, np.float32(0)))  # of NOT_COUNTED
