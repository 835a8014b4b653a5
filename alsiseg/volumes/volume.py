"""A volume on disk that is read slab by slab."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


@dataclass(frozen=True)
class Volume:
    """A volume on disk: index it like an array; only the slices asked for are read.

    Attributes
    ----------
    source : Path
        The file or folder.
    shape : tuple of int
        Slices, rows, columns (z, y, x).
    dtype : numpy.dtype
        Of one voxel, in the machine's byte order.
    voxel_size_um : float or None
        Edge of the cubic voxel in micrometres; None when the file does not say.
    """

    source: Path
    shape: tuple[int, int, int]
    dtype: np.dtype
    voxel_size_um: float | None
    read_slices: Callable[[Sequence[int]], NDArray]

    ndim = 3

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray:
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
