"""Slices of a volume along any axis: no more of a file is read than needed, and what was read is kept."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.phases import check_labels
from alsiseg.viewer.stack import LABELS, PLANE_AXES, Plane, Sliceable, Stack
from alsiseg.volumes import Volume

KEPT_BYTES = 512 * 2**20  # of each volume; a volume no larger is read once
BLOCK_BYTES = 32 * 2**20  # read at a time while a whole volume is walked through

Report = Callable[[int, int], None]  # gets how many slices are read, and of how many; may raise to stop


def in_silence(_n_read: int, _n_all: int) -> None:
    """Report nothing."""


@dataclass
class _Slab:
    """Neighbouring slices along one axis, filled from the first z on."""

    axis: int
    start: int
    array: NDArray
    n_read: int = 0  # slices along z

    @property
    def stop(self) -> int:
        return self.start + self.array.shape[self.axis]


class Slices:
    """One volume, read slice by slice along any axis.

    Arrays are only indexed. A `Volume` gives slices along z alone: for one along y or x all of the file has to be
    walked through, so as many neighbours as `kept_bytes` allow are kept with it.

    Parameters
    ----------
    volume : volume (Z, Y, X)
    kept_bytes : int
        What may be kept in memory of what was read.
    """

    def __init__(self, volume: Sliceable, *, kept_bytes: int = KEPT_BYTES) -> None:
        self.volume = volume
        self.kept_bytes = kept_bytes
        self._slabs: OrderedDict[tuple[int, int, int], _Slab] = OrderedDict()

    def at(self, axis: int, index: int, report: Report = in_silence) -> NDArray:
        """Read the slice `index` along an axis (0 z, 1 y, 2 x).

        When `report` raises, what was read so far is kept, and the next call goes on from there.
        """
        if isinstance(self.volume, np.ndarray):
            return self.volume[_across(axis, index)]
        slab = self._kept(axis, index) or self._new(axis, index)
        self._fill(slab, report)
        within = index - (slab.start if slab.axis == axis else 0)
        return slab.array[_across(axis, within)]

    def is_near(self, axis: int, index: int) -> bool:
        """Whether a slice can be had without a walk through a file."""
        return axis == 0 or not isinstance(self.volume, Volume) or self._kept(axis, index) is not None

    def forget(self) -> None:
        """Give the memory of what was kept back."""
        self._slabs = OrderedDict()

    def _kept(self, axis: int, index: int) -> _Slab | None:
        """Find what is kept of a slice; of the whole volume also along the other axes."""
        for key, slab in reversed(self._slabs.items()):
            is_whole = slab.array.shape == tuple(self.volume.shape)
            if is_whole and axis == 0 and index >= slab.n_read:
                continue  # quicker read alone than with all that is still missing before it
            if is_whole or (slab.axis == axis and slab.start <= index < slab.stop):
                self._slabs.move_to_end(key)
                return slab
        return None

    def _new(self, axis: int, index: int) -> _Slab:
        """Make room for a slice with the neighbours that are read with it."""
        axis, start, stop = self._extent(axis, index)
        shape = list(self.volume.shape)
        shape[axis] = stop - start
        slab = _Slab(axis, start, np.empty(shape, self._dtype))
        self._slabs[axis, start, stop] = slab
        while len(self._slabs) > 1 and sum(kept.array.nbytes for kept in self._slabs.values()) > self.kept_bytes:
            self._slabs.popitem(last=False)
        return slab

    def _extent(self, axis: int, index: int) -> tuple[int, int, int]:
        """Axis, start and stop of what is read for one slice."""
        n_slices = self.volume.shape[axis]
        n_bytes = int(np.prod(self.volume.shape)) * self._dtype.itemsize // n_slices
        if not isinstance(self.volume, Volume):
            return axis, index, index + 1
        if axis == 0:
            depth = self.volume.chunks[0] if self.volume.chunks else 1
            depth = depth if depth * n_bytes <= self.kept_bytes // 2 else 1
            return axis, index // depth * depth, min(n_slices, index // depth * depth + depth)
        if n_bytes * n_slices <= self.kept_bytes:
            return 0, 0, self.volume.shape[0]
        thickness = max(1, self.kept_bytes // 2 // n_bytes)  # half, so that xz and yz can be kept both
        start = max(0, min(index - thickness // 2, n_slices - thickness))
        return axis, start, start + thickness

    def _fill(self, slab: _Slab, report: Report) -> None:
        """Read what a slab lacks."""
        n_all, start, step = slab.array.shape[0], slab.start if slab.axis == 0 else 0, slab.array.shape[0]
        if isinstance(self.volume, Volume) and (slab.axis or n_all == self.volume.shape[0]):
            step = self._step()
        rest = (slice(None), *(slice(slab.start, slab.stop) if slab.axis == axis else slice(None) for axis in (1, 2)))
        while slab.n_read < n_all:
            stop = min(n_all, slab.n_read + step)
            key = (slice(start + slab.n_read, start + stop), *rest[1:])
            slab.array[slab.n_read : stop] = self.volume[key]
            slab.n_read = stop
            report(stop, n_all)

    def _step(self) -> int:
        """Slices read at a time on the way through the volume: whole chunks."""
        chunk = self.volume.chunks[0] if isinstance(self.volume, Volume) and self.volume.chunks else 1
        n_bytes = int(np.prod(self.volume.shape[1:])) * self._dtype.itemsize
        return max(1, BLOCK_BYTES // (n_bytes * chunk)) * chunk

    @property
    def _dtype(self) -> np.dtype:
        return np.dtype(getattr(self.volume, "dtype", None) or self.volume[:1].dtype)


@dataclass(frozen=True)
class Section:
    """One slice of a stack as a browser gets it.

    Attributes
    ----------
    grey : array (rows, columns)
        In a number type that browsers know, least significant byte first.
    labels : uint8 array (rows, columns) or None
        The first label volume in the lower four bits, the second in the upper four.
    """

    grey: NDArray
    labels: NDArray[np.uint8] | None

    @property
    def parts(self) -> list[NDArray]:
        """Grey values, then labels if there are some."""
        return [self.grey] if self.labels is None else [self.grey, self.labels]

    @property
    def n_bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts)


class Sections:
    """Slices of a stack along any axis, grey values and labels together."""

    def __init__(self, stack: Stack, *, kept_bytes: int = KEPT_BYTES) -> None:
        self.grey = Slices(stack.grey, kept_bytes=kept_bytes)
        self.labels = {
            name: Slices(stack.labels[name], kept_bytes=kept_bytes) for name in LABELS if name in stack.labels
        }

    def read(self, plane: Plane, index: int, report: Report = in_silence) -> Section:
        """Read slice `index` of a plane; `report` hears of long ways through files.

        Raises
        ------
        ValueError, TypeError
            When labels are not labels or the file is damaged.
        """
        axis = PLANE_AXES[plane]
        n_volumes = 1 + len(self.labels)

        def share(done: int) -> Report:
            return lambda n_read, n_all: report(done * n_all + n_read, n_volumes * n_all)

        grey = for_browser(self.grey.at(axis, index, share(0)))
        if not self.labels:
            return Section(grey, None)
        packed = np.zeros(grey.shape, np.uint8)
        for place, (name, volume) in enumerate(self.labels.items()):
            labels = volume.at(axis, index, share(place + 1))
            check_labels(labels, name)
            packed |= labels.astype(np.uint8) << (4 * place)
        return Section(grey, packed)

    def are_near(self, plane: Plane, index: int) -> bool:
        """Whether a slice can be had without a walk through a file."""
        return all(volume.is_near(PLANE_AXES[plane], index) for volume in (self.grey, *self.labels.values()))

    def forget(self) -> None:
        """Give the memory of what was kept back."""
        for volume in (self.grey, *self.labels.values()):
            volume.forget()


def for_browser(values: NDArray) -> NDArray:
    """Copy to a number type that a browser has arrays of, rows one after the other.

    float16 becomes float32, booleans and 64-bit whole numbers float64 (exact up to 2**53).
    """
    values = np.asarray(values)
    if values.dtype.kind == "f":
        known = np.dtype(np.float32 if values.dtype.itemsize <= 4 else np.float64)
    elif values.dtype.kind in "iu" and values.dtype.itemsize <= 4:
        known = values.dtype
    else:
        known = np.dtype(np.uint8 if values.dtype == bool else np.float64)
    return np.ascontiguousarray(values, known.newbyteorder("<"))


def _across(axis: int, index: int) -> tuple[Any, ...]:
    """Index of one slice along an axis."""
    return (*(slice(None),) * axis, index)
