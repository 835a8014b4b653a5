"""HDF5 and NeXus: the data set is found or asked for, never guessed."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from alsiseg import volumes

SHAPE_ZYX = (7, 9, 11)
GREY_ZYX: NDArray[np.uint16] = np.random.default_rng(0).integers(0, 60_000, SHAPE_ZYX).astype(np.uint16)


def nexus(path: Path, *, units: str = "um", step: float = 1.5, axes: tuple[str, ...] = ("z", "y", "x")) -> Path:
    """Write a NeXus file as a beamline does: an entry, its data, flat fields beside them."""
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "recon"})
        data = entry.create_group("recon")
        data.attrs.update({"NX_class": "NXdata", "signal": "volume", "axes": axes})
        data["volume"] = GREY_ZYX
        for axis, name in enumerate(axes):
            data[name] = np.arange(GREY_ZYX.shape[axis]) * step
            data[name].attrs["units"] = units
        entry["instrument/flat"] = np.ones((3, 9, 11), np.uint16)
    return path


@pytest.mark.parametrize(("units", "step", "size_um"), [("um", 1.5, 1.5), ("mm", 0.65e-3, 0.65), ("pixels", 1, None)])
def test_the_default_signal_of_nexus_is_opened_with_its_voxel_size(tmp_path, units, step, size_um):
    volume = volumes.open(nexus(tmp_path / "scan.nxs", units=units, step=step))
    assert volume.shape == SHAPE_ZYX
    assert volume.voxel_size_um == (None if size_um is None else pytest.approx(size_um))
    np.testing.assert_array_equal(volume[:], GREY_ZYX)


def test_axes_named_voxel_x_are_brought_into_order(tmp_path):
    volume = volumes.open(nexus(tmp_path / "v.nxs", axes=("voxel_x", "voxel_z", "voxel_y")))
    np.testing.assert_array_equal(volume[:], GREY_ZYX.transpose(1, 2, 0))
    np.testing.assert_array_equal(volume[8:2:-2], GREY_ZYX.transpose(1, 2, 0)[8:2:-2])


def test_axes_of_other_names_are_asked_for(tmp_path):
    path = nexus(tmp_path / "v.nxs", axes=("angle", "row", "column"))
    with pytest.raises(ValueError, match="does not state which of its axes"):
        volumes.open(path)
    np.testing.assert_array_equal(volumes.open(path, axes="YZX")[:], GREY_ZYX.transpose(1, 0, 2))


def test_the_only_volume_is_found_and_its_axes_are_asked_for(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a/deep/volume"] = GREY_ZYX
        file["a/spectrum"] = np.zeros(9)
        file["a/image"] = np.zeros((9, 9))
    with pytest.raises(ValueError, match=r"v\.h5/a/deep/volume does not state"):
        volumes.open(tmp_path / "v.h5")
    np.testing.assert_array_equal(volumes.open(tmp_path / "v.h5", axes="ZYX")[:], GREY_ZYX)


def test_several_volumes_are_listed_and_one_is_chosen(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["raw/one"] = GREY_ZYX
        file["raw/two"] = GREY_ZYX + 1
    with pytest.raises(ValueError, match=r"by dataset.*/raw/one \(7, 9, 11\) uint16; /raw/two"):
        volumes.open(tmp_path / "v.h5", axes="ZYX")
    np.testing.assert_array_equal(volumes.open(tmp_path / "v.h5", axes="ZYX", dataset="raw/two")[:], GREY_ZYX + 1)
    with pytest.raises(ValueError, match="no data set 'three'; its three-dimensional ones are: /raw/one, /raw/two"):
        volumes.open(tmp_path / "v.h5", dataset="three")
    with pytest.raises(ValueError, match="is a group"):
        volumes.open(tmp_path / "v.h5", dataset="raw")


@pytest.mark.parametrize("described", ["dimension labels", "old NeXus", "element size"])
def test_other_ways_to_state_axes_and_sizes_are_read(tmp_path, described):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        array = file.create_dataset("volume", data=GREY_ZYX)
        if described == "old NeXus":
            array.attrs.update({"signal": 1, "axes": "z:y:x"})
        else:
            for axis, name in enumerate("zyx"):
                array.dims[axis].label = name
        if described == "element size":
            array.attrs["element_size_um"] = [0.5, 0.5, 0.5]
    volume = volumes.open(tmp_path / "v.h5")
    np.testing.assert_array_equal(volume[:], GREY_ZYX)
    assert volume.voxel_size_um == (0.5 if described == "element size" else None)


@pytest.mark.parametrize("options", [{"dtype": ">u2"}, {"chunks": (2, 4, 5), "compression": "lzf"}, {"dtype": ">f4"}])
def test_either_byte_order_and_any_chunks_are_read(tmp_path, options):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("volume", data=GREY_ZYX, **options)
    volume = volumes.open(tmp_path / "v.h5", axes="ZYX")
    assert volume.dtype.isnative
    assert volume.chunks == options.get("chunks")
    np.testing.assert_array_equal(volume[3:6], GREY_ZYX[3:6])


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((5, 6)), "needs a three-dimensional data set, found none"),
        (np.zeros((5, 6, 7, 2)), "needs a three-dimensional data set, found none"),
        (np.zeros((5, 6, 7), "S3"), "found none"),
        (np.zeros((5, 6, 7), np.int64), "holds int64"),
        (np.zeros((0, 6, 7), np.uint8), "at least one voxel"),
    ],
)
def test_what_is_no_volume_of_grey_is_refused(tmp_path, array, sentence):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["array"] = array
    with pytest.raises((ValueError, TypeError), match=sentence):
        volumes.open(tmp_path / "v.h5", axes="ZYX")


@pytest.mark.parametrize(
    ("shape", "sentence"), [((5, 6, 7, 3), "RGB"), ((5, 6, 7, 2), "three axes"), ((5, 6), "stack")]
)
def test_a_data_set_that_was_asked_for_says_what_it_is(tmp_path, shape, sentence):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["array"] = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=sentence):
        volumes.open(tmp_path / "v.h5", dataset="array")


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 9, 11)}])
def test_what_was_never_written_is_refused_not_read_as_zeros(tmp_path, options):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        array = file.create_dataset("scan", SHAPE_ZYX, np.uint16, **options)
        if options:
            array[:4] = 1
    with pytest.raises(ValueError, match=r"never written|incomplete: 2 of 4 chunks"):
        volumes.open(tmp_path / "v.h5", axes="ZYX")


def test_a_virtual_data_set_needs_its_files(tmp_path):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["data"] = GREY_ZYX
    layout = h5py.VirtualLayout(SHAPE_ZYX, np.uint16)
    layout[:] = h5py.VirtualSource("part.h5", "data", SHAPE_ZYX)
    with h5py.File(tmp_path / "v.nxs", "w") as file:
        file.create_virtual_dataset("scan", layout)
    np.testing.assert_array_equal(volumes.open(tmp_path / "v.nxs", axes="ZYX")[:], GREY_ZYX)
    (tmp_path / "part.h5").unlink()
    with pytest.raises(ValueError, match=r"from part\.h5, which is missing"):
        volumes.open(tmp_path / "v.nxs", axes="ZYX")


def test_a_default_that_leads_nowhere_is_damage(tmp_path):
    with h5py.File(tmp_path / "v.nxs", "w") as file:
        file.attrs["default"] = "gone"
        file["gone"] = h5py.ExternalLink("missing.h5", "/entry")
        file["volume"] = GREY_ZYX
    with pytest.raises(ValueError, match=r"v\.nxs"):
        volumes.open(tmp_path / "v.nxs", axes="ZYX")
    np.testing.assert_array_equal(volumes.open(tmp_path / "v.nxs", axes="ZYX", dataset="volume")[:], GREY_ZYX)


def test_what_is_written_is_nexus_with_voxels_in_micrometres(tmp_path):
    volumes.write(tmp_path / "v.h5", GREY_ZYX, voxel_size_um=1.2)
    with h5py.File(tmp_path / "v.h5") as file:
        data = file[file.attrs["default"]][file["entry"].attrs["default"]]
        assert data.attrs["NX_class"] == b"NXdata"
        assert list(data.attrs["axes"]) == [b"z", b"y", b"x"]
        assert data["y"].attrs["units"] == b"um"
        np.testing.assert_allclose(data["y"][:], np.arange(9) * 1.2)
        assert list(data["data"].attrs["element_size_um"]) == [1.2, 1.2, 1.2]
        assert data["data"].fletcher32
        assert data["data"].compression == "gzip"


def test_labels_are_compressed(tmp_path):
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[:, 20:40] = 1
    assert volumes.write(tmp_path / "v.h5", labels, labels=True).stat().st_size < labels.nbytes / 10


@pytest.mark.parametrize("package", ["h5py", "zarr"])
def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch, package):
    path = volumes.write(tmp_path / ("v.h5" if package == "h5py" else "v.zarr"), GREY_ZYX)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"needs the package {package}, which is not installed"):
        volumes.open(path)
    with pytest.raises(ValueError, match=f"needs the package {package}, which is not installed"):
        volumes.check_output(path)
