"""Counting the slabs of volumes on the workers of a dask.distributed cluster."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from alsiseg import clusters
from alsiseg.topology import Sliceable
from alsiseg.topology.reading import in_order
from alsiseg.volumes import Volume

if TYPE_CHECKING:
    from distributed import Client, Future

Result = TypeVar("Result")


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


def n_threads(client: "Client") -> int:
    """Threads of all workers; 1 while none has come."""
    return max(1, sum(client.nthreads().values()))


@dataclass(frozen=True)
class Task(Generic[Result]):
    """Some slices of one or more volumes, and what to do with them: called with an array of each."""

    z: slice
    work: Callable[..., Result]


def run(tasks: Sequence[Task[Result]], volumes: Sequence[Sliceable], client: "Client") -> Iterator[Result]:
    """Have the workers do the tasks; yield the results in order.

    Slabs of a dask array, of a zarr array on a disk, and of what `volumes.open` gives when every worker sees
    that file too, are read by the workers; those of any other volume are read here, one by one, and sent. Two
    slabs for every thread of the cluster are under way at any time.
    """
    volumes = [_seen(volume, client) for volume in volumes]
    return in_order(partial(_submitted, volumes=volumes, client=client), tasks, 2 * n_threads(client))


@dataclass(frozen=True)
class Part:
    """Some slices of a volume that a worker can read itself."""

    volume_zyx: Any
    z: slice


@dataclass(frozen=True)
class Seen:
    """A volume that every worker can open."""

    volume_zyx: Volume


def _seen(volume_zyx: Any, client: "Client") -> Any:
    """Mark a volume on a disk that every worker sees."""
    if not isinstance(volume_zyx, Volume) or volume_zyx.opened_with is None:
        return volume_zyx
    again, expected = volume_zyx.opening_again(), clusters.fingerprint(volume_zyx)
    return volume_zyx if clusters.blind_workers(client, again, expected) else Seen(volume_zyx)


def _submitted(task: Task[Any], *, volumes: Sequence[Sliceable], client: "Client") -> "Future":
    """Have one task done."""
    from dask import delayed

    slabs = [_for_a_worker(volume, task.z, client) for volume in volumes]
    return client.compute(delayed(_done, pure=False)(task.work, *slabs))


def _done(work: Callable[..., Result], *slabs: Any) -> Result:
    """Do the work, reading slabs that were not sent."""
    return work(*(np.asarray(s.volume_zyx[s.z] if isinstance(s, Part) else s) for s in slabs))


def _for_a_worker(volume_zyx: Any, z: slice, client: "Client") -> Any:
    """Slices of a volume in the form in which a worker gets them."""
    if isinstance(volume_zyx, Seen):
        return Part(volume_zyx.volume_zyx, z)
    library = type(volume_zyx).__module__.partition(".")[0]
    if library == "dask":
        return volume_zyx[z]
    if library == "zarr" and not type(volume_zyx.store).__name__.endswith("MemoryStore"):
        return Part(volume_zyx, z)
    # Scattered, because a slab inside the task itself would pass through the scheduler.
    return client.scatter(np.ascontiguousarray(volume_zyx[z]), hash=False)
