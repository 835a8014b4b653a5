import json
import math

import numpy as np
import pytest

from alsiseg import metrics
from alsiseg.phases import Phase

MATRIX, SI, AL = Phase
NO_INTERVALS = metrics.Options(bootstrap=None)


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Labels and a truth of which they miss some silicon."""
    random = np.random.default_rng(0)
    truth_zyx = random.integers(0, 3, (30, 31, 32), dtype=np.uint8)
    labels_zyx = truth_zyx.copy()
    labels_zyx[(truth_zyx == SI) & (random.random(truth_zyx.shape) < 0.1)] = MATRIX
    return labels_zyx, truth_zyx


def strict_json(report: metrics.Report) -> dict:
    return json.loads(json.dumps(metrics.as_json(report), allow_nan=False))


def test_a_report_holds_what_the_functions_alone_give(pair):
    labels_zyx, truth_zyx = pair
    report = metrics.measure(labels_zyx, truth_zyx, voxel_size_um=1.2)
    assert report.labels.networks == metrics.measure_networks(labels_zyx, voxel_size_um=1.2)
    assert report.truth.networks == metrics.measure_networks(truth_zyx, voxel_size_um=1.2)
    assert report.labels.intervals == metrics.network_intervals(labels_zyx, voxel_size_um=1.2)
    assert report.labels.interface_areas_per_mm == metrics.interface_areas_per_mm(labels_zyx, voxel_size_um=1.2)
    assert report.comparison.agreement == metrics.compare(labels_zyx, truth_zyx)
    expected = metrics.network_intervals(labels_zyx, truth_zyx=truth_zyx, voxel_size_um=1.2)
    assert report.comparison.difference_intervals == expected
    distances = metrics.surface_distance(labels_zyx == SI, truth_zyx == SI, voxel_size_um=1.2)
    assert report.comparison.surface_distances[SI] == distances
    assert report.notes == ()


def test_the_options_reach_what_they_are_for(pair):
    labels_zyx, truth_zyx = pair
    bootstrap = metrics.Bootstrap(n_blocks=8, level=0.9, seed=5)
    options = metrics.Options(connectivity=6, min_voxels=3, bootstrap=bootstrap)
    report = metrics.measure(labels_zyx, truth_zyx, voxel_size_um=1.2, options=options)
    without_specks = metrics.without_specks(labels_zyx, 3, connectivity=6)
    assert (without_specks != labels_zyx).any()
    assert report.labels.networks == metrics.measure_networks(without_specks, connectivity=6, voxel_size_um=1.2)
    found = metrics.network_intervals(without_specks, connectivity=6, voxel_size_um=1.2, bootstrap=bootstrap)
    assert report.labels.intervals == found
    assert report.truth.networks == metrics.measure_networks(
        metrics.without_specks(truth_zyx, 3, connectivity=6), connectivity=6, voxel_size_um=1.2
    )
    assert "particles under 3 voxels removed" in metrics.as_text(report)
    assert "90 % interval" in metrics.as_text(report)
    assert "connectivity 6" in metrics.as_text(report)


def test_thickness_comes_with_chords_and_an_interval():
    plates_zyx = np.zeros((24, 24, 24), dtype=np.uint8)
    plates_zyx[:, 2:4], plates_zyx[:, 10:13] = SI, AL
    report = metrics.measure(plates_zyx, voxel_size_um=1.5, options=metrics.Options(thickness=True))
    silicon, aluminides = report.labels.networks["silicon"], report.labels.networks["aluminides"]
    assert (silicon.mean_local_thickness_um, aluminides.mean_local_thickness_um) == pytest.approx((3.0, 4.5))
    assert (silicon.mean_chord_um, aluminides.mean_chord_um) == pytest.approx((3.0, 4.5))
    interval = report.labels.intervals["silicon"]["mean_local_thickness_um"]
    assert (interval.low, interval.value, interval.high) == pytest.approx((3.0, 3.0, 3.0))
    assert "mean local thickness [um]" in metrics.as_text(report)


def test_an_empty_network_has_no_thickness_in_a_report():
    report = metrics.measure(
        np.zeros((24, 24, 24), dtype=np.uint8), voxel_size_um=1.5, options=metrics.Options(thickness=True)
    )
    assert report.labels.networks["silicon"].mean_local_thickness_um is None
    assert strict_json(report)["networks"]["silicon"]["mean_chord_um"] is None


def test_thickness_of_a_large_volume_is_that_of_its_centre(monkeypatch):
    monkeypatch.setattr("alsiseg.metrics.reports.LARGEST_EDGE_FOR_THICKNESS", 12)
    labels_zyx = np.zeros((24, 24, 24), dtype=np.uint8)
    labels_zyx[:, 0:5], labels_zyx[:, 11:13] = SI, SI  # only the second lies in the central 12
    report = metrics.measure(labels_zyx, voxel_size_um=1.0, options=metrics.Options(thickness=True))
    assert report.labels.networks["silicon"].mean_local_thickness_um == pytest.approx(2)
    assert report.notes == ("thickness and chords are those of the central 12 voxels of each axis",)


def test_what_cannot_be_measured_is_noted(monkeypatch):
    small_zyx = np.zeros((6, 7, 8), dtype=np.uint8)
    (note,) = metrics.measure(small_zyx, voxel_size_um=1.2).notes
    assert note.startswith("no intervals, because 27 blocks need at least 4 voxels")
    (note,) = metrics.measure(small_zyx, options=NO_INTERVALS).notes
    assert note == "no densities, areas and lengths, because the voxel size is not known"
    (note,) = metrics.measure(small_zyx[:1], voxel_size_um=1.2, options=NO_INTERVALS).notes
    assert note.startswith("no interface areas")
    assert f"note: {note}" in metrics.as_text(metrics.measure(small_zyx[:1], voxel_size_um=1.2, options=NO_INTERVALS))
    monkeypatch.setattr("alsiseg.metrics.reports.LARGEST_FOR_DISTANCES", 100)
    report = metrics.measure(small_zyx, small_zyx, voxel_size_um=1.2, options=NO_INTERVALS)
    assert report.comparison.surface_distances == {}
    assert report.notes[0].startswith("no surface distances")


def test_distances_that_are_not_finite_become_null():
    labels_zyx = np.zeros((9, 9, 9), dtype=np.uint8)
    truth_zyx = labels_zyx.copy()
    truth_zyx[4, 4, 4] = SI
    report = metrics.measure(labels_zyx, truth_zyx, voxel_size_um=1.2, options=NO_INTERVALS)
    assert report.comparison.surface_distances[SI].mean_um == math.inf
    numbers = strict_json(report)
    assert numbers["surface_distances"]["silicon"] == {"mean_um": None, "hausdorff95_um": None}
    assert numbers["interface_accuracy"] is None
    assert "inf" in metrics.as_text(report)


def test_the_numbers_of_a_report_are_those_of_its_dataclasses(pair):
    report = metrics.measure(*pair, voxel_size_um=1.2)
    numbers = strict_json(report)
    assert numbers["accuracy"] == report.comparison.agreement.accuracy
    assert numbers["dice"] == {phase.name.lower(): d for phase, d in report.comparison.agreement.dice.items()}
    for key, networks in (("networks", report.labels.networks), ("truth", report.truth.networks)):
        assert {name: metrics.NetworkMeasure(**fields) for name, fields in numbers[key].items()} == networks
    for key, intervals in (
        ("intervals", report.labels.intervals),
        ("truth_intervals", report.truth.intervals),
        ("difference_intervals", report.comparison.difference_intervals),
    ):
        read = {n: {f: metrics.Interval(**i) for f, i in by_field.items()} for n, by_field in numbers[key].items()}
        assert read == intervals
    assert "truth" not in strict_json(metrics.measure(pair[0], options=NO_INTERVALS))


def test_a_report_reads_like_a_table_with_units(pair):
    text = metrics.as_text(metrics.measure(*pair, voxel_size_um=1.2))
    assert text.startswith("30 x 31 x 32 voxels of 1.2 um, connectivity 26, intervals from 27 blocks of 12 um\n\n")
    for words in ("[vol.%]", "[1000/mm3]", "area per volume [1/mm]", "mean surface distance [um]", "Dice", "IoU"):
        assert words in text
    assert "accuracy: 96." in text
    assert max(map(len, text.splitlines())) < 125


@pytest.mark.parametrize("side", [0, 1])
def test_the_side_that_cannot_be_measured_is_named(pair, side):
    what = ("the labels", "the true labels")[side]
    for bad, error, words in (
        (pair[side].astype(float), TypeError, "whole numbers"),
        (pair[side][0], ValueError, "axes z, y, x"),
        (pair[side][:0], ValueError, "at least one voxel"),
    ):
        volumes = list(pair)
        volumes[side] = bad
        with pytest.raises(error, match=f"{what} must .*{words}"):
            metrics.measure(*volumes, options=NO_INTERVALS)
    with pytest.raises(ValueError, match="same shape"):
        metrics.measure(pair[0], pair[1][1:])
