"""What is trained on and tested on: the data of one run, in memory and checked."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alsiseg import dataset, loss, unet
from alsiseg.dataset import GreyScale, LabelledVolume, Split, Statistics, View
from alsiseg.training import specimens
from alsiseg.training.settings import TrainingConfig
from alsiseg.training.specimens import Grey, Labels


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
    further_views : tuple of View
        What is trained on beside the slices of `volume` along z: its other directions, and further volumes.
    further_records : dict
        Entries of the further volumes for `settings`.
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
    further_views: tuple[View, ...] = ()
    further_records: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def views(self) -> tuple[View, ...]:
        """All that images are cut from."""
        return View(self.volume, self.split.train, self.scale.normalised_range), *self.further_views

    @property
    def training_crop_px(self) -> int:
        """Edge of the training crops: that of the test section, or as much of it as every view has room for."""
        rooms = [unet.fitting_crop(view.volume.labels_zyx.shape, largest=self.crop_px) for view in self.further_views]
        return min([self.crop_px, *rooms])

    def draws(self, epoch: int) -> dataset.Draws:
        """Draw the images of `epoch`."""
        config, trains = self.config, [view.train for view in self.views]
        n_images = config.augmentation.n_images(sum(len(view.train) for view in self.views if view.direction == "z"))
        n_images = min(n_images, config.images_per_epoch or n_images)
        return dataset.draw_from_views(trains, config.augmentation, seed=config.seed, epoch=epoch, n_images=n_images)

    def images(self, draws: dataset.Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Cut and change the drawn images: grey (B, C, Y, X), labels and weights (B, Y, X), where the volume is."""
        return dataset.batch_from_views(
            self.views, draws, crop=self.training_crop_px, n_slices=self.config.unet.n_slices
        )

    def loss(self, logits_bcyx: Tensor, labels_byx: Tensor, weight_byx: Tensor) -> Tensor:
        """Loss of a batch, on the device of its logits."""
        on = logits_bcyx.device
        class_weight = None if self.class_weight is None else self.class_weight.to(on)
        return loss.total(logits_bcyx, labels_byx.to(on), weight_byx.to(on), self.config.loss, class_weight)

    def to(self, device: str) -> "Task":
        """Bring the labelled volumes to a device; the sections go there batch by batch."""
        class_weight = None if self.class_weight is None else self.class_weight.to(device)
        views = tuple(view.to(device) for view in self.further_views)
        return replace(self, volume=self.volume.to(device), further_views=views, class_weight=class_weight)

    def settings(self) -> dict[str, Any]:
        """Everything that decides the numbers, for `settings.json`, and what the scans look like (`likeness`)."""
        record = specimens.record(self.volume, self.split, self.scale, self.checksums)
        likeness = {"likeness": asdict(self.statistics)}
        return {"config": self.config.record(), **record, "crop_px": self.crop_px, **likeness, **self.further_records}


def prepare(
    grey_zyx: Grey | Sequence[Grey],
    labels_zyx: Labels | Sequence[Labels],
    config: TrainingConfig,
    *,
    voxel_size_um: float | None = None,
) -> Task:
    """Check the data, split them, measure their grey scale and make the weights, of every volume by itself.

    Raises
    ------
    ValueError, TypeError
        When shapes, labels, crop or contrast do not fit; nothing was written then.
    ImportError
        When the loss needs a package that is not installed.
    """
    loss.check(config.loss)
    pairs = specimens.paired(grey_zyx, labels_zyx)
    crop_px = specimens.crop_px([grey.shape for grey, _ in pairs], config)
    first, *others = every = [
        specimens.read(*pair, number, config, voxel_size_um=voxel_size_um) for number, pair in enumerate(pairs, 1)
    ]
    volume, train, test = first.view.volume, first.split.train, first.split.test
    tested = np.linspace(train.start, train.stop - 1, min(len(test), len(train)))
    return Task(
        config=config,
        volume=volume,
        split=first.split,
        crop_px=crop_px,
        scale=first.scale,
        train=section(volume, tested.round().astype(int), crop_px, config.unet.n_slices),
        test=section(volume, np.array(test), crop_px, config.unet.n_slices),
        class_weight=specimens.class_weight(every) if config.loss.class_balance else None,
        checksums=first.checksums,
        statistics=first.statistics,
        further_views=tuple(view for specimen in every for view in specimen.views(config))[1:],
        further_records=specimens.further_records(others),
    )


def section(volume: LabelledVolume, z_indices: NDArray[np.int64], crop_px: int, n_slices: int) -> Section:
    """Cut the central crop of the given slices."""
    rows, columns = dataset.centre_window(tuple(volume.labels_zyx.shape[1:]), crop_px)
    n_total = len(volume.labels_zyx)
    windows = [volume.grey_zyx[dataset.context_slices(z, n_total, n_slices), rows, columns] for z in z_indices]
    labels_zyx = volume.labels_zyx[z_indices][:, rows, columns]
    weight_zyx = volume.weigh(volume.region_zyx[z_indices][:, rows, columns])
    return Section(torch.stack(windows), labels_zyx, weight_zyx)
