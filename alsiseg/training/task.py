"""What is trained on and tested on: the data of one run, in memory and checked."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alsiseg import dataset, loss, runs, unet
from alsiseg.dataset import GreyScale, LabelledVolume, Split, Statistics
from alsiseg.training.settings import TrainingConfig
from alsiseg.volumes import Volume


@dataclass(frozen=True)
class Section:
    """The central section of some slices, with its context, as the network is tested on it.

    Attributes
    ----------
    grey_zcyx : float32 tensor
        Five-slice windows.
    labels_zyx, weight_zyx : tensor
    """

    grey_zcyx: Tensor
    labels_zyx: Tensor
    weight_zyx: Tensor


@dataclass(frozen=True)
class Task:
    """What is trained on and tested on: the data of one run, in memory and checked.

    Attributes
    ----------
    config : TrainingConfig
    volume : LabelledVolume
    split : Split
    crop_px : int
    scale : GreyScale
    train, test : Section
        Central sections evaluated after every epoch: all test slices, and as many training slices.
    class_weight : (C,) float32 tensor or None
        Of the training slices, when the loss balances the classes.
    checksums : dict
        SHA-256 of grey and labels.
    statistics : Statistics
        Of the grey: what a scan is compared with before this network segments it.
    """

    config: TrainingConfig
    volume: LabelledVolume
    split: Split
    crop_px: int
    scale: GreyScale
    train: Section
    test: Section
    class_weight: Tensor | None
    checksums: dict[str, str]
    statistics: Statistics

    def draws(self, epoch: int) -> dataset.Draws:
        """Draw the images of `epoch`."""
        config = self.config
        return dataset.draw_epoch(
            self.split.train, config.augmentation, seed=config.seed, epoch=epoch, n_images=config.images_per_epoch
        )

    def images(self, draws: dataset.Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Cut and change the drawn images: grey (B, C, Y, X), labels and weights (B, Y, X), where the volume is."""
        return dataset.training_batch(
            self.volume,
            draws,
            crop=self.crop_px,
            n_slices=self.config.unet.n_slices,
            normalised_range=self.scale.normalised_range,
        )

    def loss(self, logits_bcyx: Tensor, labels_byx: Tensor, weight_byx: Tensor) -> Tensor:
        """Loss of a batch, on the device of its logits."""
        on = logits_bcyx.device
        class_weight = None if self.class_weight is None else self.class_weight.to(on)
        return loss.total(logits_bcyx, labels_byx.to(on), weight_byx.to(on), self.config.loss, class_weight)

    def to(self, device: str) -> "Task":
        """Bring the labelled volume to a device; the sections go there batch by batch."""
        class_weight = None if self.class_weight is None else self.class_weight.to(device)
        return replace(self, volume=self.volume.to(device), class_weight=class_weight)

    def settings(self) -> dict[str, Any]:
        """Everything that decides the numbers, for `settings.json`, and what the scan looks like (`likeness`)."""
        return {
            "config": asdict(self.config),
            "data": {"shape_zyx": list(self.volume.labels_zyx.shape), **self.checksums},
            "split": {name: [part.start, part.stop] for name, part in vars(self.split).items()},
            "crop_px": self.crop_px,
            "grey_scale": asdict(self.scale),
            "likeness": asdict(self.statistics),
        }


def prepare(
    grey_zyx: NDArray | Volume,
    labels_zyx: NDArray[np.uint8] | Volume,
    config: TrainingConfig,
    *,
    voxel_size_um: float | None = None,
) -> Task:
    """Check the data, split them, measure their grey scale and make the weights.

    Raises
    ------
    ValueError, TypeError
        When shapes, labels, crop or contrast do not fit; nothing was written then.
    """
    n_slices = config.unet.n_slices
    dataset.check_pair(grey_zyx, labels_zyx)
    split = dataset.split(grey_zyx.shape[0], n_context=n_slices // 2)
    crop_px = unet.fitting_crop(grey_zyx.shape, largest=config.crop_px or 256)
    if config.crop_px not in (None, crop_px):
        raise ValueError(f"crops of {config.crop_px} pixels do not fit slices of {grey_zyx.shape[1:]}; use {crop_px}")
    voxel_size_um = voxel_size_um or getattr(grey_zyx, "voxel_size_um", None)
    grey_zyx, labels_zyx = np.asarray(grey_zyx), np.asarray(labels_zyx)
    scale = dataset.grey_scale(grey_zyx)
    volume = dataset.labelled_volume(grey_zyx, labels_zyx, config.weights, scale)
    tested = np.linspace(split.train.start, split.train.stop - 1, min(len(split.test), len(split.train)))
    trained_on_zyx = volume.labels_zyx[split.train.start : split.train.stop]
    return Task(
        config=config,
        volume=volume,
        split=split,
        crop_px=crop_px,
        scale=scale,
        train=section(volume, tested.round().astype(int), crop_px, n_slices),
        test=section(volume, np.array(split.test), crop_px, n_slices),
        class_weight=loss.class_weights(trained_on_zyx) if config.loss.class_balance else None,
        checksums={"grey_sha256": runs.checksum(grey_zyx), "labels_sha256": runs.checksum(labels_zyx)},
        statistics=dataset.grey_statistics(grey_zyx, voxel_size_um=voxel_size_um),
    )


def section(volume: LabelledVolume, z_indices: NDArray[np.int64], crop_px: int, n_slices: int) -> Section:
    """Cut the central crop of the given slices."""
    rows, columns = dataset.centre_window(tuple(volume.labels_zyx.shape[1:]), crop_px)
    n_total = len(volume.labels_zyx)
    windows = [volume.grey_zyx[dataset.context_slices(z, n_total, n_slices), rows, columns] for z in z_indices]
    labels_zyx = volume.labels_zyx[z_indices][:, rows, columns]
    weight_zyx = volume.weigh(volume.region_zyx[z_indices][:, rows, columns])
    return Section(torch.stack(windows), labels_zyx, weight_zyx)
