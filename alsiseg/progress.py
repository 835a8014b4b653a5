"""Progress with the time left, the same in a terminal, a notebook and a log."""

import sys
from collections.abc import Iterable
from typing import TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def steps(
    iterable: Iterable[Item] | None, what: str, total: int | None = None, *, unit: str = "it", hidden: bool = False
) -> "tqdm[Item]":
    """Pass `iterable` on and show how far it is and how long it has left.

    It is shown on standard error, in a notebook as a line under the cell, and is gone when the work has ended. With
    no iterable the caller moves the bar with ``update``. Nothing is drawn for work that ends within two seconds, and
    nothing at all when `hidden`. The speed is shown in `unit` per second.
    """
    return tqdm(
        iterable,
        desc=what,
        total=total,
        unit=unit,
        delay=2,
        mininterval=0.5,
        file=_where(),
        leave=False,
        disable=hidden,
    )


def _where() -> TextIO:
    """Standard error; in a notebook, which prints that on red like a mistake, standard output.

    A line of text is what `make figures` can pass on from the notebooks that it runs; a bar of ipywidgets would also
    leave "model not found" in a notebook that is opened again.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return sys.stdout if hasattr(shell, "kernel") else sys.stderr
