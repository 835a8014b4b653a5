"""The sizes in which the whole story runs: from seconds for a test to the published one."""

import os
from dataclasses import dataclass, replace

from alsiseg.dataset import Augmentation, split
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNetConfig
from alsiseg.weightmaps import PUBLISHED_SETTINGS, PixelWeights

# What a network learns from, and the file of it that notebook 01 writes.
TRAINED_ON = {"truth": "truth.tif", "procedure": "labels.tif"}
SHORT_EPOCHS, SHORT_IMAGES = 3, 250  # half a minute on two cores with the quick network


@dataclass(frozen=True)
class Profile:
    """One size of specimen, network and training; the notebooks take every number from here.

    Attributes
    ----------
    name : str
    slow_shape_zyx, fast_shape_zyx : tuple of int
        The labelled specimen (slowly cooled) and the second volume (cooled faster).
    n_angles : int
        Projections of a scan.
    training : TrainingConfig
        Without the weights, which are what is compared.
    reported_epoch : int
        The epoch whose segmentations are shown (50 of 100 in the paper).
    specimen_seed : int
    difficulty : str
        Of the scans: "clean" or "hard".
    voxel_size_um : float
    trained_on : str
        "truth" of the specimen, or the labels of the three-scan "procedure" as in the paper.
    """

    name: str
    slow_shape_zyx: tuple[int, int, int]
    fast_shape_zyx: tuple[int, int, int]
    n_angles: int
    training: TrainingConfig
    reported_epoch: int
    specimen_seed: int = 0
    difficulty: str = "clean"
    voxel_size_um: float = 1.2
    weight_settings: tuple[PixelWeights, ...] = PUBLISHED_SETTINGS
    trained_on: str = "truth"

    def __post_init__(self) -> None:
        if self.trained_on not in TRAINED_ON:
            raise ValueError(f"trained_on must be one of {', '.join(TRAINED_ON)}, got {self.trained_on!r}")

    @property
    def labels_name(self) -> str:
        """File of the labels that the networks learn from and are tested on."""
        return TRAINED_ON[self.trained_on]

    @property
    def n_images_per_epoch(self) -> int:
        """Images of one epoch on the labelled specimen."""
        n_train = len(split(self.slow_shape_zyx[0]).train)
        return self.training.images_per_epoch or self.training.augmentation.n_images(n_train)

    @property
    def short_config(self) -> TrainingConfig:
        """A short training with crops as large as fit, for labels of one's own (notebook 10)."""
        short = replace(self.training, weights=PixelWeights(1.0, 1.0, 1.0), crop_px=None, kept_every=100)
        n_images = min(self.n_images_per_epoch, SHORT_IMAGES)
        return replace(short, epochs=min(self.training.epochs, SHORT_EPOCHS), images_per_epoch=n_images)

    def config(self, weights: PixelWeights) -> TrainingConfig:
        """Training settings with the given weights."""
        return replace(self.training, weights=weights)


PROFILES = {
    "tiny": Profile(  # every step in seconds, for the tests; no number from it means anything
        name="tiny",
        slow_shape_zyx=(36, 64, 80),
        fast_shape_zyx=(16, 64, 64),
        n_angles=60,
        training=TrainingConfig(
            unet=UNetConfig(stem_channels=2), epochs=2, batch=8, crop_px=48, images_per_epoch=16, kept_every=1
        ),
        reported_epoch=2,
    ),
    "quick": Profile(  # a first look, ten minutes on two cores
        name="quick",
        slow_shape_zyx=(160, 160, 192),
        fast_shape_zyx=(96, 128, 128),
        n_angles=360,
        training=TrainingConfig(
            unet=UNetConfig(stem_channels=8), epochs=10, batch=5, crop_px=128, images_per_epoch=300, kept_every=5
        ),
        reported_epoch=10,
    ),
    "standard": Profile(  # an hour on two cores, minutes on a GPU
        name="standard",
        slow_shape_zyx=(300, 256, 256),
        fast_shape_zyx=(300, 224, 224),
        n_angles=900,
        training=TrainingConfig(
            unet=UNetConfig(stem_channels=8), epochs=16, batch=10, crop_px=128, images_per_epoch=1000, kept_every=8
        ),
        reported_epoch=16,
    ),
    "paper": Profile(  # the published size, for a data-centre GPU
        name="paper",
        slow_shape_zyx=(1000, 319, 379),
        fast_shape_zyx=(1925, 256, 256),
        n_angles=1200,
        training=TrainingConfig(unet=UNetConfig(), augmentation=Augmentation(), epochs=100, crop_px=256),
        reported_epoch=50,
    ),
}


def chosen(name: str | None = None) -> Profile:
    """Return the profile of that name, or the one in the variable ALSISEG_PROFILE, or "quick".

    The variable ALSISEG_TRAINED_ON ("truth" or "procedure") replaces its `trained_on`.
    """
    name = name or os.environ.get("ALSISEG_PROFILE", "quick")
    if name not in PROFILES:
        raise ValueError(f"the profile must be one of {', '.join(PROFILES)}, got {name!r}")
    profile = PROFILES[name]
    return replace(profile, trained_on=os.environ.get("ALSISEG_TRAINED_ON", profile.trained_on))
