from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from alsiseg import volumes

SHAPE_ZYX = (7, 9, 11)


@pytest.fixture
def grey_zyx() -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 60_000, SHAPE_ZYX).astype(np.uint16)


def write_pages(path: Path, images: NDArray, **options) -> Path:
    """Write a plain multi-page TIFF that says nothing about its axes."""
    header = {"bigtiff": options.pop("bigtiff", False), "byteorder": options.pop("byteorder", None)}
    with tifffile.TiffWriter(path, **header) as tiff:
        for image in images:
            tiff.write(image, contiguous=False, metadata=None, **options)
    return path


def write_slices(folder: Path, images: NDArray, names: list[str]) -> Path:
    folder.mkdir()
    for image, name in zip(images, names, strict=True):
        tifffile.imwrite(folder / name, image)
    return folder


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("voxel_size_um", [None, 1.2, 0.05, 3.7, 1200.0])
def test_what_is_written_is_read_again_with_its_voxel_size(tmp_path, grey_zyx, dtype, voxel_size_um):
    expected = grey_zyx.astype(dtype)
    volume = volumes.open(volumes.write(tmp_path / "new" / "v.tif", expected, voxel_size_um=voxel_size_um))
    assert (volume.shape, volume.dtype, len(volume)) == (SHAPE_ZYX, dtype, SHAPE_ZYX[0])
    assert volume.voxel_size_um == (None if voxel_size_um is None else pytest.approx(voxel_size_um, rel=1e-5))
    np.testing.assert_array_equal(np.asarray(volume), expected)


def test_a_volume_can_be_written_slice_by_slice(tmp_path, grey_zyx):
    path = volumes.write(tmp_path / "v.tif", (s for s in grey_zyx), shape=SHAPE_ZYX, dtype=np.uint16)
    np.testing.assert_array_equal(volumes.open(path)[:], grey_zyx)


def test_other_programs_see_axes_and_voxel_size(tmp_path, grey_zyx):
    volumes.write(tmp_path / "v.tif", grey_zyx, voxel_size_um=1.2)
    with tifffile.TiffFile(tmp_path / "v.tif") as tiff:
        assert tiff.series[0].axes == "ZYX"
        assert tiff.imagej_metadata is not None
        assert tiff.imagej_metadata["spacing"] == 1.2
        assert tiff.imagej_metadata["unit"] == "um"


keys = st.one_of(
    st.integers(-7, 6),
    st.slices(7),
    st.tuples(st.slices(7), st.slices(9)),
    st.tuples(st.integers(-7, 6), st.slices(9), st.slices(11)),
    st.tuples(st.slices(7), st.integers(-9, 8), st.integers(-11, 10)),
    st.just(...),
    st.just(()),
    st.just((..., 3)),
    st.just((2, ..., 3)),
)


@given(key=keys, kind=st.sampled_from(["contiguous", "pages", "folder"]))
def test_slicing_a_volume_is_slicing_its_array(tmp_path_factory, key, kind):
    expected = np.arange(np.prod(SHAPE_ZYX), dtype=np.uint16).reshape(SHAPE_ZYX)
    path = tmp_path_factory.getbasetemp() / kind
    if not path.exists() and kind == "folder":
        write_slices(path, expected, [f"s{z}.tif" for z in range(7)])
    path = path if kind == "folder" else path.with_suffix(".tif")
    if not path.exists() and kind == "contiguous":
        volumes.write(path, expected)
    if not path.exists() and kind == "pages":
        write_pages(path, expected, compression="zlib")
    volume = volumes.open(path, axes="ZYX")
    np.testing.assert_array_equal(volume[key], expected[key])


def test_a_float_is_no_slice_number_and_the_end_is_the_end(tmp_path, grey_zyx):
    volume = volumes.open(volumes.write(tmp_path / "v.tif", grey_zyx))
    with pytest.raises(TypeError):
        volume[1.5]
    with pytest.raises(IndexError):
        volume[7]
    assert sum(1 for _ in volume) == 7


def test_only_the_slices_asked_for_are_read(tmp_path, grey_zyx):
    folder = write_slices(tmp_path / "f", grey_zyx, [f"s{z}.tif" for z in range(7)])
    volume = volumes.open(folder)
    (folder / "s6.tif").unlink()
    np.testing.assert_array_equal(volume[2:4], grey_zyx[2:4])
    with pytest.raises(FileNotFoundError):
        volume[6]


def test_changing_a_slab_changes_nothing_on_disk(tmp_path, grey_zyx):
    volume = volumes.open(volumes.write(tmp_path / "v.tif", grey_zyx))
    volume[:][:] = 0
    np.testing.assert_array_equal(volume[:], grey_zyx)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"byteorder": ">"},
        {"byteorder": ">", "compression": "zlib"},
        {"bigtiff": True},
        {"rowsperstrip": 2},
        {"tile": (16, 16)},
    ],
)
def test_every_common_layout_of_pages_is_read(tmp_path, grey_zyx, options):
    volume = volumes.open(write_pages(tmp_path / "v.tif", grey_zyx, **options), axes="ZYX")
    assert volume.dtype == np.uint16
    assert volume.dtype.isnative
    np.testing.assert_array_equal(volume[:], grey_zyx)
    assert volume[2:5].dtype.isnative


@pytest.mark.parametrize("name", ["t.tif", "T.TIF", "t.tiff"])
def test_big_endian_imagej_stacks_are_read_whatever_the_suffix(tmp_path, grey_zyx, name):
    tifffile.imwrite(tmp_path / name, grey_zyx, imagej=True, byteorder=">", metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(volumes.open(tmp_path / name)[:], grey_zyx)


def test_pages_appended_one_by_one_are_one_stack(tmp_path, grey_zyx):
    with tifffile.TiffWriter(tmp_path / "v.tif") as tiff:
        for image in grey_zyx:
            tiff.write(image, contiguous=False)
    np.testing.assert_array_equal(volumes.open(tmp_path / "v.tif", axes="ZYX")[:], grey_zyx)


def test_a_plain_stack_is_asked_about(tmp_path, grey_zyx):
    path = write_pages(tmp_path / "plain.tif", grey_zyx)
    with pytest.raises(ValueError, match="does not state which of its axes") as refusal:
        volumes.open(path)
    assert "axes" in str(refusal.value)


@pytest.mark.parametrize("order", ["".join(order) for order in permutations("ZYX")])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_the_axes_given_bring_a_plain_stack_into_order(tmp_path, grey_zyx, order, compression):
    in_file = grey_zyx.transpose(["ZYX".index(axis) for axis in order])
    path = write_pages(tmp_path / "plain.tif", in_file, compression=compression)
    volume = volumes.open(path, axes=order.lower())
    assert volume.shape == SHAPE_ZYX
    np.testing.assert_array_equal(volume[:], grey_zyx)
    np.testing.assert_array_equal(volume[3, 2:5], grey_zyx[3, 2:5])


def test_axes_that_the_file_states_are_used_and_not_contradicted(tmp_path, grey_zyx):
    path = tmp_path / "v.tif"
    tifffile.imwrite(path, grey_zyx.transpose(2, 1, 0), metadata={"axes": "XYZ"}, photometric="minisblack")
    np.testing.assert_array_equal(volumes.open(path)[:], grey_zyx)
    np.testing.assert_array_equal(volumes.open(path, axes="XYZ")[:], grey_zyx)
    with pytest.raises(ValueError, match="states its axes as XYZ"):
        volumes.open(path, axes="ZYX")


@pytest.mark.parametrize("axes", ["ZY", "ZYXC", "ZZX", "abc", ""])
def test_axes_must_be_z_y_and_x(tmp_path, grey_zyx, axes):
    with pytest.raises(ValueError, match="axes must name Z, Y and X"):
        volumes.open(volumes.write(tmp_path / "v.tif", grey_zyx), axes=axes)


def test_slices_of_a_folder_are_in_natural_order(tmp_path, grey_zyx):
    names = [f"slice_{z}_8bit.tif" for z in range(6, 13)]
    folder = write_slices(tmp_path / "f", grey_zyx, names)
    (folder / "notes.txt").write_text("not a slice")
    (folder / ".slice_hidden.tif").write_text("what an operating system leaves behind")
    volume = volumes.open(folder)
    assert volume.shape == SHAPE_ZYX
    np.testing.assert_array_equal(volume[:], grey_zyx)


def test_slices_without_numbers_are_ordered_by_name(tmp_path, grey_zyx):
    folder = write_slices(tmp_path / "f", grey_zyx[:3], ["b.tif", "a.tif", "c.tif"])
    np.testing.assert_array_equal(volumes.open(folder)[:], grey_zyx[[1, 0, 2]])


def test_a_folder_knows_its_voxel_size(tmp_path, grey_zyx):
    (tmp_path / "f").mkdir()
    for z in range(3):
        tifffile.imwrite(
            tmp_path / "f" / f"{z}.tif", grey_zyx[z], imagej=True, resolution=(0.5, 0.5), metadata={"unit": "um"}
        )
    assert volumes.open(tmp_path / "f").voxel_size_um == 2.0


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["s1.tif", "s2.tif", "s4.tif"], "number 3 is missing"),
        (["s1.tif", "s01.tif", "s2.tif"], "number 1 occurs twice"),
        (["a1.tif", "b1.tif", "a2.tif"], "number 1 occurs twice"),
        (["s1.tif", "s2.tif", "overview.tif"], "named alike"),
    ],
)
def test_gaps_doubles_and_strangers_in_a_folder_are_refused(tmp_path, grey_zyx, names, sentence):
    with pytest.raises(ValueError, match=sentence):
        volumes.open(write_slices(tmp_path / "f", grey_zyx[:3], names))


@pytest.mark.parametrize("odd", [np.zeros((9, 10), np.uint16), np.zeros((9, 11), np.uint8)])
def test_a_slice_of_another_size_or_type_is_refused(tmp_path, grey_zyx, odd):
    folder = write_slices(tmp_path / "f", [*grey_zyx[:2], odd], ["1.tif", "2.tif", "3.tif"])
    with pytest.raises(ValueError, match="slices of one size and type"):
        volumes.open(folder)


def test_a_folder_of_stacks_or_colour_images_is_refused(tmp_path, grey_zyx):
    (tmp_path / "f").mkdir()
    volumes.write(tmp_path / "f" / "1.tif", grey_zyx)
    with pytest.raises(ValueError, match="one two-dimensional grey image per slice"):
        volumes.open(tmp_path / "f")
    tifffile.imwrite(tmp_path / "f" / "1.tif", np.zeros((9, 11, 3), np.uint8), photometric="rgb")
    with pytest.raises(ValueError, match="one two-dimensional grey image per slice"):
        volumes.open(tmp_path / "f")


def test_a_folder_has_its_slices_first(tmp_path, grey_zyx):
    folder = write_slices(tmp_path / "f", grey_zyx[:2], ["1.tif", "2.tif"])
    with pytest.raises(ValueError, match="states its axes as ZYX"):
        volumes.open(folder, axes="XYZ")


def _images(what: str) -> NDArray:
    return {
        "RGB": np.zeros((5, 16, 16, 3), np.uint8),
        "half": np.zeros((5, 16, 16), np.float16),
        "bool": np.zeros((5, 16, 16), bool),
        "one image": np.zeros((16, 16), np.uint16),
        "two sizes": [np.zeros((16, 16), np.uint8), np.zeros((17, 16), np.uint8)],
        "four axes": np.zeros((2, 5, 16, 16), np.uint8),
    }[what]


@pytest.mark.parametrize(
    ("what", "kind", "sentence"),
    [
        ("RGB", ValueError, "colour"),
        ("half", TypeError, "grey voxels.*float16"),
        ("bool", TypeError, "grey voxels.*bool"),
        ("one image", ValueError, "a stack of slices"),
        ("two sizes", ValueError, "one size and type"),
        ("four axes", ValueError, "three axes"),
    ],
)
def test_what_is_not_one_stack_of_grey_is_refused(tmp_path, what, kind, sentence):
    images = _images(what)
    if what == "two sizes":
        write_pages(tmp_path / "v.tif", images)
    else:
        tifffile.imwrite(tmp_path / "v.tif", images, photometric="rgb" if what == "RGB" else "minisblack")
    with pytest.raises(kind, match=sentence):
        volumes.open(tmp_path / "v.tif", axes="ZYX")


@pytest.mark.parametrize(
    ("resolution", "spacing", "unit", "expected"),
    [
        ((2.0, 2.0), 0.5, "um", 0.5),
        ((2.0, 2.0), 0.5, "\\u00B5m", 0.5),
        ((2.0, 2.0), 0.5, "micron", 0.5),
        ((1e3, 1e3), 1e-3, "mm", 1.0),
        ((0.001, 0.001), 1000.0, "nm", 1.0),
        ((2.0, 2.0), 0.5, "pixel", None),
        ((2.0, 2.0), 0.5, "", None),
    ],
)
def test_the_voxel_size_is_read_as_imagej_writes_it(tmp_path, grey_zyx, resolution, spacing, unit, expected):
    metadata = {"axes": "ZYX", "spacing": spacing, "unit": unit}
    tifffile.imwrite(tmp_path / "v.tif", grey_zyx, imagej=True, resolution=resolution, metadata=metadata)
    assert volumes.open(tmp_path / "v.tif").voxel_size_um == pytest.approx(expected)


@pytest.mark.parametrize(("resolution", "spacing"), [((1.0, 1.0), 2.0), ((1.0, 0.5), 1.0)])
def test_voxels_that_are_no_cubes_are_refused(tmp_path, grey_zyx, resolution, spacing):
    metadata = {"axes": "ZYX", "spacing": spacing, "unit": "um"}
    tifffile.imwrite(tmp_path / "v.tif", grey_zyx, imagej=True, resolution=resolution, metadata=metadata)
    with pytest.raises(ValueError, match="cubic voxels"):
        volumes.open(tmp_path / "v.tif")


def _whole_file(layout: str, path: Path, grey: NDArray[np.uint16]) -> bytes:
    if layout == "imagej":
        volumes.write(path, grey, voxel_size_um=1.2)
    elif layout == "tifffile":
        tifffile.imwrite(path, grey, metadata={"axes": "ZYX"})
    elif layout == "strips":
        tifffile.imwrite(path, grey, rowsperstrip=3, metadata={"axes": "ZYX"})
    else:
        options = {
            "pages": {},
            "compressed": {"compression": "zlib"},
            "big-endian": {"byteorder": ">"},
            "BigTIFF": {"bigtiff": True},
            "tiles": {"tile": (16, 16)},
        }
        write_pages(path, grey, **options[layout])
    return path.read_bytes()


@pytest.mark.parametrize(
    "layout", ["imagej", "tifffile", "strips", "pages", "compressed", "big-endian", "BigTIFF", "tiles"]
)
def test_a_file_cut_off_anywhere_is_refused(tmp_path, grey_zyx, layout, capfd):
    """Every cut, in steps that meet every kind of place: header, directory, voxels, last directory."""
    path = tmp_path / "cut.tif"
    whole = _whole_file(layout, path, grey_zyx)
    messages = []
    for n_bytes in [*range(0, len(whole), 29), *range(len(whole) - 20, len(whole))]:
        path.write_bytes(whole[:n_bytes])
        try:
            volume = volumes.open(path, axes="ZYX")
        except ValueError as error:
            messages.append(str(error))
        else:  # only what no voxel depends on is missing
            assert n_bytes > len(whole) - 50
            np.testing.assert_array_equal(volume[:], grey_zyx)
            assert volume.voxel_size_um == (1.2 if layout == "imagej" else None)
    assert all(str(path) in message for message in messages)
    assert len(messages) > len(whole) // 40
    assert capfd.readouterr().err == ""


def test_a_cut_off_slice_in_a_folder_is_refused(tmp_path, grey_zyx):
    folder = write_slices(tmp_path / "f", grey_zyx[:3], ["1.tif", "2.tif", "3.tif"])
    whole = (folder / "2.tif").read_bytes()
    for n_bytes in range(0, len(whole), 7):
        (folder / "2.tif").write_bytes(whole[:n_bytes])
        with pytest.raises(ValueError, match=r"2\.tif"):
            volumes.open(folder)


def test_a_damaged_compressed_slice_is_named_when_it_is_read(tmp_path, grey_zyx):
    path = write_pages(tmp_path / "v.tif", grey_zyx, compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        offset, n_bytes = tiff.pages[4].dataoffsets[0], tiff.pages[4].databytecounts[0]
    damaged = bytearray(path.read_bytes())
    damaged[offset : offset + n_bytes] = b"\xff" * n_bytes
    path.write_bytes(damaged)
    volume = volumes.open(path, axes="ZYX")
    np.testing.assert_array_equal(volume[:4], grey_zyx[:4])
    with pytest.raises(ValueError, match="slice 5"):
        volume[:]


@pytest.mark.parametrize("content", [b"", b"II", b"not a TIFF at all", b"II*\0\xff\xff\xff\xff"])
def test_what_is_not_a_tiff_is_refused(tmp_path, content):
    (tmp_path / "v.tif").write_bytes(content)
    with pytest.raises(ValueError, match="needs a readable TIFF"):
        volumes.open(tmp_path / "v.tif")


def test_a_missing_file_an_empty_folder_and_another_format_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        volumes.open(tmp_path / "missing.tif")
    with pytest.raises(ValueError, match="found none in"):
        volumes.open(tmp_path)
    (tmp_path / "v.npy").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"needs a TIFF file.*v\.npy"):
        volumes.open(tmp_path / "v.npy")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint32", ">f4", ">i4"])
def test_grey_of_every_type_is_read(tmp_path, grey_zyx, dtype):
    expected = (grey_zyx / 3 - 9_000).astype(dtype)
    path = tmp_path / "v.tif"
    tifffile.imwrite(path, expected, byteorder=">" if dtype[0] == ">" else "<", metadata={"axes": "ZYX"})
    volume = volumes.open(path)
    assert volume.dtype.isnative
    np.testing.assert_array_equal(volume[2:], expected[2:])


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
@pytest.mark.parametrize("kind", ["block", "pages", "folder"])
def test_a_slice_that_is_not_finite_is_named_when_it_is_read(tmp_path, kind, value, what):
    grey = np.ones(SHAPE_ZYX, np.float32)
    grey[4, 2, 3] = value
    path = tmp_path / "v.tif"
    if kind == "block":
        tifffile.imwrite(path, grey, metadata={"axes": "ZYX"})
    elif kind == "pages":
        write_pages(path, grey, compression="zlib")
    else:
        path = write_slices(tmp_path / "f", grey, [f"{z}.tif" for z in range(7)])
    volume = volumes.open(path, axes="ZYX")
    np.testing.assert_array_equal(volume[:4], grey[:4])
    with pytest.raises(ValueError, match=f"slice 5 of .* holds {what}"):
        volume[2:6]


@pytest.mark.parametrize(
    ("unit", "edges", "expected"),
    [
        ("µm", (0.65, 0.65, 0.65), 0.65),
        ("nm", (650, 650, 650), 0.65),
        ("mm", (0.1, 0.1, 0.1), 100.0),
        (None, (2,) * 3, 2.0),
    ],
)
@pytest.mark.parametrize("bigtiff", [False, True])
def test_ome_tiff_states_axes_and_voxel_size(tmp_path, grey_zyx, unit, edges, expected, bigtiff):
    metadata = {"axes": "ZYX"}
    for axis, edge in zip("XYZ", edges, strict=True):
        metadata |= {f"PhysicalSize{axis}": edge} | ({f"PhysicalSize{axis}Unit": unit} if unit else {})
    tifffile.imwrite(tmp_path / "v.ome.tif", grey_zyx, metadata=metadata, bigtiff=bigtiff, compression="zlib")
    volume = volumes.open(tmp_path / "v.ome.tif")
    assert volume.voxel_size_um == pytest.approx(expected)
    np.testing.assert_array_equal(volume[:], grey_zyx)


def test_ome_tiff_with_a_channel_and_a_time_of_one_is_a_stack_and_with_two_is_not(tmp_path, grey_zyx):
    tifffile.imwrite(tmp_path / "one.ome.tif", grey_zyx[None, :, None], metadata={"axes": "TZCYX"})
    np.testing.assert_array_equal(volumes.open(tmp_path / "one.ome.tif")[:], grey_zyx)
    tifffile.imwrite(tmp_path / "two.ome.tif", np.stack([grey_zyx] * 2), metadata={"axes": "CZYX"})
    with pytest.raises(ValueError, match=r"CZYX.*one channel and one time"):
        volumes.open(tmp_path / "two.ome.tif")


def test_times_are_not_taken_for_slices(tmp_path, grey_zyx):
    tifffile.imwrite(tmp_path / "v.tif", grey_zyx, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(ValueError, match="does not state which of its axes"):
        volumes.open(tmp_path / "v.tif")
    np.testing.assert_array_equal(volumes.open(tmp_path / "v.tif", axes="ZYX")[:], grey_zyx)


def test_one_of_several_ome_tiff_files_is_refused(tmp_path, grey_zyx):
    from xml.etree import ElementTree

    for part in "ab":
        tifffile.imwrite(tmp_path / f"{part}.ome.tif", grey_zyx, metadata={"axes": "ZYX"}, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        described = ElementTree.fromstring(tiff.ome_metadata)
    pixels = described[0][0]
    for element in list(pixels):
        pixels.remove(element)
    for part, first in (("a", 0), ("b", 7)):
        for z in range(7):
            data = ElementTree.SubElement(pixels, "TiffData", IFD=str(z), FirstZ=str(first + z), PlaneCount="1")
            ElementTree.SubElement(data, "UUID", FileName=f"{part}.ome.tif").text = f"urn:uuid:{part}"
    pixels.set("SizeZ", "14")
    text = ElementTree.tostring(described).decode()
    tifffile.imwrite(tmp_path / "a.ome.tif", grey_zyx, description=text, metadata=None, compression="zlib")
    with pytest.raises(ValueError, match="one of several OME-TIFF files"):
        volumes.open(tmp_path / "a.ome.tif")


def test_an_imagej_stack_beyond_4_gb_in_one_page_is_read(tmp_path):
    """ImageJ writes one page and the number of images; the file here is sparse."""
    shape = (5000, 1024, 1024)
    path = tmp_path / "large.tif"
    metadata = {"axes": "ZYX", "spacing": 0.8, "unit": "um"}
    options = {"imagej": True, "resolution": (1.25, 1.25), "metadata": metadata, "truncate": True}
    tifffile.imwrite(path, None, shape=shape, dtype=np.uint8, **options)
    last = np.arange(1024 * 1024, dtype=np.uint8).reshape(1024, 1024)
    with path.open("r+b") as file:
        file.seek(-last.size, 2)
        file.write(last.tobytes())
    volume = volumes.open(path)
    assert (volume.shape, volume.voxel_size_um) == (shape, 0.8)
    np.testing.assert_array_equal(volume[-1], last)
    assert volume[4998].max() == 0


def test_a_file_that_became_shorter_is_an_error_not_a_crash(tmp_path, grey_zyx):
    for order in ("ZYX", "XYZ"):
        path = tmp_path / f"{order}.tif"
        tifffile.imwrite(path, grey_zyx, metadata={"axes": order})
        volume = volumes.open(path)
        path.write_bytes(path.read_bytes()[:700])
        with pytest.raises(ValueError, match="became shorter"):
            volume[0]


@pytest.mark.parametrize("kind", ["tif", "folder"])
def test_a_voxel_size_may_be_said_but_not_contradicted(tmp_path, grey_zyx, kind):
    path = tmp_path / "v.tif"
    if kind == "tif":
        volumes.write(path, grey_zyx)
    else:
        path = write_slices(tmp_path / "f", grey_zyx, [f"{z}.tif" for z in range(7)])
    assert volumes.open(path, voxel_size_um=1.5).voxel_size_um == 1.5
    with pytest.raises(ValueError, match="voxel size must be a length"):
        volumes.open(path, voxel_size_um=-1.0)
    volumes.write(tmp_path / "stated.tif", grey_zyx, voxel_size_um=1.2)
    assert volumes.open(tmp_path / "stated.tif", voxel_size_um=1.2).voxel_size_um == 1.2
    with pytest.raises(ValueError, match=r"states a voxel size of 1\.2 um, got 1\.5"):
        volumes.open(tmp_path / "stated.tif", voxel_size_um=1.5)
