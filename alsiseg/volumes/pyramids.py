"""The levels of a volume on disk, for looking at it: read box by box, never whole."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alsiseg.volumes import zarrs
from alsiseg.volumes.volume import Volume


@dataclass(frozen=True)
class Level:
    """One resolution of a volume on disk.

    Attributes
    ----------
    shape, dtype
        Slices, rows and columns; type of a voxel.
    chunks
        Shape (z, y, x) of what the file gives at once.
    read
        Reads a box (z, y, x), three slices of step 1, as an array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...]
    read: Callable[[slice, slice, slice], NDArray]


def levels(volume: Volume) -> list[Level]:
    """List the resolutions that a file holds of a volume, the finest first.

    An OME-Zarr has those of its pyramid; every other format has one.

    Raises
    ------
    ValueError
        When a level of the pyramid is damaged.
    """
    if _is_zarr(volume.source):
        options = volume.opened_with or {}
        arrays = zarrs.open_levels(volume.source, dataset=options.get("dataset"), axes=options.get("axes"))
        return [Level(one.shape_zyx, volume.dtype, one.chunks_zyx, one.box) for one in arrays]
    chunks = volume.chunks or (1, *volume.shape[1:])
    return [Level(volume.shape, volume.dtype, (chunks[0], *volume.shape[1:]), partial(_box, volume))]


def _is_zarr(source: Path) -> bool:
    return source.is_dir() and zarrs.is_zarr(source)


def _box(volume: Volume, z: slice, y: slice, x: slice) -> NDArray:
    return volume[z, y, x]
