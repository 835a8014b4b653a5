"""From a volume on disk to a volume on disk: continued after a stop, under its final name only when whole."""

import json
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alsiseg import runs, volumes
from alsiseg.prediction import planning, tasks
from alsiseg.prediction.journal import Journal, begun, differences, folder_of
from alsiseg.prediction.options import Options, Plan
from alsiseg.prediction.spread import as_json, spread
from alsiseg.prediction.tasks import SlabMaps, Task
from alsiseg.runs import Trained


def segment_to_file(
    grey: volumes.Volume,
    trained: Trained | str | Path,
    out: str | Path,
    *,
    device: str = "auto",
    options: Options | None = None,
    uncertainty: str | Path | None = None,
    spread_json: str | Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], object] | None = None,
) -> Path:
    """Segment a volume on disk into a volume of labels; memory is that of some slabs, whatever its length.

    A call that was stopped, by Ctrl-C, an error or the end of its process, is continued by the same call: slabs that
    were finished are kept in the folder `out` + ".partial" and are not computed again (see `journal`). Files appear
    under their names when they are whole.

    Parameters
    ----------
    grey
        From `volumes.open`.
    trained
        A network from `runs.load_network`, or a run folder (its last epoch).
    out
        Labels, uint8, in a format that `volumes.write` knows by the name.
    device
        "auto", "cpu", "cuda", ...
    options
        `Options()` unless given.
    uncertainty
        Where to write the uncertainty map (see `Options.uncertainty`).
    spread_json
        Where to write how far the measures differ between views or passes (see `spread`), as JSON.
    overwrite
        Whether files of these names, and what was begun with other settings, may be replaced.
    say : callable or None
        Called with sentences on what is about to be done.

    Raises
    ------
    ValueError, TypeError
        When volume, network and options do not fit together; when a file exists; when what was begun under this name
        had other settings.
    OSError
        When nothing can be written there, or the disk is full.
    """
    out, options = Path(out), options or Options()
    options = replace(
        options,
        uncertainty=options.uncertainty or uncertainty is not None,
        members=options.members or spread_json is not None,
    )
    others = [Path(path) for path in (uncertainty, spread_json) if path is not None]
    _check_free([out, *others], overwrite, is_volume=[True, uncertainty is not None, False])
    task = tasks.prepare(grey, trained, device=device, options=options)
    return write_task(task, out, uncertainty=uncertainty, spread_json=spread_json, overwrite=overwrite, say=say)


def write_task(
    task: Task,
    out: Path,
    *,
    uncertainty: str | Path | None = None,
    spread_json: str | Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], object] | None = None,
) -> Path:
    """Do or continue what `segment_to_file` has checked; `task.clock` then says where the time went."""
    with _journal(task, out, overwrite) as journal:
        _check_disk(task, journal)
        if say is not None:
            kept = f"; {len(journal.finished)} were finished before" if journal.finished else ""
            say(f"{task}{kept}")
        _write(task, journal, out, None if uncertainty is None else Path(uncertainty))
        if spread_json is not None:
            _write_spread(task, journal, Path(spread_json))
        volumes.put_in_place(journal.folder / out.name, out)
        journal.remove()
    return out


def _check_free(paths: list[Path], overwrite: bool, is_volume: list[bool]) -> None:
    """Refuse names that are taken, or where nothing can be written, before work is spent."""
    if len({path.absolute() for path in paths}) < len(paths):
        raise ValueError(f"needs a name of its own for every file, got {', '.join(map(str, paths))}; choose others")
    for path, volume in zip(paths, is_volume, strict=False):
        (volumes.check_output if volume else volumes.check_place)(path)
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists already; choose another name or say --overwrite")


def _journal(task: Task, out: Path, overwrite: bool) -> Journal:
    """Open a journal, or the one of a stopped call with the same settings, whose plan is then kept."""
    folder, settings = folder_of(out), _settings(task)
    before = begun(folder)
    changed = [] if before is None else differences(before, settings, ignored=("plan",))
    if changed and not overwrite:
        raise ValueError(
            f"{folder} holds a segmentation with other settings ({'; '.join(changed)}); repeat that call to finish it, "
            "or say --overwrite to begin anew"
        )
    if before is not None and not changed:
        task.plan = Plan(**before["plan"])
        settings = before
    cores = [slab.core for slab in task.slabs]
    return Journal(folder, task.shape_zyx, task.options.maps, settings, cores, anew=settings is not before)


def _settings(task: Task) -> dict[str, Any]:
    """All that decides the bytes of the labels."""
    network = {name: tensor.float().cpu().numpy() for name, tensor in sorted(task.trained.network.state_dict().items())}
    weights = np.concatenate([array.ravel() for array in network.values()])
    options = asdict(task.options)
    return {
        "scan": f"sha256 {task.scan_sha256} of {' x '.join(map(str, task.shape_zyx))} voxels, sampled",
        "network": f"sha256 {runs.checksum(weights)}",
        **{name: value for name, value in options.items() if name != "tile_px"},
        "device": str(task.device).replace(":0", ""),
        "torch": str(torch.__version__),
        "plan": task.plan.as_dict(),
    }


def _check_disk(task: Task, journal: Journal) -> None:
    """Refuse a disk that will be full before the end."""
    share_left = 1 - len(journal.finished) / len(journal.slabs)
    n_final = int(np.prod(task.shape_zyx, dtype=np.int64)) * (1 + task.options.uncertainty)
    needed = (task.load.disk_bytes - n_final) * share_left + n_final
    free = shutil.disk_usage(journal.folder).free
    if needed > free:
        raise OSError(
            f"needs {planning.gib(needed)} of disk for {journal.folder} and the finished files, found "
            f"{planning.gib(free)}; make room or choose another place"
        )


def _write(task: Task, journal: Journal, out: Path, uncertainty: Path | None) -> None:
    """Write the labels while they are found, and the uncertainty after them."""
    options: dict[str, Any] = {"voxel_size_um": getattr(task.grey_zyx, "voxel_size_um", None)}
    options |= {"shape": task.shape_zyx, "dtype": np.uint8}
    for leftover in journal.folder.glob(".*"):  # what a killed process was writing
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    with closing(_labels(task, journal)) as labels:
        volumes.write(journal.folder / out.name, labels, labels=True, **options)
    if uncertainty is not None:
        with _clear(folder_of(uncertainty)) as folder:
            volumes.write(folder / uncertainty.name, iter(journal.map("uncertainty")), **options)
            volumes.put_in_place(folder / uncertainty.name, uncertainty)


@contextmanager
def _clear(folder: Path) -> Iterator[Path]:
    """Give an empty folder that is gone at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _labels(task: Task, journal: Journal) -> Generator[NDArray[np.uint8], None, None]:
    """Yield slice after slice: of finished slabs from the journal, of the others as they are found."""
    finished = frozenset(journal.finished)
    with closing(tasks.slab_maps(task, finished)) as found:
        for number, z in enumerate(journal.slabs):
            if number in finished:
                yield from journal.read("labels", z)
            else:
                yield from _recorded(task, journal, next(found))


def _recorded(task: Task, journal: Journal, slab: SlabMaps) -> NDArray[np.uint8]:
    with task.clock("journal"):
        journal.record(slab.z, slab.maps)
    return slab.maps["labels"]


def _write_spread(task: Task, journal: Journal, path: Path) -> None:
    """Measure the labels and those of every member, slab by slab, from the journal's files."""
    members = {name: journal.map(name) for name in task.options.member_names}
    found = spread(journal.map("labels"), members, voxel_size_um=getattr(task.grey_zyx, "voxel_size_um", None))
    with volumes.written_whole(path) as partial:
        partial.write_text(json.dumps(as_json(found), indent=2, allow_nan=False) + "\n", encoding="utf-8")
