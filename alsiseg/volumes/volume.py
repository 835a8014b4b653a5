"""A volume on disk that is read slab by slab."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ReadSlices = Callable[[Sequence[int]], NDArray]


@dataclass(frozen=True)
class Volume:
    """A volume on disk: index it like an array; only the slices asked for are read.

    It can be pickled when `open` made it: another process opens the file again.

    Attributes
    ----------
    source : Path
        The file or folder.
    shape : tuple of int
        Slices, rows, columns (z, y, x).
    dtype : numpy.dtype
        Of one voxel, in the machine's byte order.
    voxel_size_um : float or None
        Edge of the cubic voxel in micrometres; None when neither the file nor the caller says.
    read_slices : callable
        Gives the slices of a sequence of indices as one array.
    chunks : tuple of int or None
        Shape (z, y, x) of what the file can only give at once: slabs of a multiple of ``chunks[0]`` slices are
        quickest. None when any slice is as quick as any other.
    opened_with : mapping or None
        Options of `open` that open the file again.
    """

    source: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    voxel_size_um: float | None
    read_slices: ReadSlices
    chunks: tuple[int, int, int] | None = None
    opened_with: Mapping[str, Any] | None = None

    ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray]:
        depth = 1 if self.chunks is None else self.chunks[0]
        for z in range(0, len(self), depth):
            yield from self[z : z + depth]

    def __getitem__(self, key: Any) -> NDArray:  # Any: whatever NumPy takes as an index
        z_key, *plane_key = (key if isinstance(key, tuple) else (key,)) or (...,)
        if z_key is Ellipsis or z_key is None:
            return np.asarray(self)[key]
        if isinstance(z_key, slice):
            slab_zyx = self.read_slices(range(*z_key.indices(len(self))))
            return slab_zyx[(slice(None), *plane_key)]
        z_index = range(len(self))[operator.index(z_key)]
        return self.read_slices([z_index])[(0, *plane_key)]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray:
        return self.read_slices(range(len(self))).astype(dtype or self.dtype, copy=False)

    def __reduce__(self) -> tuple[Callable, tuple]:
        again = self.opening_again()
        return again.func, again.args

    def opening_again(self) -> "partial[Volume]":
        """Give what opens the file again when it is called, in any process that sees it under this path."""
        if self.opened_with is None:
            raise TypeError(f"{self.source} was not opened by volumes.open and cannot be sent to another process")
        return partial(_opened_again, self.source.absolute(), dict(self.opened_with))


def _opened_again(source: Path, options: dict[str, Any]) -> Volume:
    from alsiseg import volumes

    return volumes.open(source, **options)


def read_by_ranges(z_indices: Sequence[int], read_range: Callable[[int, int], NDArray]) -> NDArray:
    """Read slices (z, y, x) by the function that reads from one index up to another."""
    if isinstance(z_indices, range) and z_indices.step == 1:
        return read_range(z_indices.start, max(z_indices.start, z_indices.stop))
    slabs = [read_range(z, z + 1) for z in z_indices]
    return np.concatenate(slabs) if slabs else read_range(0, 0)
