"""Corrected values and intervals, from the errors of a network on specimens whose truth is known."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alsiseg import calibration, prediction, runs, training
from alsiseg.calibration import Calibration, Errors
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNetConfig

FREE = (-math.inf, math.inf)
FRACTION, EULER = "volume_fraction_pct", "euler_density_per_mm3"


@pytest.fixture(scope="module")
def phases() -> np.ndarray:
    """Labels (Z, Y, X) of blobs of all three phases."""
    from scipy import ndimage

    smooth_zyx = ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(32, 40, 40)), 1.5)
    return np.digitize(smooth_zyx, np.quantile(smooth_zyx, [0.6, 0.85])).astype(np.uint8)


@pytest.fixture(scope="module")
def run_dir(phases, tmp_path_factory) -> Path:
    config = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=1, batch=8, images_per_epoch=8, crop_px=32)
    return training.train(grey(phases, 0), phases, tmp_path_factory.mktemp("runs") / "run", config, device="cpu")


@pytest.fixture
def own_run(run_dir, tmp_path) -> Path:
    """A run folder that a test may write to."""
    import shutil

    return Path(shutil.copytree(run_dir, tmp_path / "run"))


def grey(labels_zyx: np.ndarray, seed: int) -> np.ndarray:
    noise_zyx = np.random.default_rng(seed).normal(scale=300, size=labels_zyx.shape)
    return (5000 + 1000.0 * labels_zyx + noise_zyx).astype(np.float32)


def made(**errors: Errors) -> Calibration:
    return Calibration(
        "abc", 3, calibration.decisive(prediction.Options()), 26, 1, 1.2, 1000, "cubes", {"silicon": errors}
    )


def test_a_network_that_always_sees_half_is_corrected_to_the_whole_without_doubt():
    errors = Errors.between([5.0, 10.0, 20.0], [10.0, 20.0, 40.0], "ratio")
    found = errors.corrected(7.0, 0.95, FREE)
    assert (found.value, found.low, found.high) == pytest.approx((14.0, 14.0, 14.0))


def test_the_interval_of_a_difference_is_students_for_one_more_specimen():
    errors = Errors.between([0.0, 0.0, 0.0], [1.0, 2.0, 3.0], "difference")  # mean 2, standard deviation 1
    found = errors.corrected(-10.0, 0.95, FREE)
    half = 4.303 * math.sqrt(1 + 1 / 3)  # 4.303 from a printed table of t, two degrees of freedom
    assert (found.value, found.low, found.high) == pytest.approx((-8, -8 - half, -8 + half), abs=2e-3)


def test_what_is_not_above_zero_has_no_ratio():
    assert Errors.between([1.0, 0.0, 2.0], [1.0, 1.0, 2.0], "ratio") == Errors("difference", (0.0, 1.0, 0.0))


def test_an_interval_stays_where_the_measure_can_be():
    errors = Errors("difference", (-0.4, 0.0, 0.4))
    found = errors.corrected(0.9, 0.95, (0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_hold_the_truth_as_often_as_they_claim(level):
    draw, n = np.random.default_rng(7), 800
    held = 0
    for _ in range(n):
        measured = draw.uniform(10, 20, size=6)
        truth = measured * np.exp(draw.normal(0.3, 0.1, size=6))
        errors = Errors.between(measured[:5].tolist(), truth[:5].tolist(), "ratio")
        found = errors.corrected(float(measured[5]), level, FREE)
        held += found.low <= truth[5] <= found.high
    assert held / n == pytest.approx(level, abs=3.5 * math.sqrt(level * (1 - level) / n))


def test_measures_without_known_errors_are_left_out():
    known = made(**{FRACTION: Errors("ratio", (0.0, 0.0, 0.0))})
    measures = {"silicon": {FRACTION: 12.0, EULER: -5.0, "mean_chord_um": None}, "hybrid": {FRACTION: 30.0}}
    found = known.corrected(measures)
    assert list(found) == ["silicon"]
    assert list(found["silicon"]) == [FRACTION]
    assert "12" in calibration.as_text(found, known, level=0.95)
    assert "3 specimens of known truth (cubes)" in calibration.as_text(found, known, level=0.95)
    plain = calibration.as_json(found, known)
    assert plain["networks"]["silicon"][FRACTION] == {"value": 12.0, "low": 12.0, "high": 12.0, "level": 0.95}
    assert "slices along z alone" in plain["meaning"]
    with pytest.raises(ValueError, match="between 0 and 1, got 95"):
        known.corrected(measures, level=95)


def test_labels_are_measured_by_hand_known_numbers():
    labels_zyx = np.zeros((10, 10, 10), np.uint8)
    labels_zyx[2:4, 2:4, 2:4] = 1
    labels_zyx[6:9, 6:9, 6:9] = 2
    found = calibration.measured(labels_zyx, voxel_size_um=10.0)
    assert found["silicon"][FRACTION] == pytest.approx(0.8)
    assert found["hybrid"]["n_components"] == 2
    assert found["hybrid"][EULER] == pytest.approx(2 / 0.1**3)
    assert found["aluminides"]["mean_chord_um"] == pytest.approx(30)
    assert calibration.measured(labels_zyx, voxel_size_um=10.0, min_voxels=9)["hybrid"]["n_components"] == 1


def test_a_calibration_is_stored_with_its_run_and_read_again(own_run, phases):
    assert calibration.read(own_run) is None
    pairs = [(grey(phases, seed), phases) for seed in (1, 2, 3)]
    made_now = calibration.calibrate(own_run, pairs, voxel_size_um=1.2, specimens="blobs", device="cpu")
    assert calibration.read(own_run) == made_now
    assert made_now.n_specimens == 3
    assert set(made_now.errors) == {"silicon", "aluminides", "hybrid"}


def test_the_corrected_measures_of_a_calibration_specimen_lie_about_its_truth(own_run, phases):
    pairs = [(grey(phases, seed), phases) for seed in (1, 2, 3)]
    made_now = calibration.calibrate(own_run, pairs, voxel_size_um=1.2, specimens="blobs", device="cpu")
    labels_zyx = prediction.segment(grey(phases, 4), own_run, device="cpu")
    found = made_now.corrected(calibration.measured(labels_zyx, voxel_size_um=1.2), level=0.999)
    truth = calibration.measured(phases, voxel_size_um=1.2)
    of = found["hybrid"][FRACTION]
    assert of.low <= truth["hybrid"][FRACTION] <= of.high


def test_two_specimens_are_too_few(run_dir, phases):
    with pytest.raises(ValueError, match="needs 3 specimens of known truth or more, got 2"):
        calibration.errors_of([(calibration.measured(phases, voxel_size_um=1.2),) * 2] * 2)


def test_a_damaged_calibration_is_refused(own_run):
    calibration.save(made(**{FRACTION: Errors("ratio", (0.0, 0.1, 0.2))}), own_run)
    path = own_run / calibration.FILE
    content = json.loads(path.read_text("utf-8"))
    content["errors"]["silicon"][FRACTION]["of_specimens"][0] = 5.0
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ValueError, match=r"calibration\.json is damaged"):
        calibration.read(own_run)


def test_another_use_is_named(run_dir):
    trained = runs.load_network(run_dir)
    mine = replace(made(**{FRACTION: Errors("ratio", (0.0,) * 3)}), network_sha256=calibration.checksum(trained))
    assert mine.unlike(trained=trained, options=prediction.Options(), voxel_size_um=1.2, n_voxels=1000) == []
    (network,) = replace(mine, network_sha256="").unlike(trained=trained)
    assert "another network" in network
    (views,) = mine.unlike(options=prediction.Options(three_views=True))
    assert "three_views = False, here it is True" in views
    (size,) = mine.unlike(voxel_size_um=2.4)
    assert "at 1.2 um a voxel, here it is 2.4" in size
    (small,) = mine.unlike(n_voxels=100)
    assert "too narrow" in small
    (neighbours,) = mine.unlike(connectivity=6)
    assert "connectivity = 26, here it is 6" in neighbours


def test_measure_prints_what_a_calibration_corrects_and_says_which_use_differs(phases, tmp_path):
    from click.testing import CliRunner

    from alsiseg import cli, volumes

    labels = volumes.write(tmp_path / "labels.tif", phases, voxel_size_um=2.4)
    calibration.save(made(**{FRACTION: Errors("ratio", (math.log(2),) * 3)}), tmp_path)
    wanted = ["measure", str(labels), "--no-intervals", "--calibration", str(tmp_path)]
    done = CliRunner().invoke(cli.commands, [*wanted, "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0
    assert "warning" in done.stderr
    assert "voxel" in done.stderr
    whole = json.loads((tmp_path / "out.json").read_text())
    corrected = whole["calibrated"]["networks"]["silicon"][FRACTION]["value"]
    assert corrected == pytest.approx(2 * 100 * float((phases == 1).mean()), rel=1e-6)
    row = next(line for line in done.stdout.splitlines() if line.startswith("silicon") and " to " in line)
    assert row.split() == [
        "silicon",
        "volume",
        "fraction",
        "[vol.%]",
        *[f"{corrected:.2f}"] * 2,
        "to",
        f"{corrected:.2f}",
    ]


def test_a_run_without_calibration_is_said_to_have_none(own_run):
    with pytest.raises(ValueError, match=r"calibration\.json in .*found none.*study\.coverage --run"):
        calibration.required(own_run)
