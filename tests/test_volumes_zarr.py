"""OME-Zarr and plain zarr: level 0 with its axes and units; pyramids that keep labels and means."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from alsiseg import volumes
from alsiseg.volumes import zarr_writing

SHAPE_ZYX = (7, 9, 11)
GREY_ZYX: NDArray[np.uint16] = np.random.default_rng(0).integers(0, 60_000, SHAPE_ZYX).astype(np.uint16)
V2_KEYS = {"name": "v2", "separator": "/"}


def image(
    path: Path, array: NDArray, axes: str = "zyx", *, version: str = "0.5", unit: str | None = "micrometer", scale=0.5
) -> Path:
    """Write an OME-Zarr image of one level by hand, as the specification says."""
    v2 = version == "0.4"
    group = zarr.create_group(path, zarr_format=2 if v2 else 3)
    keys = {"chunk_key_encoding": V2_KEYS} if v2 else {"dimension_names": list(axes)}
    chunks = tuple(min(4, n) for n in array.shape)
    level = group.create_array("s0", shape=array.shape, dtype=array.dtype, chunks=chunks, **keys)
    level[...] = array
    described = {
        "axes": [{"name": a, "type": "space"} | ({"unit": unit} if unit and a in "zyx" else {}) for a in axes],
        "datasets": [
            {
                "path": "s0",
                "coordinateTransformations": [{"type": "scale", "scale": [scale if a in "zyx" else 1 for a in axes]}],
            }
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [2.0 if a in "zyx" else 1 for a in axes]}],
    }
    group.attrs.update(
        {"multiscales": [described | {"version": "0.4"}]}
        if v2
        else {"ome": {"version": version, "multiscales": [described]}}
    )
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("unit", "size_um"), [("micrometer", 1.0), ("nanometer", 1e-3), ("millimeter", 1e3), (None, None), ("parsec", None)]
)
def test_level_0_is_opened_with_scales_and_units_in_micrometres(tmp_path, version, unit, size_um):
    volume = volumes.open(image(tmp_path / "v.ome.zarr", GREY_ZYX, version=version, unit=unit))
    assert volume.voxel_size_um == (None if size_um is None else pytest.approx(size_um))
    assert (volume.shape, volume.dtype, volume.chunks) == (SHAPE_ZYX, np.uint16, (4, 4, 4))
    np.testing.assert_array_equal(volume[:], GREY_ZYX)
    np.testing.assert_array_equal(volume[5:1:-2, 3], GREY_ZYX[5:1:-2, 3])


def test_single_times_and_channels_are_dropped_and_axes_brought_into_order(tmp_path):
    volume = volumes.open(image(tmp_path / "v.zarr", GREY_ZYX.transpose(2, 0, 1)[None, :, None], "txczy"))
    assert volume.chunks == (4, 4, 4)
    np.testing.assert_array_equal(volume[:], GREY_ZYX)
    np.testing.assert_array_equal(volume[2:4, 1:], GREY_ZYX[2:4, 1:])


@pytest.mark.parametrize(("axes", "sentence"), [("czyx", "CZYX with shape"), ("tzyx", "one channel and one time")])
def test_several_channels_or_times_are_refused_by_name(tmp_path, axes, sentence):
    with pytest.raises(ValueError, match=sentence):
        volumes.open(image(tmp_path / "v.zarr", np.stack([GREY_ZYX] * 2), axes))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_plain_array_is_asked_for_its_axes(tmp_path, zarr_format):
    array = zarr.create_array(
        tmp_path / "v.zarr", shape=SHAPE_ZYX, dtype=">u2", chunks=(3, 9, 11), zarr_format=zarr_format
    )
    array[:] = GREY_ZYX
    with pytest.raises(ValueError, match="does not state which of its axes"):
        volumes.open(tmp_path / "v.zarr")
    volume = volumes.open(tmp_path / "v.zarr", axes="XYZ", voxel_size_um=2.0)
    assert volume.voxel_size_um == 2.0
    np.testing.assert_array_equal(volume[:], GREY_ZYX.transpose(2, 1, 0))
    np.testing.assert_array_equal(volume[4:6], GREY_ZYX.transpose(2, 1, 0)[4:6])
    assert volume[4:6].dtype.isnative


def test_dimension_names_of_zarr_3_are_axes(tmp_path):
    zarr.create_array(tmp_path / "v.zarr", data=GREY_ZYX, dimension_names=["y", "x", "z"])
    np.testing.assert_array_equal(volumes.open(tmp_path / "v.zarr")[:], GREY_ZYX.transpose(2, 0, 1))
    with pytest.raises(ValueError, match="states its axes as YXZ"):
        volumes.open(tmp_path / "v.zarr", axes="ZYX")


def test_an_array_in_shards_is_read(tmp_path):
    options = {"shards": (4, 8, 12), "chunks": (2, 4, 4), "dimension_names": ["z", "y", "x"]}
    zarr.create_array(tmp_path / "v.zarr", shape=SHAPE_ZYX, dtype="u2", **options)[:] = GREY_ZYX
    volume = volumes.open(tmp_path / "v.zarr")
    np.testing.assert_array_equal(volume[1:6], GREY_ZYX[1:6])
    np.testing.assert_array_equal(list(volume), GREY_ZYX)


def test_several_images_are_listed_and_one_is_chosen(tmp_path):
    group = zarr.create_group(tmp_path / "many.zarr")
    group.create_array("plain", data=GREY_ZYX)
    image(tmp_path / "many.zarr" / "scan", GREY_ZYX + 1)
    with pytest.raises(ValueError, match=r"by dataset.*plain \(7, 9, 11\) uint16; scan \(image 0\)"):
        volumes.open(tmp_path / "many.zarr")
    np.testing.assert_array_equal(volumes.open(tmp_path / "many.zarr", dataset="scan")[:], GREY_ZYX + 1)
    np.testing.assert_array_equal(volumes.open(tmp_path / "many.zarr", dataset="plain", axes="ZYX")[:], GREY_ZYX)
    np.testing.assert_array_equal(volumes.open(tmp_path / "many.zarr" / "scan")[:], GREY_ZYX + 1)
    with pytest.raises(ValueError, match="no array or image 'other'; its own are: plain"):
        volumes.open(tmp_path / "many.zarr", dataset="other")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m["axes"].pop(), "do not fit the shape"),
        (lambda m: m["datasets"][0].update(path="s9"), "damaged or not a zarr folder"),
        (lambda m: m["datasets"].clear(), "damaged or not a zarr folder"),
        (lambda m: m.update(axes=["z", "y", "x"]), None),
        (lambda m: m.update(axes=["z", "y", "y"]), "do not fit the shape"),
        (lambda m: m["coordinateTransformations"][0].update(scale=[2.0, 2.0, 3.0]), "cubic voxels"),
        (lambda m: m["coordinateTransformations"][0].update(scale=[0.0, 0.0, 0.0]), "above 0 um"),
        (lambda m: m["coordinateTransformations"][0].update(scale="a"), "damaged or not a zarr folder"),
    ],
)
def test_metadata_that_contradict_the_array_are_refused(tmp_path, change, sentence):
    path = image(tmp_path / "v.zarr", GREY_ZYX)
    described = json.loads((path / "zarr.json").read_text())
    change(described["attributes"]["ome"]["multiscales"][0])
    (path / "zarr.json").write_text(json.dumps(described))
    if sentence is None:
        assert volumes.open(path).voxel_size_um is None
    else:
        with pytest.raises(ValueError, match=sentence):
            volumes.open(path)


def test_missing_chunks_are_damage_where_they_cannot_be_zeros(tmp_path):
    ours = volumes.write(tmp_path / "ours.zarr", np.zeros((70, 20, 30), np.uint8))
    assert volumes.open(ours)[:].max() == 0
    (ours / "0" / "c" / "1" / "0" / "0").unlink()
    with pytest.raises(ValueError, match="incomplete: 1 of its chunks are missing"):
        volumes.open(ours)
    theirs = image(tmp_path / "theirs.zarr", GREY_ZYX)
    shutil.rmtree(theirs / "s0" / "c")
    with pytest.raises(ValueError, match="chunks are missing"):
        volumes.open(theirs)


def test_a_changed_byte_in_a_chunk_is_found(tmp_path):
    path = volumes.write(tmp_path / "v.zarr", GREY_ZYX)
    chunk = path / "0" / "c" / "0" / "0" / "0"
    whole = chunk.read_bytes()
    for at in range(0, len(whole), 97):
        chunk.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"v\.zarr.*damaged"):
            volumes.open(path)[:]


def test_what_is_written_says_axes_units_scales_and_phases(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (40, 300, 520)).astype(np.uint8)
    path = volumes.write(tmp_path / "v.ome.zarr", labels, voxel_size_um=1.2, labels=True)
    described = json.loads((path / "zarr.json").read_text())["attributes"]
    assert set(described) == {"ome"}
    (scales,) = described["ome"]["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == ["z", "y", "x"]
    assert {axis["unit"] for axis in scales["axes"]} == {"micrometer"}
    transformations = [level["coordinateTransformations"] for level in scales["datasets"]]
    assert [t[0]["scale"] for t in transformations] == [[1.2] * 3, [2.4] * 3, [4.8] * 3]
    assert [t[1]["translation"][0] for t in transformations] == pytest.approx([0.0, 0.6, 1.8])
    assert [c["label-value"] for c in described["ome"]["image-label"]["colors"]] == [0, 1, 2]
    shapes = [zarr.open(path / level["path"]).shape for level in scales["datasets"]]
    assert shapes == [(40, 300, 520), (20, 150, 260), (10, 75, 130)]
    grey = json.loads((volumes.write(path, labels, overwrite=True) / "zarr.json").read_text())["attributes"]["ome"]
    assert "image-label" not in grey
    assert "unit" not in grey["multiscales"][0]["axes"][0]


def test_every_level_holds_the_most_frequent_label_or_the_mean_of_the_level_below(tmp_path):
    """Compared with a slow and obvious count, over odd sizes and several chunks."""
    labels = np.random.default_rng(1).integers(0, 3, (5, 7, 517)).astype(np.uint8)
    levels = zarr.open(volumes.write(tmp_path / "l.zarr", labels, labels=True))
    means = zarr.open(volumes.write(tmp_path / "g.zarr", labels * 80))
    coarse, mean = levels["1"][:], means["1"][:]
    assert coarse.shape == (3, 4, 259)
    for z, y, x in np.ndindex(3, 4, 259):
        cube = labels[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        votes = Counter(cube.ravel().tolist())
        assert votes[int(coarse[z, y, x])] == max(votes.values())
        assert coarse[z, y, x] == min(label for label, n in votes.items() if n == max(votes.values()))
        assert mean[z, y, x] == np.rint(80 * cube.mean())


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "uint32", "int32"])
def test_labels_of_every_type_are_elected_to_their_limits(dtype):
    limits = np.iinfo(dtype)
    octets = [np.array([limits.max, limits.min, limits.max], dtype)] * 4
    others = [np.array([limits.min, limits.min, value], dtype) for value in (0, 0, 1, 0)]
    expected = [limits.min, limits.min, limits.max]
    np.testing.assert_array_equal(zarr_writing.most_frequent(octets + others), np.array(expected, dtype))


def test_napari_opens_the_pyramid(tmp_path):
    reader = pytest.importorskip("napari_builtins.io._read", reason="napari is not installed", exc_type=ImportError)
    labels = np.random.default_rng(0).integers(0, 3, (20, 300, 40)).astype(np.uint8)
    levels, shape = reader.read_zarr_dataset(str(volumes.write(tmp_path / "v.ome.zarr", labels, labels=True)))
    assert shape == labels.shape
    assert [level.shape for level in levels] == [(20, 300, 40), (10, 150, 20)]
    np.testing.assert_array_equal(np.asarray(levels[0]), labels)


def test_another_folder_is_never_replaced(tmp_path):
    (tmp_path / "v.zarr").mkdir()
    (tmp_path / "v.zarr" / "diary.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="found something else"):
        volumes.write(tmp_path / "v.zarr", GREY_ZYX)
    assert (tmp_path / "v.zarr" / "diary.txt").read_text() == "kept"
