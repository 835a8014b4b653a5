"""MONAI's U-Net with its own loss, transforms and sliding window, for `peers.py`."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, ThreadDataLoader
from monai.inferers import SlidingWindowInferer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureTyped,
    NormalizeIntensity,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandRotate90d,
    RandSpatialCropd,
)
from monai.utils import set_determinism
from numpy.typing import NDArray
from peering import Segment, take_part

CROP_PX, BATCH, N_SLICES, N_PHASES = 128, 8, 5, 3


def train(
    grey_zyx: NDArray, labels_zyx: NDArray[np.uint8], seconds: float, _folder: Path
) -> tuple[Segment, dict[str, Any]]:
    """Train on windows of five slices as channels, cross entropy and Dice together, until the time is over."""
    set_determinism(0)
    normalised_zyx = normalise(grey_zyx)
    images = [
        {"image": window(normalised_zyx, z), "label": labels_zyx[z][None].astype(np.int64)}
        for z in range(len(labels_zyx))
    ]
    loader = ThreadDataLoader(
        CacheDataset(images, transforms(), progress=False), batch_size=BATCH, shuffle=True, drop_last=True
    )
    network = UNet(2, N_SLICES, N_PHASES, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True)
    started, n_images = time.perf_counter(), 0
    network.train()
    while time.perf_counter() - started < seconds:
        for batch in loader:
            optimiser.zero_grad()
            loss = loss_of(network(batch["image"]), batch["label"])
            loss.backward()
            optimiser.step()
            n_images += len(batch["image"])
            if time.perf_counter() - started >= seconds:
                break
    said = {"train_s": time.perf_counter() - started, "n_images": n_images}
    return lambda unseen_zyx: segment(network.eval(), unseen_zyx), said


def transforms() -> Compose:
    """Crops, flips, quarter turns, contrast and noise."""
    both = ("image", "label")
    return Compose(
        [
            EnsureTyped(keys=both, track_meta=False),
            RandSpatialCropd(keys=both, roi_size=(CROP_PX, CROP_PX), random_size=False),
            RandFlipd(keys=both, prob=0.5, spatial_axis=0),
            RandFlipd(keys=both, prob=0.5, spatial_axis=1),
            RandRotate90d(keys=both, prob=0.75),
            RandAdjustContrastd(keys="image", prob=0.3, gamma=(0.8, 1.25), retain_stats=True),
            RandGaussianNoised(keys="image", prob=0.3, std=0.1),
        ]
    )


def normalise(grey_zyx: NDArray) -> NDArray[np.float32]:
    """Mean 0, standard deviation 1."""
    return np.asarray(NormalizeIntensity()(np.asarray(grey_zyx, np.float32)))


def window(grey_zyx: NDArray[np.float32], z: int) -> NDArray[np.float32]:
    """Five slices around z; the outermost stands in for missing ones."""
    return grey_zyx[np.clip(np.arange(z - N_SLICES // 2, z + N_SLICES // 2 + 1), 0, len(grey_zyx) - 1)]


@torch.inference_mode()
def segment(network: UNet, unseen_zyx: NDArray) -> NDArray[np.uint8]:
    """Segment slice after slice with MONAI's sliding window."""
    normalised_zyx = normalise(unseen_zyx)
    inferer = SlidingWindowInferer((CROP_PX, CROP_PX), sw_batch_size=8, overlap=0.25, mode="gaussian")
    slices = (torch.from_numpy(window(normalised_zyx, z))[None] for z in range(len(unseen_zyx)))
    return np.concatenate([inferer(image, network).argmax(1).numpy().astype(np.uint8) for image in slices])


if __name__ == "__main__":
    take_part("monai", train)
