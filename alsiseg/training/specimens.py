"""The labelled volumes of a training: one, or several that are trained on together, each checked and read by itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alsiseg import dataset, loss, runs, unet
from alsiseg.dataset import GreyScale, LabelledVolume, Split, Statistics, View
from alsiseg.training.settings import TrainingConfig
from alsiseg.volumes import Volume

Grey = NDArray[Any] | Volume  # Any: whatever whole numbers or floats a scan has
Labels = NDArray[np.uint8] | Volume


@dataclass(frozen=True)
class Specimen:
    """One labelled volume, read and checked.

    Attributes
    ----------
    view : View
        Along z.
    split : Split
    scale : GreyScale
    checksums : dict
        SHA-256 of grey and labels.
    statistics : Statistics
    """

    view: View
    split: Split
    scale: GreyScale
    checksums: dict[str, str]
    statistics: Statistics

    def views(self, config: TrainingConfig) -> list[View]:
        """Everything that images are cut from: the specimen along each of the directions."""
        n_slices = config.unet.n_slices
        turned = [dataset.seen_along(axis, self.view, n_slices=n_slices) for axis in config.directions if axis != "z"]
        return [self.view, *turned]

    def record(self) -> dict[str, Any]:
        """Its entries for `settings.json`."""
        return record(self.view.volume, self.split, self.scale, self.checksums)


def record(volume: LabelledVolume, split: Split, scale: GreyScale, checksums: dict[str, str]) -> dict[str, Any]:
    """What is kept about one volume in `settings.json`."""
    return {
        "data": {"shape_zyx": list(volume.labels_zyx.shape), **checksums},
        "split": {name: [part.start, part.stop] for name, part in vars(split).items()},
        "grey_scale": asdict(scale),
    }


def further_records(others: Sequence[Specimen]) -> dict[str, dict[str, Any]]:
    """The entries of all volumes but the first, by their numbers, which begin at 2; nothing when there is one only."""
    numbered = {str(number): specimen for number, specimen in enumerate(others, 2)}
    if not numbered:
        return {}
    return {
        "further_volumes": {number: specimen.record() for number, specimen in numbered.items()},
        "further_likeness": {number: asdict(specimen.statistics) for number, specimen in numbered.items()},
    }


def paired(grey: Grey | Sequence[Grey], labels: Labels | Sequence[Labels]) -> list[tuple[Grey, Labels]]:
    """Every volume with its labels, one or several, checked as far as no voxel is read for it.

    Raises
    ------
    ValueError
        When there are not as many of one as of the other, or shapes do not fit.
    """
    greys = list(grey) if isinstance(grey, Sequence) else [grey]
    all_labels = list(labels) if isinstance(labels, Sequence) else [labels]
    if len(greys) != len(all_labels) or not greys:
        raise ValueError(
            f"needs labels for every volume, found {len(greys)} of grey and {len(all_labels)} of labels; give as many"
        )
    pairs = list(zip(greys, all_labels, strict=True))
    for pair in pairs:
        dataset.check_pair(*pair)
    return pairs


def crop_px(shapes_zyx: Sequence[tuple[int, ...]], config: TrainingConfig) -> int:
    """Edge of the test section, and of the training crops where no direction asks for smaller ones.

    Raises
    ------
    ValueError
        When the volumes have no room for the crops that are set, or for any.
    """
    n_train = min(len(_split(shape_zyx, config).train) for shape_zyx in shapes_zyx)
    edge_px = min(unet.fitting_crop(shape_zyx, largest=config.crop_px or 256) for shape_zyx in shapes_zyx)
    if config.crop_px not in (None, edge_px):
        shapes = " and ".join(str(tuple(shape_zyx[1:])) for shape_zyx in shapes_zyx)
        raise ValueError(f"crops of {config.crop_px} pixels do not fit slices of {shapes}; use {edge_px}")
    if config.directions != ("z",) and n_train < unet.SMALLEST_CROP:
        raise ValueError(
            f"windows along y and x need at least {unet.SMALLEST_CROP} training slices, found {n_train}; "
            "give a taller volume or train along z alone"
        )
    return edge_px


def _split(shape_zyx: tuple[int, ...], config: TrainingConfig) -> Split:
    return dataset.split(shape_zyx[0], n_context=config.unet.n_slices // 2)


def read(
    grey: Grey, labels: Labels, number: int, config: TrainingConfig, *, voxel_size_um: float | None = None
) -> Specimen:
    """Read a volume, its number counted from 1, and measure its own grey scale.

    Raises
    ------
    ValueError, TypeError
        When labels or contrast do not fit.
    """
    voxel_size_um = voxel_size_um or getattr(grey, "voxel_size_um", None)
    grey_zyx, labels_zyx = np.asarray(grey), np.asarray(labels)
    split, scale = _split(grey_zyx.shape, config), dataset.grey_scale(grey_zyx)
    volume = dataset.labelled_volume(grey_zyx, labels_zyx, config.weights, scale)
    return Specimen(
        view=View(volume, split.train, scale.normalised_range, specimen=number),
        split=split,
        scale=scale,
        checksums={"grey_sha256": runs.checksum(grey_zyx), "labels_sha256": runs.checksum(labels_zyx)},
        statistics=dataset.grey_statistics(grey_zyx, voxel_size_um=voxel_size_um),
    )


def class_weight(specimens: Sequence[Specimen]) -> Tensor:
    """Weight of every phase, of the training slices of all volumes together.

    Raises
    ------
    ValueError
        When a phase does not occur in them.
    """
    views = [specimen.view for specimen in specimens]
    trained_on = [view.volume.labels_zyx[view.train.start : view.train.stop].reshape(-1) for view in views]
    return loss.class_weights(torch.cat(trained_on))
