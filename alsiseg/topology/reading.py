"""Reading a volume slab by slab, and putting the counts of the slabs together in order."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Connectivity = Literal[6, 18, 26]
CONNECTIVITIES: tuple[Connectivity, ...] = (6, 18, 26)

LEAST_VOXELS = 2**21  # a smaller slab is not worth a thread
VOXELS_AT_ONCE = 2**25  # a slab of 32 MiB of labels or booleans, unless a slice is larger
MOST_VOXELS_READ = 2**29  # thicker chunks are read more than once


Promised = TypeVar("Promised", covariant=True)


class Sliceable(Protocol):
    """What a volume must offer to be measured: a shape, a dtype, and slicing along z."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of slices, rows and columns."""

    @property
    def dtype(self) -> DTypeLike:
        """Type of one voxel."""

    def __getitem__(self, index: slice, /) -> object:
        """Return the slices of `index`, as something NumPy can make an array of."""


class Promise(Protocol[Promised]):
    """What a pool of threads or of workers gives for a task: something to wait for."""

    def result(self) -> Promised:
        """Wait for the result."""


class Joinable(Protocol):
    """Counts of a slab that can be joined with those of the slab above it."""

    def followed_by(self, upper: Self) -> Self:
        """Join with the counts of the next slab."""


Counts = TypeVar("Counts", bound=Joinable)
Item = TypeVar("Item")
Result = TypeVar("Result")


def count_slabs(
    volume_zyx: Sliceable, count: Callable[[NDArray[Any]], Counts], *, n_threads: int | None = None
) -> Counts:
    """Count a volume slab by slab and join the counts from bottom to top.

    Slabs are read one after the other, in this thread; `count` runs in `n_threads` threads (as
    many as this process may use processors, unless given), with one slab more waiting for them.
    """
    n_threads = n_processors() if n_threads is None else n_threads
    if n_threads < 1:
        raise ValueError(f"n_threads must be 1 or more, got {n_threads}; leave it out to use all processors")
    share = max(LEAST_VOXELS, -(-math.prod(volume_zyx.shape) // n_threads))
    n_slices = _slices_of(volume_zyx, min(VOXELS_AT_ONCE, share))
    if n_threads == 1 or n_slices >= volume_zyx.shape[0]:
        return reduce(_followed_by, map(count, _slabs(volume_zyx, n_slices)))
    with ThreadPoolExecutor(n_threads) as pool:
        counted = in_order(lambda slab_zyx: pool.submit(count, slab_zyx), _slabs(volume_zyx, n_slices), n_threads + 1)
        return reduce(_followed_by, counted)


def n_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _followed_by(lower: Counts, upper: Counts) -> Counts:
    """Join the counts of two slabs."""
    return lower.followed_by(upper)


def in_order(submit: Callable[[Item], Promise[Result]], items: Iterable[Item], n_ahead: int) -> Iterator[Result]:
    """Yield the results of the items in order, with no more than `n_ahead` of them under way."""
    waiting: deque[Promise[Result]] = deque()
    for item in items:
        waiting.append(submit(item))
        if len(waiting) == n_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _slabs(volume_zyx: Sliceable, n_slices: int) -> Iterator[NDArray[Any]]:
    """Yield slabs from bottom to top, read in whole chunks (of zarr, HDF5 or dask) if memory allows."""
    n_z = volume_zyx.shape[0]
    n_chunk = int(np.max((getattr(volume_zyx, "chunks", None) or [1])[0], initial=1))
    n_read = min(-(-n_slices // n_chunk) * n_chunk, max(n_slices, _slices_of(volume_zyx, MOST_VOXELS_READ)))
    for z in range(0, max(n_z, 1), n_read):
        read_zyx = np.asarray(volume_zyx[z : z + n_read])
        for start in range(0, max(len(read_zyx), 1), n_slices):
            yield read_zyx[start : start + n_slices]


def _slices_of(volume_zyx: Sliceable, n_voxels: int) -> int:
    """Slices that hold about so many voxels, at least one."""
    _, n_y, n_x = volume_zyx.shape
    return max(1, n_voxels // max(1, n_y * n_x))


def check_connectivity(connectivity: int) -> None:
    """Refuse a connectivity other than 6, 18 and 26 with a ValueError."""
    if connectivity not in CONNECTIVITIES:
        raise ValueError(
            f"connectivity must be 6 (faces), 18 (and edges) or 26 (and corners), got {connectivity!r}; "
            "the paper's measures use 26"
        )


def check_joinable(lower: tuple[int, ...], upper: tuple[int, ...]) -> None:
    """Refuse slabs of different (connectivity, rows, columns) with a ValueError."""
    if lower != upper:
        raise ValueError(
            "slabs to be joined need the same connectivity, rows and columns, got "
            f"{lower[0]} and {upper[0]}, {lower[1:]} and {upper[1:]}; cut both from the same volume along z"
        )


def check_network(network_zyx: Sliceable, measure: str) -> None:
    """Refuse what is not a boolean volume (TypeError) of three axes (ValueError)."""
    if _kind(network_zyx) != "b":
        raise TypeError(
            f"{measure} needs a boolean network, got {_described(network_zyx)}; "
            "select phases first, e.g. labels_zyx == Phase.SILICON"
        )
    _check_three_axes(network_zyx, measure)


def check_label_volume(labels_zyx: Sliceable, measure: str) -> None:
    """Refuse what cannot be a volume of labels: no array of integers (TypeError), not three axes (ValueError)."""
    if _kind(labels_zyx) not in ("i", "u"):
        raise TypeError(
            f"{measure} needs labels, whole numbers (0 matrix, 1 silicon, 2 aluminide), got {_described(labels_zyx)}; "
            "give the label volume, not a grey one"
        )
    _check_three_axes(labels_zyx, measure)


def _kind(volume: object) -> str | None:
    """NumPy's letter for the type of a voxel; None for what is no array, or one of another library's own type."""
    try:
        return np.dtype(getattr(volume, "dtype", object)).kind
    except TypeError:
        return None


def _described(volume: object) -> str:
    """What was given, in an error."""
    dtype = getattr(volume, "dtype", None)
    return type(volume).__name__ if dtype is None else f"dtype {dtype}"


def _check_three_axes(volume_zyx: Sliceable, measure: str) -> None:
    """Refuse what is no volume."""
    if len(volume_zyx.shape) != 3:
        raise ValueError(
            f"{measure} needs a volume with axes z, y, x, got shape {tuple(volume_zyx.shape)}; "
            "a single slice is a volume too: labels_yx[np.newaxis]"
        )
