"""One process at a time: two trainings in one run folder would replace each other's epochs."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from alsiseg.volumes import check_place, failures_of_disk


@contextmanager
def locked(run_dir: str | Path) -> Iterator[None]:
    """Keep every other training out of a run folder while the block runs (see `claimed`).

    Raises
    ------
    ValueError
        When another training holds it; the message names the process.
    OSError
        When nothing can be written beside the folder.
    """
    with claimed(run_dir) as ours:
        if not ours:
            raise ValueError(
                f"{run_dir} is being trained by {_holder(_lock_file(Path(run_dir)))}; wait for its end, stop it, or "
                "choose another folder"
            )
        yield


@contextmanager
def claimed(path: str | Path, *, wait: bool = False) -> Iterator[bool]:
    """Claim the making of a file or folder while the block runs; False when another process has claimed it.

    The operating system holds the claim, on a hidden file beside `path` (which may be renamed meanwhile), and lets go
    of it when the process ends, however it ends: what a killed process left behind locks nobody out.

    Parameters
    ----------
    path
        It need not be there.
    wait
        Say who has it, wait until the other has ended, then claim it.

    Raises
    ------
    OSError
        When nothing can be written beside `path`.
    """
    file = _lock_file(Path(path))
    check_place(file)
    lock = FileLock(file, blocking=False)
    with failures_of_disk(file):
        if not file.parent.is_dir():
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            if wait:
                print(f"waiting for {path}, made by {_holder(file)}", flush=True)
                lock.acquire(blocking=True)
    if not lock.is_locked:
        yield False
        return
    try:
        with suppress(OSError):  # who it is, is said for people only
            file.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield True
    finally:
        with suppress(OSError):
            file.unlink()  # while it is held: whoever opened it meanwhile finds it without a name and opens a new one
        lock.release()


def _lock_file(path: Path) -> Path:
    path = path.absolute()
    return path.with_name(f".{path.name}.training")


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip() or "another process"
    return "another process"
