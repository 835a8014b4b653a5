"""What a stopped segmentation leaves: the finished slabs, and a journal that says which they are.

Beside `labels.tif` stands, while it is made, the folder `labels.tif.partial`:

::

    settings.json     what decides the labels: scan, network, options, device, versions; and how the work was cut up
    journal.jsonl     one line per finished slab, with the checksums of its voxels
    labels.raw, ...   the voxels, uint8, one file per map

A slab's voxels reach the disk before its line does. A slab counts as finished when its line is whole and its voxels
have the checksums in it; any other is made again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.volumes import failures_of_disk, written_whole

FORMAT = "alsiseg segmentation 1"


def folder_of(out: Path) -> Path:
    """Name the folder of what is under way to `out`."""
    return out.with_name(f"{out.name}.partial")


@dataclass
class Journal:
    """An open journal; a context that leaves nothing behind when no slab was finished.

    Attributes
    ----------
    folder : Path
    shape_zyx : tuple of int
        Of every map.
    maps : tuple of str
        Names of the maps.
    settings : dict
        As in settings.json: those of the first call, when this one continues it.
    slabs : list of range
        Slices of every slab.
    anew : bool
        Whether to forget what is there.
    """

    folder: Path
    shape_zyx: tuple[int, int, int]
    maps: tuple[str, ...]
    settings: dict[str, Any]
    slabs: list[range]
    anew: bool = False

    def __post_init__(self) -> None:
        self.finished: set[int] = set()
        self._new_folders: list[Path] = []

    def __enter__(self) -> "Journal":
        self._new_folders = [folder for folder in self.folder.parents if not folder.exists()]
        with failures_of_disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lines = (self.folder / "journal.jsonl").open("a+b")
        try:
            self._lock()
            if self.anew:
                self._lines.truncate(0)
            self._files = {name: self._opened(name) for name in self.maps}
            self._read_lines()
            with written_whole(self.folder / "settings.json") as partial:
                partial.write_text(json.dumps({"format": FORMAT, **self.settings}, indent=2) + "\n")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # The file, not `finished`, is asked: Ctrl-C may fall between a slab's line and its entry there.
        nothing_kept = error is not None and os.fstat(self._lines.fileno()).st_size == 0
        self._close()
        if nothing_kept:
            self.remove()
            with suppress(OSError):
                for folder in self._new_folders:
                    folder.rmdir()

    def _lock(self) -> None:
        """Refuse to work where another process is at work; the lock ends with its process, however that ends."""
        try:
            import fcntl
        except ImportError:  # a system without such locks
            return
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(
                f"{self.folder} is being written by another process; wait for it or choose another output"
            ) from error

    def _opened(self, name: str) -> int:
        path = self.folder / f"{file_name(name)}.raw"
        with failures_of_disk(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            if os.fstat(descriptor).st_size != self._n_bytes:
                os.truncate(descriptor, self._n_bytes)
        return descriptor

    @property
    def _n_bytes(self) -> int:
        return int(np.prod(self.shape_zyx, dtype=np.int64))

    @property
    def _plane(self) -> int:
        return self.shape_zyx[1] * self.shape_zyx[2]

    def _read_lines(self) -> None:
        """Find the finished slabs; cut off a last line that a stop left unfinished."""
        self._lines.seek(0)
        end = 0
        for line in self._lines:
            entry = _entry(line)
            if entry is None:
                break
            end += len(line)
            if self._is_good(entry):
                self.finished.add(entry["slab"])
        self._lines.truncate(end)

    def _is_good(self, entry: dict[str, Any]) -> bool:
        """Whether a line is about a slab of this work and its voxels are the ones that were written."""
        number = entry.get("slab")
        if not isinstance(number, int) or not 0 <= number < len(self.slabs):
            return False
        return entry.get("sha256") == _checksums({name: self.read(name, self.slabs[number]) for name in self.maps})

    def record(self, z: range, maps: dict[str, NDArray[np.uint8]]) -> None:
        """Keep a finished slab; when this returns, it is on the disk."""
        with failures_of_disk(self.folder):
            for name, map_zyx in maps.items():
                _write_at(self._files[name], np.ascontiguousarray(map_zyx).data.cast("B"), z.start * self._plane)
                os.fsync(self._files[name])
            number = self.slabs.index(z)
            line = json.dumps({"slab": number, "z": [z.start, z.stop], "sha256": _checksums(maps)})
            self._lines.write(line.encode() + b"\n")
            self._lines.flush()
            os.fsync(self._lines.fileno())
        self.finished.add(number)

    def read(self, name: str, z: range) -> NDArray[np.uint8]:
        """Read slices of a map back."""
        found = bytearray(len(z) * self._plane)
        view, at = memoryview(found), z.start * self._plane
        n_read = 0
        with open(self._files[name], "rb", closefd=False, buffering=0) as file:
            file.seek(at)
            while n_read < len(found) and (n := file.readinto(view[n_read:])):
                n_read += n
        return np.frombuffer(found, np.uint8).reshape(len(z), *self.shape_zyx[1:])

    def map(self, name: str) -> NDArray[np.uint8]:
        """A finished map (Z, Y, X), in memory only where it is looked at."""
        return np.memmap(self.folder / f"{file_name(name)}.raw", np.uint8, "r", shape=self.shape_zyx)

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close(self) -> None:
        for descriptor in getattr(self, "_files", {}).values():
            os.close(descriptor)
        self._files = {}
        self._lines.close()


def file_name(map_name: str) -> str:
    """Name a map's file: "view y, pass 2" becomes "view_y_pass_2"."""
    return map_name.replace(", ", "_").replace(" ", "_")


def begun(folder: Path) -> dict[str, Any] | None:
    """Read the settings of what was begun in `folder`; None when there is nothing that can be continued."""
    path = folder / "settings.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = content.pop("format")
    except (ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged; remove {folder} and begin anew") from error
    if found != FORMAT:
        raise ValueError(f"needs {FORMAT!r}, {path} has {found!r}; finish it with that version or remove {folder}")
    return content


def differences(before: dict[str, Any], now: dict[str, Any], ignored: Iterable[str]) -> list[str]:
    """Name the settings that differ."""
    keys = [key for key in before | now if key not in ignored]
    return [f"{key} {before.get(key)} -> {now.get(key)}" for key in keys if before.get(key) != now.get(key)]


def _checksums(maps: dict[str, NDArray[np.uint8]]) -> dict[str, str]:
    return {name: hashlib.sha256(np.ascontiguousarray(map_zyx).data).hexdigest() for name, map_zyx in maps.items()}


def _entry(line: bytes) -> dict[str, Any] | None:
    """Parse a line of the journal; None when it is not whole."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if line.endswith(b"\n") and isinstance(entry, dict) else None


def _write_at(descriptor: int, voxels: memoryview, offset: int) -> None:
    """Write all bytes at a place; the system may take them in several pieces."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    while voxels:
        voxels = voxels[os.write(descriptor, voxels) :]
