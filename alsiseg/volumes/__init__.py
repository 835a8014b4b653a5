"""Open and write volumes: a TIFF file, or a folder of TIFF slices.

Axis order is z, y, x (slice, row, column). Volumes are opened lazily and read slab by slab.
"""

from pathlib import Path

from alsiseg.volumes import tiff
from alsiseg.volumes.volume import Volume
from alsiseg.volumes.writing import TIFF_SUFFIXES, check_output, check_place, write, written_whole

__all__ = ["TIFF_SUFFIXES", "Volume", "check_output", "check_place", "open", "write", "written_whole"]


def open(path: str | Path, *, axes: str | None = None) -> Volume:
    """Open a TIFF stack or a folder of TIFF slices.

    Parameters
    ----------
    path
        A TIFF file holding a stack, or a folder holding one two-dimensional TIFF per slice.
    axes
        The order of the axes in the file, e.g. "ZYX", for files that do not state it; the
        volume comes out as z, y, x. A file that states another order is refused.

    Raises
    ------
    ValueError
        When the file is not a readable, complete stack of single-channel images, or does not
        state its axes and `axes` is not given.
    TypeError
        When the voxels are not whole numbers.
    OSError
        When there is nothing at `path`.
    """
    path = Path(path)
    if axes is not None and sorted(axes.upper()) != ["X", "Y", "Z"]:
        raise ValueError(f"axes must name Z, Y and X once each, e.g. ZYX, got {axes!r}")
    if path.is_dir():
        tiff.check_axes(path, "ZYX", axes)
        return tiff.open_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"needs a TIFF file or a folder of TIFF slices, found nothing at {path}")
    if path.suffix.lower() not in TIFF_SUFFIXES:
        raise ValueError(f"needs a TIFF file (.tif, .tiff) or a folder of them, got {path}")
    return tiff.open_tiff(path, axes)
