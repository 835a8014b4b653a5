"""Finished parts of a long computation, kept in a folder until the whole is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import volumes


@dataclass(frozen=True)
class Parts:
    """A folder of arrays, each there whole or not at all, all made as `key` says."""

    directory: Path
    key: dict[str, Any]

    def prepare(self) -> None:
        """Make the folder; parts that were made otherwise go."""
        key_path = self.directory / "key.json"
        try:
            known = json.loads(key_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if known != self.key:
            self.remove()
            with volumes.written_whole(key_path) as partial:
                partial.write_text(json.dumps(self.key), encoding="utf-8")

    def holds(self, name: str) -> bool:
        """Whether the part is there."""
        return self._path(name).is_file()

    def save(self, name: str, array: NDArray) -> None:
        """Keep a part."""
        with volumes.written_whole(self._path(name)) as partial, partial.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    def load(self, name: str) -> NDArray:
        """Open a part; its data are read from the disk when they are used."""
        return np.load(self._path(name), mmap_mode="r", allow_pickle=False)

    def remove(self) -> None:
        """Drop all parts."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.npy"
