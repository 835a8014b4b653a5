import math

import numpy as np
import pytest

from alsiseg import metrics
from alsiseg.metrics.geometry import BETWEEN_SLICES, IN_SLICE, SHARE_OF_DIRECTION
from alsiseg.phases import Phase

MATRIX, SI, AL = Phase


def ball(radius_voxels: float, n: int, centre: float | None = None) -> np.ndarray:
    """Mark a ball in a cube of n voxels."""
    centre = (n - 1) / 2 if centre is None else centre
    z, y, x = np.mgrid[:n, :n, :n] - centre
    return z**2 + y**2 + x**2 <= radius_voxels**2


@pytest.mark.parametrize("n_voxels", [1, 2, 3, 4, 7])
def test_a_plate_is_as_thick_as_it_is(n_voxels):
    plate_zyx = np.zeros((16, 16, 16), dtype=bool)
    plate_zyx[:, 4 : 4 + n_voxels] = True
    assert metrics.mean_local_thickness_um(plate_zyx, 1.2) == pytest.approx(1.2 * n_voxels)


def test_thickness_of_two_plates_is_weighed_by_their_voxels():
    plates_zyx = np.zeros((12, 16, 12), dtype=bool)
    plates_zyx[:, 2:4] = plates_zyx[:, 8:13] = True
    assert metrics.mean_local_thickness_um(plates_zyx, 2.0) == pytest.approx(2 * (2 * 2 + 5 * 5) / 7)


def test_the_map_of_thickness_is_zero_outside_the_network():
    plates_zyx = np.zeros((12, 16, 12), dtype=bool)
    plates_zyx[:, 2:4] = plates_zyx[:, 8:13] = True
    thickness_zyx = metrics.local_thickness_um(plates_zyx, 2.0)
    assert np.unique(thickness_zyx[:, 2:4]).tolist() == [4.0]
    assert np.unique(thickness_zyx[:, 8:13]).tolist() == [10.0]
    assert not thickness_zyx[~plates_zyx].any()


def test_an_empty_network_has_no_thickness_and_no_chord():
    nothing = np.zeros((4, 4, 4), dtype=bool)
    assert math.isnan(metrics.mean_local_thickness_um(nothing, 1.2))
    assert math.isnan(metrics.mean_chord_um(nothing, 1.2))
    assert not metrics.local_thickness_um(nothing, 1.2).any()


def test_chords_are_as_long_as_the_network_is_along_each_axis():
    box_zyx = np.zeros((12, 12, 12), dtype=bool)
    box_zyx[3:5, 2:6, 2:10] = True  # 2 x 4 x 8
    lengths, counts = np.unique(metrics.chord_lengths_um(box_zyx, 1.5), return_counts=True)
    assert lengths.tolist() == [3.0, 6.0, 12.0]
    # Every second line in both directions: of 4 x 8, 2 x 8 and 2 x 4 lines across the box.
    assert counts.tolist() == [8, 4, 2]
    assert metrics.mean_chord_um(box_zyx, 1.5) == pytest.approx((3 * 8 + 6 * 4 + 12 * 2) / 14)


def test_chords_that_reach_a_face_of_the_volume_are_left_out():
    rod_zyx = np.zeros((12, 12, 12), dtype=bool)
    rod_zyx[:, 4:7, 4:7] = True
    assert set(metrics.chord_lengths_um(rod_zyx, 1.0)) == {3.0}


def test_the_mean_chord_of_a_ball_is_four_thirds_of_its_radius():
    assert metrics.mean_chord_um(ball(15, 40), 2.0) == pytest.approx(2 * 4 / 3 * 15, rel=0.02)


def test_the_directions_have_the_shares_of_space_that_lie_nearest_to_them():
    steps = np.array([*IN_SLICE, *BETWEEN_SLICES], dtype=float)
    assert len(steps) == 13
    n_axes = np.abs(steps).sum(axis=1).astype(int)
    shares = np.array([SHARE_OF_DIRECTION[n] for n in n_axes])
    assert shares.sum() == pytest.approx(1)
    directions = np.random.default_rng(0).normal(size=(200_000, 3))
    nearest = np.abs(directions @ (steps / np.linalg.norm(steps, axis=1)[:, None]).T).argmax(axis=1)
    assert np.bincount(nearest) / len(directions) == pytest.approx(shares, abs=0.003)


@pytest.mark.parametrize("radius", [5, 10, 20])
def test_the_surface_of_a_ball_is_right_within_two_per_cent(radius):
    n = 2 * radius + 7
    # Off the grid, and averaged over places, as a ball in an alloy is.
    centres = (n - 1) / 2 + np.array([0.0, 0.21, 0.43])
    areas = [
        metrics.interface_areas_per_mm(ball(radius, n, c).astype(np.uint8), voxel_size_um=1.0)["silicon-matrix"]
        for c in centres
    ]
    # All of the ball lies inside, but pairs of voxels a step apart fill a little less than the box.
    steps = np.abs([*IN_SLICE, *BETWEEN_SLICES])
    boxes = sum(SHARE_OF_DIRECTION[step.sum()] / np.prod(n - step) for step in steps)
    true_per_mm = 1e3 * 4 * math.pi * radius**2 * boxes
    assert np.mean(areas) == pytest.approx(true_per_mm, rel=0.02)


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.3, 0.0), (0.3, 0.2), (0.5, 0.2), (0.4, 0.4)])
def test_the_area_of_a_plane_has_the_known_bias_of_its_orientation(slopes):
    n = 64
    z, y, x = np.mgrid[:n, :n, :n] - (n - 1) / 2
    below = (z < slopes[0] * y + slopes[1] * x + 0.13).astype(np.uint8)
    true_per_mm = 1e3 * math.hypot(1, *slopes) / n
    normal = np.array([1, -slopes[0], -slopes[1]]) / math.hypot(1, *slopes)
    steps = np.array([*IN_SLICE, *BETWEEN_SLICES])
    shares = [SHARE_OF_DIRECTION[abs(step).sum()] for step in steps]
    bias = sum(2 * w * abs(normal @ s) / np.linalg.norm(s) for w, s in zip(shares, steps, strict=True)) - 1
    assert -0.074 < bias < 0.024  # as the documentation says
    for turned in (below, below.transpose(2, 0, 1), below[::-1].transpose(1, 2, 0)):
        area = metrics.interface_areas_per_mm(turned, voxel_size_um=1.0)["silicon-matrix"]
        assert area == pytest.approx(true_per_mm * (1 + bias), rel=0.02)


def test_the_surface_of_a_network_is_the_sum_of_its_interfaces():
    labels_zyx = np.random.default_rng(0).integers(0, 3, (9, 10, 11), dtype=np.uint8)
    three = metrics.interface_areas_per_mm(labels_zyx, voxel_size_um=1.2)
    silicon_alone = metrics.interface_areas_per_mm((labels_zyx == SI).astype(np.uint8), voxel_size_um=1.2)
    assert three["silicon-matrix"] + three["silicon-aluminides"] == pytest.approx(silicon_alone["silicon-matrix"])
    hybrid = metrics.interface_areas_per_mm((labels_zyx > 0).astype(np.uint8), voxel_size_um=1.2)
    assert three["silicon-matrix"] + three["aluminides-matrix"] == pytest.approx(hybrid["silicon-matrix"])


def test_areas_do_not_depend_on_the_slabs_they_are_read_in(monkeypatch):
    labels_zyx = np.random.default_rng(1).integers(0, 3, (13, 6, 7), dtype=np.uint8)
    whole = metrics.interface_areas_per_mm(labels_zyx, voxel_size_um=1.2)
    monkeypatch.setattr("alsiseg.metrics.slabs.VOXELS_AT_ONCE", 100)
    assert metrics.interface_areas_per_mm(labels_zyx, voxel_size_um=1.2) == whole
    turned = metrics.interface_areas_per_mm(labels_zyx.transpose(2, 0, 1)[::-1], voxel_size_um=1.2)
    assert turned == pytest.approx(whole)
    doubled = metrics.interface_areas_per_mm(labels_zyx, voxel_size_um=2.4)
    assert {name: 2 * area for name, area in doubled.items()} == pytest.approx(whole)


def test_areas_need_two_voxels_along_every_axis():
    with pytest.raises(ValueError, match=r"at least 2 voxels along every axis, got shape \(1, 5, 5\)"):
        metrics.interface_areas_per_mm(np.zeros((1, 5, 5), dtype=np.uint8), voxel_size_um=1.2)


def plate(z: int) -> np.ndarray:
    plate_zyx = np.zeros((20, 6, 6), dtype=bool)
    plate_zyx[z] = True
    return plate_zyx


def test_plates_shifted_by_three_voxels_lie_three_voxels_apart():
    found = metrics.surface_distance(plate(4), plate(7), voxel_size_um=1.2)
    assert found == metrics.SurfaceDistance(pytest.approx(3.6), pytest.approx(3.6))
    assert found == metrics.surface_distance(plate(7), plate(4), voxel_size_um=1.2)
    assert metrics.surface_distance(plate(4), plate(4), voxel_size_um=1.2) == metrics.SurfaceDistance(0.0, 0.0)


def test_hausdorff_forgives_five_per_cent_and_is_that_of_the_worse_way():
    first, second = plate(4), plate(4)
    second[15, 0, 0] = True  # one voxel of 37, 11 away from the plate
    found = metrics.surface_distance(first, second, voxel_size_um=1.0)
    assert found.hausdorff95_um == 0
    assert found.mean_um == pytest.approx(11 / 73)
    second[15, 0, :3] = True  # three of 39
    assert metrics.surface_distance(first, second, voxel_size_um=1.0).hausdorff95_um == pytest.approx(11)


def test_the_inside_of_a_mask_and_the_faces_of_the_volume_are_no_surface():
    half_zyx, larger_zyx = np.zeros((2, 20, 6, 6), dtype=bool)
    half_zyx[:8], larger_zyx[:10] = True, True  # the surfaces are slices 7 and 9
    assert metrics.surface_distance(half_zyx, larger_zyx, voxel_size_um=1.0).mean_um == pytest.approx(2)


def test_a_mask_without_a_surface_is_infinitely_far_from_one_with_one():
    nothing, everything = np.zeros((20, 6, 6), dtype=bool), np.ones((20, 6, 6), dtype=bool)
    for empty in (nothing, everything):
        assert metrics.surface_distance(plate(4), empty, voxel_size_um=1.2).mean_um == math.inf
        assert metrics.surface_distance(empty, plate(4), voxel_size_um=1.2).hausdorff95_um == math.inf
    assert metrics.surface_distance(nothing, nothing, voxel_size_um=1.2).mean_um == 0


def test_masks_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        metrics.surface_distance(plate(4), plate(4)[1:], voxel_size_um=1.2)
    with pytest.raises(TypeError, match="boolean"):
        metrics.surface_distance(plate(4), plate(4).astype(np.uint8), voxel_size_um=1.2)
    with pytest.raises(ValueError, match="voxel_size_um"):
        metrics.surface_distance(plate(4), plate(4), voxel_size_um=0)
