"""Maps (labels, uncertainty, labels of members) on disk while they are made, slab by slab."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alsiseg import volumes
from alsiseg.topology import Sliceable

RAW, ZARR = "raw", "zarr"


def file_name(map_name: str) -> str:
    """Name a map's file: "view y, pass 2" becomes "view_y_pass_2"."""
    return map_name.replace(", ", "_").replace(" ", "_")


def stack_of(grey_zyx: Any) -> volumes.Stack:
    """Describe the labels of a scan to be written; Any: whatever has a shape and perhaps a voxel size."""
    return volumes.Stack.checked(grey_zyx.shape, "uint8", getattr(grey_zyx, "voxel_size_um", None), labels=True)


class Map(Protocol):
    """A map that is being made: uint8 (Z, Y, X)."""

    path: Path

    def open(self, *, anew: bool) -> None:
        """Make it, or go on with what is there unless `anew`."""

    def write(self, z: range, map_zyx: NDArray[np.uint8]) -> None:
        """Write the slices `z`; when this returns, they are on the disk."""

    def read(self, z: range) -> NDArray[np.uint8]:
        """Read slices back; ValueError when they are missing or damaged."""

    def whole(self) -> Sliceable:
        """The finished map, in memory only where it is looked at."""

    def close(self) -> None:
        """Let go of the file."""


@dataclass
class RawMap:
    """Bare voxels in one file: slabs may begin anywhere."""

    path: Path
    shape_zyx: tuple[int, int, int]
    _descriptor: int | None = field(default=None, init=False)

    @classmethod
    def named(cls, name: str, folder: Path, stack: volumes.Stack) -> "RawMap":
        """Place it in the folder of a journal."""
        return cls(folder / f"{file_name(name)}.{RAW}", stack.shape)

    @property
    def _plane(self) -> int:
        return self.shape_zyx[1] * self.shape_zyx[2]

    def open(self, *, anew: bool) -> None:
        """Make the file; what is in it stays until it is written over."""
        n_bytes = self.shape_zyx[0] * self._plane
        with volumes.failures_of_disk(self.path):
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            if os.fstat(self._descriptor).st_size != n_bytes:
                os.truncate(self._descriptor, n_bytes)

    def write(self, z: range, map_zyx: NDArray[np.uint8]) -> None:
        """Write the slices; the system may take them in several pieces."""
        assert self._descriptor is not None
        voxels = np.ascontiguousarray(map_zyx).data.cast("B")
        os.lseek(self._descriptor, z.start * self._plane, os.SEEK_SET)
        while voxels:
            voxels = voxels[os.write(self._descriptor, voxels) :]
        os.fsync(self._descriptor)

    def read(self, z: range) -> NDArray[np.uint8]:
        """Read slices back; zeros where nothing was written."""
        assert self._descriptor is not None
        found = bytearray(len(z) * self._plane)
        view, n_read = memoryview(found), 0
        with open(self._descriptor, "rb", closefd=False, buffering=0) as file:
            file.seek(z.start * self._plane)
            while n_read < len(found) and (n := file.readinto(view[n_read:])):
                n_read += n
        return np.frombuffer(found, np.uint8).reshape(len(z), *self.shape_zyx[1:])

    def whole(self) -> Sliceable:
        """Map the file."""
        return np.memmap(self.path, np.uint8, "r", shape=self.shape_zyx)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


@dataclass
class ZarrMap:
    """A zarr: several processes write slabs of whole chunks at once, on a disk that all of them see."""

    path: Path
    stack: volumes.Stack

    @classmethod
    def named(cls, name: str, folder: Path, stack: volumes.Stack) -> "ZarrMap":
        """Place it in the folder of a journal."""
        return cls(folder / f"{file_name(name)}.{ZARR}", stack)

    def open(self, *, anew: bool) -> None:
        """Make the zarr, or make it ready for the slabs that it lacks."""
        volumes.begin(self.path, self.stack, keep=not anew)

    def write(self, z: range, map_zyx: NDArray[np.uint8]) -> None:
        """Write whole chunks."""
        volumes.write_slab(self.path, z.start, map_zyx, flushed=True)

    def read(self, z: range) -> NDArray[np.uint8]:
        """Read slices back."""
        return volumes.read_slab(self.path, z)

    def whole(self) -> Sliceable:
        """Open the finished level 0."""
        return volumes.open(self.path)

    def close(self) -> None:
        """Nothing is held open."""
