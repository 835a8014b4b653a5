"""What a stopped segmentation leaves: the finished slabs, and a journal that says which they are.

Beside `labels.tif` stands, while it is made, the folder `labels.tif.partial`:

::

    settings.json     what decides the labels: scan, network, options, device, versions; and how the work was cut up
    journal.jsonl     one line per finished slab, with the checksums of its voxels
    labels.raw, ...   the voxels, uint8, one file per map; where workers write them labels.zarr, ...

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

from alsiseg.prediction.maps import Map
from alsiseg.progress import steps
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
    maps : dict
        By name, where a map is kept.
    settings : dict
        As in settings.json: those of the first call, when this one continues it.
    slabs : list of range
        Slices of every slab.
    anew : bool
        Whether to forget what is there.
    """

    folder: Path
    maps: dict[str, Map]
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
            for of in self.maps.values():
                of.open(anew=self.anew)
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

    def _read_lines(self) -> None:
        """Find the finished slabs; cut off a last line that a stop left unfinished."""
        self._lines.seek(0)
        end = 0
        for line in steps(self._lines.readlines(), "checking finished slabs", unit=" slabs"):
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
        try:
            return entry.get("sha256") == checksums({name: self.read(name, self.slabs[number]) for name in self.maps})
        except (ValueError, OSError):  # a chunk of a zarr is missing or damaged
            return False

    def record(self, z: range, maps: dict[str, NDArray[np.uint8]]) -> None:
        """Keep a finished slab; when this returns, it is on the disk."""
        with failures_of_disk(self.folder):
            for name, map_zyx in maps.items():
                self.maps[name].write(z, map_zyx)
        self.note(self.slabs.index(z), checksums(maps))

    def note(self, number: int, sha256: dict[str, str]) -> None:
        """Record that a slab is finished whose voxels are on the disk."""
        z = self.slabs[number]
        line = json.dumps({"slab": number, "z": [z.start, z.stop], "sha256": sha256})
        with failures_of_disk(self.folder):
            self._lines.write(line.encode() + b"\n")
            self._lines.flush()
            os.fsync(self._lines.fileno())
        self.finished.add(number)

    def read(self, name: str, z: range) -> NDArray[np.uint8]:
        """Read slices of a map back."""
        return self.maps[name].read(z)

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close(self) -> None:
        for of in self.maps.values():
            of.close()
        self._lines.close()


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


def checksums(maps: dict[str, NDArray[np.uint8]]) -> dict[str, str]:
    """Checksums of the voxels of every map."""
    return {name: hashlib.sha256(np.ascontiguousarray(map_zyx).data).hexdigest() for name, map_zyx in maps.items()}


def _entry(line: bytes) -> dict[str, Any] | None:
    """Parse a line of the journal; None when it is not whole."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if line.endswith(b"\n") and isinstance(entry, dict) else None
