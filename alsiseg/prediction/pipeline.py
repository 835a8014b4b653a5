"""Read ahead, segment, hand on: three stages side by side, each in a thread of its own."""

import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
_END = object()
SECONDS_BETWEEN_LOOKS = 0.1


class Stopped(BaseException):
    """Ends a stage whose results nobody wants any more; never leaves this package."""


@dataclass
class Clock:
    """Seconds spent in each kind of work, summed over the run.

    Attributes
    ----------
    synchronise : callable or None
        Waits for the device, so that its work counts where it was asked for; that costs some overlap.
    """

    synchronise: Callable[[], object] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the seconds of the block as `name`; a name belongs to one thread."""
        start = time.perf_counter()
        try:
            yield
            if self.synchronise is not None:
                self.synchronise()
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def ahead(stage: Callable[[Event], Iterable[Item]], *, n_waiting: int = 1) -> Generator[Item, None, None]:
    """Pass items on that a thread makes ahead; at most `n_waiting` of them wait.

    What goes wrong in the thread is raised here, at its place among the items. When the caller stops taking items,
    the event given to `stage` is set, and the thread ends at its next item, or earlier if it looks at the event.
    """
    waiting: queue.Queue = queue.Queue(n_waiting)
    stopped = Event()
    thread = Thread(target=_make, args=(stage, waiting, stopped), name="alsiseg prediction", daemon=True)
    thread.start()
    try:
        while True:
            item, error = _taken(waiting, thread)
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


def _make(stage: Callable[[Event], Iterable[Item]], waiting: queue.Queue, stopped: Event) -> None:
    """Make the items in a thread; the last entry says how it ended."""
    ended: BaseException | None = None
    try:
        for item in stage(stopped):
            _put(waiting, (item, None), stopped)
    except BaseException as error:
        ended = error
    with suppress(Stopped):
        _put(waiting, (_END, ended), stopped)


def _put(waiting: queue.Queue, entry: tuple, stopped: Event) -> None:
    """Put an entry when there is room for it; looks up now and then whether anybody still wants it."""
    while not stopped.is_set():
        with suppress(queue.Full):
            return waiting.put(entry, timeout=SECONDS_BETWEEN_LOOKS)
    raise Stopped


def _taken(waiting: queue.Queue, thread: Thread) -> tuple:
    """Take the next entry; looks up now and then, so that Ctrl-C is heard on every system."""
    while True:
        try:
            return waiting.get(timeout=SECONDS_BETWEEN_LOOKS)
        except queue.Empty:
            if not thread.is_alive() and waiting.empty():
                raise Stopped from None
