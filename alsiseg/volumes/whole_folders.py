"""Write whole folders or none: what `writing` does for files."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alsiseg.volumes.writing import check_place, failures_of_disk, flush
from alsiseg.volumes.zarrs import is_zarr

UNFINISHED, REPLACED = ".unfinished-", ".replaced-"


@contextmanager
def written_whole_folder(path: str | Path) -> Iterator[Path]:
    """Give the path of a folder to write; rename it to `path` when the block ends without an error.

    Its files reach the disk before the rename. Folders made for it go again with an error.

    Raises
    ------
    OSError
        Before the block is entered, when nothing can be written at `path`; after it, when the disk is full or fails.
    """
    path = Path(path)
    check_place_of_folder(path)
    partial = path.with_name(f"{UNFINISHED}{os.getpid()}-{path.name}")
    new_folders = [folder for folder in path.parents if not folder.exists()]
    try:
        with failures_of_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            flush_tree(partial)
            put_in_place(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            for folder in new_folders:
                folder.rmdir()
        raise


def check_place_of_folder(path: Path) -> None:
    """Refuse a path where no zarr folder can be written; one that stands there may be replaced, nothing else."""
    if path.exists() and not (path.is_dir() and is_zarr(path)):
        raise FileExistsError(f"needs a free name or a zarr folder to replace, found something else at {path}")
    check_place(path.with_name(f"{UNFINISHED}{path.name}") if path.is_dir() else path)


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a finished file or folder to its final name; a folder that stands there is removed afterwards."""
    replaced = path.with_name(f"{REPLACED}{os.getpid()}-{path.name}")
    if path.is_dir():
        path.rename(replaced)
    partial.replace(path)
    shutil.rmtree(replaced, ignore_errors=True)
    flush(path.parent)


def flush_tree(path: Path) -> None:
    """Wait until a file, or every file of a folder, is on the disk."""
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                flush(Path(folder, name))
            flush(Path(folder))
    else:
        flush(path)
