"""Jobs shared by the cores of a machine: progress over all of them, and a Ctrl-C that stops them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from alsiseg.progress import steps

Step = Callable[[int], object]
Job = Callable[[Step], object]

POLL_SECONDS = 0.3

_shared: dict[str, Any] = {}  # of a worker process: how many steps are done, and whether to stop


class _StoppedError(Exception):
    """Ends a job whose answer nobody waits for."""


def run(jobs: Sequence[Job], *, n_steps: int, what: str, n_processes: int) -> None:
    """Do every job; each is given a function to call after each of the `n_steps` steps of all.

    More than one process: jobs must pickle, and a script that gets here must start under
    ``if __name__ == "__main__":``, as the workers import it.

    Raises
    ------
    ChildProcessError
        When a worker ends by itself, e.g. for want of memory.
    """
    with steps(None, what, n_steps) as bar:
        if n_processes == 1 or len(jobs) < 2:
            for job in jobs:
                job(bar.update)
            return
        context = multiprocessing.get_context("spawn")
        done, stop = context.Value("q", 0), context.Event()
        with ProcessPoolExecutor(min(n_processes, len(jobs)), context, _prepare, (done, stop)) as pool:
            try:
                _watch([pool.submit(_do, job) for job in jobs], lambda: bar.update(done.value - bar.n))
            except BrokenProcessPool as error:
                raise ChildProcessError(
                    "a worker process ended before its work was done: it needs more memory or, in a script, a call "
                    'under `if __name__ == "__main__":`; say n_processes=1 to work without workers'
                ) from error
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)


def _watch(futures: list, show: Callable[[], object]) -> None:
    """Wait for all, showing progress; raise what a job raised as soon as it has."""
    pending = set(futures)
    while pending:
        finished, pending = wait(pending, POLL_SECONDS, FIRST_EXCEPTION)
        for future in finished:
            future.result()
        show()


def _prepare(done: Any, stop: Any) -> None:
    """Set a worker up: Ctrl-C is the parent's to handle, and no worker outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shared.update(done=done, stop=stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _do(job: Job) -> None:
    job(_step)


def _step(n: int) -> None:
    if _shared["stop"].is_set():
        raise _StoppedError
    with _shared["done"].get_lock():
        _shared["done"].value += n
