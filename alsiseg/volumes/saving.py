"""Write volumes slab by slab as TIFF, OME-Zarr or HDF5, whole or not at all.

`write` does all of it. A program that continues after a stop, or that writes from several processes, takes the
steps itself: `begin` under a name of its own, `write_slab` in any order and as often as it likes, `finish`.
"""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from numpy.typing import DTypeLike, NDArray

from alsiseg.volumes import hdf5_writing, tiff_writing, zarr_writing
from alsiseg.volumes.formats import format_by_name
from alsiseg.volumes.stack import Stack, slabs
from alsiseg.volumes.whole_folders import check_place_of_folder, flush_tree, put_in_place, written_whole_folder
from alsiseg.volumes.writing import check_place, failures_of_disk, flush, written_whole

_WRITERS = {"TIFF": tiff_writing, "zarr": zarr_writing, "HDF5": hdf5_writing}


def write(
    path: str | Path,
    slices: NDArray | Iterable[NDArray],
    *,
    voxel_size_um: float | None = None,
    shape: tuple[int, int, int] | None = None,
    dtype: DTypeLike | None = None,
    labels: bool = False,
    overwrite: bool = True,
) -> Path:
    """Write a volume that other programs and `open` read with its axes and voxel size; a slab in memory at a time.

    Parameters
    ----------
    path
        Ends in .tif or .tiff (an ImageJ stack, uncompressed; types that ImageJ lacks as OME-TIFF), .zarr (OME-Zarr
        0.5 with its pyramid, compressed), .h5, .hdf5 or .nxs (NeXus, compressed). The folder is made when missing.
        The volume appears under this name only when it is complete.
    slices
        Anything sliceable with `shape` and `dtype` (Z, Y, X), or an iterable of (Y, X) slices or (n, Y, X) slabs
        together with `shape` and `dtype`.
    voxel_size_um
        Edge of the voxel in micrometres.
    labels
        Whether these are phases: said in the file, and the pyramid takes the most frequent label instead of the mean.
    overwrite
        Whether a volume of that name may be replaced.

    Raises
    ------
    ValueError, TypeError
        When this is no volume that can be written, before anything is; or when the slices do not fit.
    OSError
        When nothing can be written there, or the disk is full.
    """
    path = Path(path)
    check_output(path)
    if not overwrite and path.exists():
        raise FileExistsError(f"needs a free name, {path} exists already; choose another one or say overwrite")
    if shape is None and dtype is None and hasattr(slices, "shape") and hasattr(slices, "dtype"):
        shape, dtype = slices.shape, slices.dtype
    stack = Stack.checked(shape, dtype, voxel_size_um, labels=labels)
    whole = written_whole_folder(path) if format_by_name(path) == "zarr" else written_whole(path)
    with whole as partial:
        begin(partial, stack)
        for z, slab_zyx in slabs(slices, stack):
            write_slab(partial, z, slab_zyx)
        _writer(path).complete(partial)
    return path


def begin(partial: str | Path, stack: Stack, *, keep: bool = False) -> None:
    """Make the empty volume that `write_slab` fills; its name ends as `write` says.

    With `keep`, which zarr knows, slabs that were written before stay, and only what `finish` adds is removed.
    """
    partial = Path(partial)
    with failures_of_disk(partial):
        if keep:
            zarr_writing.begin_again(partial, stack)
        else:
            _writer(partial).begin(partial, stack)


def write_slab(partial: str | Path, z_start: int, slab_zyx: NDArray, *, flushed: bool = False) -> None:
    """Write slices from `z_start` on; when `flushed`, they are on the disk when this returns.

    Several processes may do so at once in TIFF and zarr, where `z_start` and the number of slices are multiples of
    `Stack.slab_slices` (the last slab ends with the volume); in HDF5 one at a time. Doing it again changes nothing.
    """
    partial = Path(partial)
    with failures_of_disk(partial):
        _writer(partial).write_slab(partial, z_start, slab_zyx)
        if flushed:
            z = range(z_start, z_start + len(slab_zyx))
            for path in zarr_writing.chunk_files(partial, z) if format_by_name(partial) == "zarr" else [partial]:
                flush(path)
                flush(path.parent)


def read_slab(partial: str | Path, z: range) -> NDArray:
    """Read slices back from an unfinished zarr, in which other slabs may be missing.

    Raises
    ------
    ValueError
        When one of its chunks is missing or damaged.
    """
    return zarr_writing.read_slab(Path(partial), z)


def finish(partial: str | Path, path: str | Path) -> Path:
    """Complete what all slabs were written to (the pyramid of a zarr) and give it its final name.

    Raises
    ------
    ValueError
        When slabs are missing, where the format can tell (zarr, HDF5).
    """
    partial, path = Path(partial), Path(path)
    with failures_of_disk(path):
        _writer(partial).complete(partial)
        flush_tree(partial)
        put_in_place(partial, path)
    return path


def check_output(path: str | Path) -> None:
    """Refuse a path where no volume can be written, before work is spent on it; makes nothing."""
    path = Path(path)
    if format_by_name(path) is None:
        raise ValueError(f"a volume is written as .tif, .zarr or .h5, got {path}; choose such a name")
    _writer(path).check_library()
    if format_by_name(path) == "zarr":
        check_place_of_folder(path)
    else:
        check_place(path)


def _writer(path: Path) -> ModuleType:
    return _WRITERS[format_by_name(path) or ""]
