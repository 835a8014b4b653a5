"""Counting the slabs of a volume on the workers of a dask.distributed cluster."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from alsiseg.topology import NetworkCounts, Sliceable

if TYPE_CHECKING:
    from distributed import Client, Future

VOXELS_PER_TASK = 2**25
Count = Callable[[Sliceable], NetworkCounts]
Item = TypeVar("Item")


def active_client() -> "Client | None":
    """Find the dask.distributed client of this process, if one has been started; never starts or imports it."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        distributed.get_worker()
        return None  # a task that waits for tasks of its own could block its worker
    except ValueError:
        pass
    try:
        client = distributed.default_client()
    except ValueError:
        return None
    return None if client.asynchronous else client


def count_on_workers(labels_zyx: Sliceable, count: Count, client: "Client") -> NetworkCounts:
    """Count the slabs on the workers and join the counts, in order, here.

    Slabs of a dask array, and of a zarr array on a disk that the workers see, are read by the workers;
    those of any other volume are read here, one by one, and sent. Two slabs for every thread of the
    cluster are under way at any time.
    """
    n_threads = sum(client.nthreads().values())
    n_slices = _slices_per_task(labels_zyx, n_threads)
    futures = (
        _submitted(labels_zyx, slice(z, z + n_slices), count, client) for z in range(0, labels_zyx.shape[0], n_slices)
    )
    return reduce(lambda lower, upper: lower.followed_by(upper), _results(futures, 2 * n_threads))


def _results(futures: "Iterator[Future]", n_ahead: int) -> Iterator[NetworkCounts]:
    """Wait for the counts in order, with `n_ahead` of them under way."""
    waiting: deque[Future] = deque()
    for future in futures:
        waiting.append(future)
        if len(waiting) == n_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _submitted(labels_zyx: Sliceable, z: slice, count: Count, client: "Client") -> "Future":
    """Have one slab counted."""
    library = type(labels_zyx).__module__.partition(".")[0]
    if library == "dask":
        from dask import delayed

        return client.compute(delayed(count, pure=False)(labels_zyx[z]))
    if library == "zarr":
        return client.submit(_count_part, count, labels_zyx, z, pure=False)
    # Scattered, because a slab inside the task itself would pass through the scheduler.
    slab = client.scatter(np.ascontiguousarray(labels_zyx[z]), hash=False)
    return client.submit(count, slab, pure=False)


def _count_part(count: Count, labels_zyx: Any, z: slice) -> NetworkCounts:
    return count(labels_zyx[z])


def _slices_per_task(labels_zyx: Sliceable, n_threads: int) -> int:
    """Slices of a slab: two slabs a thread or more, of a size that is quick to send, and whole chunks."""
    n_z, n_y, n_x = labels_zyx.shape
    fair = -(-n_z // (2 * n_threads))
    n_slices = max(1, min(fair, VOXELS_PER_TASK // max(1, n_y * n_x)))
    chunks = getattr(labels_zyx, "chunks", None)
    if not chunks:
        return n_slices
    along_z = chunks[0] if isinstance(chunks[0], int) else max(chunks[0])
    return -(-n_slices // along_z) * along_z
