"""Answers to a browser that asks for slices: the newest question first, and unasked what comes next."""

import contextvars
import threading
import time
from collections.abc import Callable
from typing import Any

from alsiseg.viewer.slices import Section, Sections
from alsiseg.viewer.stack import PLANE_AXES, Plane

N_AHEAD = 3
SENT_AHEAD_BYTES = 4 * 2**20  # larger slices are read ahead, but not sent before they are asked for
TOLD_AFTER_S = 0.5  # a slice that takes longer says how far it is

Answer = Callable[[dict[str, Any], list[Any]], None]
Question = tuple[Plane, int]


class _Superseded(Exception):
    """A newer question waits."""


class Serving:
    """Reads slices in a thread of its own, which lives while there is something to read.

    A question that comes while another is answered takes its place: of a slider that is pulled quickly only the
    last position counts.

    Parameters
    ----------
    sections : Sections
    answer : callable
        Gets a message ("slice", "progress" or "error") and the bytes that belong to it.
    """

    def __init__(self, sections: Sections, answer: Answer) -> None:
        self.sections = sections
        self.answer = answer
        self._lock = threading.Lock()
        self._wanted: Question | None = None
        self._ahead: list[Question] = []
        self._last: Question = ("xy", 0)
        self._worker: threading.Thread | None = None

    def ask(self, plane: Plane, index: int) -> None:
        """Ask for a slice; the answer comes from another thread."""
        with self._lock:
            self._wanted = (plane, index)
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
                self._reply(question)
            except _Superseded:
                continue
            except Exception as error:  # shown in the browser; there is nobody else to tell
                self.answer({"type": "error", "text": str(error) or type(error).__name__}, [])
            self._read_ahead()

    def _next(self) -> Question | None:
        """Take the question; end the worker when there is none."""
        with self._lock:
            question, self._wanted = self._wanted, None
            if question is None:
                self._worker = None
            return question

    def _reply(self, question: Question) -> None:
        plane, index = question
        section = self.sections.read(plane, index, self._progress(question))
        self._plan(question)
        self._send(question, section)

    def _send(self, question: Question, section: Section) -> None:
        self.answer(header(question, section), buffers(section))

    def _progress(self, question: Question) -> Callable[[int, int], None]:
        """Tell the browser how far a long way through a file is, and stop for a newer question."""
        began = told = time.monotonic()

        def report(n_read: int, n_all: int) -> None:
            nonlocal told
            if self._wanted is not None:
                raise _Superseded
            now = time.monotonic()
            if now - told > TOLD_AFTER_S and n_read < n_all:
                told = now
                left_s = (now - began) / n_read * (n_all - n_read)
                self.answer({"type": "progress", "plane": question[0], "done": n_read / n_all, "left_s": left_s}, [])

        return report

    def _plan(self, question: Question) -> None:
        """Choose what to read ahead: the slices that follow in the direction of the last step, if they cost little."""
        plane, index = question
        step = -1 if self._last[0] == plane and index < self._last[1] else 1
        n_slices = self.sections.grey.volume.shape[PLANE_AXES[plane]]
        following = range(index + step, index + step * (N_AHEAD + 1), step)
        self._ahead = [(plane, i) for i in following if 0 <= i < n_slices and self.sections.are_near(plane, i)]
        self._last = question

    def _read_ahead(self) -> None:
        """Read and send what was planned, unless somebody asks; an error is met again when it is asked for."""
        for question in self._ahead:
            if self._wanted is not None:
                return
            try:
                section = self.sections.read(*question)
            except (ValueError, TypeError, OSError):
                return
            if section.grey.nbytes <= SENT_AHEAD_BYTES:
                self._send(question, section)


def header(question: Question, section: Section) -> dict[str, Any]:
    """Describe a slice to the browser that gets its bytes."""
    rows, columns = section.grey.shape
    return {
        "type": "slice",
        "plane": question[0],
        "index": question[1],
        "rows": rows,
        "columns": columns,
        "dtype": section.grey.dtype.name,
    }


def buffers(section: Section) -> list[Any]:
    """Give the bytes of a slice: grey values, then labels."""
    return [part.data.cast("B") for part in (section.grey, section.labels) if part is not None]
