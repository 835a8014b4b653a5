"""Answers to a browser that asks for slices: the newest question first, and ahead of the hand what costs little."""

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alsiseg.viewer.slices import Section, Sections
from alsiseg.viewer.stack import Plane

SENT_AHEAD_BYTES = 4 * 2**20  # larger slices are read ahead, but not sent before they are looked at
TOLD_AFTER_S = 0.5  # a slice that takes longer says how far it is

Answer = Callable[[dict[str, Any], list[Any]], None]


@dataclass(frozen=True)
class Question:
    """Slices that a browser asks for.

    Attributes
    ----------
    plane : "xy", "xz" or "yz"
    indices : tuple of int
        The slice that is looked at, or those that may follow.
    ahead : bool
        Nobody looks at them yet: only what costs no walk through a file is read, and no error is told.
    """

    plane: Plane
    indices: tuple[int, ...]
    ahead: bool = False


class _Superseded(Exception):
    """A newer question waits."""


class Serving:
    """Reads slices in a thread of its own, which lives while there is something to read.

    A question that comes while another is answered takes its place: of a slider that is pulled quickly only the
    last position counts. Every question is answered in one message, as every message costs browser and server more
    than its bytes.

    Parameters
    ----------
    sections : Sections
    answer : callable
        Gets a message ("slices", "progress" or "error") and the bytes that belong to it.
    """

    def __init__(self, sections: Sections, answer: Answer) -> None:
        self.sections = sections
        self.answer = answer
        self._lock = threading.Lock()
        self._newest: Question | None = None
        self._worker: threading.Thread | None = None

    def ask(self, plane: Plane, indices: Sequence[int], *, ahead: bool = False) -> None:
        """Ask for slices; the answer comes from another thread."""
        with self._lock:
            self._newest = Question(plane, tuple(indices), ahead)
            if self._worker is None:
                # The context carries which notebook cell the answer belongs to.
                work = contextvars.copy_context().run
                self._worker = threading.Thread(target=work, args=(self._work,), daemon=True)
                self._worker.start()

    def wait(self) -> None:
        """Return when there is nothing more to read."""
        worker = self._worker
        if worker is not None:
            worker.join()

    def _work(self) -> None:
        while (question := self._next()) is not None:
            try:
                found = self._ahead(question) if question.ahead else self._looked_at(question)
            except _Superseded:
                continue
            except Exception as error:  # shown in the browser; there is nobody else to tell
                self.answer({"type": "error", "text": str(error) or type(error).__name__}, [])
            else:
                self.answer(header(question, found), buffers(found))

    def _next(self) -> Question | None:
        """Take the question; end the worker when there is none."""
        with self._lock:
            question, self._newest = self._newest, None
            if question is None:
                self._worker = None
            return question

    def _looked_at(self, question: Question) -> dict[int, Section]:
        report = self._progress(question)
        return {index: self.sections.read(question.plane, index, report) for index in question.indices}

    def _ahead(self, question: Question) -> dict[int, Section]:
        """Read what is near, until somebody asks; an error is met again when its slice is looked at."""
        found: dict[int, Section] = {}
        for index in question.indices:
            if self._newest is not None or not self.sections.are_near(question.plane, index):
                break
            try:
                found[index] = self.sections.read(question.plane, index)
            except (ValueError, TypeError, OSError):
                break
        return {index: section for index, section in found.items() if section.n_bytes <= SENT_AHEAD_BYTES}

    def _progress(self, question: Question) -> Callable[[int, int], None]:
        """Tell the browser how far a long way through a file is, and stop for a newer question."""
        began = told = time.monotonic()

        def report(n_read: int, n_all: int) -> None:
            nonlocal told
            if self._newest is not None:
                raise _Superseded
            now = time.monotonic()
            if now - told > TOLD_AFTER_S and n_read < n_all:
                told = now
                left_s = (now - began) / n_read * (n_all - n_read)
                message = {"type": "progress", "plane": question.plane, "done": n_read / n_all, "left_s": left_s}
                self.answer(message, [])

        return report


def header(question: Question, found: dict[int, Section]) -> dict[str, Any]:
    """Describe slices to the browser that gets their bytes; of a question ahead it may be fewer than asked for."""
    described = {"type": "slices", "plane": question.plane, "indices": list(found), "ahead": question.ahead}
    if not found:
        return described
    grey = next(iter(found.values())).grey
    return described | {"rows": grey.shape[0], "columns": grey.shape[1], "dtype": grey.dtype.name}


def buffers(found: dict[int, Section]) -> list[Any]:
    """Give the bytes of slices: grey values, then labels, of one after the other."""
    return [part.data.cast("B") for section in found.values() for part in section.parts]
