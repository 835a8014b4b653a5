import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.filters import threshold_multiotsu

from alsiseg import metrics, phantom, topology
from alsiseg.phantom import imaging, materials, microstructure, tomography
from alsiseg.phantom.imaging import Misalignment, ScanSettings
from alsiseg.phantom.materials import INDEX, Variant
from alsiseg.phases import Phase, network_mask

SMALL = (24, 48, 48)
MODERATE = (96, 112, 112)
NOISELESS = {"photons": 1e12, "readout_photons": 0.0, "flat_field_error": 0.0, "n_bad_columns": 0}


@pytest.fixture(scope="module")
def slow():
    return microstructure.grow(MODERATE, specimen="slow", seed=0)


@pytest.fixture(scope="module")
def fast():
    return microstructure.grow(MODERATE, specimen="fast", seed=0)


@pytest.fixture(scope="module")
def slab(slow):
    middle = np.s_[24:64, 8:104, 8:104]
    return microstructure.Microstructure(slow.labels_zyx[middle], slow.variants_zyx[middle], 1.2)


@pytest.fixture(scope="module")
def synchrotron_grey(slab):
    settings = imaging.DIFFICULTIES["clean"]["synchrotron"]
    return imaging.scan(slab, "synchrotron", replace(settings, n_angles=240), seed=1), settings


def attenuation_per_cm(grey_zyx, settings):
    low, high = settings.grey_range_per_cm
    return low + grey_zyx.astype(np.float64) * (high - low) / 65535


def share(labels_zyx, phase):
    return float((labels_zyx == phase).mean())


# --- microstructure


def test_the_same_seed_and_shape_give_the_same_bytes():
    first, second = (microstructure.grow(SMALL, seed=7) for _ in range(2))
    assert first.labels_zyx.tobytes() == second.labels_zyx.tobytes()
    assert first.variants_zyx.tobytes() == second.variants_zyx.tobytes()


def test_another_seed_gives_another_specimen():
    first, second = (microstructure.grow(SMALL, seed=s).labels_zyx for s in (1, 2))
    assert (first != second).mean() > 0.2


def test_slow_fractions_are_those_of_the_training_sample(slow):
    assert 0.13 < share(slow.labels_zyx, Phase.SILICON) < 0.18
    assert 0.10 < share(slow.labels_zyx, Phase.ALUMINIDE) < 0.12


def test_fast_fractions_are_those_of_the_second_volume(fast):
    assert share(fast.labels_zyx, Phase.SILICON) == pytest.approx(0.14, abs=0.01)
    assert share(fast.labels_zyx, Phase.ALUMINIDE) == pytest.approx(0.18, abs=0.01)


def test_fast_silicon_is_less_connected_and_every_network_branches_more(slow, fast):
    slow_networks, fast_networks = (metrics.measure_networks(one.labels_zyx, voxel_size_um=1.2) for one in (slow, fast))
    loss = slow_networks["silicon"].interconnectivity - fast_networks["silicon"].interconnectivity
    assert 0.05 < loss < 0.25
    for name in slow_networks:
        assert fast_networks[name].euler_number < slow_networks[name].euler_number < 0


@pytest.mark.parametrize("name", ["aluminides", "hybrid"])
def test_aluminides_and_hybrid_form_one_network(fast, name):
    needed = {"aluminides": 0.94, "hybrid": 0.99}[name]
    assert topology.interconnectivity(network_mask(fast.labels_zyx, name)) > needed


def test_silicon_often_touches_aluminides(slow):
    from scipy.ndimage import binary_dilation

    silicon, aluminide = (slow.labels_zyx == p for p in (Phase.SILICON, Phase.ALUMINIDE))
    assert (binary_dilation(aluminide) & silicon).sum() > 0.05 * silicon.sum()


def test_every_variant_belongs_to_its_phase(slow):
    variants, labels = slow.variants_zyx, slow.labels_zyx
    assert ((variants == Variant.AL) == (labels == Phase.MATRIX)).all()
    assert ((variants == Variant.SI) == (labels == Phase.SILICON)).all()
    assert len(np.unique(variants[labels == Phase.ALUMINIDE])) >= 4


def test_silicon_is_thin(slow):
    from scipy.ndimage import distance_transform_edt

    silicon = slow.labels_zyx == Phase.SILICON
    assert np.median(distance_transform_edt(silicon)[silicon]) < 2


def test_a_finer_voxel_enlarges_the_features():
    coarse, fine = (microstructure.grow((32, 64, 64), seed=3, voxel_size_um=v).labels_zyx for v in (1.2, 0.6))

    def surface(labels_zyx):
        return (np.diff(labels_zyx == Phase.MATRIX, axis=2) != 0).mean()

    assert surface(fine) < 0.7 * surface(coarse)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape_zyx": (15, 48, 48)}, "at least 16 voxels"),
        ({"shape_zyx": (48, 48)}, "three axes"),
        ({"shape_zyx": (24, 48, 0)}, "at least 16 voxels"),
        ({"specimen": "medium"}, "slow, fast"),
        ({"voxel_size_um": 0}, "positive length"),
        ({"voxel_size_um": float("nan")}, "positive length"),
        ({"seed": -1}, "zero or a positive"),
        ({"difficulty": "easy"}, "clean, hard"),
        ({"modalities": ("neutrons",)}, "lab_ct, synchrotron, etched"),
        ({"modalities": ()}, "got none"),
        ({"n_angles": 1}, "n_angles must be 2 or more"),
    ],
)
def test_impossible_requests_are_refused_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        phantom.make(tmp_path / "out", **({"shape_zyx": SMALL} | change))
    assert not (tmp_path / "out").exists()


# --- projection and reconstruction


def test_projection_keeps_the_mass_of_every_slice_at_every_angle():
    beam = tomography.ParallelBeam(20, 31)
    image_pz = torch.rand(20 * 31, 3)
    for angle in (0.0, 0.4, 1.3, 2.9):
        assert torch.allclose((beam.gather(angle) @ image_pz).sum(0), image_pz.sum(0), rtol=1e-4)


def test_back_projection_is_the_transpose_of_projection():
    beam = tomography.ParallelBeam(17, 22)
    image, row = torch.rand(17 * 22, 1), torch.rand(beam.n_columns, 1)
    forward = ((beam.gather(0.7) @ image) * row).sum()
    backward = (image * (beam.spread(0.7) @ row)).sum()
    assert float(forward) == pytest.approx(float(backward), rel=1e-5)


def cylinder(variant, radius, shape_zyx=(16, 64, 72)):
    _, y, x = np.ogrid[tuple(slice(n) for n in shape_zyx)]
    inside = np.hypot(y - (shape_zyx[1] - 1) / 2, x - (shape_zyx[2] - 1) / 2) < radius
    variants_zyx = np.broadcast_to(np.where(inside, variant, Variant.AL), shape_zyx).astype(np.uint8)
    phase = Phase.SILICON if variant == Variant.SI else Phase.ALUMINIDE
    labels_zyx = np.where(variants_zyx == variant, phase, Phase.MATRIX).astype(np.uint8)
    return microstructure.Microstructure(labels_zyx, variants_zyx, 1.2), inside[0]


def test_a_homogeneous_cylinder_reconstructs_to_its_attenuation():
    specimen, inside_yx = cylinder(Variant.AL3NI, 20)
    settings = ScanSettings(n_angles=180, distance_mm=0, blur_voxel=0, **NOISELESS)
    found = attenuation_per_cm(imaging.scan(specimen, "synchrotron", settings), settings)[8]
    from scipy.ndimage import binary_erosion

    core = found[binary_erosion(inside_yx, iterations=4)]
    around = found[~inside_yx & (np.indices(inside_yx.shape).min(0) > 4)]
    assert core.mean() == pytest.approx(1e4 * INDEX[Variant.AL3NI].attenuation_per_um, rel=0.01)
    assert np.median(around) == pytest.approx(1e4 * INDEX[Variant.AL].attenuation_per_um, abs=0.2)


def test_an_edge_shows_a_bright_rim_inside_and_a_dark_one_outside():
    specimen, inside_yx = cylinder(Variant.AL3NI, 20)
    settings = ScanSettings(n_angles=180, **NOISELESS)
    row = attenuation_per_cm(imaging.scan(specimen, "synchrotron", settings), settings)[8, 32]
    first = int(np.argmax(inside_yx[32]))
    assert row[first : first + 3].max() > row[34:38].mean() + 20
    assert row[first - 3 : first].min() < 1e4 * INDEX[Variant.AL].attenuation_per_um - 20


def test_attenuation_agrees_with_the_table_of_the_specimen():
    assert 1e4 * INDEX[Variant.AL].attenuation_per_um == pytest.approx(4.956, rel=2e-3)
    assert 1e4 * INDEX[Variant.AL7CU4NI].attenuation_per_um == pytest.approx(65.4, rel=2e-3)
    assert len(materials.delta_table()) == len(Variant)


# --- propagation and detector


def wave():
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.exp(1j * rng.normal(0, 0.3, (32, 48)))).to(torch.complex64)


def test_propagation_over_no_distance_changes_nothing():
    before = wave()
    assert torch.equal(imaging.propagate(before, distance_um=0.0, voxel_size_um=1.2), before)


def test_propagation_keeps_the_energy_and_changes_the_image():
    before = wave()
    after = imaging.propagate(before, distance_um=6e4, voxel_size_um=1.2)
    assert float((after.abs() ** 2).sum()) == pytest.approx(float((before.abs() ** 2).sum()), rel=1e-4)
    assert float((after.abs() - 1).abs().max()) > 0.05


def test_propagation_forth_and_back_returns_the_wave():
    there = imaging.propagate(wave(), distance_um=5e4, voxel_size_um=1.2)
    assert torch.allclose(imaging.propagate(there, distance_um=-5e4, voxel_size_um=1.2), wave(), atol=1e-4)


def test_a_weak_phase_edge_follows_the_transport_of_intensity():
    x = np.arange(128)
    phase = 0.02 * np.exp(-(((x - 64) / 8.0) ** 2))
    wave_zc = torch.from_numpy(np.exp(1j * np.tile(phase, (16, 1)))).to(torch.complex64)
    distance_um, voxel_um = 2e4, 1.2
    found = (imaging.propagate(wave_zc, distance_um=distance_um, voxel_size_um=voxel_um).abs() ** 2)[8].numpy()
    laplace = np.gradient(np.gradient(phase, voxel_um), voxel_um)
    expected = 1 - distance_um * materials.WAVELENGTH_UM / (2 * np.pi) * laplace
    assert np.abs(found - expected).max() < 0.1 * np.ptp(expected)


def test_noise_falls_with_the_dose():
    specimen, _ = cylinder(Variant.SI, 8)
    spreads = []
    for photons in (1e3, 1e4):
        settings = ScanSettings(n_angles=60, distance_mm=0, photons=photons, readout_photons=0, n_bad_columns=0)
        grey = attenuation_per_cm(imaging.scan(specimen, "synchrotron", settings), settings)
        spreads.append(grey[:, 20:44, 20:26].std())
    assert 2.2 < spreads[0] / spreads[1] < 4


def test_bad_columns_leave_rings():
    specimen, _ = cylinder(Variant.SI, 8)
    clean = ScanSettings(n_angles=120, distance_mm=0, **NOISELESS)
    faulty = replace(clean, n_bad_columns=1)
    ringed, plain = (attenuation_per_cm(imaging.scan(specimen, "synchrotron", s), s) for s in (faulty, clean))
    height, width = plain.shape[1:]
    radius = np.hypot(*np.mgrid[-(height - 1) / 2 : height / 2, -(width - 1) / 2 : width / 2]).round()
    change = (ringed - plain)[8]
    profile = np.array([change[radius == r].mean() for r in range(2, 28)])
    assert np.abs(profile).max() > 1
    assert np.abs(profile).max() > 4 * np.median(np.abs(profile))


def test_a_scan_repeats_for_a_seed_and_differs_for_another():
    specimen = microstructure.grow(SMALL, seed=2)
    settings = ScanSettings(n_angles=30)
    first, again, other = (imaging.scan(specimen, "synchrotron", settings, seed=s) for s in (4, 4, 5))
    assert first.tobytes() == again.tobytes()
    assert (first != other).any()


def test_a_scan_in_slabs_is_the_scan_of_the_whole(monkeypatch):
    specimen = microstructure.grow((40, 32, 32), seed=2)
    settings = ScanSettings(n_angles=30, **NOISELESS)
    whole = imaging.scan(specimen, "synchrotron", settings).astype(int)
    monkeypatch.setattr(imaging, "SLAB_SLICES", 16)
    slabs = imaging.scan(specimen, "synchrotron", settings).astype(int)
    assert np.abs(whole - slabs).max() < 0.01 * np.ptp(whole)


# --- realism


def test_silicon_inside_is_as_grey_as_the_matrix_and_aluminides_stand_out(slab, synchrotron_grey):
    from scipy.ndimage import distance_transform_edt

    grey_zyx, settings = synchrotron_grey
    found = attenuation_per_cm(grey_zyx, settings)
    depth = {p: distance_transform_edt(slab.labels_zyx == p) for p in Phase}
    matrix = found[depth[Phase.MATRIX] > 4]
    silicon = found[depth[Phase.SILICON] > 3]
    aluminide = found[depth[Phase.ALUMINIDE] > 1.5]
    assert abs(silicon.mean() - matrix.mean()) / matrix.std() < 1
    assert (aluminide.mean() - matrix.mean()) / matrix.std() > 3


def test_the_dark_rim_of_aluminides_overlaps_silicon(slab, synchrotron_grey):
    from scipy.ndimage import distance_transform_edt

    grey_zyx, settings = synchrotron_grey
    found = attenuation_per_cm(grey_zyx, settings)
    labels = slab.labels_zyx
    rim = found[(labels == Phase.MATRIX) & (distance_transform_edt(labels != Phase.ALUMINIDE) < 1.5)]
    silicon = found[labels == Phase.SILICON]
    low, high = np.percentile(silicon, (10, 90))
    assert ((rim > low) & (rim < high)).mean() > 0.4


def test_grey_thresholds_fail_on_the_synchrotron_scan(slab, synchrotron_grey):
    grey_zyx, _ = synchrotron_grey
    classes = np.digitize(grey_zyx, threshold_multiotsu(grey_zyx.astype(np.float32), 3))
    best = max(
        metrics.accuracy(np.array(order, dtype=np.uint8)[classes], slab.labels_zyx)
        for order in [(0, 1, 2), (1, 0, 2), (0, 2, 1), (0, 0, 2), (0, 2, 2)]
    )
    assert best < 0.85


def test_few_grey_values_leave_the_fixed_scale(synchrotron_grey):
    grey_zyx, _ = synchrotron_grey
    assert np.isin(grey_zyx, (0, 65535)).mean() < 1e-3


def test_a_pose_is_drawn_for_every_scan_but_the_synchrotron_one():
    assert imaging.misalignment("synchrotron", 3) == Misalignment()
    lab, etched = (imaging.misalignment(m, 3) for m in ("lab_ct", "etched"))
    assert lab != etched
    assert max(map(abs, lab.rotation_zyx_deg + etched.rotation_zyx_deg)) < 1


# --- files


def test_make_writes_four_stacks_and_says_how(tmp_path):
    from alsiseg import volumes

    paths = phantom.make(tmp_path, shape_zyx=SMALL, n_angles=20)
    assert set(paths) == {"truth", "lab_ct", "synchrotron", "etched", "specimen"}
    truth = volumes.open(paths["truth"])
    assert truth.shape == SMALL
    assert truth.voxel_size_um == pytest.approx(1.2)
    assert (np.asarray(truth) == microstructure.grow(SMALL).labels_zyx).all()
    journal = json.loads(paths["specimen"].read_text())
    assert journal["synchrotron"]["scan"]["n_angles"] == 20
    assert len(journal["truth"]["source_sha256"]) == 64


def test_make_keeps_what_is_up_to_date_and_mends_what_is_not(tmp_path):
    request = {"shape_zyx": SMALL, "n_angles": 10, "modalities": ("lab_ct", "etched")}
    paths = phantom.make(tmp_path, **request)
    times = {name: path.stat().st_mtime_ns for name, path in paths.items()}
    whole = paths["etched"].read_bytes()
    paths["etched"].write_bytes(whole[:1000])
    phantom.make(tmp_path, **request)
    assert paths["truth"].stat().st_mtime_ns == times["truth"]
    assert paths["lab_ct"].stat().st_mtime_ns == times["lab_ct"]
    assert paths["etched"].read_bytes() == whole


def test_make_with_other_settings_replaces_the_scan(tmp_path):
    request = {"shape_zyx": SMALL, "modalities": ("lab_ct",)}
    first = phantom.make(tmp_path, n_angles=10, **request)["lab_ct"].read_bytes()
    assert phantom.make(tmp_path, n_angles=12, **request)["lab_ct"].read_bytes() != first


def test_an_interrupted_make_continues_at_the_file_it_had_reached(tmp_path, monkeypatch):
    request = {"shape_zyx": SMALL, "n_angles": 10, "modalities": ("lab_ct", "etched")}
    scan = imaging.scan

    def power_cut(specimen, modality, settings, **options):
        if modality == "etched":
            raise KeyboardInterrupt
        return scan(specimen, modality, settings, **options)

    monkeypatch.setattr(imaging, "scan", power_cut)
    with pytest.raises(KeyboardInterrupt):
        phantom.make(tmp_path, **request)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lab_ct.tif", "specimen.json", "truth.tif"]
    kept = (tmp_path / "lab_ct.tif").stat().st_mtime_ns
    monkeypatch.setattr(imaging, "scan", scan)
    paths = phantom.make(tmp_path, **request)
    assert paths["lab_ct"].stat().st_mtime_ns == kept
    assert paths["etched"].exists()
