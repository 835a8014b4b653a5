import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.transform import iradon, radon

from alsiseg.phantom import detector, materials, tomography
from alsiseg.phantom.settings import ScanSettings
from alsiseg.phantom.tomography import ParallelBeam

# Attenuation over density, cm2/g, Hubbell and Seltzer (NIST 126): energy in keV -> value.
TABULATED = {
    "Al": {20: 3.441, 30: 1.128, 40: 0.5685, 60: 0.2778},
    "Si": {20: 4.464, 30: 1.436, 40: 0.7012, 60: 0.3207},
    "Cu": {20: 33.79, 30: 10.92, 40: 4.862, 60: 1.593},
}

# --- projection and back-projection


def views_of(beam, angles):
    (views,) = beam.all_views(np.array(angles))
    return views


def test_projection_keeps_the_mass_of_every_slice_at_every_angle():
    image_pz = torch.rand(20 * 31, 3)
    found = views_of(ParallelBeam(20, 31), (0.0, 0.4, 1.3, 2.9)).project(image_pz)
    assert torch.allclose(found.sum(1), image_pz.sum(0).expand(4, 3), rtol=1e-4)


@pytest.mark.parametrize("n_rays", [2, 3])
def test_finer_rays_see_the_same_matter(n_rays):
    """A smooth disc: rays between the columns read between the columns, and their mean keeps the mass."""
    y, x = np.mgrid[:40, :50] - np.array([19.5, 24.5])[:, None, None]
    image_pz = torch.from_numpy(np.exp(-(np.hypot(y, x - 4) ** 2) / 30).astype(np.float32).reshape(-1, 1))
    angles = (0.0, 0.6, 1.9)
    coarse, fine = (views_of(ParallelBeam(40, 50, n), angles).project(image_pz) for n in (1, n_rays))
    means = fine.unflatten(1, (-1, n_rays)).mean(2)
    assert torch.allclose(means.sum(1), image_pz.sum(0).expand(3, 1), rtol=1e-4)
    assert torch.allclose(means, coarse, atol=0.02 * float(coarse.max()))


def test_back_projection_is_the_transpose_of_projection():
    beam = ParallelBeam(17, 22)
    views = views_of(beam, (0.7, 2.1))
    image, rows = torch.rand(17 * 22, 1), torch.rand(2, beam.n_columns, 1)
    forward, backward = (views.project(image) * rows).sum(), (image * views.back_project(rows)).sum()
    assert float(forward) == pytest.approx(float(backward), rel=1e-5)


def test_many_angles_are_seen_a_few_at_a_time_as_one_by_one():
    beam, image = ParallelBeam(12, 15), torch.rand(12 * 15, 2)
    angles = tomography.angles_rad(2 * tomography.ANGLES_AT_ONCE + 3)
    together = list(beam.all_views(angles))
    assert [n for views in together for n in views.numbers] == list(range(len(angles)))
    one_by_one = torch.cat([views_of(beam, (angle,)).project(image) for angle in angles])
    assert torch.allclose(torch.cat([views.project(image) for views in together]), one_by_one, atol=1e-5)


def test_another_device_computes_with_torch_what_the_cpu_computes_with_scipy():
    beam, image = ParallelBeam(12, 15), torch.rand(12 * 15, 2)
    (views,), (elsewhere,) = (list(beam.all_views(np.array([0.3, 1.9]), device)) for device in ("cpu", "cpu:0"))
    assert torch.allclose(elsewhere.project(image), views.project(image), atol=1e-5)
    seen = views.project(image)
    assert torch.allclose(elsewhere.back_project(seen), views.back_project(seen), atol=1e-5)


def reconstructed(image_yx, n_angles):
    n_y, n_x = image_yx.shape
    slab_pz = torch.zeros(n_y * n_x, 1)
    specimen_pz = torch.from_numpy(image_yx.reshape(-1, 1))
    for views in ParallelBeam(n_y, n_x).all_views(tomography.angles_rad(n_angles)):
        slab_pz += views.back_project(tomography.ramp_filter(views.project(specimen_pz)))
    return slab_pz.reshape(n_y, n_x).numpy() * np.pi / n_angles


def test_filtered_back_projection_returns_the_image_as_that_of_scikit_image_does():
    rng = np.random.default_rng(0)
    size = 65
    inside = np.hypot(*(np.indices((size, size)) - size // 2)) < 26
    image = (gaussian_filter(rng.random((size, size)), 2) * inside).astype(np.float32)
    angles_deg = np.arange(180) * 1.0
    theirs = iradon(radon(image, angles_deg, circle=True), angles_deg, filter_name="ramp", circle=True)
    core = np.hypot(*(np.indices((size, size)) - size // 2)) < 23
    ours = reconstructed(image, 180)
    assert np.abs(ours - image)[core].mean() < 0.01
    assert np.abs(ours - theirs)[core].mean() < 0.01


# --- propagation and blur


def wave():
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.exp(1j * rng.normal(0, 0.3, (32, 48)))).to(torch.complex64)


def carried(waves, distance_mm, voxel_size_um=1.2):
    factors = detector.propagator(waves.shape[-2:], distance_mm=distance_mm, spacing_um=(voxel_size_um, voxel_size_um))
    return detector.propagate(waves, factors)


def test_propagation_over_no_distance_changes_nothing():
    assert torch.allclose(carried(wave(), 0.0), wave(), atol=1e-5)


def test_propagation_keeps_the_energy_and_changes_the_image():
    before, after = wave(), carried(wave(), 60.0)
    assert float((after.abs() ** 2).sum()) == pytest.approx(float((before.abs() ** 2).sum()), rel=1e-4)
    assert float((after.abs() - 1).abs().max()) > 0.05


def test_propagation_forth_and_back_returns_the_wave():
    assert torch.allclose(carried(carried(wave(), 50.0), -50.0), wave(), atol=1e-4)


def test_a_weak_phase_edge_follows_the_transport_of_intensity():
    x = np.arange(128)
    phase = 0.02 * np.exp(-(((x - 64) / 8.0) ** 2))
    wave_zc = torch.from_numpy(np.exp(1j * np.tile(phase, (16, 1)))).to(torch.complex64)
    distance_mm, voxel_um = 20.0, 1.2
    found = (carried(wave_zc, distance_mm, voxel_um).abs() ** 2)[8].numpy()
    laplace = np.gradient(np.gradient(phase, voxel_um), voxel_um)
    expected = 1 - 1e3 * distance_mm * materials.WAVELENGTH_UM / (2 * np.pi) * laplace
    assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)


def test_fringes_reach_further_over_a_longer_distance_and_into_finer_voxels():
    margins = [
        detector.margin_voxel(ScanSettings(distance_mm=d, blur_voxel=0.6), v)
        for d, v in ((0, 1.2), (60, 1.2), (60, 0.6))
    ]
    assert margins == [3, 10, 17]


def test_blur_is_that_of_scipy_and_keeps_a_flat_image():
    images = torch.rand(2, 20, 30)
    expected = np.stack([gaussian_filter(image.numpy(), 0.9, mode="nearest", truncate=4) for image in images])
    assert np.abs(detector.blur(images, (0.9, 0.9)).numpy() - expected).max() < 1e-4
    assert torch.allclose(detector.blur(torch.ones(1, 9, 9), (1.3, 1.3)), torch.ones(1, 9, 9))
    assert torch.equal(detector.blur(images, (0.0, 0.0)), images)


# --- noise and faults


def test_the_noise_of_a_slice_does_not_depend_on_where_the_scan_is_cut():
    whole = detector.noise(range(4, 10), 5, 7, (3, 1))
    assert np.array_equal(whole[2:5], detector.noise(range(6, 9), 5, 7, (3, 1)))
    assert (whole[0] != whole[1]).all()
    assert (whole != detector.noise(range(4, 10), 5, 7, (4, 1))).all()


def test_bad_columns_stand_out_of_the_gain_in_every_slice():
    settings = ScanSettings(flat_field_error=0.001, n_bad_columns=3, bad_column_error=(0.04, 0.05))
    gain_cz = detector.gain(settings, 60, 8, np.random.default_rng(0))
    assert gain_cz.shape == (60, 8)
    assert ((np.abs(gain_cz - 1) > 0.03).all(axis=1)).sum() == 3
    assert np.median(np.abs(gain_cz - 1)) < 0.001


# --- attenuation at other energies


@pytest.mark.parametrize("element", TABULATED)
def test_attenuation_at_other_energies_is_near_the_tables(element):
    values = TABULATED[element]
    slope = np.log(values[30] / values[20]) / np.log(30 / 20)
    at_25 = values[20] * (25 / 20) ** slope
    for energy, expected in values.items():
        found = (at_25 - materials.SCATTERING_CM2_G) * materials.absorption_factor(energy) + materials.SCATTERING_CM2_G
        assert found == pytest.approx(expected, rel=0.1)


def test_a_constituent_scatters_less_than_it_attenuates():
    scattering, attenuation = materials.scattering_table_per_um(), materials.attenuation_table_per_um()
    assert ((scattering > 0) & (scattering < 0.1 * attenuation)).all()
