"""Writing: every format comes back as it was, whole or not at all."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from alsiseg import volumes

SHAPE_ZYX = (7, 9, 11)
FORMATS = (".tif", ".ome.zarr", ".h5")


@pytest.fixture
def grey_zyx() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 60_000, SHAPE_ZYX).astype(np.uint16)


@pytest.mark.parametrize("suffix", [*FORMATS, ".tiff", ".zarr", ".nxs", ".hdf5"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_every_type_comes_back_from_every_format(tmp_path, suffix, dtype):
    expected = (np.random.default_rng(0).random((37, 9, 11)) * 120).astype(dtype)
    volume = volumes.open(volumes.write(tmp_path / f"v{suffix}", expected, voxel_size_um=0.65))
    assert (volume.shape, volume.dtype) == (expected.shape, expected.dtype)
    assert volume.voxel_size_um == pytest.approx(0.65, rel=1e-6)
    np.testing.assert_array_equal(volume[:], expected)
    np.testing.assert_array_equal(volume[30:2:-3, 2:, 4], expected[30:2:-3, 2:, 4])
    assert volume[5:5].shape == (0, 9, 11)


@pytest.mark.parametrize("suffix", FORMATS)
def test_slices_slabs_and_volumes_give_the_same_file(tmp_path, grey_zyx, suffix):
    tall = np.concatenate([grey_zyx] * 6)
    whole = volumes.open(volumes.write(tmp_path / f"whole{suffix}", tall, voxel_size_um=2.0))
    options = {"voxel_size_um": 2.0, "shape": tall.shape, "dtype": tall.dtype}
    parts = {
        "slices": volumes.write(tmp_path / f"slices{suffix}", iter(tall), **options),
        "slabs": volumes.write(tmp_path / f"slabs{suffix}", (tall[z : z + 5] for z in range(0, 42, 5)), **options),
        "volume": volumes.write(tmp_path / f"volume{suffix}", whole, voxel_size_um=2.0),
    }
    for path in parts.values():
        np.testing.assert_array_equal(volumes.open(path)[:], tall)
        assert volumes.open(path).voxel_size_um == 2.0


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_existing_volume_is_kept_unless_it_may_be_replaced(tmp_path, grey_zyx, suffix):
    path = volumes.write(tmp_path / f"v{suffix}", grey_zyx)
    with pytest.raises(FileExistsError, match="exists already"):
        volumes.write(path, grey_zyx + 1, overwrite=False)
    np.testing.assert_array_equal(volumes.open(path)[:], grey_zyx)
    volumes.write(path, grey_zyx[:3] + 1, overwrite=True)
    np.testing.assert_array_equal(volumes.open(path)[:], grey_zyx[:3] + 1)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_opened_volume_can_be_sent_to_another_process(tmp_path, grey_zyx, suffix):
    volume = volumes.open(volumes.write(tmp_path / f"v{suffix}", grey_zyx), voxel_size_um=3.0)
    sent = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(sent[2:5], grey_zyx[2:5])
    assert sent.voxel_size_um == 3.0


@pytest.mark.parametrize("suffix", FORMATS)
def test_slabs_may_be_written_in_any_order_and_twice(tmp_path, suffix):
    expected = np.random.default_rng(0).integers(0, 3, (70, 20, 30)).astype(np.uint8)
    stack = volumes.Stack(expected.shape, expected.dtype, 1.5, labels=True)
    partial = tmp_path / f"unfinished{suffix}"
    volumes.begin(partial, stack)
    for z in (64, 0, 32, 0):
        volumes.write_slab(partial, z, expected[z : z + stack.slab_slices])
    path = volumes.finish(partial, tmp_path / f"done{suffix}")
    assert not partial.exists()
    np.testing.assert_array_equal(volumes.open(path)[:], expected)
    assert volumes.open(path).voxel_size_um == 1.5


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_several_processes_may_write_slabs_at_once(tmp_path, suffix):
    expected = np.random.default_rng(0).integers(0, 3, (200, 30, 40)).astype(np.uint8)
    stack = volumes.Stack(expected.shape, expected.dtype)
    partial = tmp_path / f"unfinished{suffix}"
    volumes.begin(partial, stack)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        starts = range(0, 200, stack.slab_slices)
        done = [pool.submit(volumes.write_slab, partial, z, expected[z : z + stack.slab_slices]) for z in starts]
        assert [task.result() for task in done] == [None] * len(starts)
    np.testing.assert_array_equal(volumes.open(volumes.finish(partial, tmp_path / f"v{suffix}"))[:], expected)


@pytest.mark.parametrize("suffix", [".ome.zarr", ".h5"])
def test_a_volume_with_a_missing_slab_is_neither_finished_nor_opened(tmp_path, suffix):
    stack = volumes.Stack((70, 20, 30), np.dtype(np.uint8))
    partial = tmp_path / f"unfinished{suffix}"
    volumes.begin(partial, stack)
    volumes.write_slab(partial, 32, np.zeros((32, 20, 30), np.uint8))
    with pytest.raises(ValueError, match="incomplete"):
        volumes.finish(partial, tmp_path / f"done{suffix}")
    assert not (tmp_path / f"done{suffix}").exists()
    with pytest.raises(ValueError, match=r"incomplete|three axes"):
        volumes.open(partial, axes="ZYX")


def test_slabs_that_would_share_a_chunk_are_refused(tmp_path):
    volumes.begin(tmp_path / "v.zarr", volumes.Stack((70, 20, 30), np.dtype(np.uint8)))
    for z, n_slices in ((5, 32), (0, 20)):
        with pytest.raises(ValueError, match="slabs of whole chunks, 32 slices"):
            volumes.write_slab(tmp_path / "v.zarr", z, np.zeros((n_slices, 20, 30), np.uint8))


FULL_DISK = """
import resource, signal, sys
import numpy as np
from alsiseg import volumes
grey = np.random.default_rng(0).integers(0, 60_000, (64, 100, 100)).astype(np.uint16)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    volumes.write(sys.argv[1], grey)
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="no limit on the size of files here")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_disk_that_takes_no_more_is_named_and_leaves_nothing(tmp_path, suffix):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / f"v{suffix}")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"v{suffix}" in ended.stdout
    assert "disk" in ended.stdout
    assert len(ended.stdout.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("array", "options", "kind", "sentence"),
    [
        (np.zeros((4, 5), np.uint8), {}, ValueError, "three axes"),
        (np.zeros((0, 4, 5), np.uint8), {}, ValueError, "at least one voxel"),
        (np.zeros((3, 4, 5), np.complex64), {}, TypeError, "one of int8, uint8.*got complex64"),
        (np.zeros((3, 4, 5), np.int64), {}, TypeError, "got int64"),
        (np.zeros((3, 4, 5), np.float32), {"labels": True}, TypeError, "labels are whole numbers"),
        (np.zeros((3, 4, 5), np.uint8), {"voxel_size_um": 0.0}, ValueError, "voxel size"),
        (np.zeros((3, 4, 5), np.uint8), {"voxel_size_um": float("nan")}, ValueError, "voxel size"),
        (iter(np.zeros((3, 4, 5), np.uint8)), {}, ValueError, "shape and dtype"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path, array, options, kind, sentence):
    with pytest.raises(kind, match=sentence):
        volumes.write(tmp_path / "new" / "v.tif", array, **options)
    with pytest.raises(ValueError, match="a volume is written as"):
        volumes.write(tmp_path / "new" / "v.npy", np.zeros((3, 4, 5), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_unwritable_place_is_named_and_left_as_it_was(tmp_path, grey_zyx, suffix):
    (tmp_path / "file").write_text("kept")
    (tmp_path / f"folder{suffix}").mkdir()
    names = (f"file/v{suffix}", f"file/deep/v{suffix}", f"folder{suffix}")
    for path in (tmp_path / name for name in names):
        with pytest.raises(OSError, match=r"needs a (place to write|free name)") as refusal:
            volumes.write(path, grey_zyx)
        assert str(path) in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", f"folder{suffix}"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may write everywhere")
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_folder_without_permission_is_named(tmp_path, grey_zyx, suffix):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="needs a place to write"):
        volumes.write(tmp_path / f"v{suffix}", grey_zyx)
    assert list(tmp_path.iterdir()) == []


IMAGEJ = Path("/usr/share/java/ij.jar")  # where Debian's package puts it
MACRO = """
open(getArgument());
getVoxelSize(width, height, depth, unit);
setSlice(3);
print("found", nSlices, getWidth(), getHeight(), width, depth, unit, getPixel(4, 5));
"""


@pytest.mark.skipif(
    not (IMAGEJ.exists() and shutil.which("java") and shutil.which("xvfb-run")),
    reason="needs ImageJ, Java and a virtual screen",  # without a screen, its macros open nothing
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_imagej_reads_voxels_and_their_size(tmp_path, grey_zyx, dtype):
    expected = (grey_zyx % 250).astype(dtype)
    path = volumes.write(tmp_path / "v.tif", expected, voxel_size_um=1.25)
    (tmp_path / "look.ijm").write_text(MACRO)
    command = ["xvfb-run", "-a", "java", "-jar", str(IMAGEJ), "-batch", str(tmp_path / "look.ijm"), str(path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    found = next(line for line in said.splitlines() if line.startswith("found")).split()[1:]
    assert [int(n) for n in found[:3]] == [7, 11, 9]
    assert [float(edge) for edge in found[3:5]] == [1.25, 1.25]
    assert found[5] in ("um", "µm", "micron", "microns")
    assert float(found[6]) == expected[2, 5, 4]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_a_stopped_write_leaves_nothing_or_the_previous_volume(tmp_path, grey_zyx, stop, suffix):
    def slices():
        yield grey_zyx[0]
        raise stop

    before = volumes.write(tmp_path / f"v{suffix}", grey_zyx)
    with pytest.raises(stop):
        volumes.write(before, slices(), shape=SHAPE_ZYX, dtype=np.uint16, overwrite=True)
    np.testing.assert_array_equal(volumes.open(before)[:], grey_zyx)
    with pytest.raises(stop):
        volumes.write(tmp_path / "a" / "b" / f"v{suffix}", slices(), shape=SHAPE_ZYX, dtype=np.uint16)
    assert list(tmp_path.iterdir()) == [before]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("slices", "sentence"),
    [
        (3, "needs 7 slices, got 3"),
        (8, "needs 7 slices, got slice 8"),
        ("narrow", r"needs slices of \(9, 11\), got \(9, 10\)"),
        ("float", "needs slices of uint16, got float64"),
        ("row", "needs slices of"),
        ("array", "needs an array of the shape"),
    ],
)
def test_slices_that_do_not_fit_leave_nothing(tmp_path, grey_zyx, suffix, slices, sentence):
    given = {
        3: iter(grey_zyx[:3]),
        8: iter([*grey_zyx, grey_zyx[0]]),
        "narrow": iter(grey_zyx[:, :, :10]),
        "float": iter(grey_zyx.astype(float)),
        "row": iter(grey_zyx[0]),
        "array": grey_zyx[:5],
    }
    with pytest.raises((ValueError, TypeError), match=sentence):
        volumes.write(tmp_path / f"v{suffix}", given[slices], shape=SHAPE_ZYX, dtype=np.uint16)
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_under_its_name_only_when_whole(tmp_path):
    with volumes.written_whole(tmp_path / "n" / "x.json") as partial:
        partial.write_text("{}")
        assert not (tmp_path / "n" / "x.json").exists()
        assert partial.parent == tmp_path / "n"
    assert [path.name for path in (tmp_path / "n").iterdir()] == ["x.json"]


def test_slabs_of_an_unfinished_zarr_are_read_back_and_kept(tmp_path):
    expected = np.random.default_rng(0).integers(0, 3, (300, 20, 30)).astype(np.uint8)
    stack = volumes.Stack(expected.shape, expected.dtype, 1.5, labels=True)
    partial = tmp_path / "unfinished.zarr"
    volumes.begin(partial, stack, keep=True)
    volumes.write_slab(partial, 32, expected[32:64], flushed=True)
    volumes.begin(partial, stack, keep=True)
    np.testing.assert_array_equal(volumes.read_slab(partial, range(32, 64)), expected[32:64])
    with pytest.raises(ValueError, match=r"lacks 0/c/2/0/0; write that slab again"):
        volumes.read_slab(partial, range(60, 70))
    for z in range(0, 300, 32):
        volumes.write_slab(partial, z, expected[z : z + 32])
    whole = volumes.write(tmp_path / "whole.zarr", expected, voxel_size_um=1.5, labels=True)
    finished = volumes.finish(partial, tmp_path / "finished.zarr")
    shutil.copytree(finished, partial)
    volumes.begin(partial, stack, keep=True)
    assert not (partial / "1").exists()
    finished = volumes.finish(partial, tmp_path / "finished.zarr")
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file())
    assert all((whole / path).read_bytes() == (finished / path).read_bytes() for path in files)
    chunk = finished / "0" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match="damaged"):
        volumes.read_slab(finished, range(32, 64))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_flushed_slab_is_the_same(tmp_path, grey_zyx, suffix):
    partial = tmp_path / f"unfinished{suffix}"
    volumes.begin(partial, volumes.Stack(grey_zyx.shape, grey_zyx.dtype))
    volumes.write_slab(partial, 0, grey_zyx, flushed=True)
    np.testing.assert_array_equal(volumes.open(volumes.finish(partial, tmp_path / f"v{suffix}"))[:], grey_zyx)
