"""Long work that is followed and stopped from outside its thread."""

import time
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Stopped(Exception):  # not an error: the user asked for it
    """Ends work that the user has stopped."""


@dataclass
class Progress:
    """How far some work is; the thread that works moves it, the window reads it.

    Attributes
    ----------
    what : str
        What is done at the moment, as in "segmenting on cpu".
    share : float or None
        How much of it is done, 0..1; None when nobody knows.
    stop : Event
        Set to end the work at its next step.
    """

    what: str = ""
    share: float | None = None
    stop: Event = field(default_factory=Event)
    _started: float = field(default_factory=time.monotonic)
    _lasts_s: float | None = None

    def at(self, share: float | None) -> None:
        """Note how much is done.

        Raises
        ------
        Stopped
            When the user asked to stop.
        """
        if self.stop.is_set():
            raise Stopped
        self.share = None if share is None else min(max(share, 0.0), 1.0)

    def begin(self, what: str, *, lasts_s: float | None = None) -> None:
        """Begin the next kind of work, whose time counts from now, and is known or not; raises as `at`."""
        self.at(None)
        self.what, self._started, self._lasts_s = what, time.monotonic(), lasts_s

    @property
    def done(self) -> float | None:
        """Share that is done, 0..1, by the clock where it is known how long the work lasts."""
        if self._lasts_s is None:
            return self.share
        return min(1.0, (time.monotonic() - self._started) / self._lasts_s)

    def __str__(self) -> str:
        """Say what is done, how far it is, and how long it has left."""
        if self.stop.is_set():
            return "stopping ..."
        seconds = time.monotonic() - self._started
        done = self.done
        if not done:
            return f"{self.what}, {duration(seconds)} so far"
        return f"{self.what}, {100 * done:.0f} %, about {duration(seconds * (1 - done) / done)} left"


def duration(seconds: float) -> str:
    """Write a time as "12 s", "3 min 20 s" or "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


class Watched:
    """A volume that tells when slices of it are read, and ends the reading when the user stops the work."""

    def __init__(self, volume_zyx: Any, progress: Progress, *, n_times: int) -> None:
        """Expect the volume (anything that can be sliced) to be read `n_times` as a whole."""
        self.volume_zyx, self.progress = volume_zyx, progress
        self.shape: tuple[int, ...] = tuple(map(int, volume_zyx.shape))
        self.dtype, self.ndim = np.dtype(volume_zyx.dtype), len(self.shape)
        self._n_expected, self._n_read = n_times * self.shape[0], 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray:
        self.progress.at(self._n_read / self._n_expected)
        read = np.asarray(self.volume_zyx[key])
        self._n_read += read.shape[0] if read.ndim == len(self.shape) else 1
        return read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return self[:].astype(dtype or self.dtype, copy=False)
