"""A specimen of known truth and three simulated scans of it, written as TIFF stacks."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from alsiseg import volumes
from alsiseg.phantom import imaging, microstructure, workers
from alsiseg.phantom.microstructure import SPECIMENS, Microstructure
from alsiseg.phantom.parts import Parts
from alsiseg.phantom.settings import DIFFICULTIES, MODALITIES, ScanSettings, check_modalities

__all__ = ["DIFFICULTIES", "MODALITIES", "SPECIMENS", "imaging", "make", "microstructure"]

Record = dict[str, Any]
# Stacks that are no scans, and what of the grown specimen they hold.
WHAT_IT_IS = {"truth": "labels_zyx", "variants": "variants_zyx"}
# The generator: a change of these files makes new stacks.
NOT_GENERATING = ("realism.py",)


def make(
    out_dir: str | Path,
    *,
    specimen: str = "slow",
    shape_zyx: tuple[int, int, int] = (160, 160, 192),
    seed: int = 0,
    difficulty: str = "clean",
    modalities: Sequence[str] = MODALITIES,
    n_angles: int | None = None,
    voxel_size_um: float = 1.2,
    device: str = "cpu",
    n_processes: int | None = None,
) -> dict[str, Path]:
    """Write truth.tif, variants.tif, one TIFF stack per scan, and specimen.json: how they were made.

    The truth holds the phase of every voxel, the variants its constituent (`materials.Variant`).

    Every file appears only when it is whole. Files made earlier by the same settings and the
    same source are kept. An interrupted call leaves the grown specimen and the slabs it has
    scanned in folders named `*.parts` beside the stacks; the next call continues there and
    removes them. On a CPU the same arguments give the same bytes whatever `n_processes`.

    Parameters
    ----------
    out_dir
        Folder, made when missing.
    specimen, shape_zyx, seed, voxel_size_um
        See `microstructure.grow`.
    difficulty
        "clean" or "hard": dose, propagation distance, blur (`DIFFICULTIES`).
    modalities
        Which of "lab_ct", "synchrotron" and "etched" to scan.
    n_angles
        Projections per scan, in which the exposure of the difficulty is shared out; None keeps its own number.
    device
        Where torch computes the scans.
    n_processes
        Processes that scan, a slab each at a time; below 2 GB of memory each at the paper's size.
        None: all cores for a CPU; this process alone for another device and for few slices. A
        script that asks for more than one must start under ``if __name__ == "__main__":``.

    Returns
    -------
    dict
        Paths under "truth", "variants", each modality, and "specimen".

    Raises
    ------
    ValueError
        For a setting that cannot be met; nothing is written then.
    OSError
        When `out_dir` cannot be written to.
    """
    shape_zyx = microstructure.check_request(shape_zyx, specimen, seed, voxel_size_um)
    scans = _scan_settings(difficulty, modalities, n_angles)
    n_processes = _check_processes(n_processes, device, n_slabs=len(imaging.slab_ranges(shape_zyx[0])))
    volumes.check_place(Path(out_dir) / "specimen.json")
    request = {
        "specimen": specimen,
        "shape_zyx": list(shape_zyx),
        "seed": seed,
        "voxel_size_um": voxel_size_um,
        "source_sha256": _source_checksum(),
    }
    folder = _Folder(Path(out_dir), request, scans)
    missing = folder.missing()
    if missing:
        grown = folder.grown(shape_zyx)
        for name in set(missing) & set(WHAT_IT_IS):
            folder.write(name, getattr(grown, WHAT_IT_IS[name]))
        _scan_in_slabs(folder, grown, [name for name in missing if name in scans], device, n_processes)
    folder.clear()
    return {name: folder.path(name) for name in (*WHAT_IT_IS, *scans)} | {"specimen": folder.journal}


@dataclass(frozen=True)
class _Folder:
    """The stacks of one specimen, their unfinished parts, and the journal of how each was made."""

    directory: Path
    request: Record
    scans: dict[str, ScanSettings]

    @property
    def journal(self) -> Path:
        return self.directory / "specimen.json"

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.tif"

    def parts(self, name: str) -> Parts:
        """Where the parts of a stack, or of the "specimen", are kept until it is whole."""
        return Parts(self.directory / f"{name}.parts", self.record(name))

    def record(self, name: str) -> Record:
        """Everything a file depends on, as the journal keeps it."""
        settings = self.scans.get(name)
        record = self.request | ({} if settings is None else {"scan": asdict(settings)})
        return json.loads(json.dumps(record))

    def missing(self) -> list[str]:
        """Names of the stacks that are not there, of another size than written, or made otherwise."""
        journal = self._read_journal()
        return [name for name in (*WHAT_IT_IS, *self.scans) if not self._holds(name, dict(journal.get(name, {})))]

    def _holds(self, name: str, known: Record) -> bool:
        n_bytes = known.pop("n_bytes", None)
        path = self.path(name)
        return known == self.record(name) and path.is_file() and path.stat().st_size == n_bytes

    def _read_journal(self) -> dict[str, Record]:
        """Read what the journal says of every file; nothing when it is missing or damaged."""
        try:
            records = json.loads(self.journal.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return records if isinstance(records, dict) else {}

    def grown(self, shape_zyx: tuple[int, int, int]) -> Microstructure:
        """Grow the specimen, or open the one that an interrupted call has grown."""
        parts = self.parts("specimen")
        parts.prepare()
        if not all(parts.holds(name) for name in _ARRAYS):
            options = {name: self.request[name] for name in ("specimen", "seed", "voxel_size_um")}
            grown = microstructure.grow(shape_zyx, **options)
            for name in _ARRAYS:
                parts.save(name, getattr(grown, name))
        return _opened(parts, self.request["voxel_size_um"])

    def write(self, name: str, slices: Any) -> None:
        """Write a stack, then enter it in the journal; `slices` as `volumes.write` takes them."""
        dtype = np.uint8 if name in WHAT_IT_IS else np.uint16
        voxel_size_um, shape = self.request["voxel_size_um"], tuple(self.request["shape_zyx"])
        path = volumes.write(self.path(name), slices, voxel_size_um=voxel_size_um, shape=shape, dtype=dtype)
        records = self._read_journal() | {name: self.record(name) | {"n_bytes": path.stat().st_size}}
        with volumes.written_whole(self.journal) as partial_path:
            partial_path.write_text(json.dumps(records, indent=1), encoding="utf-8")

    def clear(self) -> None:
        """Drop the parts of stacks that are whole now."""
        for name in ("specimen", *self.scans):
            self.parts(name).remove()


_ARRAYS = tuple(field.name for field in dataclasses.fields(Microstructure) if field.name.endswith("_zyx"))


def _opened(parts: Parts, voxel_size_um: float) -> Microstructure:
    """Open a grown specimen; its voxels are read from the disk when they are used."""
    return Microstructure(**{name: parts.load(name) for name in _ARRAYS}, voxel_size_um=voxel_size_um)


def _scan_in_slabs(folder: _Folder, grown: Microstructure, names: Sequence[str], device: str, n_processes: int) -> None:
    """Take scans slab by slab, keep every slab that is finished, and write the stacks."""
    specimen, ranges = folder.parts("specimen"), imaging.slab_ranges(len(grown.labels_zyx))
    if "etched" in names and not specimen.holds("loose"):
        specimen.save("loose", imaging.loose_fragments(grown.labels_zyx))
    slabs = {name: folder.parts(name) for name in names}
    for parts in slabs.values():
        parts.prepare()
    missing = [(name, z) for name in names for z in ranges if not slabs[name].holds(_slab_name(z))]
    workers.run(
        [partial(_scan_slab, folder, name, z, device) for name, z in missing],
        n_steps=sum(folder.scans[name].n_angles for name, _ in missing),
        what="projections",
        n_processes=n_processes,
    )
    for name, parts in slabs.items():
        folder.write(name, (slice_yx for z in ranges for slice_yx in parts.load(_slab_name(z))))
        parts.remove()


def _scan_slab(folder: _Folder, modality: str, z: slice, device: str, step: workers.Step) -> None:
    """Scan the slices `z` of the grown specimen and keep them; runs in a process of its own."""
    specimen = folder.parts("specimen")
    grey_zyx = imaging.scan_slab(
        _opened(specimen, folder.request["voxel_size_um"]),
        modality,
        folder.scans[modality],
        z,
        loose_zyx=specimen.load("loose") if modality == "etched" else None,
        seed=folder.request["seed"],
        device=device,
        step=step,
    )
    folder.parts(modality).save(_slab_name(z), grey_zyx)


def _slab_name(z: slice) -> str:
    return f"slices_{z.start:05d}_{z.stop:05d}"


def _scan_settings(difficulty: str, modalities: Sequence[str], n_angles: int | None) -> dict[str, ScanSettings]:
    """Look up the settings of every scan asked for."""
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty must be one of {', '.join(DIFFICULTIES)}, got {difficulty!r}")
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    check_modalities(modalities)
    settings = {name: DIFFICULTIES[difficulty][name] for name in modalities}
    if n_angles is None:
        return settings
    return {name: one.with_angles(n_angles) for name, one in settings.items()}


def _check_processes(n_processes: int | None, device: str, *, n_slabs: int) -> int:
    """Number of processes for a device, after checking that both can be had."""
    import torch

    try:
        torch.empty(1, device=device).tolist()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {device!r} is not available here; use cpu") from error
    if n_processes is None:
        return _n_cores() if device == "cpu" and n_slabs > 1 else 1
    if n_processes < 1:
        raise ValueError(f"n_processes must be 1 or more, got {n_processes}; leave it out to use all cores")
    return n_processes


def _n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _source_checksum() -> str:
    """Checksum of the generator's own source: a changed generator makes new files."""
    digest = hashlib.sha256()
    files = (path for path in Path(__file__).parent.glob("*.py") if path.name not in NOT_GENERATING)
    for path in sorted(files):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
