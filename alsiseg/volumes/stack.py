"""What is to be written: shape, type, voxel size; and slabs of it from arrays or from slices one by one."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from alsiseg.volumes import checks

CHUNK_EDGE_PX = 256
CHUNK_SLICES_OF_BYTES = 32  # 2 MiB a chunk: a slab of 1833 x 1833 voxels is some 100 MB
LEAST_CHUNK_SLICES = 8


@dataclass(frozen=True)
class Stack:
    """A volume to be written.

    Attributes
    ----------
    shape : tuple of int
        Slices, rows, columns (z, y, x).
    dtype : numpy.dtype
        Of one voxel, in the machine's byte order.
    voxel_size_um : float or None
    labels : bool
        Whether the voxels are phases.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    voxel_size_um: float | None = None
    labels: bool = False

    @classmethod
    def checked(
        cls, shape: Any, dtype: DTypeLike | None, voxel_size_um: float | None = None, *, labels: bool = False
    ) -> "Stack":
        """Refuse what cannot be written; `shape` is Any because that is what is checked."""
        if shape is None or dtype is None:
            raise ValueError("slices that come one by one need shape and dtype; give both")
        if len(shape) != 3 or 0 in shape:
            raise ValueError(f"a volume has three axes (z, y, x) and at least one voxel, got the shape {shape}")
        native = np.dtype(dtype).newbyteorder("=")
        if native.name not in checks.GREY_TYPES:
            raise TypeError(f"a volume is written as one of {', '.join(checks.GREY_TYPES)}, got {native}; convert it")
        if labels and native.kind == "f":
            raise TypeError(f"labels are whole numbers, got {native}; write a grey volume without labels")
        checks.check_voxel_size(voxel_size_um)
        z, y, x = map(int, shape)
        return cls((z, y, x), native, voxel_size_um, labels)

    @property
    def n_bytes(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[int, int, int]:
        """Shape of a chunk where the format has chunks."""
        depth = max(LEAST_CHUNK_SLICES, CHUNK_SLICES_OF_BYTES // self.dtype.itemsize)
        z, y, x = self.shape
        return min(depth, z), min(CHUNK_EDGE_PX, y), min(CHUNK_EDGE_PX, x)

    @property
    def slab_slices(self) -> int:
        """Slices of a slab that shares no chunk with its neighbours."""
        return self.chunks[0]

    def check_slab(self, z_start: int, slab_zyx: NDArray) -> None:
        """Refuse a slab of another type, of other rows and columns, or beyond the end."""
        if slab_zyx.dtype.newbyteorder("=") != self.dtype:
            raise TypeError(f"needs slices of {self.dtype}, got {slab_zyx.dtype}; convert them first")
        if slab_zyx.ndim != 3 or slab_zyx.shape[1:] != self.shape[1:]:
            raise ValueError(f"needs slices of {self.shape[1:]}, got {slab_zyx.shape[1:]}; give the volume's shape")
        if z_start < 0 or z_start + len(slab_zyx) > self.shape[0]:
            raise ValueError(
                f"needs {self.shape[0]} slices, got slice {z_start + len(slab_zyx)}; give the volume's shape"
            )


def slabs(slices: Any, stack: Stack) -> Iterator[tuple[int, NDArray]]:
    """Yield the number of the first slice and the slices of one slab after the other.

    `slices` is an array, or an iterable of slices and slabs of any thickness (Any: whatever can be sliced).
    """
    if not hasattr(slices, "shape"):
        yield from _gathered(slices, stack)
        return
    if tuple(slices.shape) != stack.shape:
        raise ValueError(f"needs an array of the shape {stack.shape}, got {tuple(slices.shape)}; leave shape out")
    for z in range(0, stack.shape[0], stack.slab_slices):
        yield z, np.asarray(slices[z : z + stack.slab_slices])


def _gathered(slices: Iterable[NDArray], stack: Stack) -> Iterator[tuple[int, NDArray]]:
    """Gather slices that come one by one into slabs."""
    n_done, waiting = 0, np.empty((stack.slab_slices, *stack.shape[1:]), stack.dtype)
    for slice_yx in _single_slices(slices):
        stack.check_slab(n_done, slice_yx[None])
        waiting[n_done % len(waiting)] = slice_yx
        n_done += 1
        if n_done % len(waiting) == 0:
            yield n_done - len(waiting), waiting
            waiting = np.empty_like(waiting)  # the last one may still be in use
    if n_done != stack.shape[0]:
        raise ValueError(f"needs {stack.shape[0]} slices, got {n_done}; give the volume's shape")
    if rest := n_done % len(waiting):
        yield n_done - rest, waiting[:rest]


def _single_slices(slices: Iterable[NDArray]) -> Iterator[NDArray]:
    for item in slices:
        image = np.asarray(item)
        yield from image if image.ndim == 3 else [image]
