"""Slabs segmented by the workers of a dask.distributed cluster, which write them into zarrs that all of them see.

The caller alone decides what is done (plan, normalisation, network) and keeps the journal. A worker gets the number
of a slab, opens the scan and the network itself, writes chunks that are its own, and returns their checksums. Doing
a slab twice writes the same bytes twice, so the slabs of a lost worker are simply given to another.
"""

import asyncio
import hashlib
import pkgutil
import shutil
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from threading import BoundedSemaphore, Event, Lock
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch
from tqdm import tqdm

from alsiseg import clusters, devices, runs, volumes
from alsiseg.dataset import GreyScale
from alsiseg.devices import Device
from alsiseg.prediction import planning, tasks
from alsiseg.prediction.inference import Inference
from alsiseg.prediction.journal import Journal, checksums
from alsiseg.prediction.maps import ZarrMap, stack_of
from alsiseg.prediction.options import Options, Plan
from alsiseg.prediction.pipeline import Stopped
from alsiseg.prediction.slabs import SlabReader
from alsiseg.prediction.tasks import Task
from alsiseg.prediction.tiles import aligned, halo_px
from alsiseg.runs import Trained

if TYPE_CHECKING:
    from distributed import Client, Future

SLABS_AHEAD = 2  # for every worker: one that it works on, one that is read meanwhile or waits
SECONDS_BETWEEN_LOOKS = 2.0
NETWORK = "network"  # of the journal's folder: a run folder with one epoch

Say = Callable[[str], object]


@dataclass(frozen=True)
class Job:
    """What a worker must know of a task; small, because it is sent with every slab.

    Attributes
    ----------
    token : str
        Of one call.
    folder : Path
        Of the journal.
    settings_sha256 : str
        Of the journal's settings.json: whether a worker sees the same folder.
    open_grey : callable
        Opens the scan.
    grey_sha256 : str
        Its fingerprint.
    """

    token: str
    folder: Path
    settings_sha256: str
    open_grey: Callable[[], volumes.Volume]
    grey_sha256: str
    options: Options
    device: Device
    scale: GreyScale
    scan_sha256: str
    torch_version: str
    plan: Plan
    load: planning.Load


@dataclass(frozen=True)
class Found:
    """What a worker has made of a slab; `failure` is the reason when there is nothing."""

    worker: str
    number: int
    sha256: dict[str, str]
    said: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class Power:
    """What a worker can do."""

    device: Device
    host: str
    host_bytes: int
    device_bytes: int
    torch_version: str


def crew(client: "Client", grey: volumes.Volume, *, device: str, options: Options, say: Say | None) -> planning.Crew:
    """Find out what the workers are, and refuse those that could not do the work or would do it differently.

    Raises
    ------
    ValueError, OSError
        It names a worker and what is wrong.
    """
    if not isinstance(grey, volumes.Volume) or grey.opened_with is None:
        raise ValueError("workers need a volume on disk that they can open themselves; give what volumes.open returns")
    _wait_for_a_worker(client, say or partial(tqdm.write, file=sys.stderr))
    if say is not None:
        say("asking the workers what they have and see")
    clusters.check_installed(client)
    for address, why in clusters.blind_workers(client, grey.opening_again(), clusters.fingerprint(grey)).items():
        raise OSError(f"needs {grey.source} on a disk that every worker sees under this path; {address} says: {why}")
    powers = _powers(client, device, options)
    per_host = Counter(power.host for power in powers.values())
    of_one = next(iter(powers.values()))
    return planning.Crew(
        device=of_one.device,
        host_bytes=min(power.host_bytes // per_host[power.host] for power in powers.values()),
        device_bytes=min(power.device_bytes for power in powers.values()),
        chunk_slices=aligned(stack_of(grey).slab_slices),
        n_workers=len(powers),
        torch_version=of_one.torch_version,
    )


def _wait_for_a_worker(client: "Client", say: Say) -> None:
    """Wait as long as it takes: a job may stand in a queue for hours, and Ctrl-C ends it."""
    if clusters.n_workers(client) == 0:
        say("no worker has come yet; waiting for one (Ctrl-C ends it)")
        client.submit(pkgutil.resolve_name, "os:name", pure=False).result()  # work makes an adaptive cluster grow


def _powers(client: "Client", device: str, options: Options) -> dict[str, Power]:
    """Ask every worker what it can do; refuse workers that would not give the same labels."""
    powers = dict(sorted(clusters.asked(client, _power, device, options).items()))
    for address, power in powers.items():
        if isinstance(power, Exception):
            raise ValueError(f"needs workers that can segment, {address} says: {power}") from power
    if not powers:
        raise OSError("needs a worker, all of them went while they were asked; start them again and repeat the call")
    kinds = {(str(power.device), power.torch_version): address for address, power in powers.items()}
    if len(kinds) > 1:
        found = ", ".join(f"{device} with torch {version} on {address}" for (device, version), address in kinds.items())
        raise ValueError(
            f"needs workers of one kind, so that labels do not depend on who made them, found {found}; choose a device "
            "and a precision that all have, or start workers of one kind"
        )
    return powers


async def _power(device: str, options: Options, dask_worker: Any = None) -> Power:
    """Ask in a worker; Any: dask gives it by this name."""
    limit = dask_worker.memory_manager.memory_limit
    return await asyncio.to_thread(_measured_power, device, options, limit)  # importing torch must not stop the worker


def _measured_power(device: str, options: Options, limit: int | None) -> Power:
    on = tasks.in_precision(devices.choose(device), options)
    on = replace(on, name=on.name.replace(":0", ""))
    host, on_device = planning.free_bytes(on)
    if limit is not None:
        host = min(host, int(limit * planning.SHARE_OF_MEMORY["cpu"]))
    return Power(on, socket.gethostname(), host, on_device, str(torch.__version__))


def _check_kind(job: Job) -> None:
    """Refuse, in a worker, to give labels that others would not; it may have come after the others were asked."""
    wanted = f"{job.device} with torch {job.torch_version}"
    on = tasks.in_precision(devices.choose(job.device.name), job.options)
    if (found := f"{on} with torch {torch.__version__}") != wanted:
        raise ValueError(f"needs {wanted} like the other workers, found {found}; start workers of one kind")


def segment(task: Task, journal: Journal, client: "Client") -> None:
    """Have the workers do the slabs that the journal lacks."""
    job = _job(task, journal)
    todo = {number: z for number, z in enumerate(journal.slabs) if number not in journal.finished}
    plane = task.shape_zyx[1] * task.shape_zyx[2]
    with tasks.progress(task, journal.finished) as bar:
        say = partial(bar.write, file=sys.stderr)
        for found in _found_slabs(job, todo, client, say):
            for sentence in found.said:
                say(f"{found.worker}: {sentence}")
            journal.note(found.number, found.sha256)
            bar.update(len(journal.slabs[found.number]) * plane)


def _job(task: Task, journal: Journal) -> Job:
    """Leave the network beside the journal, and describe the rest."""
    folder, grey = journal.folder.absolute(), task.grey_zyx
    assert isinstance(grey, volumes.Volume)
    assert task.crew is not None
    shutil.rmtree(folder / NETWORK, ignore_errors=True)
    runs.start(folder / NETWORK, {}, {})
    runs.save_network(folder / NETWORK, task.trained.network, task.trained.grey_scale, task.trained.epoch)
    return Job(
        token=uuid4().hex,
        folder=folder,
        settings_sha256=_settings_sha256(folder),
        open_grey=grey.opening_again(),
        grey_sha256=clusters.fingerprint(grey),
        options=task.options,
        device=task.device,
        scale=task.scale,
        scan_sha256=task.scan_sha256,
        torch_version=task.crew.torch_version,
        plan=task.plan,
        load=task.load,
    )


def _settings_sha256(folder: Path) -> str:
    path = folder / "settings.json"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _found_slabs(job: Job, todo: dict[int, range], client: "Client", say: Say) -> Generator[Found, None, None]:
    """Yield slabs as they are finished; a few for every worker are under way."""
    waiting = deque(todo)
    running: dict[Future, range] = {}
    done: Queue[Future] = Queue()
    try:
        while waiting or running:
            n_at_once = SLABS_AHEAD * max(1, clusters.n_workers(client))
            while waiting and len(running) < n_at_once:
                number = waiting.popleft()
                future = client.submit(slab_by_worker, job, number, pure=False)
                running[future] = todo[number]
                future.add_done_callback(done.put)
            future = _next(done, client, say)
            z = running.pop(future)
            yield _result(future, f"slices {z.start + 1} to {z.stop}")
    finally:
        _end(job, running, client)


def _next(done: "Queue[Future]", client: "Client", say: Say) -> "Future":
    """Wait for a slab; say so when nobody is left to make it."""
    warned = False
    while True:
        with suppress(Empty):
            return done.get(timeout=SECONDS_BETWEEN_LOOKS)
        if not warned and clusters.n_workers(client) == 0:
            say("no worker is left; waiting for one (Ctrl-C keeps what is finished)")
            warned = True


def _result(future: "Future", what: str) -> Found:
    """Take what a worker has made, or say in one sentence why it has not."""
    from distributed import CancelledError, KilledWorker

    try:
        found = future.result()
    except KilledWorker as error:
        raise ChildProcessError(
            f"{what} ended {error.allowed_failures + 1} workers, the last of them {error.last_worker.address}, "
            "probably for want of memory; give every worker more memory and repeat the call"
        ) from error
    except (CancelledError, OSError) as error:
        raise ConnectionError(
            "needs the dask scheduler until the end, lost it on the way; start it again and repeat the call, finished "
            "slabs are kept"
        ) from error
    except ImportError as error:
        raise ChildProcessError(f"needs alsiseg on every worker, one that came later says: {error}") from error
    if found.failure:
        raise ChildProcessError(f"the worker {found.worker} could not segment {what}: {found.failure}")
    return found


def _end(job: Job, running: "Collection[Future]", client: "Client") -> None:
    """Cancel what is left, and stop the workers within their slab."""
    if running:
        with suppress(Exception):  # whatever a cluster that is going away says
            client.cancel(list(running))
            client.run(_stop, job.token, on_error="ignore")


# What follows runs in the workers.

_IN_MEMORY = BoundedSemaphore(SLABS_AHEAD)  # slabs in the memory of a process, however many threads dask gives it
_OPENING, _READING, _COMPUTING = Lock(), Lock(), Lock()  # each for one slab at a time
_at_work: dict[str, "_AtWork"] = {}
_stops: dict[str, Event] = {}


@dataclass(frozen=True)
class _AtWork:
    """A task as a worker has opened it."""

    task: Task
    inference: Inference


def _stop(token: str) -> None:
    """Let the slabs of a call end soon."""
    _stops.setdefault(token, Event()).set()


def slab_by_worker(job: Job, number: int) -> Found:
    """Segment a slab, write it, and give its checksums."""
    from distributed import get_worker

    worker, said = get_worker(), list[str]()
    found = partial(Found, worker.address, number)
    try:
        with _IN_MEMORY:
            return found(_written_slab(job, number, worker.state.nthreads, said.append), tuple(said))
    except Stopped:
        return found({}, failure="it was stopped")
    except (ValueError, TypeError, OSError, MemoryError) as error:
        return found({}, failure=str(error) or type(error).__name__)


def _written_slab(job: Job, number: int, n_threads: int, say: Say) -> dict[str, str]:
    """Segment a slab with all threads of the worker; reading and writing go on beside the slab before."""
    stopped = _stops.setdefault(job.token, Event())
    if stopped.is_set():
        raise Stopped
    at_work = _opened(job)
    task = at_work.task
    slab = task.slabs[number]
    with _READING:
        grey_zyx = tasks.read_slab(task, slab, SlabReader(task.grey_zyx))
    with _COMPUTING, _torch_threads(n_threads), torch.inference_mode():
        found = tasks.segmented_slab(task, at_work.inference, slab, grey_zyx, stopped, say)
    _check_folder(job)  # an older call's slab must not get into a newer one
    for name, map_zyx in found.maps.items():
        ZarrMap.named(name, job.folder, stack_of(task.grey_zyx)).write(slab.core, map_zyx)
    return checksums(found.maps)


def _opened(job: Job) -> _AtWork:
    """Open scan and network once for all slabs of a call."""
    with _OPENING:
        if job.token not in _at_work:
            _at_work.clear()  # a worker serves one call at a time: the network of the last one may go
            _check_kind(job)
            _check_folder(job)
            if why := clusters.why_unseen(job.open_grey, job.grey_sha256):
                raise OSError(why)
            trained = runs.load_network(job.folder / NETWORK)
            inference = Inference(trained.network, job.device, symmetries=job.options.symmetries)
            _at_work[job.token] = _AtWork(_task(job, trained), inference)
        return _at_work[job.token]


def _task(job: Job, trained: Trained) -> Task:
    halo = halo_px(trained.network)
    return Task(job.open_grey(), trained, job.options, job.device, halo, job.scale, job.scan_sha256, job.plan, job.load)


def _check_folder(job: Job) -> None:
    if _settings_sha256(job.folder) != job.settings_sha256:
        raise OSError(
            f"needs the folder {job.folder} of this call, found none or another one; write to a disk that all workers "
            "see under the same path"
        )


@contextmanager
def _torch_threads(n_threads: int) -> Iterator[None]:
    """Give torch the threads of the worker, whatever OMP_NUM_THREADS says, for one slab."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
