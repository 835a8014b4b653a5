"""Write whole files or none."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial-"  # how the name of an unfinished file begins
FAILURES_OF_DISK = {errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG, errno.EROFS}


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a path to write to; rename it to `path` when the block ends without an error.

    The data reach the disk before the rename and the rename before the end, so that whatever stops the
    program or the machine leaves either the previous file or the new one, never a part. Folders made for
    it go again with an error.

    Raises
    ------
    OSError
        Before the block is entered, when nothing can be written at `path`; after it, when the disk is
        full or fails.
    """
    path = Path(path)
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    new_folders = [folder for folder in path.parents if not folder.exists()]
    try:
        with failures_of_disk(path):
            _claim(path, partial)
            yield partial
            flush(partial)
            partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
            for folder in new_folders:
                folder.rmdir()
        raise
    with failures_of_disk(path):
        for folder in [path.parent, *(new.parent for new in new_folders)]:
            flush(folder)


def discard_partial(path: Path) -> None:
    """Remove what killed programs left of a file that they were writing; its name may be a pattern such as ``*``."""
    for partial in path.parent.glob(f"{PARTIAL}[0-9]*-{path.name}"):
        with failures_of_disk(partial):
            partial.unlink(missing_ok=True)


@contextmanager
def failures_of_disk(path: Path) -> Iterator[None]:
    """Say in one sentence that the disk, and nothing else, kept `path` from being written."""
    try:
        yield
    except OSError as error:
        if error.errno not in FAILURES_OF_DISK:
            raise
        reason = os.strerror(error.errno).lower()
        failure = OSError(f"needs a working disk with space for {path}, found: {reason}; make room or choose another")
        failure.errno = error.errno
        raise failure from error


def check_place(path: str | Path) -> None:
    """Refuse a path where no file can be written, before work is spent on it; makes nothing.

    Raises
    ------
    OSError
        When `path` is a folder, lies below a file, or in a folder that may not be written to.
    """
    path = Path(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise IsADirectoryError(_no_place(path, "a folder of that name"))
    if not folder.is_dir():
        raise NotADirectoryError(_no_place(path, f"the file {folder} in place of a folder"))
    if not os.access(folder, os.W_OK):
        raise PermissionError(_no_place(path, f"no permission to write in {folder}"))


def _no_place(path: Path, found: str) -> str:
    return f"needs a place to write {path}, found {found}; choose another one"


def _claim(path: Path, partial: Path) -> None:
    """Make the folder and the empty partial file, or say why that cannot be."""
    check_place(path)
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        partial.touch()
    except OSError as error:  # a name too long, a full or read-only disk
        raise OSError(_no_place(path, str(error.strerror).lower())) from error


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name != "posix":
        return  # elsewhere a folder cannot be opened
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
