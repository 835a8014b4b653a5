import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alsiseg import metrics, topology
from alsiseg.phases import NETWORKS, Phase, network_mask
from alsiseg.weightmaps import interface_mask

MATRIX, SI, AL = Phase
shapes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=5)
label_volumes = hnp.arrays(np.uint8, shapes, elements=st.integers(0, 2))


@st.composite
def label_pairs(draw):
    shape = draw(shapes)
    volumes = hnp.arrays(np.uint8, shape, elements=st.integers(0, 2))
    return draw(volumes), draw(volumes)


def bridge_labels():
    """Return two silicon plates that only an aluminide column joins, 1000 voxels in all."""
    labels_zyx = np.zeros((10, 10, 10), dtype=np.uint8)
    labels_zyx[1, 2:7, 2:6] = SI  # 20 voxels
    labels_zyx[6, 2:7, 2:8] = SI  # 30 voxels
    labels_zyx[2:6, 4, 4] = AL  # 4 voxels
    return labels_zyx


def test_networks_of_a_bridge_have_the_measures_a_person_counts():
    measures = metrics.measure_networks(bridge_labels())
    assert list(measures) == ["silicon", "aluminides", "hybrid"]
    assert measures["silicon"] == metrics.NetworkMeasure(50, 5.0, 0.6, 2, 2)
    assert measures["aluminides"] == metrics.NetworkMeasure(4, 0.4, 1.0, 1, 1)
    assert measures["hybrid"] == metrics.NetworkMeasure(54, 5.4, 1.0, 1, 1)


def test_a_voxel_size_gives_the_euler_number_per_cubic_millimetre():
    measure = metrics.measure_networks(bridge_labels(), voxel_size_um=10.0)["silicon"]
    assert measure.euler_density_per_mm3 == pytest.approx(2 / 0.1**3)  # 100 um cubed
    # Neither plate touches a face of the box of 9 voxels between the outermost centres.
    assert measure.euler_density_corrected_per_mm3 == pytest.approx(2 / 0.09**3)


def test_the_faces_of_the_volume_add_nothing_to_the_corrected_density():
    through_zyx = np.zeros((10, 10, 10), dtype=np.uint8)
    through_zyx[:, 4:6, 4:6] = SI  # one rod, and no end of it inside
    measure = metrics.measure_networks(through_zyx, voxel_size_um=10.0)["silicon"]
    assert measure.euler_number == 1
    assert measure.euler_density_corrected_per_mm3 == 0
    one_slice = metrics.measure_networks(through_zyx[:1], voxel_size_um=10.0)["silicon"]
    assert one_slice.euler_density_corrected_per_mm3 is None


def test_connectivity_is_passed_on():
    labels_zyx = np.zeros((3, 3, 3), dtype=np.uint8)
    labels_zyx[0, 0, 0] = labels_zyx[1, 1, 1] = SI
    assert metrics.measure_networks(labels_zyx)["silicon"].n_components == 1
    measure = metrics.measure_networks(labels_zyx, connectivity=6)["silicon"]
    assert (measure.n_components, measure.euler_number, measure.interconnectivity) == (2, 2, 0.5)


@given(label_volumes, st.sampled_from([6, 26]))
def test_measures_are_those_of_the_networks_taken_alone(labels_zyx, connectivity):
    for name, measure in metrics.measure_networks(labels_zyx, connectivity=connectivity).items():
        network_zyx = network_mask(labels_zyx, name)
        assert measure.n_voxels == np.count_nonzero(network_zyx)
        assert measure.euler_number == topology.euler_number(network_zyx, connectivity=connectivity)
        assert measure.interconnectivity == topology.interconnectivity(network_zyx, connectivity=connectivity)


@given(label_volumes)
def test_swapping_silicon_and_aluminides_swaps_their_measures(labels_zyx):
    swapped_zyx = np.array([MATRIX, AL, SI], dtype=np.uint8)[labels_zyx]
    ours, swapped = metrics.measure_networks(labels_zyx), metrics.measure_networks(swapped_zyx)
    assert ours["silicon"] == swapped["aluminides"]
    assert ours["aluminides"] == swapped["silicon"]
    assert ours["hybrid"] == swapped["hybrid"]


def test_a_volume_of_matrix_alone_has_empty_networks():
    measures = metrics.measure_networks(np.zeros((3, 4, 5), dtype=np.uint8), voxel_size_um=1.2)
    assert set(measures) == set(NETWORKS)
    assert set(measures.values()) == {metrics.NetworkMeasure(0, 0.0, 0.0, 0, 0, 0.0, 0.0)}


def test_accuracy_is_the_share_of_correct_pixels_of_each_slice():
    truth_zyx = np.zeros((2, 2, 4), dtype=np.uint8)
    prediction_zyx = truth_zyx.copy()
    prediction_zyx[1, 0, :2] = SI
    assert metrics.accuracy_per_slice(prediction_zyx, truth_zyx).tolist() == [1.0, 0.75]
    assert metrics.accuracy(prediction_zyx, truth_zyx) == 0.875
    assert metrics.accuracy(prediction_zyx[1], truth_zyx[1]) == 0.75


@given(label_pairs())
def test_accuracy_of_the_volume_is_the_mean_over_its_slices(pair):
    per_slice = metrics.accuracy_per_slice(*pair)
    assert per_slice.dtype == np.float64
    assert per_slice.mean() == pytest.approx(metrics.accuracy(*pair))
    assert per_slice == pytest.approx((pair[0] == pair[1]).mean(axis=(1, 2)))


def test_dice_counts_the_voxels_in_common_twice():
    truth = np.array([[SI, SI, SI, MATRIX]], dtype=np.uint8)
    prediction = np.array([[SI, MATRIX, MATRIX, MATRIX]], dtype=np.uint8)
    assert metrics.dice_per_phase(prediction, truth) == {MATRIX: 2 / 4, SI: 2 / 4, AL: 1.0}


@given(label_pairs())
def test_dice_is_symmetric_and_one_for_equal_labels(pair):
    prediction, truth = pair
    assert metrics.dice_per_phase(prediction, truth) == metrics.dice_per_phase(truth, prediction)
    assert set(metrics.dice_per_phase(truth, truth).values()) == {1.0}


def test_iou_counts_the_voxels_in_common_once():
    truth = np.array([[SI, SI, SI, MATRIX]], dtype=np.uint8)
    prediction = np.array([[SI, MATRIX, MATRIX, MATRIX]], dtype=np.uint8)
    assert metrics.iou_per_phase(prediction, truth) == {MATRIX: 1 / 3, SI: 1 / 3, AL: 1.0}


@given(label_pairs())
def test_a_comparison_slab_by_slab_gives_the_measures_of_the_whole(pair):
    found = metrics.compare(*pair)
    assert found.accuracy == metrics.accuracy(*pair)
    assert found.interface_accuracy == pytest.approx(metrics.interface_accuracy(*pair), nan_ok=True)
    assert found.dice == metrics.dice_per_phase(*pair)
    for phase, iou in metrics.iou_per_phase(*pair).items():
        assert found.iou[phase] == iou == pytest.approx(found.dice[phase] / (2 - found.dice[phase]))


def test_specks_under_a_size_become_matrix():
    labels_zyx = bridge_labels()  # plates of 20 and 30 voxels, a column of 4
    without_column = metrics.without_specks(labels_zyx, 5)
    assert np.count_nonzero(without_column == AL) == 0
    assert np.count_nonzero(without_column == SI) == 50
    assert np.array_equal(metrics.without_specks(labels_zyx, 4), labels_zyx)
    assert np.count_nonzero(metrics.without_specks(labels_zyx, 21)) == 30
    assert np.count_nonzero(labels_zyx) == 54  # untouched
    diagonal_zyx = np.zeros((3, 3, 3), dtype=np.uint8)
    diagonal_zyx[0, 0, 0] = diagonal_zyx[1, 1, 1] = SI
    assert metrics.without_specks(diagonal_zyx, 2).any()
    assert not metrics.without_specks(diagonal_zyx, 2, connectivity=6).any()
    with pytest.raises(ValueError, match="min_voxels must be 1"):
        metrics.without_specks(labels_zyx, 0)


def test_interface_accuracy_sees_only_the_band_of_the_truth():
    truth = np.zeros((9, 20), dtype=np.uint8)
    truth[4, 4], truth[4, 5] = SI, AL
    prediction = truth.copy()
    prediction[:, 12:] = AL  # far away
    assert metrics.interface_accuracy(prediction, truth) == 1.0
    prediction[4, 4] = AL
    assert metrics.interface_accuracy(prediction, truth) == 1 - 1 / interface_mask(truth).sum()


def test_interface_accuracy_is_not_a_number_without_an_interface():
    truth = np.full((2, 4, 4), SI, dtype=np.uint8)
    assert math.isnan(metrics.interface_accuracy(truth, truth))


@given(label_volumes)
def test_volume_fractions_add_up_to_a_hundred(labels):
    fractions = metrics.volume_fractions_pct(labels)
    assert sum(fractions.values()) == pytest.approx(100)
    assert fractions[AL] == pytest.approx(100 * (labels == AL).mean())


def test_measures_survive_json():
    measures = metrics.measure_networks(bridge_labels(), voxel_size_um=1.2)
    read = json.loads(json.dumps(metrics.as_dict(measures), allow_nan=False))
    assert {name: metrics.NetworkMeasure(**fields) for name, fields in read.items()} == measures


def test_the_table_prints_units_and_leaves_out_what_was_not_measured():
    head, *rows = metrics.table(metrics.measure_networks(bridge_labels())).splitlines()
    assert head.split() == ["network", "measure", "value"]
    assert [row.split()[-1] for row in rows] == [
        *("5.00", "60.00", "2", "2"),
        *("0.40", "100.00", "1", "1"),
        *("5.40", "100.00", "1", "1"),
    ]
    assert [row.split()[0] for row in rows[::4]] == ["silicon", "aluminides", "hybrid"]
    assert "[vol.%]" in rows[0]
    assert "mm3" not in "".join(rows)
    assert "mm3" in metrics.table(metrics.measure_networks(bridge_labels(), voxel_size_um=1.2))


def test_the_table_sets_truth_and_signed_difference_beside_the_value():
    measures = metrics.measure_networks(bridge_labels(), voxel_size_um=1.2)
    truth_zyx = bridge_labels()
    truth_zyx[6] = MATRIX
    head, *lines = metrics.table(measures, metrics.measure_networks(truth_zyx)).splitlines()
    assert head.split() == ["network", "measure", "value", "truth", "difference"]
    density = f"{2 / 1.728e-6 / 1000:.1f}"  # 1000 voxels of (1.2 um)^3, in thousands
    assert lines[0].split()[-3:] == ["5.00", "2.00", "+3.00"]
    assert lines[1].split()[-3:] == ["60.00", "100.00", "-40.00"]
    assert lines[3].split() == ["components", "2", "1", "+1"]
    assert lines[4].split()[-1] == density  # the truth has no voxel size
    assert len({len(line) for line in (head, *lines[:4])}) == 1  # numbers end in one column


def test_the_table_sets_intervals_beside_their_values():
    labels_zyx = np.random.default_rng(0).integers(0, 3, (24, 24, 24), dtype=np.uint8)
    measures = metrics.measure_networks(labels_zyx, voxel_size_um=1.2)
    found = metrics.network_intervals(labels_zyx, voxel_size_um=1.2)
    lines = metrics.table(measures, intervals=found).splitlines()
    assert "95 % interval" in lines[0]
    interval = found["silicon"]["volume_fraction_pct"]
    assert f"{interval.low:.2f} to {interval.high:.2f}" in lines[1]
    assert "to" not in lines[2].split()  # interconnectivity is no sum over blocks


def test_a_truth_of_other_networks_is_refused():
    measures = metrics.measure_networks(bridge_labels())
    with pytest.raises(ValueError, match="truth must hold the networks silicon, aluminides, hybrid, got hybrid"):
        metrics.table(measures, {"hybrid": measures["hybrid"]})


PAIR_MEASURES = [
    metrics.accuracy,
    metrics.accuracy_per_slice,
    metrics.dice_per_phase,
    metrics.iou_per_phase,
    metrics.interface_accuracy,
    metrics.compare,
]


@pytest.mark.parametrize("compare", PAIR_MEASURES)
class TestRefusalOfPairs:
    def test_shapes_that_differ_are_refused(self, compare):
        # (1, 4) would broadcast against (3, 4)
        with pytest.raises(ValueError, match=r"same shape, got \(2, 1, 4\) and \(2, 3, 4\)"):
            compare(np.zeros((2, 1, 4), dtype=np.uint8), np.zeros((2, 3, 4), dtype=np.uint8))

    def test_the_side_with_unknown_labels_is_named(self, compare):
        good, bad = np.zeros((2, 3, 4), dtype=np.uint8), np.full((2, 3, 4), 9, dtype=np.uint8)
        with pytest.raises(ValueError, match=r"the predicted labels must be 0 .* found 9"):
            compare(bad, good)
        with pytest.raises(ValueError, match=r"the true labels must be 0 .* found 9"):
            compare(good, bad)

    def test_probabilities_are_refused(self, compare):
        with pytest.raises(TypeError, match="the predicted labels must hold whole numbers"):
            compare(np.full((2, 3, 4), np.nan), np.zeros((2, 3, 4), dtype=np.uint8))

    def test_nothing_to_compare_is_refused(self, compare):
        nothing = np.zeros((0, 3, 4), dtype=np.uint8)
        with pytest.raises(ValueError, match="at least one voxel"):
            compare(nothing, nothing)


def test_a_slice_is_refused_where_a_volume_is_needed():
    slice_yx = np.zeros((3, 4), dtype=np.uint8)
    for measured in (metrics.measure_networks, lambda labels: metrics.accuracy_per_slice(labels, labels)):
        with pytest.raises(ValueError, match=r"axes z, y, x, got shape \(3, 4\)"):
            measured(slice_yx)


@pytest.mark.parametrize("voxel_size_um", [0, -1.2, math.nan, math.inf])
def test_a_voxel_size_that_is_no_length_is_refused(voxel_size_um):
    with pytest.raises(ValueError, match="voxel_size_um must be a length above 0"):
        metrics.measure_networks(bridge_labels(), voxel_size_um=voxel_size_um)
    for measured in (metrics.mean_local_thickness_um, metrics.chord_lengths_um):
        with pytest.raises(ValueError, match="voxel_size_um must be a length above 0"):
            measured(bridge_labels() == SI, voxel_size_um)
    for measured in (metrics.interface_areas_per_mm, metrics.network_intervals, metrics.representative_volumes):
        with pytest.raises(ValueError, match="voxel_size_um must be a length above 0"):
            measured(bridge_labels(), voxel_size_um=voxel_size_um)


def test_volumes_that_cannot_be_measured_are_refused():
    with pytest.raises(ValueError, match="found 3"):
        metrics.measure_networks(np.full((2, 2, 2), 3, dtype=np.uint8))
    with pytest.raises(TypeError, match="whole numbers"):
        metrics.measure_networks(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="at least one voxel"):
        metrics.measure_networks(np.zeros((0, 2, 2), dtype=np.uint8))
    with pytest.raises(ValueError, match="connectivity must be 6"):
        metrics.measure_networks(bridge_labels(), connectivity=8)
    with pytest.raises(TypeError, match="mean_local_thickness_um needs a boolean network"):
        metrics.mean_local_thickness_um(bridge_labels(), 1.2)


def test_the_best_naming_undoes_any_exchange_of_the_classes():
    truth = np.random.default_rng(0).integers(0, 3, (4, 5, 6), dtype=np.uint8)
    for exchange in ([1, 2, 0], [2, 1, 0], [0, 1, 2]):
        classes = np.array(exchange, dtype=np.uint8)[truth]
        assert np.array_equal(metrics.best_naming(classes, truth), truth)
