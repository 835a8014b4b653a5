import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from alsiseg import phantom, volumes
from alsiseg.phantom import imaging, materials, microstructure, workers
from alsiseg.phantom.imaging import MODALITIES, Misalignment, ScanSettings
from alsiseg.phantom.materials import INDEX, Variant
from alsiseg.phantom.microstructure import Microstructure
from alsiseg.phantom.poses import Frame
from alsiseg.phases import Phase

SMALL = (24, 48, 48)
NOISELESS = {"photons": 1e12, "readout_photons": 0.0, "flat_field_error": 0.0, "n_bad_columns": 0}


def attenuation_per_cm(grey_zyx, settings):
    low, high = settings.grey_range_per_cm
    return low + grey_zyx.astype(np.float64) * (high - low) / 65535


@pytest.fixture(scope="module")
def specimen():
    return microstructure.grow((40, 72, 72), specimen="slow", seed=2)


# --- what a scan shows


def cylinder(variant, radius, shape_zyx=(16, 64, 72)):
    _, y, x = np.ogrid[tuple(slice(n) for n in shape_zyx)]
    inside = np.hypot(y - (shape_zyx[1] - 1) / 2, x - (shape_zyx[2] - 1) / 2) < radius
    variants_zyx = np.broadcast_to(np.where(inside, variant, Variant.AL), shape_zyx).astype(np.uint8)
    phase = Phase.SILICON if variant == Variant.SI else Phase.ALUMINIDE
    labels_zyx = np.where(variants_zyx == variant, phase, Phase.MATRIX).astype(np.uint8)
    return Microstructure.sharp(labels_zyx, variants_zyx, 1.2), inside[0]


def test_a_homogeneous_cylinder_reconstructs_to_its_attenuation():
    cast, inside_yx = cylinder(Variant.AL3NI, 20)
    settings = ScanSettings(n_angles=180, distance_mm=0, blur_voxel=0, **NOISELESS)
    found = attenuation_per_cm(imaging.scan(cast, "synchrotron", settings), settings)[8]
    core = found[binary_erosion(inside_yx, iterations=4)]
    around = found[~inside_yx & (np.indices(inside_yx.shape).min(0) > 4)]
    assert core.mean() == pytest.approx(1e4 * INDEX[Variant.AL3NI].attenuation_per_um, rel=0.01)
    assert np.median(around) == pytest.approx(1e4 * INDEX[Variant.AL].attenuation_per_um, abs=0.2)


def test_an_edge_shows_a_bright_rim_inside_and_a_dark_one_outside():
    cast, inside_yx = cylinder(Variant.AL3NI, 20)
    settings = ScanSettings(n_angles=180, distance_mm=60, **NOISELESS)
    row = attenuation_per_cm(imaging.scan(cast, "synchrotron", settings), settings)[8, 32]
    first = int(np.argmax(inside_yx[32]))
    assert row[first : first + 3].max() > row[34:38].mean() + 20
    assert row[first - 3 : first].min() < 1e4 * INDEX[Variant.AL].attenuation_per_um - 20


def test_a_polychromatic_beam_hardens_and_sees_each_constituent_at_its_mean_energy():
    cast, inside_yx = cylinder(Variant.AL7CU4NI, 20)
    settings = ScanSettings(n_angles=120, distance_mm=0, blur_voxel=0, spectrum=((0.5, 25.0), (0.5, 50.0)), **NOISELESS)
    found = attenuation_per_cm(imaging.scan(cast, "synchrotron", settings), settings)[8]
    depth = distance_transform_edt(inside_yx)
    rim, centre = found[(depth > 3) & (depth < 6)].mean(), found[depth > 14].mean()
    assert centre < 0.99 * rim  # beam hardening: a cup
    at_25 = 1e4 * INDEX[Variant.AL7CU4NI].attenuation_per_um
    assert 0.3 * at_25 < centre < 0.6 * at_25


def test_attenuation_agrees_with_the_table_of_the_specimen():
    assert 1e4 * INDEX[Variant.AL].attenuation_per_um == pytest.approx(4.956, rel=2e-3)
    assert 1e4 * INDEX[Variant.AL7CU4NI].attenuation_per_um == pytest.approx(65.4, rel=2e-3)
    assert len(materials.delta_table()) == len(Variant)


def test_noise_falls_with_the_dose():
    cast, _ = cylinder(Variant.SI, 8)
    spreads = []
    for photons in (1e3, 1e4):
        settings = ScanSettings(n_angles=60, distance_mm=0, photons=photons, readout_photons=0, n_bad_columns=0)
        grey = attenuation_per_cm(imaging.scan(cast, "synchrotron", settings), settings)
        spreads.append(grey[:, 20:44, 20:26].std())
    assert 2.2 < spreads[0] / spreads[1] < 4


def test_bad_columns_leave_rings():
    cast, _ = cylinder(Variant.SI, 8)
    clean = ScanSettings(n_angles=120, distance_mm=0, **NOISELESS)
    faulty = replace(clean, n_bad_columns=1)
    ringed, plain = (attenuation_per_cm(imaging.scan(cast, "synchrotron", s), s) for s in (faulty, clean))
    height, width = plain.shape[1:]
    radius = np.hypot(*np.mgrid[-(height - 1) / 2 : height / 2, -(width - 1) / 2 : width / 2]).round()
    change = (ringed - plain)[8]
    profile = np.array([change[radius == r].mean() for r in range(2, 28)])
    assert np.abs(profile).max() > 1
    assert np.abs(profile).max() > 4 * np.median(np.abs(profile))


@pytest.mark.parametrize("difficulty", imaging.DIFFICULTIES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_hardly_a_grey_value_leaves_the_fixed_scale(specimen, difficulty, modality):
    settings = replace(imaging.DIFFICULTIES[difficulty][modality], n_angles=200)
    grey_zyx = imaging.scan(specimen, modality, settings)
    assert grey_zyx.shape == specimen.labels_zyx.shape
    assert np.isin(grey_zyx, (0, 65535)).mean() < 1e-3


def test_the_laboratory_scan_shows_aluminides_only_and_nothing_finer_than_its_voxels():
    _, y, x = np.indices((16, 64, 64))
    labels_zyx = np.where(y < 32, np.where(x < 32, Phase.MATRIX, Phase.SILICON), Phase.ALUMINIDE).astype(np.uint8)
    variants_zyx = np.where(labels_zyx == Phase.ALUMINIDE, np.uint8(Variant.AL2CU), labels_zyx)
    cast = Microstructure.sharp(labels_zyx, variants_zyx, 1.2)
    settings = replace(imaging.DIFFICULTIES["clean"]["lab_ct"], n_angles=120, **NOISELESS)
    found = attenuation_per_cm(imaging.scan(cast, "lab_ct", settings), settings)
    core = found[4:12]
    matrix, silicon, aluminide = core[:, 8:24, 8:24].mean(), core[:, 8:24, 40:56].mean(), core[:, 40:56, 8:56].mean()
    assert aluminide - matrix > 10 * abs(silicon - matrix)
    edge = core[:, :, 16:48].mean((0, 2))
    assert 3 < ((edge > matrix + 0.1 * (aluminide - matrix)) & (edge < matrix + 0.9 * (aluminide - matrix))).sum() < 9


def test_etching_leaves_air_and_takes_small_loose_fragments_with_their_edges():
    labels_zyx = np.zeros((24, 64, 64), dtype=np.uint8)
    labels_zyx[:, 10:20, 10:20] = labels_zyx[10:14, 40:44, 40:44] = Phase.SILICON
    shares = (gaussian_filter(255.0 * (labels_zyx > 0), 0.5) + 0.5).astype(np.uint8)
    cast = Microstructure(labels_zyx, shares, np.zeros_like(shares), np.zeros_like(shares), 1.2)
    settings = ScanSettings(n_angles=120, distance_mm=0, blur_voxel=0, **NOISELESS)
    found = attenuation_per_cm(imaging.scan(cast, "etched", settings), settings)
    assert np.quantile(found[:, 8:22, 8:22], 0.6) > 4
    assert np.abs(found[6:18, 34:50, 34:50]).max() < 0.5


# --- poses and voxels


def smooth_volume(shape_zyx, seed=0):
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape_zyx), 3)
    return (field / field.std()).astype(np.float32)


def test_a_pose_is_drawn_for_every_scan_but_the_synchrotron_one():
    assert imaging.misalignment("synchrotron", 3) == Misalignment()
    lab, etched = (imaging.misalignment(m, 3) for m in ("lab_ct", "etched"))
    assert lab != etched
    assert max(map(abs, lab.rotation_zyx_deg + etched.rotation_zyx_deg)) < 1


def test_a_scan_in_its_own_frame_reads_the_specimen_and_mirrors_it_beyond_its_faces():
    volume = smooth_volume((8, 5, 6))
    found = Frame(volume.shape).sample(lambda z: volume[z], range(-3, 11))
    assert np.array_equal(found, np.concatenate([volume[2::-1], volume, volume[:4:-1]]))


def test_a_moved_specimen_is_the_spline_through_its_voxels_wherever_it_is_cut():
    volume, pose = smooth_volume((40, 30, 32)), Misalignment((1.3, -2.4, 0.7), (0.8, -0.5, 0.4))
    centre = (np.array(volume.shape) - 1) / 2
    offset = centre - pose.matrix @ centre + np.array(pose.shift_zyx_voxel)
    expected = ndimage.affine_transform(volume, pose.matrix, offset, order=3, mode="reflect")
    assert np.abs(pose.move(volume) - expected).max() < 1e-3
    frame = Frame(volume.shape, pose=pose)
    found = np.concatenate([frame.sample(lambda z: volume[z], r) for r in (range(0, 13), range(13, 40))])
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize("binning", [2.0, 2.5])
def test_coarse_voxels_hold_a_mean_and_are_interpolated_back_into_place(binning):
    volume = smooth_volume((30, 41, 44))
    frame = Frame(volume.shape, binning)
    assert frame.shape_zyx == tuple(int(np.ceil(n / binning)) for n in volume.shape)
    z = slice(10, 20)
    around = frame.slices_around(z)
    coarse = frame.sample(lambda fine: volume[fine], around)
    if binning == 2:
        first = 2 * 8 - (30 - 2 * 15) // 2
        block = volume[first : first + 2, 20:22, 20:22]
        volume_at = coarse[8 - around.start, 10, 10]
        assert volume_at == pytest.approx(block.mean(), abs=0.1)
    fine = frame.refine(coarse, around, z)
    inner = np.s_[:, 6:-6, 6:-6]
    assert np.corrcoef(fine[inner].ravel(), volume[z][inner].ravel())[0, 1] > 0.97


# --- slabs, seeds, devices


def test_a_scan_repeats_for_a_seed_and_differs_for_another(specimen):
    settings = ScanSettings(n_angles=30)
    first, again, other = (imaging.scan(specimen, "synchrotron", settings, seed=s) for s in (4, 4, 5))
    assert first.tobytes() == again.tobytes()
    assert (first != other).any()


@pytest.mark.parametrize("n_z", [16, 64, 65, 160, 300, 1000])
def test_slabs_cover_every_slice_once_and_are_even_in_number_and_size(n_z):
    slabs = imaging.slab_ranges(n_z)
    assert [z for slab in slabs for z in range(slab.start, slab.stop)] == list(range(n_z))
    sizes = [slab.stop - slab.start for slab in slabs]
    assert max(sizes) <= imaging.SLAB_SLICES
    assert max(sizes) - min(sizes) <= 1
    assert len(slabs) == 1 or len(slabs) % 2 == 0


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_scan_in_slabs_is_the_scan_of_the_whole_with_its_noise(specimen, monkeypatch, modality):
    settings = replace(imaging.DIFFICULTIES["clean"][modality], n_angles=30)
    whole = imaging.scan(specimen, modality, settings).astype(int)
    monkeypatch.setattr(imaging, "SLAB_SLICES", 20)
    slabs = imaging.scan(specimen, modality, settings).astype(int)
    assert np.abs(whole - slabs).max() < 0.03 * np.ptp(whole)
    assert np.abs(whole - slabs).std() < 0.002 * np.ptp(whole)


def test_the_number_of_torch_threads_changes_no_byte_and_is_left_alone(specimen):
    settings = replace(imaging.DIFFICULTIES["hard"]["synchrotron"], n_angles=24)
    before = torch.get_num_threads()
    try:
        scans = []
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            scans.append(imaging.scan(specimen, "synchrotron", settings).tobytes())
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    assert scans[0] == scans[1]


# --- workers


def count(n, step):
    for _ in range(n):
        step(1)


def fail(step):
    step(1)
    raise ValueError("this cannot be")


def endless(step):
    while True:
        step(1)


def vanish(step):
    os._exit(3)


class Counting:
    def __init__(self, n):
        self.n = n

    def __call__(self, step):
        count(self.n, step)


def test_a_failed_job_stops_the_others_and_says_why():
    with pytest.raises(ValueError, match="this cannot be"):
        workers.run([fail, endless], n_steps=2, what="work", n_processes=2)


def test_a_worker_that_vanishes_is_reported():
    with pytest.raises(ChildProcessError, match="n_processes=1"):
        workers.run([vanish, Counting(3)], n_steps=4, what="work", n_processes=2)


# --- files


def test_make_writes_its_stacks_and_says_how(tmp_path):
    paths = phantom.make(tmp_path, shape_zyx=SMALL, n_angles=20)
    assert set(paths) == {"truth", "variants", "lab_ct", "synchrotron", "etched", "specimen"}
    stacks = {name: volumes.open(path) for name, path in paths.items() if name != "specimen"}
    assert {(stack.shape, stack.voxel_size_um) for stack in stacks.values()} == {(SMALL, 1.2)}
    grown = microstructure.grow(SMALL)
    assert (np.asarray(stacks["truth"]) == grown.labels_zyx).all()
    assert (np.asarray(stacks["variants"]) == grown.variants_zyx).all()
    for name in MODALITIES:
        settings = imaging.DIFFICULTIES["clean"][name].with_angles(20)
        assert (np.asarray(stacks[name]) == imaging.scan(grown, name, settings)).all()
    journal = json.loads(paths["specimen"].read_text())
    assert journal["synchrotron"]["scan"]["n_angles"] == 20
    assert len(journal["truth"]["source_sha256"]) == 64
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in paths.values())


def test_make_gives_the_same_bytes_from_one_process_and_from_two(tmp_path, monkeypatch):
    monkeypatch.setattr(imaging, "SLAB_SLICES", 12)
    made = [phantom.make(tmp_path / str(n), shape_zyx=SMALL, n_angles=20, n_processes=n) for n in (1, 2)]
    for name in made[0]:
        assert made[0][name].read_bytes() == made[1][name].read_bytes()


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


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """Folder where a Ctrl-C came after the second of four slabs, and the request it belongs to."""
    monkeypatch.setattr(imaging, "SLAB_SLICES", 12)
    request = {"shape_zyx": SMALL, "n_angles": 10, "modalities": ("lab_ct", "etched"), "n_processes": 1}
    scan_slab, taken = imaging.scan_slab, []

    def power_cut(*arguments, **options):
        taken.append(arguments[1])
        if len(taken) > 2:
            raise KeyboardInterrupt
        return scan_slab(*arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(imaging, "scan_slab", power_cut)
        with pytest.raises(KeyboardInterrupt):
            phantom.make(tmp_path / "cut", **request)
    return tmp_path / "cut", request


def test_an_interrupted_make_continues_at_the_slab_it_had_reached(tmp_path, interrupted, monkeypatch):
    folder, request = interrupted
    kept = [p for p in folder.rglob("slices*.npy")]
    assert len(kept) == 2
    scan_slab, taken = imaging.scan_slab, []

    def counted(*arguments, **options):
        taken.append(arguments[1])
        return scan_slab(*arguments, **options)

    def grown_again(*_, **__):
        raise AssertionError("the specimen was grown before")

    with monkeypatch.context() as patched:
        patched.setattr(imaging, "scan_slab", counted)
        patched.setattr(microstructure, "grow", grown_again)
        paths = phantom.make(folder, **request)
    assert taken == ["etched", "etched"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in paths.values())
    for name, path in phantom.make(tmp_path / "whole", **request).items():
        assert paths[name].read_bytes() == path.read_bytes()


def test_slabs_of_other_settings_are_not_taken_over(tmp_path, interrupted):
    folder, request = interrupted
    mended = phantom.make(folder, **(request | {"seed": 1}))
    for name, path in phantom.make(tmp_path / "whole", **(request | {"seed": 1})).items():
        assert mended[name].read_bytes() == path.read_bytes()


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
        ({"n_processes": 0}, "n_processes must be 1 or more, got 0"),
        ({"device": "cuda:99"}, "cuda:99"),
    ],
)
def test_impossible_requests_are_refused_and_nothing_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        phantom.make(tmp_path / "out", **({"shape_zyx": SMALL} | change))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(microstructure, "grow", None)
    with pytest.raises(OSError, match="needs a place to write"):
        phantom.make(tmp_path / "file" / "out", shape_zyx=SMALL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photons": 20}, "photons must be 100 or more"),
        ({"distance_mm": -1}, "zero or more"),
        ({"binning": 0.5}, "between 1 and 8"),
        ({"spectrum": ((1.0, 40.0),)}, "distance_mm to 0"),
        ({"distance_mm": 0, "spectrum": ((0.5, 25.0), (0.2, 40.0))}, "add up to 1"),
        ({"grey_range_per_cm": (5.0, 5.0)}, "must rise"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ScanSettings(**change)
