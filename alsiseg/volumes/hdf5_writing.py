"""Write HDF5 that NeXus readers, ImageJ's HDF5 plugins and `open` understand: compressed, with checksums.

Texts have a fixed length, as those of variable length lie where HDF5 keeps no checksums.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.volumes import checks
from alsiseg.volumes.hdf5 import CREATOR, unwritten
from alsiseg.volumes.stack import Stack

SIGNAL = "/entry/data/data"
GZIP_LEVEL = 1  # labels shrink to some hundredth at any level


def check_library() -> None:
    """Refuse to begin without h5py."""
    _h5py()


def begin(partial: Path, stack: Stack) -> None:
    """Make the groups, the axes and the empty data set."""
    with _writable(partial, "w") as file:
        file.attrs.update({CREATOR: np.bytes_("volumes"), "default": np.bytes_("entry")})
        entry = _group(file, "entry", "NXentry", default=np.bytes_("data"))
        data = _group(entry, "data", "NXdata", signal=np.bytes_("data"), axes=np.array(["z", "y", "x"], "S1"))
        array = data.create_dataset(
            "data",
            stack.shape,
            stack.dtype,
            chunks=stack.chunks,
            compression="gzip",
            compression_opts=GZIP_LEVEL,
            shuffle=stack.dtype.itemsize > 1,
            fletcher32=True,
        )
        array.attrs["long_name"] = np.bytes_("labels" if stack.labels else "grey")
        if stack.voxel_size_um is not None:
            array.attrs["element_size_um"] = [stack.voxel_size_um] * 3
            for name, n_positions in zip("zyx", stack.shape, strict=True):
                positions = data.create_dataset(name, data=np.arange(n_positions) * stack.voxel_size_um)
                positions.attrs["units"] = np.bytes_("um")


def write_slab(partial: Path, z_start: int, slab_zyx: NDArray) -> None:
    """Write the slices."""
    with _writable(partial, "r+") as file:
        array = file[SIGNAL]
        Stack(array.shape, array.dtype).check_slab(z_start, slab_zyx)
        array[z_start : z_start + len(slab_zyx)] = slab_zyx


def complete(partial: Path) -> None:
    """Refuse a volume with missing slabs."""
    with _h5py().File(partial, "r") as file:
        if problem := unwritten(partial, file[SIGNAL]):
            raise ValueError(f"{partial} {problem}; write the missing slabs")


class _DiskThatMayFail(FileIO):
    """A file that keeps its first failure to itself: HDF5 crashes when it cannot write while it closes a file."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:  # Any: every buffer
        """Write everything, or nothing more after the first failure."""
        rest = memoryview(data).cast("B")
        try:
            while len(rest) and self.failure is None:
                rest = rest[super().write(rest) or 0 :]
        except OSError as error:
            self.failure = error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Change the length, or nothing more after the first failure."""
        try:
            return super().truncate(size) if self.failure is None else size or 0
        except OSError as error:
            self.failure = error
            return size or 0


@contextmanager
def _writable(partial: Path, mode: str) -> Iterator[Any]:
    """Open an HDF5 file whose metadata have checksums; a disk that is full is an OSError."""
    with _DiskThatMayFail(partial, "w+" if mode == "w" else mode) as disk:
        try:
            with _h5py().File(disk, mode, libver=("v110", "v110")) as file:
                yield file
        finally:
            if disk.failure is not None:
                raise disk.failure


def _group(parent: Any, name: str, nexus_class: str, **attributes: Any) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = np.bytes_(nexus_class)
    group.attrs.update(attributes)
    return group


def _h5py() -> Any:
    return checks.library("h5py", "writing HDF5")
