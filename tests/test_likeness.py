"""Is a scan like the one a network was trained on: what is measured, and what is said."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import likeness_pairs

from alsiseg import likeness, phantom, runs, training, volumes
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNetConfig

SHAPE_ZYX = (48, 96, 96)
SCANS = {
    "learned": ("slow", "clean", 0),
    "other seed": ("slow", "clean", 1),
    "fast": ("fast", "clean", 7),
    "careful": ("slow", "clean", 521),
    "hard": ("slow", "hard", 520),
    "fast and hard": ("fast", "hard", 7),
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> dict[str, volumes.Volume]:
    """Small synchrotron scans of specimens of both castings and difficulties."""
    home, found = tmp_path_factory.mktemp("scans"), {}
    for name, (specimen, difficulty, seed) in SCANS.items():
        options = {"specimen": specimen, "difficulty": difficulty, "seed": seed, "n_angles": 180, "n_processes": 1}
        made = phantom.make(home / name, shape_zyx=SHAPE_ZYX, modalities=("synchrotron",), **options)
        found[name] = volumes.open(made["synchrotron"])
    return found


@pytest.fixture(scope="module")
def run_dir(scans, tmp_path_factory) -> Path:
    grey_zyx = scans["learned"][:]
    labels_zyx = np.digitize(grey_zyx, np.quantile(grey_zyx, [0.5, 0.8])).astype(np.uint8)
    config = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=1, batch=8, images_per_epoch=8, crop_px=32)
    return training.train(scans["learned"], labels_zyx, tmp_path_factory.mktemp("runs") / "run", config, device="cpu")


def smooth_noise(sigma_zyx: tuple[float, ...], shape_zyx: tuple[int, ...] = (60, 128, 128)) -> NDArray[np.float64]:
    """White noise smoothed by a Gaussian: its correlation at the distance r is exp(-r^2 / (4 sigma^2))."""
    return ndimage.gaussian_filter(np.random.default_rng(3).normal(size=shape_zyx), sigma_zyx)


def binned(grey_zyx: NDArray) -> NDArray:
    z, y, x = (n // 2 for n in grey_zyx.shape)
    return grey_zyx.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5))


def sentences(scan: NDArray, run_dir: Path) -> str:
    return "\n".join(likeness.warnings(scan, run_dir, voxel_size_um=1.2))


def test_white_noise_is_all_noise_and_alike_over_half_a_voxel():
    found = likeness.grey_statistics(smooth_noise((0, 0, 0)))
    assert found.noise == pytest.approx(1, rel=0.03)
    assert found.noise_z == pytest.approx(1, rel=0.03)
    assert found.length_px == pytest.approx(0.5, abs=0.01)
    assert found.length_z_px == pytest.approx(0.5, abs=0.01)
    assert found.grey_quantiles[12] == pytest.approx(0, abs=0.01)
    assert found.grey_quantiles == pytest.approx([-q for q in reversed(found.grey_quantiles)], abs=0.05)


def test_the_lengths_are_those_of_the_smoothing_in_each_direction():
    found = likeness.grey_statistics(smooth_noise((1, 2, 2)))
    half = 2 * np.sqrt(np.log(2))
    assert found.length_px == pytest.approx(2 * half, rel=0.05)
    assert found.length_z_px == pytest.approx(half, rel=0.05)
    assert found.noise < 0.01
    assert found.noise_z < 0.05


def test_noise_of_each_slice_counts_between_slices_and_rings_do_not():
    rings_yx = np.random.default_rng(1).normal(size=(64, 64))
    rings_zyx = smooth_noise((4, 4, 4), (36, 64, 64)) + rings_yx  # the same in all slices
    found = likeness.grey_statistics(rings_zyx)
    assert found.noise > 0.9
    assert found.noise_z < 0.001


def test_brightness_and_contrast_change_nothing_but_rounding():
    grey_zyx = smooth_noise((1, 1, 1), (36, 64, 64))
    first, second = (likeness.grey_statistics(grey) for grey in (grey_zyx, 500 + 3000 * grey_zyx))
    np.testing.assert_allclose(first.grey_quantiles, second.grey_quantiles, atol=1e-3)
    assert (first.noise, first.length_px, first.length_z_px) == pytest.approx(
        (second.noise, second.length_px, second.length_z_px), rel=1e-3
    )


def test_padding_is_counted_and_does_not_hide_what_the_rest_looks_like():
    grey_zyx = smooth_noise((1, 1, 1))
    padded_zyx = grey_zyx.copy()
    padded_zyx[:, :64] = 0
    found, whole = likeness.grey_statistics(padded_zyx), likeness.grey_statistics(grey_zyx)
    assert found.blank_pct == pytest.approx(50, rel=0.05)  # its outermost voxels lack a neighbour
    assert whole.blank_pct < 0.1
    assert found.length_px == pytest.approx(whole.length_px, rel=0.05)


@pytest.mark.parametrize("name", ["scan.tif", "scan.ome.zarr", "scan.h5"])
def test_a_volume_on_disk_gives_the_numbers_of_the_array(name, tmp_path):
    grey_zyx = (1000 * (5 + smooth_noise((1, 1, 1), (40, 48, 52)))).astype(np.uint16)
    scan = volumes.open(volumes.write(tmp_path / name, grey_zyx, voxel_size_um=1.2))
    assert likeness.grey_statistics(scan) == likeness.grey_statistics(grey_zyx, voxel_size_um=1.2)


def test_only_a_sample_of_a_long_scan_is_read():
    pattern_zyx, read = smooth_noise((0, 1, 1), (4, 64, 64)), set()

    def read_slices(z_indices) -> NDArray:
        read.update(z_indices)
        return pattern_zyx[np.asarray(z_indices) % len(pattern_zyx)]

    scan = volumes.Volume(Path("made_up"), (20_000, 64, 64), pattern_zyx.dtype, None, read_slices)
    likeness.grey_statistics(scan)
    assert len(read) <= 128


@pytest.mark.parametrize("shape_zyx", [(1, 3, 3), (2, 3, 40), (5, 6, 7), (13, 17, 19)])
def test_the_smallest_scans_have_numbers_too(shape_zyx):
    found = likeness.grey_statistics(smooth_noise((0, 0, 0), shape_zyx))
    numbers = [found.noise, found.length_px, found.length_z_px, *found.grey_quantiles, *found.limits.values()]
    assert np.isfinite(numbers).all()
    assert (found.noise_z is None) == (shape_zyx[0] < 3)


def test_what_cannot_be_measured_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="needs a grey volume with contrast"):
        likeness.grey_statistics(np.full((12, 16, 16), 7, np.uint8))
    with pytest.raises(ValueError, match=r"3 x 3 pixels or more, got 2 x 9"):
        likeness.grey_statistics(smooth_noise((0, 0, 0), (12, 2, 9)))


def test_training_records_what_its_scan_looks_like(run_dir, scans):
    assert likeness.recorded(run_dir) == likeness.grey_statistics(scans["learned"])
    assert likeness.recorded(run_dir).voxel_size_um == 1.2


def test_the_scan_that_was_learned_and_one_of_another_seed_are_alike(run_dir, scans):
    assert likeness.warnings(scans["learned"], run_dir) == []
    assert likeness.warnings(scans["other seed"], run_dir) == []


def test_a_noisier_scan_is_noticed(run_dir, scans):
    grey_zyx = scans["other seed"][:].astype(np.float32)
    noise_zyx = np.random.default_rng(5).normal(scale=0.3 * grey_zyx.std(), size=grey_zyx.shape)
    assert "noisier than the training scan" in sentences(grey_zyx + noise_zyx, run_dir)


def test_a_finer_structure_is_noticed(run_dir, scans):
    assert "distributed otherwise" in "\n".join(likeness.warnings(scans["fast"], run_dir))
    assert "distributed otherwise" in "\n".join(likeness.warnings(scans["fast and hard"], run_dir))


def recorded_run(folder: Path, scan: volumes.Volume, **changes: object) -> Path:
    """Make a run folder that says no more than what its training scan looks like."""
    record = {**asdict(likeness.grey_statistics(scan)), **changes}
    runs.start(folder, {"likeness": {name: value for name, value in record.items() if value is not None}}, {})
    return folder


def test_a_quick_session_is_noticed_by_its_noise_between_slices(scans, tmp_path):
    careful, quick = (recorded_run(tmp_path / name, scans[name]) for name in ("careful", "hard"))
    (sentence,) = likeness.warnings(scans["hard"], careful)
    assert "x noisier than the training scan (noise between slices" in sentence
    (sentence,) = likeness.warnings(scans["careful"], quick)
    assert "x less noise than the training scan (noise between slices" in sentence


def test_a_record_of_an_earlier_version_is_compared_in_what_it_holds(scans, tmp_path):
    earlier = recorded_run(tmp_path / "earlier", scans["careful"], noise_z=None)
    assert likeness.recorded(earlier).noise_z is None
    assert likeness.warnings(scans["careful"], earlier) == []
    assert likeness.warnings(scans["hard"], earlier) == []  # its noise within slices is no larger
    (sentence,) = likeness.warnings(scans["fast"], earlier)
    assert "distributed otherwise" in sentence


def test_pairs_of_scans_are_counted_by_kind(scans):
    names = ("careful", "other seed", "hard")
    found = {likeness_pairs.Scan(*SCANS[name], SHAPE_ZYX): likeness.grey_statistics(scans[name]) for name in names}
    rows = likeness_pairs.rows(found)
    counted = {(row["learned"], row["scan"]): (row["warned"], row["pairs"]) for row in rows}
    assert counted["slow, clean", "slow, clean"] == (0, 2)
    assert counted["slow, clean", "slow, hard"][1] == 2
    assert counted["slow, clean", "slow, hard"][0] >= 1
    table = likeness_pairs.table({"n_scans": 3, "rows": rows})
    assert "false alarms among scans of one kind: 0 of 2 pairs (0.0 %)" in table


def test_a_binned_scan_is_finer_in_voxels_and_a_magnified_one_coarser(run_dir, scans):
    grey_zyx = scans["other seed"][:]
    assert "finer within slices" in sentences(binned(grey_zyx), run_dir)
    magnified_zyx = ndimage.zoom(grey_zyx[:24, :48, :48].astype(np.float32), 2, order=1)
    found = sentences(magnified_zyx, run_dir)
    assert "coarser within slices" in found
    assert "coarser across slices" in found


def test_a_blurred_scan_has_too_little_noise(run_dir, scans):
    blurred_zyx = ndimage.gaussian_filter(scans["other seed"][:].astype(np.float32), 1)
    assert "less noise" in sentences(blurred_zyx, run_dir)


def test_exchanged_dark_and_bright_are_named(run_dir, scans):
    assert "dark and bright look exchanged" in sentences(65535 - scans["other seed"][:], run_dir)


def test_pure_noise_is_unlike_in_everything(run_dir):
    found = sentences(smooth_noise((0, 0, 0), SHAPE_ZYX), run_dir)
    assert all(part in found for part in ("distributed otherwise", "noisier", "finer within slices"))


def test_padding_is_said_instead_of_what_follows_from_it(run_dir, scans):
    padded_zyx = scans["other seed"][:]
    padded_zyx[:, :24] = 0
    (sentence,) = likeness.warnings(padded_zyx, run_dir, voxel_size_um=1.2)
    assert sentence.startswith("25.0 % of the voxels are saturated or blank")  # 0 is the lowest value


@pytest.mark.parametrize(
    ("scan_um", "said"), [(2.4, "rescale the scan to 1.2 um"), (1.25, ""), (None, "does not state its voxel size")]
)
def test_voxel_sizes_are_compared(scan_um, said, run_dir):
    learned = likeness.recorded(run_dir)
    found = likeness.differences(learned, replace(learned, voxel_size_um=scan_um))
    assert found == [] if not said else said in found[0]


def test_a_network_that_learned_at_an_unknown_voxel_size_asks_for_none(run_dir):
    learned = replace(likeness.recorded(run_dir), voxel_size_um=None)
    assert likeness.differences(learned, replace(learned, voxel_size_um=3.0)) == []


def test_an_uneven_scan_cannot_excuse_itself(run_dir):
    learned = likeness.recorded(run_dir)
    wide = {name: 100.0 for name in learned.limits}
    noisy = replace(learned, noise=4 * learned.noise, limits=wide)
    assert "4.0 x noisier" in likeness.differences(learned, noisy)[0]


def test_a_run_without_a_record_says_so_and_gets_one_when_it_is_continued(run_dir, scans, tmp_path):
    settings = runs.read_settings(run_dir)
    old = {key: value for key, value in settings.items() if key != "likeness"}
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    (earlier / "settings.json").write_text(json.dumps(old))
    (sentence,) = likeness.warnings(scans["learned"], earlier)
    assert "--resume" in sentence
    assert runs.differences(earlier, settings) == []

    runs.extend(earlier, settings)
    assert likeness.recorded(earlier) == likeness.recorded(run_dir)
