"""Random phases, smooth as a microstructure is, for what depends on the size of a volume and not on its meaning."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alsiseg.phases import NETWORKS, Phase


def smooth_labels(shape_zyx: tuple[int, int, int], generator: torch.Generator, device: str = "cpu") -> Tensor:
    """Random phases with features of a few voxels, about 13 % silicon and 10 % aluminide, uint8."""
    noise = torch.randn((2, 1, *shape_zyx), generator=generator, device=generator.device).to(device)
    field = torch.nn.functional.avg_pool3d(noise, 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    labels_zyx = torch.zeros(shape_zyx, dtype=torch.uint8, device=device)
    for phase, share in ((Phase.SILICON, 1.13), (Phase.ALUMINIDE, 1.28)):  # normal quantiles of 13 % and 10 %
        labels_zyx[field[phase - 1] > share * field[phase - 1].std()] = int(phase)
    return labels_zyx


def phases_with_noise(shape_zyx: tuple[int, int, int], seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Make a noisy scan of random phases, and their labels."""
    labels_zyx = smooth_labels(shape_zyx, torch.Generator().manual_seed(seed)).numpy()
    noise = np.random.default_rng(seed).standard_normal(shape_zyx, dtype=np.float32)
    grey_zyx = 20_000 + 10_000 * labels_zyx.astype(np.float32) + 3_000 * noise
    return grey_zyx.clip(0, 65535).astype(np.uint16), labels_zyx


def network_of(labels_zyx: Tensor, name: str) -> Tensor:
    """Mark the voxels of a network of the paper, where the labels are."""
    first, *others = NETWORKS[name]
    mask_zyx = labels_zyx == int(first)
    for phase in others:
        mask_zyx = mask_zyx | (labels_zyx == int(phase))
    return mask_zyx
