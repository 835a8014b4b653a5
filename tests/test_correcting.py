"""Correct and retrain: what is learned from, what the new run holds, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import correcting, dataset, metrics, prediction, runs, volumes
from alsiseg.correcting import CorrectingConfig, fine_tune, folder, material, measuring, patches, session
from alsiseg.phases import Phase
from alsiseg.training import TrainingConfig, train
from alsiseg.unet import UNetConfig
from alsiseg.weightmaps import PixelWeights, weight_map

SHAPE_ZYX = (36, 40, 52)
TINY = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=3, batch=8, images_per_epoch=80, kept_every=2)
MINUTES = 10.0  # never waited for: an event stops the training after so many epochs
Z_CORRECTED = [4, 5, 20]


def specimen(seed: int = 0, *, silicon_grey: float = 1400) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Blobs of three phases; with another grey value silicon is taken for matrix by who knows the usual one."""
    random = np.random.default_rng(seed)
    field_zyx = ndimage.gaussian_filter(random.normal(size=SHAPE_ZYX), 2.5, mode="wrap")
    labels_zyx = np.digitize(field_zyx, np.quantile(field_zyx, [0.6, 0.8])).astype(np.uint8)
    grey_zyx = np.array([1000, silicon_grey, 1800])[labels_zyx] + random.normal(0, 60, SHAPE_ZYX)
    return grey_zyx.astype(np.uint16), labels_zyx


GREY, TRUTH = specimen(7, silicon_grey=1200)


def corrected(labels_zyx: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Mend a region of some slices: the labels with the corrections, and which voxels were painted."""
    mended = labels_zyx.copy()
    mended[Z_CORRECTED, 8:32, 10:40] = TRUTH[Z_CORRECTED, 8:32, 10:40]
    return mended, mended != labels_zyx


def tune(run_dir: Path, new_run_dir: Path, *data, n_epochs: int = 1, **options) -> Path:
    """Fine-tune for a number of epochs, whatever the machine's speed."""
    stop = Event()

    def count(epoch: int, loss: float, seconds_left: float) -> None:
        if epoch == n_epochs:
            stop.set()

    return fine_tune(run_dir, new_run_dir, *data, minutes=MINUTES, device="cpu", on_epoch=count, stop=stop, **options)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    return train(*specimen(), tmp_path_factory.mktemp("parent") / "run", TINY, voxel_size_um=1.2, device="cpu")


@pytest.fixture(scope="module")
def labels(run_dir) -> NDArray[np.uint8]:
    return prediction.segment(GREY, run_dir, device="cpu")


@pytest.fixture(scope="module")
def new_run_dir(run_dir, labels, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("corrected") / "run"
    options = {"original": specimen(), "voxel_size_um": 1.5, "config": CorrectingConfig(learning_rate=3e-3)}
    return tune(run_dir, place, GREY, *corrected(labels), n_epochs=6, **options)


def test_a_corrected_network_is_right_more_often_where_it_was_corrected_and_elsewhere(new_run_dir, labels):
    after = prediction.segment(GREY, new_run_dir, device="cpu")
    elsewhere = np.delete(np.arange(SHAPE_ZYX[0]), Z_CORRECTED)
    for z in (Z_CORRECTED, elsewhere):
        assert metrics.accuracy(after[z], TRUTH[z]) > 0.03 + metrics.accuracy(labels[z], TRUTH[z])


def test_the_history_begins_with_the_parent_and_the_best_epoch_is_kept(new_run_dir, run_dir, labels):
    history = runs.read_history(new_run_dir)
    assert history["epoch"].tolist() == list(range(7))
    assert history["images_per_s"][0] == 0
    assert history["corrections_accuracy"][0] == 0  # every corrected voxel was wrong
    best = runs.best_epochs(new_run_dir).accuracy
    assert runs.kept_epochs(new_run_dir) == [best]
    assert runs.load_network(new_run_dir).epoch == best
    assert history["accuracy"][best] == history["accuracy"][1:].max() > history["accuracy"][0]
    assert runs.read_settings(new_run_dir)["config"]["epochs"] == 6


def test_the_labels_kept_of_the_corrected_slices_are_those_of_a_segmentation_of_the_whole_scan(new_run_dir):
    best = runs.kept_epochs(new_run_dir)[0]
    truth, found = runs.read_test(new_run_dir, best)
    segmented = prediction.segment(GREY, new_run_dir, device="cpu")[Z_CORRECTED]
    assert np.mean(found == segmented) > 0.999  # but for rounding where two phases are equally likely
    assert len(truth) == len(Z_CORRECTED)


def test_the_new_run_names_its_parent(new_run_dir, run_dir):
    parent = runs.read_settings(new_run_dir)["parent"]
    assert (new_run_dir / parent["run"]).resolve() == run_dir.resolve()
    assert parent["epoch"] == 3
    header = json.loads((run_dir / "checkpoints" / "epoch_0003.json").read_text())
    assert parent["sha256"] == header["sha256"]
    assert parent["origin"]["grey_sha256"] == runs.read_settings(run_dir)["data"]["grey_sha256"]


def test_the_corrections_are_a_tiff_that_imagej_reads_with_its_voxel_size(new_run_dir, labels):
    mended, painted = corrected(labels)
    path = new_run_dir / "corrections.tif"
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_imagej
        assert tiff.imagej_metadata["unit"] == "um"
    kept = volumes.open(path)
    assert kept.voxel_size_um == pytest.approx(1.5)
    np.testing.assert_array_equal(kept[:], np.where(painted, mended, correcting.NOT_CORRECTED))


def test_the_scan_is_normalised_by_its_own_grey_scale(new_run_dir, run_dir):
    scale, parent = (runs.load_network(place).grey_scale for place in (new_run_dir, run_dir))
    assert scale == dataset.grey_scale(GREY) != parent


def test_the_same_seed_gives_the_same_network(run_dir, labels, tmp_path):
    places = [tune(run_dir, tmp_path / name, GREY, *corrected(labels)) for name in ("first", "again")]
    other = tune(run_dir, tmp_path / "other", GREY, *corrected(labels), seed=1)
    first, again, changed = (
        (place / "checkpoints" / "epoch_0001.safetensors").read_bytes() for place in (*places, other)
    )
    assert first == again != changed


def test_a_corrected_run_can_be_corrected_again_with_the_data_of_the_first(new_run_dir, labels, tmp_path):
    third = tune(new_run_dir, tmp_path / "third", GREY, *corrected(labels), original=specimen())
    origin = runs.read_settings(third)["parent"]["origin"]
    assert origin == runs.read_settings(new_run_dir)["parent"]["origin"]
    assert "original_accuracy" in runs.read_history(third)


def test_volumes_on_disk_are_corrected_like_arrays(run_dir, labels, tmp_path):
    mended, painted = corrected(labels)
    grey = volumes.open(volumes.write(tmp_path / "grey.tif", GREY, voxel_size_um=1.3))
    on_disk = volumes.open(volumes.write(tmp_path / "labels.tif", mended))
    lazily = tune(run_dir, tmp_path / "lazily", grey, on_disk, painted)
    at_once = tune(run_dir, tmp_path / "at_once", GREY, mended, painted)
    weights = [(place / "checkpoints" / "epoch_0001.safetensors").read_bytes() for place in (lazily, at_once)]
    assert weights[0] == weights[1]
    assert volumes.open(lazily / "corrections.tif").voxel_size_um == pytest.approx(1.3)


def test_one_corrected_slice_is_enough_and_can_be_read_again(run_dir, labels, tmp_path):
    mended, _ = corrected(labels)
    one = tune(run_dir, tmp_path / "one", GREY, mended, [6])
    true_zyx, found_zyx = runs.read_test(one, runs.kept_epochs(one)[-1])
    np.testing.assert_array_equal(true_zyx[0], mended[6])
    assert found_zyx.shape == true_zyx.shape


def test_what_is_far_from_a_correction_does_not_count(labels):
    mended = labels.copy()
    mended[6, 20, 20] = (labels[6, 20, 20] + 1) % 3
    z_numbers, painted = material.corrected_slices(SHAPE_ZYX, mended != labels)
    near = material.gather(GREY, mended, z_numbers, n_slices=5, painted=painted, reach_px=3)
    rows, columns = np.indices(SHAPE_ZYX[1:])
    np.testing.assert_array_equal(near.counted_nyx[0], np.hypot(rows - 20, columns - 20) <= 3)
    assert material.gather(GREY, mended, [6], n_slices=5).counted_nyx.all()


def test_the_weights_where_it_counts_are_the_published_ones(labels):
    mended, painted_zyx = corrected(labels)
    z_numbers, painted = material.corrected_slices(SHAPE_ZYX, painted_zyx)
    near = material.gather(GREY, mended, z_numbers, n_slices=5, painted=painted, reach_px=3)
    weights = PixelWeights(1.0, 1.25, 1.5)
    found = patches.weight_of_region(weights)[near.region_nyx.long()].numpy()
    np.testing.assert_array_equal(found, weight_map(mended[z_numbers], weights) * near.counted_nyx)


def test_patches_lie_at_corrections_inside_the_slice_and_hold_the_scan(labels):
    mended = labels.copy()
    mended[0, 1, 50] = mended[10, 20, 26] = Phase.ALUMINIDE
    painted_zyx = np.zeros(SHAPE_ZYX, bool)
    painted_zyx[0, 1, 50] = painted_zyx[10, 20, 26] = True
    z_numbers, painted = material.corrected_slices(SHAPE_ZYX, painted_zyx)
    near = material.gather(GREY, mended, z_numbers, n_slices=5, painted=painted, reach_px=4)
    drawn = patches.draw_patches([near], [200], 16, seed=0, epoch=1)
    assert {patch.index for patch in drawn} == {0, 1}
    for patch in drawn:
        row, column = ((1, 50), (20, 26))[patch.index]
        assert patch.top <= row < patch.top + 16
        assert patch.left <= column < patch.left + 16
    volume, middle = patches.cut([near], drawn, 16, 5, PixelWeights())
    first, patch = middle[0], drawn[0]
    z = dataset.context_slices(z_numbers[patch.index], SHAPE_ZYX[0], 5)
    seen = near.scale.normalise(GREY[z, patch.top : patch.top + 16, patch.left : patch.left + 16])
    np.testing.assert_array_equal(volume.grey_zyx[first - 2 : first + 3].numpy(), seen)
    wanted = mended[z_numbers[patch.index], patch.top : patch.top + 16, patch.left : patch.left + 16]
    np.testing.assert_array_equal(volume.labels_zyx[first].numpy(), wanted)


def test_slices_named_by_number_count_in_full_and_are_kept_whole(run_dir, labels, tmp_path):
    place = tune(run_dir, tmp_path / "run", GREY, TRUTH, [20, 4, 4])
    assert runs.read_settings(place)["correction"]["slices"] == [4, 20]
    kept = volumes.open(place / "corrections.tif")[:]
    np.testing.assert_array_equal(kept[[4, 20]], TRUTH[[4, 20]])
    assert (np.delete(kept, [4, 20], axis=0) == correcting.NOT_CORRECTED).all()


def test_networks_of_slices_that_are_no_neighbours_do_not_touch():
    slices = np.zeros((3, 4, 4), np.uint8)
    slices[:, 1:3, 1:3] = Phase.SILICON
    together = measuring.networks(slices, [4, 5, 6])["silicon"]
    apart = measuring.networks(slices, [4, 5, 9])["silicon"]
    assert (together.n_components, apart.n_components) == (1, 2)
    assert apart.volume_fraction_pct == pytest.approx(together.volume_fraction_pct) == pytest.approx(25)


def test_time_that_is_over_at_once_still_gives_a_network_after_one_step(run_dir, labels, tmp_path):
    place = fine_tune(run_dir, tmp_path / "run", GREY, *corrected(labels), minutes=1e-6, device="cpu")
    assert runs.read_history(place)["epoch"].tolist() == [0, 1]
    assert runs.load_network(place).epoch == 1


def test_a_line_says_what_came_of_it(run_dir, labels, tmp_path, capsys):
    tune(run_dir, tmp_path / "run", GREY, labels, [4])  # the user agrees with the network: no epoch can agree more
    printed = capsys.readouterr().out
    assert "100.0 % before" in printed
    assert "after epoch 1, which is kept in" in printed
    assert "no better; train for more minutes" in printed


def test_a_scan_no_taller_than_the_network_sees_is_enough(run_dir, labels, tmp_path):
    place = tune(run_dir, tmp_path / "run", GREY[:5], TRUTH[:5], [0, 4])
    assert runs.read_test(place, 1)[0].shape == (2, *SHAPE_ZYX[1:])


def test_a_stop_before_the_first_step_leaves_nothing(run_dir, labels, tmp_path):
    stop = Event()
    stop.set()
    with pytest.raises(InterruptedError, match="nothing was written"):
        fine_tune(run_dir, tmp_path / "run", GREY, *corrected(labels), minutes=1, device="cpu", stop=stop)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_keeps_the_best_epoch_so_far(run_dir, labels, tmp_path):
    def interrupt(epoch: int, loss: float, seconds_left: float) -> None:
        assert 0 <= seconds_left <= 60 * MINUTES
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(
            run_dir, tmp_path / "run", GREY, *corrected(labels), minutes=MINUTES, device="cpu", on_epoch=interrupt
        )
    assert runs.load_network(tmp_path / "run").epoch in (1, 2)
    assert runs.read_history(tmp_path / "run")["epoch"].tolist() == [0, 1, 2]


def test_a_loss_that_is_not_finite_is_said_and_what_was_kept_stays(run_dir, labels, tmp_path, monkeypatch):
    real, n_calls = session.training.train_epoch, 0

    def fails_in_the_second_epoch(*arguments, **options):
        nonlocal n_calls
        n_calls += 1
        if n_calls > session.FEWEST_STEPS:
            raise FloatingPointError("needs a finite loss")
        return real(*arguments, **options)

    monkeypatch.setattr(session.training, "train_epoch", fails_in_the_second_epoch)
    with pytest.raises(FloatingPointError, match=r"step 1 of epoch 2.*smaller learning rate"):
        tune(run_dir, tmp_path / "run", GREY, *corrected(labels), n_epochs=9)
    assert runs.load_network(tmp_path / "run").epoch == 1


NO_CORRECTIONS = np.zeros(SHAPE_ZYX, bool)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"corrected_zyx": NO_CORRECTIONS}, ValueError, "found none painted"),
        ({"corrected_zyx": []}, ValueError, "name at least one slice"),
        ({"corrected_zyx": [36]}, ValueError, "whole numbers from 0 to 35"),
        ({"corrected_zyx": [True]}, ValueError, "whole numbers from 0 to 35"),
        ({"corrected_zyx": NO_CORRECTIONS[:5]}, ValueError, r"got bool of shape \(5, 40, 52\)"),
        ({"corrected_zyx": NO_CORRECTIONS.astype(np.uint8)}, ValueError, "got uint8"),
        ({"labels_zyx": TRUTH + np.uint8(1)}, ValueError, "the corrected slices must be 0 .matrix."),
        ({"labels_zyx": TRUTH.astype(float)}, TypeError, "the corrected slices must hold whole numbers"),
        ({"labels_zyx": TRUTH[:, :39]}, ValueError, "must have the same shape"),
        ({"grey_zyx": GREY[:4], "labels_zyx": TRUTH[:4]}, ValueError, "at least 5 slices"),
        ({"grey_zyx": GREY[:, :20, :20], "labels_zyx": TRUTH[:, :20, :20]}, ValueError, "at least 32 x 32"),
        ({"minutes": 0}, ValueError, "above 0 minutes"),
        ({"minutes": float("nan")}, ValueError, "above 0 minutes"),
        ({"original": specimen(3)}, ValueError, "the grey and labels given are others"),
        ({"device": "abacus"}, ValueError, "use auto or cpu"),
        ({"config": CorrectingConfig(epoch=77)}, FileNotFoundError, "epoch 77"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence_and_nothing_is_written(
    run_dir, tmp_path, change, error, sentence
):
    given = {"grey_zyx": GREY, "labels_zyx": TRUTH, "corrected_zyx": [4], "minutes": 1, "device": "cpu"} | change
    with pytest.raises(error, match=sentence) as raised:
        fine_tune(run_dir, tmp_path / "run", **given)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_grey_values_that_are_no_numbers_are_refused(run_dir, tmp_path):
    grey = GREY.astype(np.float32)
    grey[5, 3, 3] = np.nan  # a neighbour of the corrected slice
    with pytest.raises(ValueError, match="NaN or infinite"):
        fine_tune(run_dir, tmp_path / "run", grey, TRUTH, [4], minutes=1, device="cpu")


def test_a_folder_that_holds_something_is_left_alone(run_dir, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another"):
        fine_tune(run_dir, tmp_path, GREY, TRUTH, [4], minutes=1, device="cpu")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning rate"),
        ({"batch": 0}, "at least 1 image"),
        ({"reach_px": -1.0}, "0 pixels or more"),
        ({"original_share": 1.0}, "below 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        CorrectingConfig(**options)


def test_the_settings_of_a_run_give_its_configuration_back(run_dir):
    crop = runs.read_settings(run_dir)["config"]["crop_px"]
    assert folder.training_config(run_dir) == replace(TINY, crop_px=crop)
