"""Write whole files or none."""

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

TIFF_SUFFIXES = (".tif", ".tiff")


def write(
    path: str | Path,
    slices: NDArray | Iterable[NDArray],
    *,
    voxel_size_um: float | None = None,
    shape: tuple[int, int, int] | None = None,
    dtype: DTypeLike | None = None,
) -> Path:
    """Write a stack that ImageJ, napari and `open` read with its axes and voxel size.

    Parameters
    ----------
    path
        Ends in .tif or .tiff; the folder is made when missing. The file appears under this
        name only when it is complete.
    slices
        A (Z, Y, X) array, or an iterable of (Y, X) slices together with `shape` and `dtype`.
        uint8 or uint16.
    voxel_size_um
        Edge of the voxel in micrometres, written as ImageJ does.
    """
    path = Path(path)
    check_output(path)
    if isinstance(slices, np.ndarray):
        shape, dtype = slices.shape, slices.dtype  # type: ignore[assignment]
    _check_writable(shape, dtype, voxel_size_um)
    metadata: dict[str, Any] = {"axes": "ZYX"}
    resolution = None
    if voxel_size_um is not None:
        metadata |= {"spacing": voxel_size_um, "unit": "um"}
        resolution = (1 / voxel_size_um, 1 / voxel_size_um)
    data = slices if isinstance(slices, np.ndarray) else iter(slices)
    with written_whole(path) as partial:
        tifffile.imwrite(partial, data, shape=shape, dtype=dtype, imagej=True, resolution=resolution, metadata=metadata)
    return path


def check_output(path: str | Path) -> None:
    """Refuse a path where no volume can be written, before work is spent on it; makes nothing."""
    if Path(path).suffix.lower() not in TIFF_SUFFIXES:
        raise ValueError(f"a volume is written as .tif or .tiff, got {path}; choose such a name")
    check_place(path)


def _check_writable(shape: tuple[int, ...] | None, dtype: DTypeLike | None, voxel_size_um: float | None) -> None:
    if shape is None or dtype is None:
        raise ValueError("slices that come one by one need shape and dtype; give both")
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"a volume has three axes (z, y, x) and at least one voxel, got the shape {shape}")
    if np.dtype(dtype).newbyteorder("=") not in (np.uint8, np.uint16):
        raise TypeError(f"a volume is written as uint8 or uint16, got {np.dtype(dtype)}; scale it first")
    if voxel_size_um is not None and not (math.isfinite(voxel_size_um) and voxel_size_um > 0):
        raise ValueError(f"the voxel size must be a length above 0 um, got {voxel_size_um}; None says unknown")


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a path to write to; rename it to `path` when the block ends without an error.

    The data reach the disk before the rename, so that whatever stops the program leaves either
    the previous file or the new one, never a part. Folders made for it go again with an error.

    Raises
    ------
    OSError
        Before the block is entered, when nothing can be written at `path`.
    """
    path = Path(path)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    new_folders = [folder for folder in path.parents if not folder.exists()]
    try:
        _claim(path, partial)
        yield partial
        _flush_to_disk(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
            for folder in new_folders:
                folder.rmdir()
        raise
    if os.name == "posix":
        _flush_to_disk(path.parent)


def check_place(path: str | Path) -> None:
    """Refuse a path where no file can be written, before work is spent on it; makes nothing.

    Raises
    ------
    OSError
        When `path` is a folder, lies below a file, or in a folder that may not be written to.
    """
    path = Path(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise IsADirectoryError(_no_place(path, "a folder of that name"))
    if not folder.is_dir():
        raise NotADirectoryError(_no_place(path, f"the file {folder} in place of a folder"))
    if not os.access(folder, os.W_OK):
        raise PermissionError(_no_place(path, f"no permission to write in {folder}"))


def _no_place(path: Path, found: str) -> str:
    return f"needs a place to write {path}, found {found}; choose another one"


def _claim(path: Path, partial: Path) -> None:
    """Make the folder and the empty partial file, or say why that cannot be."""
    check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:  # a name too long, a full or read-only disk
        raise OSError(_no_place(path, str(error.strerror).lower())) from error


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
