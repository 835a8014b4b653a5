"""Progress, words and a Cancel button: work in a thread, and how it ends."""

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

from magicgui.widgets import Widget
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from alsiseg.plugin.work import Progress, Stopped
from alsiseg.story import mendable

LOOK_EVERY_MS = 200
FINE = 1000  # steps of the bar
LINES_OF_WORDS = 2.5  # so that nothing is cut off, and nothing jumps


def telling(slot: Callable[[], object]) -> Callable[..., None]:
    """Wrap what a button does, so that a mistake the user can mend is told in one sentence."""

    @wraps(slot)
    def told(*_: object) -> None:
        try:
            slot()
        except Exception as error:
            tell(error)

    return told


def tell(error: BaseException) -> None:
    """Show the sentence of an error that the user can mend; raise any other, for napari to show in full."""
    if not mendable(error):
        raise error
    show_error(" ".join(str(error).split()))


class WorkBar(QWidget):
    """A bar of progress that runs one function at a time in a thread; the window stays alive meanwhile."""

    def __init__(self, starters: Sequence[Widget]) -> None:
        """Take the buttons that must rest while something is under way."""
        super().__init__()
        self._starters = starters
        self._under_way: list[Progress] = []  # one at most; it outlives this widget to be stopped with it
        self._bar, self._words, self.cancel_button = QProgressBar(), QLabel(""), QPushButton("Cancel")
        self._bar.setTextVisible(False)
        self._words.setWordWrap(True)
        self._words.setMinimumHeight(round(LINES_OF_WORDS * self._words.fontMetrics().lineSpacing()))
        self.cancel_button.setToolTip("Stop at the next step; what is under way is given up.")
        self.cancel_button.clicked.connect(self.cancel)
        self._timer = QTimer(self)
        self._timer.setInterval(LOOK_EVERY_MS)
        self._timer.timeout.connect(self._look)
        self._lay_out()
        under_way = self._under_way
        self.destroyed.connect(lambda: _stop_all(under_way))

    def _lay_out(self) -> None:
        row, column = QHBoxLayout(), QVBoxLayout(self)
        row.addWidget(self._bar)
        row.addWidget(self.cancel_button)
        column.addLayout(row)
        column.addWidget(self._words)
        column.setContentsMargins(0, 0, 0, 0)
        self._show_working(False)

    @property
    def is_working(self) -> bool:
        """Whether something is under way."""
        return bool(self._under_way)

    @property
    def words(self) -> str:
        """What is said below the bar."""
        return self._words.text()

    def say(self, words: str) -> None:
        """Show a sentence below the bar."""
        self._words.setText(words)

    def start(self, work: Callable[[Progress], Any], then: Callable[[Any], object]) -> None:
        """Do `work` in a thread, then give its result to `then` in the window's own.

        An error that the user can mend is told in a sentence, any other is left to napari; nothing follows then,
        nor when the user cancels.
        """
        progress = Progress()
        self._under_way.append(progress)
        self._show_working(True)

        def outcome() -> Callable[[], object]:
            try:
                result = work(progress)
            except Stopped:
                return lambda: self.say("Cancelled.")
            except InterruptedError as error:
                return partial(self.say, f"Cancelled: {error}")
            except Exception as error:
                return partial(tell, error)
            return partial(then, result)

        worker = create_worker(outcome)
        worker.returned.connect(self._end)
        worker.start()

    def cancel(self) -> None:
        """Ask the work to stop."""
        _stop_all(self._under_way)
        self._look()

    def _end(self, what_follows: Callable[[], object]) -> None:
        self._under_way.clear()
        self._show_working(False)
        self.say("")
        telling(what_follows)()

    def _show_working(self, working: bool) -> None:
        for starter in self._starters:
            starter.enabled = not working
        self._bar.setVisible(working)
        self._bar.setRange(0, 0)
        self.cancel_button.setVisible(working)
        if working:
            self._timer.start()
        else:
            self._timer.stop()
        self._look()

    def _look(self) -> None:
        """Show how far the work is."""
        for progress in self._under_way:
            self.say(str(progress))
            self.cancel_button.setEnabled(not progress.stop.is_set())
            done = progress.done
            self._bar.setRange(0, 0 if done is None else FINE)
            if done is not None:
                self._bar.setValue(round(FINE * done))


def add_below(panel: Widget, *widgets: QWidget) -> None:
    """Put widgets of Qt at the end of a magicgui form."""
    for widget in widgets:
        panel.native.layout().addWidget(widget)


def _stop_all(under_way: Sequence[Progress]) -> None:
    for progress in under_way:
        progress.stop.set()
