from dataclasses import replace

import pytest

from alsiseg import dataset, profiles, unet
from alsiseg.profiles import PROFILES
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNetConfig
from alsiseg.weightmaps import PUBLISHED_SETTINGS, PixelWeights


def test_the_variable_chooses_the_profile(monkeypatch):
    monkeypatch.delenv("ALSISEG_PROFILE", raising=False)
    assert profiles.chosen().name == "quick"
    monkeypatch.setenv("ALSISEG_PROFILE", "tiny")
    assert profiles.chosen().name == "tiny"
    assert profiles.chosen("paper").name == "paper"


def test_an_unknown_profile_is_refused_with_the_names_there_are(monkeypatch):
    monkeypatch.setenv("ALSISEG_PROFILE", "huge")
    with pytest.raises(ValueError, match="one of tiny, quick, standard, paper, got 'huge'"):
        profiles.chosen()


def test_the_paper_profile_is_the_published_training():
    paper = PROFILES["paper"]
    assert paper.slow_shape_zyx == (1000, 319, 379)
    assert paper.fast_shape_zyx == (1925, 256, 256)
    assert (paper.training.epochs, paper.reported_epoch, paper.training.crop_px) == (100, 50, 256)
    assert replace(paper.training, crop_px=None) == TrainingConfig()
    assert paper.training.unet == UNetConfig()
    assert paper.voxel_size_um == 1.2


def test_the_published_defaults_of_the_training_are_the_published_ones():
    config = TrainingConfig()
    assert (config.epochs, config.batch, config.learning_rate, config.weight_decay) == (100, 25, 0.003, 1e-4)
    assert config.images_per_epoch is None


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_fits_together(name):
    profile = PROFILES[name]
    assert profile.name == name
    assert profile.weight_settings == PUBLISHED_SETTINGS
    n_slices = profile.slow_shape_zyx[0]
    split = dataset.split(n_slices)
    training = profile.training
    largest = training.crop_px or 256
    assert unet.fitting_crop(profile.slow_shape_zyx, largest=largest) == largest
    n_images = training.augmentation.n_images(len(split.train))
    assert (training.images_per_epoch or n_images) <= n_images
    assert profile.reported_epoch <= training.epochs
    kept = {epoch for epoch in range(1, training.epochs + 1) if epoch % training.kept_every == 0} | {training.epochs}
    assert profile.reported_epoch in kept


def test_only_the_weights_change_between_settings():
    profile = PROFILES["tiny"]
    config = profile.config(PixelWeights(1, 1.15, 1.2))
    assert config.weights == PixelWeights(1, 1.15, 1.2)
    assert replace(config, weights=profile.training.weights) == profile.training


def test_the_labels_to_learn_from_are_a_setting(monkeypatch):
    assert profiles.chosen("tiny").labels_name == "truth.tif"
    monkeypatch.setenv("ALSISEG_TRAINED_ON", "procedure")
    assert profiles.chosen("tiny").labels_name == "labels.tif"
    monkeypatch.setenv("ALSISEG_TRAINED_ON", "guess")
    with pytest.raises(ValueError, match="one of truth, procedure, got 'guess'"):
        profiles.chosen("tiny")
