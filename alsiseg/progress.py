"""Progress with the time left, the same in a terminal, a notebook and a log."""

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def steps(
    iterable: Iterable[Item] | None, what: str, total: int | None = None, *, unit: str = "it", hidden: bool = False
) -> "tqdm[Item]":
    """Pass `iterable` on and show on standard error how far it is and how long it has left.

    With no iterable the caller moves the bar with ``update``. Nothing is drawn for work that
    ends within two seconds, and nothing at all when `hidden`. The speed is shown in `unit` per second.
    """
    return tqdm(
        iterable,
        desc=what,
        total=total,
        unit=unit,
        delay=2,
        mininterval=0.5,
        file=sys.stderr,
        leave=False,
        disable=hidden,
    )
