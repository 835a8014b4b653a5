"""Where the images of a training are cut from: a specimen along one of its axes; several of them make one training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from alsiseg.dataset.batches import training_batch
from alsiseg.dataset.draws import Draws
from alsiseg.dataset.specimen import LabelledVolume
from alsiseg.weightmaps import weight_regions

AXES = ("z", "y", "x")


@dataclass(frozen=True)
class View:
    """A labelled specimen, seen along one of its axes.

    Attributes
    ----------
    volume : LabelledVolume
        Turned so that its first axis is the one that is looked along.
    train : range
        The slices along that axis that images are drawn from; the context around them is in the volume.
    normalised_range : float
        Of the specimen's grey scale.
    direction : "z", "y" or "x"
        Axis of the specimen that is looked along.
    specimen : int
        Its number, from 1.
    """

    volume: LabelledVolume
    train: range
    normalised_range: float
    direction: str = "z"
    specimen: int = 1

    def to(self, device: str | torch.device) -> "View":
        """Bring its volume to a device."""
        return replace(self, volume=self.volume.to(device))

    def name(self, z: int) -> str:
        """Name a slice by its number, counted from 1, with what a reader must know to find it."""
        along = "" if self.direction == "z" else f" along {self.direction}"
        return f"{z + 1}{along}" + ("" if self.specimen == 1 else f" of volume {self.specimen}")


def seen_along(direction: str, view: View, *, n_slices: int) -> View:
    """Turn the training slices of a view along z so that windows are cut along another axis.

    Only slices that are trained on are in it, so a window along y or x is as high as the training part is and sees
    nothing of test or gap. The weight regions are made anew, in the planes that the network then sees.

    Parameters
    ----------
    direction : "y" or "x"
    n_slices
        Slices of a window.
    """
    axis, n_context = AXES.index(direction), n_slices // 2

    def turned(volume_zyx: Tensor) -> Tensor:
        return volume_zyx[view.train.start : view.train.stop].movedim(axis, 0).contiguous()

    labels = turned(view.volume.labels_zyx)
    region = torch.from_numpy(weight_regions(labels.numpy()))
    volume = replace(view.volume, grey_zyx=turned(view.volume.grey_zyx), labels_zyx=labels, region_zyx=region)
    train = range(n_context, len(labels) - n_context)
    return replace(view, volume=volume, train=train, direction=direction)


def batch_from_views(views: Sequence[View], draws: Draws, *, crop: int, n_slices: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut and change the drawn images as `training_batch` does, each from its own view, in the order of the draws."""

    def made(view: View, part: Draws) -> tuple[Tensor, Tensor, Tensor]:
        return training_batch(view.volume, part, crop=crop, n_slices=n_slices, normalised_range=view.normalised_range)

    if len(views) == 1:
        return made(views[0], draws)
    numbers = sorted(set(draws.view.tolist()))
    images_of = [np.flatnonzero(draws.view == number) for number in numbers]
    batches = [made(views[number], draws.picked(which)) for number, which in zip(numbers, images_of, strict=True)]
    order = torch.from_numpy(np.argsort(np.concatenate(images_of))).to(views[0].volume.device)
    grey_bcyx, labels_byx, weight_byx = (torch.cat(images)[order] for images in zip(*batches, strict=True))
    return grey_bcyx, labels_byx, weight_byx
