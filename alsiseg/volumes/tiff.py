"""Read TIFF stacks, and refuse what is damaged, cut off or ambiguous."""

import logging
import math
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from alsiseg.volumes import blocks, checks
from alsiseg.volumes.volume import Volume

# What tifffile has to say about a damaged file is said by our own sentence.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def open_tiff(path: Path, *, axes: str | None = None, voxel_size_um: float | None = None) -> Volume:
    """Open one TIFF file; see `volumes.open`."""
    with parsed(path) as (tiff, series):
        _check_one_stack(path, tiff)
        checks.check_three_axes(path, series.axes, series.shape)
        order = checks.known_order(path, series.axes, axes, series.shape)
        checks.check_type(path, series.dtype)
        check_complete(path, tiff)
        size_um = checks.agreed_size(path, voxel_size(path, tiff), voxel_size_um)
        dtype, offset = series.dtype.newbyteorder(tiff.byteorder), series.dataoffset
    if offset is not None:
        return blocks.block_volume(blocks.Block(path, offset, dtype, series.shape, order), size_um)
    pages = _Pages(path, tiff.filehandle, series, order)
    pages.page(0)  # a compression that cannot be read is met now, not an hour later
    shape_zyx = [series.shape[order.index(axis)] for axis in "ZYX"]
    return checks.volume(path, shape_zyx, series.dtype, size_um, pages)


@contextmanager
def parsed(path: Path) -> Iterator[tuple[tifffile.TiffFile, tifffile.TiffPageSeries]]:
    """Give the TIFF with its first series; its file is closed at the end of the block."""
    with path.open("rb") as file:
        _check_directories(path, file)
    with checks.parsing(path, "TIFF"):
        tiff = _tiff_file(path)
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
        raise checks.unreadable(path, "TIFF", "cut off" if file.tell() > 8 else "no TIFF header") from error


@dataclass(frozen=True)
class _Pages:
    """Compressed or scattered images of a TIFF; called with slice indices, it reads them."""

    path: Path
    file: tifffile.FileHandle
    series: tifffile.TiffPageSeries
    order: str
    lock: Any = field(default_factory=Lock)  # Lock is a function, not a type, before Python 3.13

    def __call__(self, z_indices: Sequence[int]) -> NDArray:
        """Read the slices; where z is not the first axis of the file, every image is read for a part of it."""
        chosen = list(z_indices)
        shape_zyx = [self.series.shape[self.order.index(axis)] for axis in "ZYX"]
        slab_zyx = np.empty((len(chosen), *shape_zyx[1:]), self.series.dtype.newbyteorder("="))
        in_file = slab_zyx.transpose(["ZYX".index(axis) for axis in self.order])
        if self.order[0] == "Z":
            for image, z in zip(in_file, chosen, strict=True):
                image[:] = self.page(z)
        else:
            for image, index in zip(in_file, range(self.series.shape[0]), strict=True):
                image[:] = np.take(self.page(index), chosen, axis=self.order.index("Z") - 1)
        return slab_zyx

    def page(self, index: int) -> NDArray:
        """Read one image of the file."""
        with self.lock:
            self.file.open()
            try:
                page = self.series[index]
                if page is None:
                    raise ValueError("it has no page")
                image = page.asarray()
                if image.shape != self.series.shape[1:] or image.dtype != self.series.dtype:
                    raise ValueError(f"it is {image.dtype} of {image.shape}")
                return image
            except Exception as error:
                raise checks.unreadable(self.path, "TIFF", f"slice {index + 1}: {error}") from error
            finally:
                self.file.close()


def _check_one_stack(path: Path, tiff: tifffile.TiffFile) -> None:
    """Refuse several kinds of image in one file, and one stack in several files."""
    if len(tiff.series) > 1:
        raise ValueError(
            f"needs slices of one size and type, {path} holds {len(tiff.series)} kinds of image; save the stack alone"
        )
    with checks.parsing(path, "TIFF"):
        is_alone = all(page is None or page.parent is tiff for page in tiff.series[0].pages)
    if not is_alone:
        raise ValueError(f"needs a stack in one file, {path} is one of several OME-TIFF files; save it as one")


def check_complete(path: Path, tiff: tifffile.TiffFile) -> None:
    """Refuse a file that ends before its last voxel."""
    series = tiff.series[0]
    size = path.stat().st_size
    with checks.parsing(path, "TIFF"):
        promised = (tiff.imagej_metadata or {}).get("images", len(tiff.pages))
        if series.dataoffset is not None:
            end = series.dataoffset + series.nbytes
        else:
            pages = [page for page in series.pages if page is not None]
            end = max(o + n for page in pages for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        n_images = series.size // math.prod(series.shape[-2:])
        is_cut_off = end > size or promised > n_images
    if is_cut_off:
        raise ValueError(
            f"{path} is cut off: its voxels need {end} bytes, the file has {size}; copy or export it again"
        )


def voxel_size(path: Path, tiff: tifffile.TiffFile) -> float | None:
    """Voxel size in micrometres as OME or ImageJ states it; None when neither does."""
    with checks.parsing(path, "TIFF"):
        edges_um = _ome_edges_um(tiff) if tiff.is_ome else _imagej_edges_um(tiff)
    return checks.cubic(path, edges_um)


def _ome_edges_um(tiff: tifffile.TiffFile) -> dict[str, float | None]:
    """Edges along x, y, z; the unit is micrometre unless the file says another."""
    image = tifffile.xml2dict(tiff.ome_metadata or "")["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    edges: dict[str, float | None] = {}
    for axis in "xyz":
        edge = pixels.get(f"PhysicalSize{axis.upper()}")
        unit = checks.MICROMETRES_PER_UNIT.get(str(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm")).lower())
        edges[axis] = None if edge is None or unit is None else float(edge) * unit
    return edges


def _imagej_edges_um(tiff: tifffile.TiffFile) -> dict[str, float | None] | None:
    """Edges along x, y, z; a stack without spacing has that of its pixels."""
    metadata = tiff.imagej_metadata or {}
    unit_um = checks.MICROMETRES_PER_UNIT.get(str(metadata.get("unit", "")).replace("\\u00B5", "µ").lower())
    resolutions = [tiff.pages.first.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if unit_um is None or any(not pair or 0 in pair for pair in resolutions):
        return None
    # ImageJ keeps pixels per unit as a fraction of 32-bit numbers: six digits survive.
    x_um, y_um = (round(below / above * unit_um, 6) for above, below in resolutions)
    return {"x": x_um, "y": y_um, "z": float(metadata.get("spacing", x_um / unit_um)) * unit_um}
