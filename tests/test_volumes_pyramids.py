"""The resolutions that a file holds, box by box."""

import numpy as np
import pytest
import zarr

from alsiseg import volumes

GREY = np.random.default_rng(0).integers(0, 60_000, (20, 30, 600)).astype(np.uint16)


@pytest.mark.parametrize("name", ["grey.tif", "grey.h5"])
def test_a_file_without_a_pyramid_has_one_level(tmp_path, name):
    (level,) = volumes.levels(volumes.open(volumes.write(tmp_path / name, GREY)))
    assert (level.shape, level.dtype) == (GREY.shape, GREY.dtype)
    box = np.s_[3:5, 10:30, 7:9]
    np.testing.assert_array_equal(level.read(*box), GREY[box])


def test_every_level_of_an_ome_zarr_is_found_with_its_chunks(tmp_path):
    path = volumes.write(tmp_path / "grey.zarr", GREY)
    levels = volumes.levels(volumes.open(path))
    group = zarr.open_group(path, mode="r")
    assert len(levels) == len([name for name, _ in group.arrays()]) > 1
    for number, level in enumerate(levels):
        array = group[str(number)]
        assert (level.shape, level.chunks) == (array.shape, array.chunks)
        box = np.s_[1:4, 2:30, 5:60]
        np.testing.assert_array_equal(level.read(*box), array[box])


def test_the_axes_of_the_levels_are_those_of_the_volume(tmp_path):
    group = zarr.create_group(tmp_path / "other.zarr", zarr_format=3)
    for name, step in (("full", 1), ("half", 2)):
        part = GREY[::step, ::step, ::step].transpose(2, 1, 0)[None]  # c, x, y, z
        group.create_array(name, shape=part.shape, dtype=part.dtype, chunks=(1, 16, 16, 16))[...] = part
    axes = [{"name": name, "type": "channel" if name == "c" else "space"} for name in "cxyz"]
    datasets = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": [1, step, step, step]}]}
        for name, step in (("full", 1), ("half", 2))
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    full, half = volumes.levels(volumes.open(tmp_path / "other.zarr"))
    np.testing.assert_array_equal(full.read(slice(2, 4), slice(0, 9), slice(3, 5)), GREY[2:4, 0:9, 3:5])
    assert half.shape == (10, 15, 300)
    np.testing.assert_array_equal(half.read(*(slice(None),) * 3), GREY[::2, ::2, ::2])


def test_a_lost_level_is_told_when_it_is_looked_for(tmp_path):
    import shutil

    path = volumes.write(tmp_path / "grey.zarr", GREY)
    shutil.rmtree(path / "1")
    volume = volumes.open(path)  # level 0 is whole
    with pytest.raises(ValueError, match=r"grey\.zarr"):
        volumes.levels(volume)
