"""From a volume on disk to a volume on disk: continued after a stop, under its final name only when whole."""

import json
import math
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from alsiseg import runs, volumes
from alsiseg.prediction import planning, tasks, workers
from alsiseg.prediction.journal import Journal, begun, differences, folder_of
from alsiseg.prediction.maps import RAW, ZARR, Map, RawMap, ZarrMap, stack_of
from alsiseg.prediction.options import Options, Plan
from alsiseg.prediction.spread import as_json, spread
from alsiseg.prediction.tasks import SlabMaps, Task
from alsiseg.progress import steps
from alsiseg.runs import Trained

if TYPE_CHECKING:
    from distributed import Client


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
    client: "Client | None" = None,
) -> Path:
    """Segment a volume on disk into a volume of labels; memory is that of some slabs, whatever its length.

    A call that was stopped, by Ctrl-C, an error or the end of its process, is continued by the same call: slabs that
    were finished are kept in the folder `out` + ".partial" and are not computed again (see `journal`). Files appear
    under their names when they are whole.

    With a `client`, the workers of its cluster do the slabs. They must see the scan and the folder of `out` under the
    same paths as this process, and be of one kind: with the same plan, the labels are those of one process. Every
    worker (process) does one slab at a time with all its threads, so few workers with many threads are best. They
    write into one zarr; an `out` in OME-Zarr is that zarr, any other format is written from it at the end. A lost
    worker's slabs are done by others, and what workers were doing can be finished without them by the same call.

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
    client : distributed.Client or None
        Of the workers, e.g. from `clusters.connected`; None to do the work here.

    Raises
    ------
    ValueError, TypeError
        When volume, network and options do not fit together; when a file exists; when what was begun under this name
        had other settings.
    OSError
        When nothing can be written there, or the disk is full; when a worker cannot do its slab: the message names the
        worker and the reason, and the same call goes on.
    """
    out, options = Path(out), options or Options()
    options = replace(
        options,
        uncertainty=options.uncertainty or uncertainty is not None,
        members=options.members or spread_json is not None,
    )
    others = [Path(path) for path in (uncertainty, spread_json) if path is not None]
    _check_free([out, *others], overwrite, is_volume=[True, uncertainty is not None, False])
    crew = None if client is None else workers.crew(client, grey, device=device, options=options, say=say)
    task = tasks.prepare(grey, trained, device=device, options=options, crew=crew)
    return write_task(
        task, out, uncertainty=uncertainty, spread_json=spread_json, overwrite=overwrite, say=say, client=client
    )


def write_task(
    task: Task,
    out: Path,
    *,
    uncertainty: str | Path | None = None,
    spread_json: str | Path | None = None,
    overwrite: bool = False,
    say: Callable[[str], object] | None = None,
    client: "Client | None" = None,
) -> Path:
    """Do or continue what `segment_to_file` has checked; `task.clock` then says where the time went."""
    with _journal(task, out, overwrite) as journal:
        _check_disk(task, journal, out)
        if say is not None:
            kept = f"; {len(journal.finished)} were finished before" if journal.finished else ""
            say(f"{task}{kept}")
        if client is not None:
            workers.segment(task, journal, client)
        _write(task, journal, out, None if uncertainty is None else Path(uncertainty))
        if spread_json is not None:
            _write_spread(task, journal, Path(spread_json), client)
        if _is_the_output(journal, out):
            volumes.finish(journal.maps["labels"].path, out)
        else:
            volumes.put_in_place(journal.folder / out.name, out)
        journal.remove()
    return out


def _is_the_output(journal: Journal, out: Path) -> bool:
    """Whether the labels of the journal need only a pyramid and a name."""
    return isinstance(journal.maps["labels"], ZarrMap) and out.name.endswith(volumes.ZARR_SUFFIXES)


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
    changed = [] if before is None else differences(before, settings, ignored=("plan", "kept_as"))
    if before is not None and task.crew is not None and before.get("kept_as", RAW) == RAW:
        changed.append("without workers -> with workers")
    if changed and not overwrite:
        raise ValueError(
            f"{folder} holds a segmentation with other settings ({'; '.join(changed)}); repeat that call to finish it, "
            "or say --overwrite to begin anew"
        )
    if before is not None and not changed:
        task.plan = Plan(**before["plan"])
        settings = before
    kind = ZarrMap if settings.get("kept_as", RAW) == ZARR else RawMap
    maps: dict[str, Map] = {name: kind.named(name, folder, stack_of(task.grey_zyx)) for name in task.options.maps}
    return Journal(folder, maps, settings, [slab.core for slab in task.slabs], anew=settings is not before)


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
        "torch": str(torch.__version__) if task.crew is None else task.crew.torch_version,
        "plan": task.plan.as_dict(),
        "kept_as": RAW if task.crew is None else ZARR,
    }


def _check_disk(task: Task, journal: Journal, out: Path) -> None:
    """Refuse a disk that will be full before the end."""
    share_left = 1 - len(journal.finished) / len(journal.slabs)
    n_voxels = math.prod(task.shape_zyx)
    n_kept = n_voxels * len(journal.maps) * share_left
    needed = n_kept + n_voxels * (task.options.uncertainty + (not _is_the_output(journal, out)))
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
        if _is_the_output(journal, out):
            deque(labels, maxlen=0)  # slabs that are left are written into it as they are found
        else:
            volumes.write(journal.folder / out.name, labels, labels=True, **options)
    if uncertainty is not None:
        with _clear(folder_of(uncertainty)) as folder:
            found = (journal.read("uncertainty", z) for z in journal.slabs)
            volumes.write(folder / uncertainty.name, found, **options)
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
    slabs = steps(journal.slabs, "writing", unit=" slabs", hidden=len(finished) < len(journal.slabs))
    with closing(tasks.slab_maps(task, finished)) as found, closing(slabs):
        for number, z in enumerate(slabs):
            if number in finished:
                yield from journal.read("labels", z)
            else:
                yield from _recorded(task, journal, next(found))


def _recorded(task: Task, journal: Journal, slab: SlabMaps) -> NDArray[np.uint8]:
    with task.clock("journal"):
        journal.record(slab.z, slab.maps)
    return slab.maps["labels"]


def _write_spread(task: Task, journal: Journal, path: Path, client: "Client | None") -> None:
    """Measure the labels and those of every member, slab by slab, from the journal's files."""
    members = {name: journal.maps[name].whole() for name in task.options.member_names}
    size_um = getattr(task.grey_zyx, "voxel_size_um", None)
    found = spread(journal.maps["labels"].whole(), members, voxel_size_um=size_um, client=client)
    with volumes.written_whole(path) as partial:
        partial.write_text(json.dumps(as_json(found), indent=2, allow_nan=False) + "\n", encoding="utf-8")
