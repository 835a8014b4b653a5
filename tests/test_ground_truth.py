from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from alsiseg import ground_truth, metrics
from alsiseg.ground_truth import Registration, Thresholds
from alsiseg.phantom import imaging, microstructure
from alsiseg.phases import Phase

SHAPE = (48, 80, 80)


@pytest.fixture(scope="module")
def truth_zyx():
    return specimen().labels_zyx


def specimen():
    return microstructure.grow(SHAPE, seed=5)


@pytest.fixture(scope="module")
def scans():
    grown = specimen()
    settings = {m: replace(imaging.DIFFICULTIES["clean"][m], n_angles=160) for m in imaging.MODALITIES}
    return tuple(imaging.scan(grown, m, settings[m], seed=5) for m in imaging.MODALITIES)


@pytest.fixture(scope="module")
def labelled(scans):
    return ground_truth.label_scans(*scans)


def texture(seed=0, shape=(48, 64, 72)):
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.exp(2 * field / field.std()).astype(np.float32)


def largest_error_voxel(found: Registration, pose: imaging.Misalignment, shape):
    """Where a corner of the volume ends when it is moved by the pose and then aligned back."""
    pose_move = Registration(pose.shift_zyx_voxel, pose.rotation_zyx_deg, 1.0)
    corners = np.array(np.meshgrid(*[(-n / 2, n / 2) for n in shape], indexing="ij")).reshape(3, -1)

    def move(points, registration):
        matrix = ground_truth.rotation_matrix(np.deg2rad(registration.rotation_zyx_deg))
        return matrix @ points + np.array(registration.shift_zyx_voxel)[:, None]

    return np.linalg.norm(move(move(corners, found), pose_move) - corners, axis=0).max()


def test_the_hidden_misalignment_is_recovered_to_a_third_of_a_voxel(labelled):
    for modality, found in (("lab_ct", labelled.lab), ("etched", labelled.etched)):
        assert largest_error_voxel(found, imaging.misalignment(modality, 5), SHAPE) < 0.33


def test_a_known_shift_and_turn_are_found():
    fixed = texture()
    pose = imaging.Misalignment((1.3, -2.4, 0.7), (0.8, -0.5, 0.4))
    found = ground_truth.register(pose.move(fixed), fixed)
    assert largest_error_voxel(found, pose, fixed.shape) < 0.3
    assert found.agreement > 0.95


def test_a_volume_registers_on_itself_without_moving():
    found = ground_truth.register(texture(), texture())
    assert np.allclose(found.shift_zyx_voxel + found.rotation_zyx_deg, 0, atol=1e-3)


def test_aligning_without_a_move_returns_the_volume():
    volume = texture()
    assert np.allclose(Registration((0, 0, 0), (0, 0, 0), 1.0).align(volume), volume, atol=1e-3)


def test_the_labels_agree_with_the_truth(labelled, truth_zyx):
    assert metrics.accuracy(labelled.labels_zyx, truth_zyx) > 0.92
    for phase in Phase:
        found, true = ((one == phase).mean() for one in (labelled.labels_zyx, truth_zyx))
        assert found == pytest.approx(true, abs=0.03)


def test_confident_labels_are_right_more_often(labelled, truth_zyx):
    right = labelled.labels_zyx == truth_zyx
    sure = labelled.confidence_zyx > 128
    assert labelled.confidence_zyx.dtype == np.uint8
    assert right[sure].mean() > right[~sure].mean() + 0.05


def test_given_thresholds_are_used(scans, labelled):
    higher = replace(labelled.thresholds, rigid_etched=labelled.thresholds.rigid_etched * 1.3)
    result = ground_truth.label_scans(*scans, thresholds=higher)
    assert result.thresholds == higher
    assert (result.labels_zyx == Phase.MATRIX).sum() > (labelled.labels_zyx == Phase.MATRIX).sum()


def test_the_scans_are_not_changed_and_the_result_repeats(scans, labelled):
    copies = [scan.copy() for scan in scans]
    again = ground_truth.label_scans(*scans)
    assert all((a == b).all() for a, b in zip(scans, copies, strict=True))
    assert (again.labels_zyx == labelled.labels_zyx).all()


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


def test_scans_of_different_specimens_are_refused(scans):
    other = imaging.scan(microstructure.grow(SHAPE, seed=6), "lab_ct", imaging.ScanSettings(n_angles=40, distance_mm=0))
    with pytest.raises(ValueError, match="laboratory scan does not register"):
        ground_truth.label_scans(other, *scans[1:])


def test_scans_of_different_shape_are_refused(scans):
    with pytest.raises(ValueError, match="must have one shape"):
        ground_truth.label_scans(scans[0], scans[1], scans[2][:-1])


def test_a_scan_with_nan_is_refused(scans):
    broken = scans[1].astype(np.float32)
    broken[3, 4, 5] = np.nan
    with pytest.raises(ValueError, match="synchrotron holds NaN"):
        ground_truth.label_scans(scans[0], broken, scans[2])


def test_an_empty_scan_is_refused(scans):
    with pytest.raises(ValueError, match="single grey value"):
        ground_truth.label_scans(scans[0], scans[1], np.zeros_like(scans[2]))


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
