"""Read TIFF stacks and folders of TIFF slices, and refuse what is damaged, cut off or ambiguous."""

import logging
import math
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise, permutations
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from alsiseg.volumes.volume import Volume
from alsiseg.volumes.writing import TIFF_SUFFIXES

MICROMETRES_PER_UNIT = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3, "nm": 1e-3}
STATED = {"".join(order) for order in permutations("ZYX")}
INTEGER_GREY = (np.uint8, np.uint16, np.int16, np.uint32, np.int32)

# What tifffile has to say about a damaged file is said by our own sentence.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def open_tiff(path: Path, axes: str | None) -> Volume:
    """Open one TIFF file; see `volumes.open`."""
    with _parsed(path) as (tiff, series):
        _check_layout(path, tiff, axes)
        _check_complete(path, tiff)
        order = series.axes if series.axes in STATED else str(axes).upper()
        voxel_size_um = _voxel_size_um(path, tiff)
        byteorder = tiff.byteorder
    if series.dataoffset is None:
        read_pages = _page_reader(path, tiff.filehandle, series)
        read_pages([0])  # a compression that cannot be read is met now, not an hour later
        if order == "ZYX":
            return _volume(path, series.shape, series.dtype, voxel_size_um, read_pages)
        array = read_pages(range(series.shape[0]))
    else:
        array = np.memmap(path, series.dtype.newbyteorder(byteorder), "r", series.dataoffset, series.shape)
    array_zyx = array.transpose([order.index(axis) for axis in "ZYX"])
    return _volume(path, array_zyx.shape, array_zyx.dtype, voxel_size_um, _array_reader(array_zyx))


@contextmanager
def _parsed(path: Path) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPageSeries]]:
    """Give the TIFF with its first series; its file is closed at the end of the block."""
    with path.open("rb") as file:
        _check_directories(path, file)
    try:
        tiff = _tiff_file(path)
    except Exception as error:  # what tifffile raises on damaged bytes is not documented
        raise _unreadable(path, error) from error
    with tiff:
        yield tiff, tiff.series[0]


def _tiff_file(path: Path) -> tifffile.TiffFile:
    """Parse a TIFF and its series; images of one size that were written one by one are one stack."""
    with ExitStack() as on_error:
        tiff = on_error.enter_context(tifffile.TiffFile(path))
        first, *others = tiff.series
        if first.ndim != 2 or not others or any((s.shape, s.dtype) != (first.shape, first.dtype) for s in others):
            on_error.pop_all()
            return tiff
    return tifffile.TiffFile(path, is_shaped=False)


def _unreadable(path: Path, reason: object) -> ValueError:
    return ValueError(f"needs a readable TIFF, {path} is damaged or not a TIFF ({reason}); export it again")


def _check_directories(path: Path, file: BinaryIO) -> None:
    """Refuse a file that ends before the last of its chained page directories.

    tifffile would take such a file for a shorter stack.
    """
    try:
        order = {b"II": "<", b"MM": ">"}[file.read(2)]
        is_big = struct.unpack(order + "H", file.read(2)) == (43,)
        file.seek(8 if is_big else 4)
        count, n_bytes, offset = ("Q", 20, "Q") if is_big else ("H", 12, "I")
        seen = {0}
        (at,) = struct.unpack(order + offset, file.read(struct.calcsize(offset)))
        while at not in seen:
            seen.add(at)
            file.seek(at)
            (n_tags,) = struct.unpack(order + count, file.read(struct.calcsize(count)))
            file.seek(n_tags * n_bytes, os.SEEK_CUR)
            (at,) = struct.unpack(order + offset, file.read(struct.calcsize(offset)))
    except (KeyError, OverflowError, OSError, struct.error) as error:
        raise _unreadable(path, "cut off" if file.tell() > 8 else "no TIFF header") from error


def _volume(path: Path, shape: Sequence[int], dtype: np.dtype, voxel_size_um: float | None, read: Callable) -> Volume:
    z, y, x = map(int, shape)
    return Volume(path, (z, y, x), dtype.newbyteorder("="), voxel_size_um, read)


def _array_reader(array_zyx: NDArray) -> Callable[[Sequence[int]], NDArray]:
    native = array_zyx.dtype.newbyteorder("=")

    def read(z_indices: Sequence[int]) -> NDArray:
        if isinstance(z_indices, range) and z_indices.step == 1:
            return np.array(array_zyx[z_indices.start : z_indices.stop], dtype=native)
        return np.array(array_zyx[list(z_indices)], dtype=native)

    return read


def _page_reader(
    path: Path, file: tifffile.FileHandle, series: tifffile.TiffPageSeries
) -> Callable[[Sequence[int]], NDArray]:
    def read(z_indices: Sequence[int]) -> NDArray:
        slab_zyx = np.empty((len(z_indices), *series.shape[1:]), series.dtype)
        file.open()
        try:
            for slice_yx, z in zip(slab_zyx, z_indices, strict=True):
                page = series[z]
                if page is None:
                    raise ValueError("it has no page")
                slice_yx[:] = page.asarray()
        except Exception as error:
            raise _unreadable(path, f"slice {z + 1}: {error}") from error
        finally:
            file.close()
        return slab_zyx

    return read


def _check_layout(path: Path, tiff: tifffile.TiffFile, axes: str | None) -> None:
    """Refuse what is not one stack of single-channel integer images with known axes."""
    series = tiff.series[0]
    if len(tiff.series) > 1:
        raise ValueError(
            f"needs slices of one size and type, {path} holds {len(tiff.series)} kinds of image; save the stack alone"
        )
    if "S" in series.axes:
        raise ValueError(
            f"needs one grey value per voxel, {path} holds colour (RGB) images; save it as 8- or 16-bit grey"
        )
    if series.ndim == 2:
        raise ValueError(f"needs a stack of slices, {path} holds one image of {series.shape}; give the whole stack")
    if series.ndim != 3:
        raise ValueError(
            f"needs three axes z, y, x, {path} has the axes {series.axes} with shape {series.shape}; "
            "save one channel and one time"
        )
    if series.axes in STATED:
        check_axes(path, series.axes, axes)
    elif axes is None:
        raise ValueError(
            f"{path} does not state which of its axes {series.shape} is the slice: say axes ZYX when the "
            "slices come first, or YXZ, XYZ, ... (option --axes)"
        )
    _check_integer(path, series.dtype)


def check_axes(path: Path, stated: str, axes: str | None) -> None:
    """Refuse an order of axes that contradicts the file."""
    if axes is not None and axes.upper() != stated:
        raise ValueError(f"{path} states its axes as {stated}, got axes {axes}; leave axes out or save the file anew")


def _check_integer(path: Path, dtype: np.dtype) -> None:
    if dtype.newbyteorder("=") not in INTEGER_GREY:
        raise TypeError(
            f"needs whole-number voxels (8- or 16-bit), {path} holds {dtype.name}; convert it to 16-bit first, "
            "e.g. in ImageJ by Image > Type > 16-bit"
        )


def _check_complete(path: Path, tiff: tifffile.TiffFile) -> None:
    """Refuse a file that ends before its last voxel."""
    series = tiff.series[0]
    size = path.stat().st_size
    promised = (tiff.imagej_metadata or {}).get("images", len(tiff.pages))
    if series.dataoffset is not None:
        end = series.dataoffset + series.nbytes
    else:
        pages = [page for page in series.pages if page is not None]
        end = max(o + n for page in pages for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
    if end > size or promised > series.size // math.prod(series.shape[-2:]):
        raise ValueError(
            f"{path} is cut off: its voxels need {end} bytes, the file has {size}; copy or export it again"
        )


def _voxel_size_um(path: Path, tiff: tifffile.TiffFile) -> float | None:
    """Voxel size as ImageJ states it; None when it states none."""
    metadata = tiff.imagej_metadata or {}
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "µ").lower()
    resolutions = [tiff.pages.first.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if unit not in MICROMETRES_PER_UNIT or any(not pair or 0 in pair for pair in resolutions):
        return None
    # ImageJ keeps pixels per unit as a fraction of 32-bit numbers: six digits survive.
    x_um, y_um = (round(below / above * MICROMETRES_PER_UNIT[unit], 6) for above, below in resolutions)
    z_um = metadata.get("spacing", x_um / MICROMETRES_PER_UNIT[unit]) * MICROMETRES_PER_UNIT[unit]
    if not all(math.isclose(x_um, other_um, rel_tol=1e-3) for other_um in (y_um, z_um)):
        raise ValueError(
            f"needs cubic voxels, {path} has {x_um:g} um along x, {y_um:g} um along y and {z_um:g} um between slices; "
            "resample it first"
        )
    return x_um


def _natural_order(path: Path) -> list[str | int]:
    return [int(part) if odd % 2 else part for odd, part in enumerate(re.split(r"(\d+)", path.name))]


def open_folder(folder: Path) -> Volume:
    """Open a folder of two-dimensional TIFF slices in natural order."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    paths = sorted((path for path in visible if path.suffix.lower() in TIFF_SUFFIXES), key=_natural_order)
    if not paths:
        raise ValueError(f"needs a folder of TIFF slices, found none in {folder}; give the folder that holds them")
    _check_no_gap(folder, paths)
    layouts = [_slice_layout(path) for path in paths]
    for (path, layout), (other_path, other) in pairwise(zip(paths, layouts, strict=True)):
        if layout != other:
            raise ValueError(
                f"needs slices of one size and type, {path} is {layout} and {other_path.name} {other}; "
                "take out what does not belong to the stack"
            )
    shape_yx, dtype = layouts[0]

    def read(z_indices: Sequence[int]) -> NDArray:
        slab_zyx = np.empty((len(z_indices), *shape_yx), dtype)
        for slice_yx, z in zip(slab_zyx, z_indices, strict=True):
            slice_yx[:] = _read_slice(paths[z])
        return slab_zyx

    read([0])  # a compression that cannot be read is met now, not an hour later
    with tifffile.TiffFile(paths[0]) as first:
        voxel_size_um = _voxel_size_um(paths[0], first)
    return _volume(folder, (len(paths), *shape_yx), dtype, voxel_size_um, read)


def _read_slice(path: Path) -> NDArray:
    try:
        return tifffile.imread(path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _slice_layout(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of one slice, after checking that it is one whole grey image."""
    with _parsed(path) as (tiff, series):
        if series.ndim != 2 or len(tiff.series) > 1:
            raise ValueError(
                f"needs one two-dimensional grey image per slice, {path} has the axes {series.axes} with shape "
                f"{series.shape}; give a folder of single slices, or the stack as one file"
            )
        _check_integer(path, series.dtype)
        _check_complete(path, tiff)
        return series.shape, series.dtype.newbyteorder("=")


def _check_no_gap(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse numbered slices with a number missing or doubled.

    The slice number is the last number of the name that differs between slices (not the 8 of "s_0001_8bit").
    """
    found = [re.findall(r"\d+", path.stem) for path in paths]
    if not any(found) or len(paths) == 1:
        return  # not numbered: the order of names is all there is
    if len({len(digits) for digits in found}) > 1:
        raise ValueError(
            f"needs slices named alike with one number each, found {paths[0].name} beside {paths[-1].name}"
        )
    columns = [sorted(map(int, column)) for column in zip(*found, strict=True)]
    numbers = next((column for column in reversed(columns) if column[0] != column[-1]), columns[-1])
    for number, after in pairwise(numbers):
        if after != number + 1:
            what = f"number {number} occurs twice" if after == number else f"number {number + 1} is missing"
            raise ValueError(f"needs consecutively numbered slices, {what} in {folder}; complete the folder")
