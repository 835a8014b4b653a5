"""One training at a time: two in one run folder would replace each other's epochs."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from alsiseg.volumes import check_place, failures_of_disk


@contextmanager
def locked(run_dir: str | Path) -> Iterator[None]:
    """Keep every other training out of a run folder while the block runs.

    The operating system holds the lock, on a hidden file beside the folder (which may be renamed meanwhile), and lets
    go of it when the process ends, however it ends: what a killed training left behind locks nobody out.

    Raises
    ------
    ValueError
        When another training holds it; the message names the process.
    OSError
        When nothing can be written beside the folder.
    """
    path = _lock_file(Path(run_dir))
    check_place(path)
    lock = FileLock(path, blocking=False)
    with failures_of_disk(path):
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise ValueError(
                f"{run_dir} is being trained by {_holder(path)}; wait for its end, stop it, or choose another folder"
            ) from error
    try:
        with suppress(OSError):  # who it is, is said for people only
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is held: whoever opened it meanwhile finds it without a name and opens a new one
        lock.release()


def _lock_file(run_dir: Path) -> Path:
    run_dir = run_dir.absolute()
    return run_dir.with_name(f".{run_dir.name}.training")


def _holder(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip() or "another process"
    return "another process"
