"""Which format a file has: by its name, checked by its first bytes, or bare voxels as they are said to be."""

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from alsiseg import volumes

SHAPE_ZYX = (7, 9, 11)


@pytest.fixture
def grey_zyx() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 60_000, SHAPE_ZYX).astype(np.uint16)


@pytest.mark.parametrize(
    ("content", "name", "sentence"),
    [
        ("v.tif", "x.h5", r"needs HDF5, as the name says.*holds TIFF; rename it to end in \.tif"),
        ("v.h5", "x.tif", r"needs TIFF, as the name says.*holds HDF5; rename it to end in \.h5"),
        (b"\x89PNG\r\n\x1a\n....", "x.tif", "holds PNG; convert it"),
        (b"PK\3\4........", "x.h5", "holds ZIP"),
        ("v.tif", "x.dat", "named like none; bare voxels need shape_zyx and dtype"),
        ("v.tif", "x.zarr", "is a file, and zarr a folder"),
        (b"", "x.h5", "needs a readable HDF5 file"),
        (b"", "x.tif", "needs a readable TIFF"),
    ],
)
def test_a_file_named_like_another_format_is_refused(tmp_path, grey_zyx, content, name, sentence):
    if isinstance(content, str):
        content = volumes.write(tmp_path / content, grey_zyx).read_bytes()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        volumes.open(tmp_path / name)


def test_a_folder_named_zarr_that_is_none_is_refused(tmp_path, grey_zyx):
    (tmp_path / "v.zarr").mkdir()
    tifffile.imwrite(tmp_path / "v.zarr" / "1.tif", grey_zyx[0])
    with pytest.raises(ValueError, match=r"needs a zarr folder.*holds no zarr\.json"):
        volumes.open(tmp_path / "v.zarr")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dataset": "a"}, "dataset names a part of an HDF5 or zarr volume"),
        ({"shape_zyx": SHAPE_ZYX}, "needs shape_zyx and dtype"),
        ({"dtype": "uint16"}, "needs shape_zyx and dtype"),
    ],
)
def test_options_of_other_formats_are_refused(tmp_path, grey_zyx, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        volumes.open(volumes.write(tmp_path / "v.tif", grey_zyx), **options)


@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">u2", "<i4", ">f4", "<f8"])
@pytest.mark.parametrize("offset", [0, 13])
def test_bare_voxels_are_read_as_they_are_said_to_be(tmp_path, grey_zyx, dtype, offset):
    expected = (grey_zyx % 200).astype(dtype)
    (tmp_path / "v.raw").write_bytes(b"#" * offset + expected.tobytes())
    options = {"shape_zyx": SHAPE_ZYX, "dtype": dtype, "offset_bytes": offset, "voxel_size_um": 0.5}
    volume = volumes.open(tmp_path / "v.raw", **options)
    assert (volume.shape, volume.voxel_size_um, volume.dtype.isnative) == (SHAPE_ZYX, 0.5, True)
    np.testing.assert_array_equal(volume[:], expected)
    np.testing.assert_array_equal(volume[5:1:-2, 3], expected[5:1:-2, 3])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shape_zyx": (7, 9, 12)}, "has 1386 bytes, but .* need 1512"),
        ({"shape_zyx": (7, 9, 10)}, "need 1260"),
        ({"dtype": "float32"}, "need 2772"),
        ({"offset_bytes": 2}, "need 1388"),
        ({"dtype": "voxels"}, "dtype must name a type of voxel"),
        ({"dtype": "int64"}, "holds int64"),
        ({"shape_zyx": (7, 99)}, "three sizes z, y, x"),
        ({"shape_zyx": (0, 9, 11)}, "three sizes z, y, x"),
        ({"axes": "XYZ"}, "states its axes as ZYX"),
    ],
)
def test_bare_voxels_that_do_not_account_for_every_byte_are_refused(tmp_path, grey_zyx, options, sentence):
    (tmp_path / "v.raw").write_bytes(grey_zyx.tobytes())
    with pytest.raises((ValueError, TypeError), match=sentence):
        volumes.open(tmp_path / "v.raw", **{"shape_zyx": SHAPE_ZYX, "dtype": "uint16"} | options)
