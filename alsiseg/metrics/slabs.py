"""Working through volumes slab by slab: in threads here, or on the workers of a cluster."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from alsiseg.metrics import workers
from alsiseg.metrics.workers import Task
from alsiseg.topology import Sliceable
from alsiseg.topology.reading import MOST_VOXELS_READ, in_order, n_processors

if TYPE_CHECKING:
    from concurrent.futures import Future

    from distributed import Client

VOXELS_AT_ONCE = 2**24  # labels read at once, unless a slice or a chunk is larger
Result = TypeVar("Result")


def run(tasks: Sequence[Task[Result]], volumes: Sequence[Sliceable], client: "Client | None") -> Iterator[Result]:
    """Yield the results of the tasks, in their order, with a few slabs in memory at any time.

    Without a client slabs are read in this thread, one by one, and worked on by as many threads as this
    process may use processors. With one, workers do it (`workers.run`).
    """
    if client is not None:
        yield from workers.run(tasks, volumes, client)
        return
    if len(tasks) == 1:  # not worth a thread
        yield tasks[0].work(*_read(tasks[0], volumes))
        return
    n_threads = n_processors()
    with ThreadPoolExecutor(n_threads) as pool:

        def submit(task: Task[Result]) -> "Future[Result]":
            return pool.submit(task.work, *_read(task, volumes))

        yield from in_order(submit, tasks, n_threads + 1)


def _read(task: Task[Any], volumes: Sequence[Sliceable]) -> list[np.ndarray]:
    return [np.asarray(volume[task.z]) for volume in volumes]


def n_slices_at_once(volumes: Sequence[Sliceable], client: "Client | None") -> int:
    """Slices of a slab: quick to read or send, whole chunks where memory allows, work for every worker."""
    n_z, n_y, n_x = volumes[0].shape
    n_slices = max(1, VOXELS_AT_ONCE // max(1, n_y * n_x))
    if client is not None:
        n_slices = min(n_slices, max(1, -(-n_z // (2 * workers.n_threads(client)))))
    n_chunk = max(_slices_of_a_chunk(volume) for volume in volumes)
    whole = -(-n_slices // n_chunk) * n_chunk
    return whole if whole * n_y * n_x <= MOST_VOXELS_READ else n_slices


def _slices_of_a_chunk(volume_zyx: Sliceable) -> int:
    """Slices that a chunk of zarr, HDF5 or dask holds; 1 without chunks."""
    return int(np.max((getattr(volume_zyx, "chunks", None) or [1])[0], initial=1))


def parts(start: int, stop: int, n_slices: int) -> list[slice]:
    """Cut the slices from `start` to `stop` into parts of `n_slices`."""
    return [slice(z, min(z + n_slices, stop)) for z in range(start, stop, n_slices)]
