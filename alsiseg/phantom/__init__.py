"""A specimen of known truth and three simulated scans of it, written as TIFF stacks."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from alsiseg import volumes
from alsiseg.phantom import imaging, microstructure
from alsiseg.phantom.imaging import DIFFICULTIES, MODALITIES, ScanSettings
from alsiseg.phantom.microstructure import SPECIMENS, Microstructure

__all__ = ["DIFFICULTIES", "MODALITIES", "SPECIMENS", "imaging", "make", "microstructure"]

Record = dict[str, Any]


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
) -> dict[str, Path]:
    """Write truth.tif, one TIFF stack per scan, and specimen.json which says how they were made.

    Every file appears only when it is whole. Files made earlier by the same settings and the
    same source are kept, so an interrupted call continues at the file it had reached.

    Parameters
    ----------
    out_dir
        Folder, made when missing.
    specimen, shape_zyx, seed, voxel_size_um
        See `microstructure.grow`.
    difficulty
        "clean" or "hard": dose, propagation distance, blur (`imaging.DIFFICULTIES`).
    modalities
        Which of "lab_ct", "synchrotron" and "etched" to scan.
    n_angles
        Projections per scan; None keeps those of the difficulty.
    device
        Where torch computes the scans.

    Returns
    -------
    dict
        Paths under "truth", each modality, and "specimen".

    Raises
    ------
    ValueError
        For a setting that cannot be met; nothing is written then.
    """
    shape_zyx = microstructure.check_request(shape_zyx, specimen, seed, voxel_size_um)
    scans = _scan_settings(difficulty, modalities, n_angles)
    request = {
        "specimen": specimen,
        "shape_zyx": list(shape_zyx),
        "seed": seed,
        "voxel_size_um": voxel_size_um,
        "source_sha256": _source_checksum(),
    }
    folder = _Folder(Path(out_dir))
    missing = [name for name in ("truth", *scans) if not folder.holds(name, _record(request, scans.get(name)))]
    if missing:
        grown = microstructure.grow(shape_zyx, specimen=specimen, seed=seed, voxel_size_um=voxel_size_um)
    for name in missing:
        folder.write(name, _image(grown, name, scans, seed, device), _record(request, scans.get(name)), voxel_size_um)
    return {name: folder.path(name) for name in ("truth", *scans)} | {"specimen": folder.journal}


class _Folder:
    """The stacks of one specimen and the journal of how each was made."""

    def __init__(self, path: Path) -> None:
        self.directory = path
        self.journal = path / "specimen.json"

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.tif"

    def records(self) -> dict[str, Record]:
        """Read what the journal says of every file; nothing when it is missing or damaged."""
        try:
            records = json.loads(self.journal.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return records if isinstance(records, dict) else {}

    def holds(self, name: str, record: Record) -> bool:
        """Whether the stack is there, of the size it was written with, and made as `record` says."""
        known = dict(self.records().get(name, {}))
        n_bytes = known.pop("n_bytes", None)
        path = self.path(name)
        return known == record and path.is_file() and path.stat().st_size == n_bytes

    def write(self, name: str, image_zyx: Any, record: Record, voxel_size_um: float) -> None:
        """Write a stack, then enter it in the journal."""
        path = volumes.write(self.path(name), image_zyx, voxel_size_um=voxel_size_um)
        records = self.records() | {name: record | {"n_bytes": path.stat().st_size}}
        with volumes.written_whole(self.journal) as partial:
            Path(partial).write_text(json.dumps(records, indent=1), encoding="utf-8")


def _scan_settings(difficulty: str, modalities: Sequence[str], n_angles: int | None) -> dict[str, ScanSettings]:
    """Look up the settings of every scan asked for."""
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"difficulty must be one of {', '.join(DIFFICULTIES)}, got {difficulty!r}")
    modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    imaging.check_modalities(modalities)
    settings = {name: DIFFICULTIES[difficulty][name] for name in modalities}
    if n_angles is None:
        return settings
    return {name: replace(one, n_angles=n_angles) for name, one in settings.items()}


def _image(grown: Microstructure, name: str, scans: dict[str, ScanSettings], seed: int, device: str) -> Any:
    """Make the stack called `name`: the labels, or a scan."""
    if name == "truth":
        return grown.labels_zyx
    return imaging.scan(grown, name, scans[name], seed=seed, device=device)


def _record(request: Record, settings: ScanSettings | None) -> Record:
    """Everything a file depends on, as the journal keeps it."""
    record = request | ({} if settings is None else {"scan": asdict(settings)})
    return json.loads(json.dumps(record))


def _source_checksum() -> str:
    """Checksum of the generator's own source: a changed generator makes new files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
