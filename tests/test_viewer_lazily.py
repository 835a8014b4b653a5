"""Volumes as napari shows them: several resolutions, read block by block."""

import numpy as np
import pytest

from alsiseg import volumes
from alsiseg.viewer import lazily
from alsiseg.volumes import Volume

pytest.importorskip("dask.array")
GREY = np.random.default_rng(0).integers(0, 60_000, (20, 70, 90)).astype(np.uint16)


@pytest.fixture
def counted(monkeypatch):
    """Count the slices that are read from files without chunks."""
    read, whole = [], Volume.__getitem__

    def counting(volume, key):
        found = whole(volume, key)
        read.append(found.shape[0])
        return found

    monkeypatch.setattr(Volume, "__getitem__", counting)
    return read


@pytest.mark.parametrize("name", ["grey.tif", "grey.h5", "grey.zarr"])
@pytest.mark.parametrize("key", [np.s_[3], np.s_[:, 5], np.s_[..., 7], np.s_[2:9:3, 10:, ::4]])
def test_a_part_of_a_file_is_that_of_its_array(tmp_path, name, key):
    (finest,) = lazily.resolutions(volumes.open(volumes.write(tmp_path / name, GREY)))
    assert (finest.shape, finest.dtype) == (GREY.shape, GREY.dtype)
    np.testing.assert_array_equal(finest[key].compute(), GREY[key])


def test_one_slice_on_the_screen_is_one_slice_read(tmp_path, counted):
    volume = volumes.open(volumes.write(tmp_path / "grey.tif", GREY))
    (finest,) = lazily.resolutions(volume)
    assert counted == []
    np.testing.assert_array_equal(finest[4].compute(), GREY[4])
    assert counted == [1]


def test_a_large_volume_is_shown_at_coarser_resolutions_too(tmp_path, monkeypatch, counted):
    monkeypatch.setattr(lazily, "COARSEST_PX", 24)
    for volume in (GREY, volumes.open(volumes.write(tmp_path / "grey.tif", GREY))):
        levels = lazily.resolutions(volume, several=True)
        assert [level.shape for level in levels] == [(20, 70, 90), (10, 35, 45), (5, 18, 23)]
        for level, found in enumerate(levels):
            np.testing.assert_array_equal(np.asarray(found), GREY[(slice(None, None, 2**level),) * 3])
    assert sum(counted) == 20 + 10 + 5, "a coarser level reads fewer slices"


def test_labels_in_memory_stay_what_can_be_painted_on():
    labels = np.zeros((4, 5, 6), np.uint8)
    (only,) = lazily.resolutions(labels)
    assert only is labels


def test_the_pyramid_of_an_ome_zarr_is_taken_as_it_is(tmp_path):
    large = np.tile(GREY, (1, 1, 4))
    volume = volumes.open(volumes.write(tmp_path / "grey.zarr", large))
    levels = lazily.resolutions(volume, several=True)
    stored = volumes.levels(volume)
    assert [level.shape for level in levels] == [level.shape for level in stored]
    assert len(levels) > 1
    for level, on_disk in zip(levels, stored, strict=True):
        everything = on_disk.read(*(slice(0, n) for n in on_disk.shape))
        np.testing.assert_array_equal(level.compute(), everything)
    mean = large[:2, :2, :2].mean()
    assert levels[1][0, 0, 0].compute() == pytest.approx(mean, abs=1)


def test_blocks_are_whole_chunks_of_the_file_side_by_side():
    level = volumes.Level((500, 2000, 2000), np.dtype(np.uint16), (64, 64, 64), lambda *zyx: GREY)
    z, y, x = lazily.block_shape(level)
    assert (z, y % 64, x % 64) == (64, 0, 0)
    assert 2**22 <= z * y * x * 2 <= lazily.BLOCK_BYTES
    tiff = volumes.Level((500, 2000, 2000), np.dtype(np.uint16), (1, 2000, 2000), lambda *zyx: GREY)
    assert lazily.block_shape(tiff) == (1, 2000, 2000)
