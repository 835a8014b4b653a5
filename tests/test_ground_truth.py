import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from alsiseg import ground_truth, metrics
from alsiseg.ground_truth import Registration, Thresholds
from alsiseg.phantom import imaging, microstructure
from alsiseg.phantom.poses import Misalignment, misalignment
from alsiseg.phantom.settings import DIFFICULTIES, MODALITIES
from alsiseg.phases import Phase

SHAPE = (56, 96, 96)


@pytest.fixture(scope="module")
def truth_zyx():
    return specimen().labels_zyx


@functools.cache
def specimen():
    return microstructure.grow(SHAPE, seed=5)


def scan(of, modality, difficulty, seed=5, n_angles=120):
    return imaging.scan(of, modality, DIFFICULTIES[difficulty][modality].with_angles(n_angles), seed=seed)


def three_scans(difficulty):
    return tuple(scan(specimen(), modality, difficulty) for modality in MODALITIES)


@pytest.fixture(scope="module")
def scans():
    return three_scans("clean")


@pytest.fixture(scope="module")
def labelled(scans):
    return ground_truth.label_scans(*scans)


@pytest.fixture(scope="module")
def hard():
    return ground_truth.label_scans(*three_scans("hard"))


def texture(seed=0, shape=(48, 64, 72)):
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.exp(2 * field / field.std()).astype(np.float32)


def largest_error_voxel(found: Registration, pose: Misalignment, shape):
    """Where a corner of the volume ends when it is moved by the pose and then aligned back."""
    corners = np.array(np.meshgrid(*[(-n / 2, n / 2) for n in shape], indexing="ij")).reshape(3, -1)

    def move(points, by):
        return by.matrix @ points + np.array(by.shift_zyx_voxel)[:, None]

    return np.linalg.norm(move(move(corners, found), pose) - corners, axis=0).max()


def test_the_hidden_misalignment_is_recovered_to_less_than_a_third_of_a_voxel(labelled, hard):
    for made in (labelled, hard):
        for modality, found in (("lab_ct", made.lab), ("etched", made.etched)):
            assert largest_error_voxel(found, misalignment(modality, 5), SHAPE) < 0.3


def test_a_known_shift_and_turn_are_found():
    fixed = texture()
    pose = Misalignment((1.3, -2.4, 0.7), (0.8, -0.5, 0.4))
    moved = Registration(pose.shift_zyx_voxel, pose.rotation_zyx_deg, 1.0).align(fixed)
    found = ground_truth.register(moved, fixed)
    assert largest_error_voxel(found, pose, fixed.shape) < 0.3
    assert found.agreement > 0.95


def test_a_volume_registers_on_itself_without_moving():
    found = ground_truth.register(texture(), texture())
    assert np.allclose(found.shift_zyx_voxel + found.rotation_zyx_deg, 0, atol=0.02)


def test_aligning_without_a_move_returns_the_volume():
    volume = texture()
    assert np.allclose(Registration((0, 0, 0), (0, 0, 0), 1.0).align(volume), volume, atol=1e-3)


def test_the_labels_agree_with_the_truth(labelled, hard, truth_zyx):
    assert metrics.accuracy(labelled.labels_zyx, truth_zyx) > 0.96
    assert metrics.accuracy(hard.labels_zyx, truth_zyx) > 0.945
    for phase in Phase:
        found, true = ((one == phase).mean() for one in (labelled.labels_zyx, truth_zyx))
        assert found == pytest.approx(true, abs=0.015)


def test_the_labels_hang_together_like_the_truth(labelled, truth_zyx):
    made, true = (metrics.measure_networks(volume) for volume in (labelled.labels_zyx, truth_zyx))
    for name in true:
        assert made[name].interconnectivity == pytest.approx(true[name].interconnectivity, abs=0.1)
        assert abs(made[name].euler_number - true[name].euler_number) < 0.5 * abs(true["hybrid"].euler_number)
        assert made[name].n_components < 3 * true[name].n_components


def test_confident_labels_are_right_more_often(labelled, truth_zyx):
    right = labelled.labels_zyx == truth_zyx
    sure = labelled.confidence_zyx > 128
    assert labelled.confidence_zyx.dtype == np.uint8
    assert right[sure].mean() > right[~sure].mean() + 0.05


def test_nobody_is_sure_where_a_scan_does_not_reach(labelled):
    reached = labelled.lab.covers(SHAPE) & labelled.etched.covers(SHAPE)
    assert 0.8 < reached.mean() < 1
    assert not labelled.confidence_zyx[~reached].any()


def test_a_scan_moved_by_two_voxels_does_not_reach_the_last_two_slices():
    reached = Registration((2, 0, 0), (0, 0, 0), 1.0).covers((20, 16, 17))
    assert reached[:18].all()
    assert not reached[18:].any()


def test_given_thresholds_are_used(scans, labelled):
    higher = replace(labelled.thresholds, rigid_etched=labelled.thresholds.rigid_etched * 1.3)
    result = ground_truth.label_scans(*scans, thresholds=higher)
    assert result.thresholds == higher
    assert (result.labels_zyx == Phase.MATRIX).sum() > (labelled.labels_zyx == Phase.MATRIX).sum()


def test_the_scans_are_not_changed_and_the_result_repeats(scans, labelled):
    copies = [scan.copy() for scan in scans]
    again = ground_truth.label_scans(*scans)
    assert all((a == b).all() for a, b in zip(scans, copies, strict=True))
    assert again.labels_zyx.tobytes() == labelled.labels_zyx.tobytes()
    assert again.confidence_zyx.tobytes() == labelled.confidence_zyx.tobytes()
    assert (again.lab, again.etched, again.thresholds) == (labelled.lab, labelled.etched, labelled.thresholds)


def test_combining_known_grey_values_gives_the_three_phases():
    labels = np.zeros((16, 16, 32), dtype=np.uint8)
    labels[4:12, 4:12, 4:12], labels[4:12, 4:12, 20:28] = Phase.SILICON, Phase.ALUMINIDE
    lab, synchrotron, etched = (
        np.array(levels, dtype=np.float32)[labels] for levels in ((10, 10, 40), (10, 5, 60), (0, 20, 30))
    )
    found, confidence = ground_truth.combine(lab, synchrotron, etched, thresholds=Thresholds(25, 30, 10))
    assert (found == labels).all()
    assert confidence.min() > 128


def test_specks_are_removed():
    etched = np.zeros((16, 16, 16), dtype=np.float32)
    etched[4:10, 4:10, 4:10] = etched[13, 13, 13] = 20
    dark = np.zeros_like(etched)
    found, _ = ground_truth.combine(dark, dark, etched, thresholds=Thresholds(5, 5, 10))
    assert found[13, 13, 13] == Phase.MATRIX
    assert found[6, 6, 6] == Phase.SILICON


def test_specks_of_silicon_at_an_aluminide_become_aluminide():
    labels = np.zeros((16, 16, 16), dtype=np.uint8)
    labels[4:10, 4:10, 4:10], labels[10, 5:7, 5:7] = Phase.ALUMINIDE, Phase.SILICON
    lab, synchrotron, etched = (
        np.array(greys, dtype=np.float32)[labels] for greys in ((0, 0, 9), (0, 0, 9), (0, 9, 9))
    )
    found, _ = ground_truth.combine(lab, synchrotron, etched, thresholds=Thresholds(5, 5, 5))
    assert (found == np.where(labels, Phase.ALUMINIDE, Phase.MATRIX)).all()


def test_fringes_that_both_scans_show_are_taken_from_the_etched_one():
    random = np.random.default_rng(0)
    grains = gaussian_filter(random.normal(size=(40, 48, 48)), 2)
    grains = (grains > np.quantile(grains, 0.8)).astype(np.float32)
    fringes = gaussian_filter(grains, 1) - gaussian_filter(grains, 2)
    left = ground_truth.without_fringes(100 * grains + 60 * fringes, 5000 + 400 * fringes)
    assert np.corrcoef(left.ravel(), fringes.ravel())[0, 1] < np.corrcoef(grains.ravel(), fringes.ravel())[0, 1] + 0.02
    assert left[grains == 0].std() < 0.4 * (60 * fringes)[grains == 0].std()


def test_scans_of_different_specimens_are_refused(scans):
    other = scan(microstructure.grow(SHAPE, seed=6), "etched", "clean", n_angles=60)
    with pytest.raises(ValueError, match="etched scan does not register"):
        ground_truth.register(other, scans[1], what="etched scan")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:])
def test_scans_in_the_wrong_order_are_refused(scans, order):
    with pytest.raises(ValueError, match="in the order laboratory, synchrotron, etched"):
        ground_truth.label_scans(*(scans[i] for i in order))


def test_a_scan_that_shows_only_noise_is_refused(scans):
    noise = np.random.default_rng(0).normal(30_000, 100, SHAPE).astype(np.uint16)
    with pytest.raises(ValueError, match="laboratory scan does not register"):
        ground_truth.label_scans(noise, *scans[1:])


def _without_a_slice(grey_zyx):
    return grey_zyx[:-1]


def _with(value):
    def spoilt(grey_zyx):
        grey_zyx = grey_zyx.astype(np.float32)
        grey_zyx[3, 4, 5] = value
        return grey_zyx

    return spoilt


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_without_a_slice, "must have one shape"),
        (_with(np.nan), "must hold finite grey values"),
        (_with(np.inf), "must hold finite grey values"),
        (np.zeros_like, "only the grey value 0"),
        (lambda grey_zyx: grey_zyx[0], "at least 16 voxels along z, y and x"),
        (lambda grey_zyx: grey_zyx[:8], "at least 16 voxels along z, y and x"),
        (lambda grey_zyx: grey_zyx > 1000, "must hold grey values"),
    ],
)
def test_scans_that_cannot_be_labelled_are_refused(place, spoil, sentence):
    broken = [(1000 * texture(seed, (20, 24, 28))).astype(np.uint16) for seed in range(3)]
    broken[place] = spoil(broken[place])
    with pytest.raises(ValueError, match=sentence) as refusal:
        ground_truth.label_scans(*broken)
    assert ["laboratory", "synchrotron", "etched"][place] in str(refusal.value)


def test_a_flat_image_is_refused():
    with pytest.raises(ValueError, match="at least 16 voxels"):
        ground_truth.register(texture()[0], texture()[0])


def test_missing_aluminides_are_reported():
    noise = np.random.default_rng(0).normal(10, 1, (20, 20, 20)).astype(np.float32)
    with pytest.raises(ValueError, match="found none"):
        ground_truth.choose_thresholds(noise, noise, noise)


def test_thresholds_must_be_numbers():
    with pytest.raises(ValueError, match="finite grey values"):
        Thresholds(1.0, float("nan"), 2.0)


@pytest.mark.parametrize(
    ("on_ring", "share_left"),
    [
        (lambda radius: radius.round() == 33, 0.35),  # on one circle of voxels
        (lambda radius: np.abs(radius - 33) < 0.7, 0.5),  # over three of them: a known limit of the method
    ],
)
def test_half_rings_of_a_bad_column_are_weakened_and_particles_stay(on_ring, share_left):
    random = np.random.default_rng(3)
    particles = gaussian_filter(random.normal(size=(16, 96, 112)), 3) * 4000
    y, x = np.ogrid[:96, :112]
    radius = np.hypot(y - 47.5, x - 55.5)
    half_ring = np.where(on_ring(radius) & (y < 48), 500.0, 0.0)

    left = ground_truth.without_rings(20000 + particles + half_ring) - 20000 - particles
    assert np.abs(left[:, half_ring > 0]).mean() < share_left * 500
    assert np.abs(left[:, half_ring == 0]).mean() < 0.05 * 500
