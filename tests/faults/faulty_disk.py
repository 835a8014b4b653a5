"""A disk that fails, or a program that is killed, at a chosen call that writes."""

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

KILLED = "killed"
FAULTS = ("ENOSPC", "EIO", KILLED)
NEED_SPACE = ("create", "open", "write", "mkdir")  # what a full disk goes on refusing


@dataclass
class FaultyDisk:
    """Count the calls that change the disk; at call number `at` (from 1) let `fault` happen.

    A write is cut in half first, so that the file is really torn. A disk stays full (ENOSPC) after the call;
    it fails once (EIO).
    """

    at: int | None = None
    fault: str = "EIO"
    calls: list[tuple[str, str]] = field(default_factory=list)

    def call(self, kind: str, path: object, tear: Callable[[], object] = lambda: None) -> None:
        """Count a call and fail or die when it is the one."""
        name = _name(path)
        self.calls.append((kind, name))
        full = self.fault == "ENOSPC" and kind in NEED_SPACE
        if self.at is None or len(self.calls) < self.at or (len(self.calls) > self.at and not full):
            return
        tear()
        if self.fault == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.fault)
        raise OSError(number, os.strerror(number), name)

    @contextmanager
    def inserted(self) -> Iterator[None]:
        """Put this disk under everything that Python writes."""
        opened = self._opening()
        with (
            patch.object(builtins, "open", opened),
            patch.object(io, "open", opened),
            patch.object(os, "open", self._creating()),
            patch.object(os, "fsync", self._counted("fsync", os.fsync)),
            patch.object(os, "replace", self._counted("rename", os.replace)),
            patch.object(os, "rename", self._counted("rename", os.rename)),
            patch.object(os, "unlink", self._counted("unlink", os.unlink)),
            patch.object(os, "mkdir", self._counted("mkdir", os.mkdir)),
        ):
            yield

    def _counted(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: object, *rest: object, **options: object) -> Any:
            self.call(kind, path)
            return function(path, *rest, **options)

        return counted

    def _creating(self) -> Callable[..., int]:
        plain = os.open

        def create(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                self.call("create", path)
            return plain(path, flags, *rest, **options)

        return create

    def _opening(self) -> Callable[..., Any]:
        plain = io.open

        def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if isinstance(file, int) or not set(mode) & set("wax+"):
                return plain(file, mode, *rest, **options)
            self.call("open", file)
            raw = _WatchedFile(file, mode.replace("b", "").replace("t", ""), self)
            buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            if "b" in mode:
                return buffered
            names = ("encoding", "errors", "newline")
            return io.TextIOWrapper(buffered, **{name: options.get(name) for name in names})

        return opened


def _name(path: Any) -> str:
    if isinstance(path, int):
        path = os.readlink(f"/proc/self/fd/{path}") if Path("/proc/self/fd").is_dir() else f"descriptor {path}"
    return Path(os.fsdecode(path)).name


class _WatchedFile(io.FileIO):
    """A file whose every write is a call of the disk."""

    def __init__(self, path: Any, mode: str, disk: FaultyDisk) -> None:
        super().__init__(path, mode)
        self._disk = disk

    def write(self, content: Any) -> int:
        half = bytes(content)[: len(content) // 2]
        self._disk.call("write", self.name, lambda: super(_WatchedFile, self).write(half))
        return super().write(content)

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")  # numpy would write past this object
