"""Curves of trainings that grow in a notebook while the trainings run."""

import contextvars
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alsiseg import figures, runs
from alsiseg.viewer.notebook import in_notebook

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@contextmanager
def growing_curves(run_dirs: Mapping[str, str | Path], *, every_s: float = 2.0) -> Iterator[None]:
    """Show loss and accuracy of runs in a notebook, redrawn while the block trains them.

    The curves are read from the run folders: a notebook that is opened again shows at once what was trained
    before. Outside a notebook the block runs and nothing is shown.

    Parameters
    ----------
    run_dirs
        Name of each curve and the run folder it is read from; a folder may not exist yet.
    every_s
        Seconds between two looks at the folders.
    """
    if not in_notebook():
        yield
        return
    from IPython.display import display

    figures.show_in_notebooks()
    seen_at_first = _epochs(run_dirs)  # before it is drawn, so that no epoch is missed
    handle = display(curves_so_far(run_dirs), display_id=True)
    finished = threading.Event()

    def watch() -> None:
        seen = seen_at_first
        while not finished.wait(every_s):
            if (now := _epochs(run_dirs)) != seen:
                seen = now
                handle.update(curves_so_far(run_dirs))

    # The context carries which cell is running, so that the picture stays below it.
    watcher = threading.Thread(target=contextvars.copy_context().run, args=(watch,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
        handle.update(curves_so_far(run_dirs))


def curves_so_far(run_dirs: Mapping[str, str | Path]) -> "Figure":
    """Draw loss and accuracy on the test slices of the runs that have begun."""
    return figures.loss_overview({name: runs.read_history(Path(run_dirs[name])) for name in _epochs(run_dirs)})


def _epochs(run_dirs: Mapping[str, str | Path]) -> dict[str, int]:
    """Last epoch of every run that has a history."""
    begun = {name: Path(folder) for name, folder in run_dirs.items() if (Path(folder) / "history.csv").is_file()}
    return {name: int(runs.read_history(folder)["epoch"][-1]) for name, folder in begun.items()}
