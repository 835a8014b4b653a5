"""Cubes of a labelled volume to train on in 3-D: drawn first, then cut, turned and changed in grey."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from alsiseg import hashing
from alsiseg.dataset import Augmentation, LabelledVolume


@dataclass(frozen=True)
class Cube:
    """What is random about one cube: drawn before anything is done.

    Attributes
    ----------
    corner_zyx : tuple of int
        First voxel.
    axes, flipped : tuple
        Order of the axes, and those that are reversed then: one of the 48 orientations of a cube.
    contrast, brightness, noise : float
        As in `dataset.Draws`.
    noise_key : int
    """

    corner_zyx: tuple[int, ...]
    axes: tuple[int, ...]
    flipped: tuple[int, ...]
    contrast: float
    brightness: float
    noise: float
    noise_key: int


def draw(shape_zyx: Sequence[int], edge_px: int, augmentation: Augmentation, *, seed: int, number: int) -> Cube:
    """Draw one cube of a training: it depends on seed and number alone."""
    random = np.random.Generator(np.random.Philox(key=[seed, number]))
    corner = random.integers(0, [n - edge_px + 1 for n in shape_zyx])
    axes, flipped = random.permutation(3), np.flatnonzero(random.random(3) < 0.5)
    contrast, brightness = 2 * random.random(2) - 1
    noisy = random.random() < augmentation.probability
    return Cube(
        corner_zyx=tuple(corner.tolist()),
        axes=tuple(axes.tolist()),
        flipped=tuple(flipped.tolist()),
        contrast=1 + augmentation.contrast * contrast,
        brightness=augmentation.brightness * brightness,
        noise=augmentation.noise * random.random() * noisy,
        noise_key=int(random.integers(-(2**31), 2**31)),
    )


def batch_of(
    volume: LabelledVolume, cubes: Iterable[Cube], *, edge_px: int, normalised_range: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut the drawn cubes, turn them, and change their grey.

    Returns
    -------
    grey_b1zyx, labels_bzyx, weight_bzyx : tensors
        Cut and turned together, where the volume is.
    """
    cubes = list(cubes)
    volumes = (volume.grey_zyx, volume.labels_zyx, volume.region_zyx)
    grey, labels, region = (torch.stack([_turned(whole, cube, edge_px) for cube in cubes]) for whole in volumes)
    voxel = torch.arange(edge_px**3, dtype=torch.int32, device=grey.device).reshape(grey.shape[1:])
    for image, cube in zip(grey, cubes, strict=True):
        image.mul_(cube.contrast).add_(cube.brightness * normalised_range)
        if cube.noise:
            key = torch.tensor(cube.noise_key, dtype=torch.int32, device=grey.device)
            noise = hashing.random_int32(voxel, key).to(grey.dtype).div_(2**31)  # -1 to 1
            image.add_(noise, alpha=cube.noise * normalised_range)
    return grey[:, None], labels, volume.weigh(region)


def _turned(volume_zyx: Tensor, cube: Cube, edge_px: int) -> Tensor:
    place = tuple(slice(start, start + edge_px) for start in cube.corner_zyx)
    return volume_zyx[place].permute(cube.axes).flip(cube.flipped)
