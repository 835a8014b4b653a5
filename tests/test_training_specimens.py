"""Trainings on several specimens and along several directions."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from test_training import TINY, contents, specimen, stop_in

from alsiseg import dataset, metrics, prediction, runs, training
from alsiseg.loss import LossConfig
from alsiseg.training import TrainingConfig, train
from alsiseg.unet import UNetConfig

TALL = (60, 34, 40)  # 34 training slices: windows along y and x have room for crops of 32 pixels
ALL_DIRECTIONS = replace(TINY, epochs=2, directions=("z", "y", "x"))


def tall(seed: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    random = np.random.default_rng(seed)
    field_zyx = ndimage.gaussian_filter(random.normal(size=TALL), 2.5, mode="wrap")
    labels_zyx = np.digitize(field_zyx, np.quantile(field_zyx, [0.6, 0.8])).astype(np.uint8)
    return (1000 + 300.0 * labels_zyx + random.normal(0, 60, TALL)).astype(np.uint16), labels_zyx


def two() -> tuple[list[NDArray[np.uint16]], list[NDArray[np.uint8]]]:
    """Specimens of different size, grey level and contrast."""
    (first, first_labels), (second, second_labels) = specimen(), tall(1)
    return [first, 3 * second + 500], [first_labels, second_labels]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    return train(*two(), tmp_path_factory.mktemp("two") / "run", TINY, voxel_size_um=1.2, device="cpu")


@pytest.fixture(scope="module")
def of_all(tmp_path_factory):
    both = ([tall(0)[0], tall(1)[0]], [tall(0)[1], tall(1)[1]])
    return train(*both, tmp_path_factory.mktemp("all") / "run", ALL_DIRECTIONS, voxel_size_um=1.2, device="cpu")


def test_a_list_of_one_volume_is_the_volume(tmp_path):
    grey_zyx, labels_zyx = specimen()
    one = train(grey_zyx, labels_zyx, tmp_path / "one", replace(TINY, epochs=1), device="cpu")
    listed = train([grey_zyx], [labels_zyx], tmp_path / "listed", replace(TINY, epochs=1), device="cpu")
    assert contents(listed) == contents(one)


def test_two_volumes_are_tested_on_the_first_and_the_run_keeps_its_form(of_two, tmp_path):
    alone = train(*specimen(), tmp_path / "alone", TINY, voxel_size_um=1.2, device="cpu")
    assert contents(of_two).keys() == contents(alone).keys()
    for name in ("truth.json", "test/truth.tif"):
        assert contents(of_two)[name] == contents(alone)[name]
    assert contents(of_two)["history.csv"] != contents(alone)["history.csv"]
    np.testing.assert_array_equal(runs.read_test(of_two, 2)[0], dataset.test_section(specimen()[1], 32))


def test_each_volume_is_divided_and_normalised_by_itself():
    greys, labels = two()
    task = training.prepare(greys, labels, TINY)
    for view, grey_zyx, labels_zyx in zip(task.views, greys, labels, strict=True):
        assert view.train == dataset.split(len(grey_zyx)).train
        scale = dataset.grey_scale(grey_zyx)
        np.testing.assert_array_equal(view.volume.grey_zyx, scale.normalise(grey_zyx))
        np.testing.assert_array_equal(view.volume.labels_zyx, labels_zyx)
        assert view.normalised_range == scale.normalised_range
    assert len(task.draws(1)) == 20
    assert len(replace(task, config=replace(TINY, images_per_epoch=None)).draws(1)) == 48 * (20 + 34)


def test_the_settings_tell_of_every_volume(of_two):
    greys, labels = two()
    settings = runs.read_settings(of_two)
    assert settings["data"]["grey_sha256"] == runs.checksum(greys[0])
    (further,) = settings["further_volumes"].values()
    assert further["data"] == {
        "shape_zyx": list(TALL),
        "grey_sha256": runs.checksum(greys[1]),
        "labels_sha256": runs.checksum(labels[1]),
    }
    assert further["split"] == {"train": [24, 58], "test": [0, 18]}
    assert settings["further_likeness"]["2"]["voxel_size_um"] == 1.2


def test_a_run_on_two_volumes_resumes_as_if_nothing_had_happened(of_two, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_in(patched, training, "train_epoch", call=2, error=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train(*two(), tmp_path / "run", TINY, voxel_size_um=1.2, device="cpu")
    train(*two(), tmp_path / "run", TINY, voxel_size_um=1.2, resume=True, device="cpu")
    assert contents(tmp_path / "run") == contents(of_two)


@pytest.mark.parametrize("change", ["another voxel", "a volume less", "another order"])
def test_a_run_on_two_volumes_is_not_continued_with_others(of_two, change):
    greys, labels = two()
    if change == "another voxel":
        greys[1][0, 0, 0] += 1
    given = {"a volume less": (greys[:1], labels[:1]), "another order": (greys[::-1], labels[::-1])}
    named = {"another voxel": r"further_volumes\.2\.data\.grey_sha256"}.get(change, r"further_volumes|data\.shape_zyx")
    before = contents(of_two)
    with pytest.raises(ValueError, match=named):
        train(*given.get(change, (greys, labels)), of_two, TINY, voxel_size_um=1.2, resume=True, device="cpu")
    assert contents(of_two) == before


@pytest.mark.parametrize(
    ("greys", "labels", "sentence"),
    [
        ([tall()[0]] * 2, [tall()[1]], "needs labels for every volume, found 2 of grey and 1 of labels"),
        ([tall()[0]] * 2, tall()[1], "needs labels for every volume, found 2 of grey and 1 of labels"),
        ([], [], "needs labels for every volume, found 0 of grey"),
        ([tall()[0], specimen()[0]], [tall()[1]] * 2, "must have the same shape"),
        ([tall()[0], tall()[0][:20]], [tall()[1], tall()[1][:20]], "needs at least 30 slices, found 20"),
    ],
)
def test_volumes_that_do_not_go_together_are_refused_before_anything_is_written(tmp_path, greys, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(greys, labels, tmp_path / "run", TINY, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_phases_are_balanced_over_all_volumes():
    (grey_zyx, without), (_, labels_zyx) = tall(0), tall(1)
    without[without == 2] = 1
    config = replace(TINY, loss=LossConfig(class_balance=True))
    with pytest.raises(ValueError, match="class_balance needs every phase"):
        training.prepare(grey_zyx, without, config)
    task = training.prepare([grey_zyx, grey_zyx], [without, labels_zyx], config)
    n_of = np.bincount(np.concatenate([without[24:58], labels_zyx[24:58]]).ravel())
    np.testing.assert_allclose(task.class_weight, n_of.sum() / (3 * n_of), rtol=1e-6)


def test_all_directions_of_two_volumes_train_and_are_tested_along_z(of_all):
    history = runs.read_history(of_all)
    assert history["epoch"].tolist() == [0, 1, 2]
    assert history["test_loss"][2] < history["test_loss"][0]
    truth_zyx, prediction_zyx = runs.read_test(of_all, 2)
    np.testing.assert_array_equal(truth_zyx, dataset.test_section(tall()[1], 32))
    assert runs.read_truth(of_all) == metrics.measure_networks(truth_zyx, voxel_size_um=1.2)
    assert history["accuracy"][2] == pytest.approx((truth_zyx == prediction_zyx).mean())
    assert runs.read_settings(of_all)["config"]["directions"] == ["z", "y", "x"]


def test_an_epoch_along_all_directions_has_the_images_of_one_along_z():
    plain, turned = (
        training.prepare(*tall(), replace(TINY, images_per_epoch=None, directions=d)) for d in ("z", "zyx")
    )
    assert len(turned.draws(1)) == len(plain.draws(1)) == 48 * 34
    assert np.bincount(turned.draws(1).view).tolist() == [544, 544, 544]
    grey_bcyx, _, _ = turned.images(turned.draws(1).picked(np.arange(9)))
    assert grey_bcyx.shape == (9, 5, 32, 32)
    assert plain.views[0].direction == "z"
    assert [view.direction for view in turned.views] == ["z", "y", "x"]


def test_crops_are_no_larger_than_the_training_part_is_high_while_the_test_section_stays():
    random = np.random.default_rng(0)
    shape_zyx = (100, 70, 84)
    pair = random.integers(0, 1000, shape_zyx), random.integers(0, 3, shape_zyx).astype(np.uint8)
    config = replace(TINY, crop_px=64, directions=("z", "y"))
    task = training.prepare(*pair, config)
    assert (task.crop_px, task.training_crop_px) == (64, 48)  # of 58 training slices
    assert task.test.labels_zyx.shape == (30, 64, 64)
    assert task.images(next(task.draws(1).batches(4)))[1].shape == (4, 48, 48)
    assert training.prepare(*pair, replace(config, directions=("z",))).training_crop_px == 64


def test_too_few_training_slices_for_other_directions_are_refused(tmp_path):
    with pytest.raises(ValueError, match="along y and x need at least 32 training slices, found 20"):
        train(*specimen(), tmp_path / "run", ALL_DIRECTIONS, device="cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("directions", ["", "yx", "zz", "zyw", ("y",)])
def test_directions_begin_with_z_and_name_axes_once(directions):
    with pytest.raises(ValueError, match="directions must be z, to which y and x may be added"):
        TrainingConfig(directions=directions)


def test_settings_of_before_are_those_of_a_plain_training_and_those_of_now_come_back():
    record = json.loads(json.dumps(TINY.record()))
    assert "directions" not in record
    assert record["loss"] == {"class_balance": False, "soft_dice": 0.0}
    turned = json.loads(json.dumps(ALL_DIRECTIONS.record()))
    assert turned.pop("directions") == ["z", "y", "x"]
    assert turned == record | {"epochs": 2}
    assert TrainingConfig(directions=["z", "y", "x"]) == TrainingConfig(directions=("z", "y", "x"))


def test_a_loss_that_is_not_finite_names_slice_direction_and_volume():
    both = ([tall(0)[0], tall(1)[0]], [tall(0)[1], tall(1)[1]])
    task, device = training.prepare(*both, ALL_DIRECTIONS), training.devices.choose("cpu")
    first = next(task.draws(1).batches(8))
    image = int(np.flatnonzero(first.view == 4)[0])  # along y of the second
    task.views[4].volume.grey_zyx[int(first.z[image])] = torch.nan
    network = device.place(training.unet.build(TINY.unet, seed=0))
    optimiser = training.adam(network, TINY, device)
    with pytest.raises(
        FloatingPointError, match=f"from slice .*{first.z[image] + 1} along y of volume 2.*counted from 1"
    ):
        training.train_epoch(network, optimiser, task, 1, device)


@pytest.mark.parametrize("n_slices", [7, 9])
def test_more_slices_at_once_train_and_segment(tmp_path, n_slices):
    config = replace(ALL_DIRECTIONS, epochs=1, unet=UNetConfig(stem_channels=2, n_slices=n_slices))
    run_dir = train(*tall(), tmp_path / "run", config, device="cpu")
    assert runs.load_network(run_dir).network.config.n_slices == n_slices
    labels_zyx = prediction.segment(tall(2)[0][:20], run_dir, device="cpu")
    assert (labels_zyx.shape, labels_zyx.dtype) == ((20, *TALL[1:]), np.uint8)
    assert training.prepare(*tall(), config).split.train.stop == 60 - n_slices // 2
