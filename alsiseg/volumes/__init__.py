"""Open and write volumes: TIFF, folders of TIFF slices, OME-Zarr and zarr, HDF5 and NeXus, raw voxels.

Axis order is z, y, x (slice, row, column). Volumes are opened lazily and read slab by slab; nothing about
them is guessed: what a file does not state is asked for, what contradicts it is refused.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike

from alsiseg.volumes import blocks, checks, folders, hdf5, tiff, zarrs
from alsiseg.volumes.formats import HDF5_SUFFIXES, TIFF_SUFFIXES, ZARR_SUFFIXES, check_named_alike, format_of
from alsiseg.volumes.pyramids import Level, levels
from alsiseg.volumes.saving import begin, check_output, finish, read_slab, write, write_slab
from alsiseg.volumes.stack import Stack
from alsiseg.volumes.volume import Volume
from alsiseg.volumes.whole_folders import put_in_place
from alsiseg.volumes.writing import check_place, discard_partial, failures_of_disk, written_whole

__all__ = [
    "HDF5_SUFFIXES",
    "TIFF_SUFFIXES",
    "ZARR_SUFFIXES",
    "Level",
    "Stack",
    "Volume",
    "begin",
    "check_output",
    "check_place",
    "discard_partial",
    "failures_of_disk",
    "finish",
    "levels",
    "open",
    "put_in_place",
    "read_slab",
    "write",
    "write_slab",
    "written_whole",
]


def open(
    path: str | Path,
    *,
    axes: str | None = None,
    voxel_size_um: float | None = None,
    dataset: str | None = None,
    shape_zyx: Sequence[int] | None = None,
    dtype: DTypeLike | None = None,
    offset_bytes: int = 0,
) -> Volume:
    """Open a volume of any size; voxels are read when they are asked for.

    Parameters
    ----------
    path
        A TIFF (.tif, .tiff: classic, BigTIFF, ImageJ hyperstack, OME-TIFF), a folder holding one two-dimensional
        TIFF per slice, a zarr folder (OME-Zarr 0.4 or 0.5, of which level 0 is opened, or a plain array), an HDF5
        or NeXus file (.h5, .hdf5, .hdf, .nxs, .nx), or with `shape_zyx` and `dtype` a file of bare voxels.
    axes
        The order of the axes in the file, e.g. "ZYX", for files that do not state it; the
        volume comes out as z, y, x. A file that states another order is refused.
    voxel_size_um
        Edge of the cubic voxel in micrometres, for files that do not state it. A file that states another is refused.
    dataset
        Which data set of an HDF5 file, or which array or image of a zarr group, when it holds more than one volume.
        In HDF5 the default signal of NeXus is taken, otherwise the only three-dimensional data set.
    shape_zyx, dtype, offset_bytes
        Slices, rows and columns of a raw file (x quickest), type of a voxel (with its byte order, e.g. ">u2"), and
        the bytes before the first voxel. They must account for every byte of the file.

    Raises
    ------
    ValueError
        When the file is damaged, incomplete, no volume of grey values, or ambiguous; the message lists the choice.
        Also while slices are read, when they are damaged or hold NaN or infinite values.
    TypeError
        When the voxels are neither 8-, 16- or 32-bit whole numbers nor 32- or 64-bit floats.
    OSError
        When there is nothing at `path`.
    """
    path = Path(path)
    checks.check_axes_option(axes)
    if not path.exists():
        raise FileNotFoundError(
            f"needs a volume (TIFF, folder of TIFF slices, OME-Zarr, HDF5, raw), found nothing at {path}"
        )
    is_raw = shape_zyx is not None or dtype is not None or offset_bytes != 0
    kind = "raw" if is_raw and path.is_file() else format_of(path)
    _check_options(path, kind, dataset=dataset, is_raw=is_raw, axes=axes)
    named: dict[str, Any] = {"voxel_size_um": voxel_size_um}
    if kind == "raw":
        volume = blocks.open_raw(path, shape_zyx, dtype, offset_bytes=offset_bytes, **named)
    elif kind == "folder":
        volume = folders.open_folder(path, **named)
    elif kind == "zarr":
        volume = zarrs.open_zarr(path, dataset=dataset, axes=axes, **named)
    elif kind == "HDF5":
        volume = hdf5.open_hdf5(path, dataset=dataset, axes=axes, **named)
    else:
        volume = tiff.open_tiff(path, axes=axes, **named)
    options = {"axes": axes, "dataset": dataset, "shape_zyx": shape_zyx, "dtype": dtype, "offset_bytes": offset_bytes}
    return replace(volume, opened_with=options | named)


def _check_options(path: Path, kind: str, *, dataset: str | None, is_raw: bool, axes: str | None) -> None:
    """Refuse options that say nothing about this kind of volume."""
    if kind in ("raw", "folder"):
        checks.check_axes(path, "ZYX", axes)
    if dataset is not None and kind not in ("zarr", "HDF5"):
        raise ValueError(f"dataset names a part of an HDF5 or zarr volume, {path} is neither; leave dataset out")
    if is_raw and kind != "raw":
        raise ValueError(f"shape_zyx, dtype and offset_bytes are for files of bare voxels, {path} is a folder")
    if kind not in ("raw", "folder", "zarr"):
        check_named_alike(path, kind)
