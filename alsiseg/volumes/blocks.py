"""Voxels that lie in one block of a file: uncompressed TIFF stacks and raw files."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from alsiseg.volumes import checks
from alsiseg.volumes.volume import Volume, read_by_ranges


@dataclass(frozen=True)
class Block:
    """Where the voxels lie; called with slice indices, it reads them in native byte order.

    With the slices first only their bytes are read; otherwise the file is memory-mapped for the time of the call.
    No map stays open: a file that somebody cuts off later is an error, not a crash.
    """

    path: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    order: str

    def __call__(self, z_indices: Sequence[int]) -> NDArray:
        """Read the slices."""
        if self.path.stat().st_size < self.offset + math.prod(self.shape) * self.dtype.itemsize:
            raise ValueError(f"{self.path} became shorter since it was opened; copy or export it again")
        if self.order != "ZYX":
            return self._mapped(z_indices)
        return read_by_ranges(z_indices, self._slab)

    def _slab(self, start: int, stop: int) -> NDArray:
        n_voxels = math.prod(self.shape[1:])
        skipped = self.offset + start * n_voxels * self.dtype.itemsize
        read = np.fromfile(self.path, self.dtype, (stop - start) * n_voxels, offset=skipped)
        native = read if self.dtype.isnative else read.byteswap(inplace=True).view(self.dtype.newbyteorder("="))
        return native.reshape(stop - start, *self.shape[1:])

    def _mapped(self, z_indices: Sequence[int]) -> NDArray:
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        array_zyx = mapped.transpose([self.order.index(axis) for axis in "ZYX"])
        return np.array(array_zyx[list(z_indices)], dtype=self.dtype.newbyteorder("="), order="C")


def block_volume(block: Block, voxel_size_um: float | None) -> Volume:
    """Volume (z, y, x) whose voxels lie in a block."""
    shape_zyx = [block.shape[block.order.index(axis)] for axis in "ZYX"]
    return checks.volume(block.path, shape_zyx, block.dtype, voxel_size_um, block)


def open_raw(
    path: Path,
    shape_zyx: Sequence[int] | None,
    dtype: DTypeLike | None,
    *,
    offset_bytes: int = 0,
    voxel_size_um: float | None = None,
) -> Volume:
    """Open a file of bare voxels, x quickest; see `volumes.open`."""
    if shape_zyx is None or dtype is None:
        raise ValueError(
            f"{path} is opened as raw voxels, which needs shape_zyx and dtype, e.g. 1000,379,319 and uint16 "
            "('>u2' when the most significant byte comes first); give both"
        )
    shape = tuple(int(n) for n in shape_zyx)
    if len(shape) != 3 or min(shape) < 1 or offset_bytes < 0:
        raise ValueError(f"a raw file needs three sizes z, y, x above 0 and an offset of 0 or more, got {shape}")
    voxel = _voxel_type(path, dtype)
    expected, found = offset_bytes + math.prod(shape) * voxel.itemsize, path.stat().st_size
    if expected != found:
        raise ValueError(
            f"{path} has {found} bytes, but {shape} voxels of {voxel.name} after {offset_bytes} bytes need {expected}; "
            "correct shape, type or offset, or copy the file again"
        )
    return block_volume(Block(path, offset_bytes, voxel, shape, "ZYX"), checks.agreed_size(path, None, voxel_size_um))


def _voxel_type(path: Path, dtype: DTypeLike) -> np.dtype:
    try:
        voxel = np.dtype(dtype)
    except TypeError as error:
        raise ValueError(f"dtype must name a type of voxel, e.g. uint16 or >u2, got {dtype!r} for {path}") from error
    checks.check_type(path, voxel)
    return voxel
