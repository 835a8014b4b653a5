"""Volumes as napari likes them: arrays of several resolutions, of which only what is on the screen is read."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import volumes
from alsiseg.viewer.stack import Sliceable

if TYPE_CHECKING:
    import dask.array

LARGE_VOXELS = 2**27  # from here on 512 x 512 x 512 voxels are shown at several resolutions
COARSEST_PX = 256  # edge of the coarsest level, which the whole volume is drawn from in 3-D
BLOCK_BYTES = 2**23  # read at once: long enough for a disk, short enough for an eye


def resolutions(volume_zyx: Sliceable, *, several: bool | None = None) -> list[Any]:
    """List the resolutions at which a volume (Z, Y, X) is shown, the finest first.

    The levels of an OME-Zarr pyramid are taken as they are. Of other large volumes every second voxel along each
    axis makes the next level: no mean, so that labels stay labels. Files are read block by block when a part of
    them is asked for.

    Parameters
    ----------
    volume_zyx
        An array, or a `volumes.Volume`.
    several
        Whether there may be more than one; None for volumes of more than 512 x 512 x 512 voxels.

    Returns
    -------
    list
        Arrays of NumPy for those of NumPy, otherwise of dask.
    """
    stored = _stored(volume_zyx)
    if several is None:
        several = math.prod(volume_zyx.shape) > LARGE_VOXELS
    if not several:
        return stored[:1]
    return stored if len(stored) > 1 else _halved(stored[0])


def _halved(finest: Any) -> list[Any]:
    """Every voxel, every second, every fourth, ... along each axis, down to the coarsest level."""
    n_levels = 1 + max(0, math.ceil(math.log2(max(finest.shape) / COARSEST_PX)))
    return [finest[(slice(None, None, 2**level),) * 3] for level in range(n_levels)]


def _stored(volume_zyx: Sliceable) -> list[Any]:
    """What there is of a volume: an array in memory, or the levels of a file."""
    if isinstance(volume_zyx, np.ndarray):
        return [volume_zyx]
    if isinstance(volume_zyx, volumes.Volume):
        return [_lazy(level) for level in volumes.levels(volume_zyx)]
    if hasattr(volume_zyx, "compute"):
        return [volume_zyx]
    from dask.array import from_array

    return [from_array(volume_zyx)]


def _lazy(level: volumes.Level) -> "dask.array.Array":
    """Make an array of dask, whose blocks are read when they are computed."""
    from dask.array import map_blocks

    chunks = tuple(_spans(n, edge) for n, edge in zip(level.shape, block_shape(level), strict=True))

    def read(block_info: Any = None) -> NDArray:
        return level.read(*(slice(*ends) for ends in block_info[None]["array-location"]))

    return map_blocks(read, chunks=chunks, dtype=level.dtype, meta=np.empty((0, 0, 0), level.dtype))


def block_shape(level: volumes.Level) -> tuple[int, ...]:
    """Shape of the boxes that are read at once: whole chunks of the file, as many side by side as make a block."""
    z, y, x = (min(chunk, n) for chunk, n in zip(level.chunks, level.shape, strict=True))
    for_rows = max(1, BLOCK_BYTES // (z * y * x * level.dtype.itemsize))
    wide = min(level.shape[2], x * for_rows)
    for_columns = max(1, BLOCK_BYTES // (z * y * wide * level.dtype.itemsize))
    return z, min(level.shape[1], y * for_columns), wide


def _spans(n: int, edge: int) -> tuple[int, ...]:
    return tuple(min(edge, n - start) for start in range(0, n, edge))
