"""Segment and measure a scan of 2 GB, as a folder of TIFF slices and as OME-Zarr: time, memory, and equal labels.

    python benchmarks/large_scan.py                          # 1000 x 1024 x 1024 voxels; prints what it will take
    python benchmarks/large_scan.py --shape 128,512,512      # 64 MB, minutes

Every step is a process of its own, and those that are judged are the commands of a user, `alsiseg segment` and `alsiseg
measure`, from their start to their end; peak memory is that of the process. This program itself stays small, because
a process inherits the peak of the one that starts it. Writes `benchmarks/results/large_scan.json` and `.md`.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PARTS = str(HERE / "tiled_scan.py")
SHAPE = "1000,1024,1024"
FORMATS = {"TIFF slices": ("scan_slices", "labels_of_slices.tif"), "OME-Zarr": ("scan.ome.zarr", "labels_of_zarr.zarr")}
GIB, MIB = 2**30, 2**20
DISK_PER_VOXEL = 8  # bytes: two scans, two volumes of labels, and what is unfinished


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes
    ----------
    what : str
    seconds : float
        From its start to its end.
    peak_mib : float
        Most memory that it had.
    """

    what: str
    seconds: float
    peak_mib: float


def run(what: str, *command: str) -> Step:
    """Run a command of Python and wait for it; its progress is shown on standard error."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)
    began = time.perf_counter()
    child = os.posix_spawn(sys.executable, [sys.executable, *command], os.environ)
    _, status, used = os.wait4(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{what} ended with status {code}; its message stands above")
    peak_bytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Step(what, time.perf_counter() - began, peak_bytes / MIB)


def steps(folder: Path, options: argparse.Namespace) -> Iterator[Step]:
    """Make the scan, segment and measure it in both formats, compare."""
    run_dir = str(options.run or folder / "run")
    print("first the scan is made, in minutes; how long the rest takes is measured on the way, and said then")
    size = ["--voxel-size", "1.2"]
    made = [PARTS, "make", str(folder), "--shape", options.shape, "--block", options.block, "--run", run_dir]
    made += ["--angles", str(options.angles), "--images", str(options.images)]
    yield run("simulate a block, train, write the scan twice", *made)
    print(f"segmenting will take about {expected_minutes(folder):.1f} min for each format", flush=True)
    for name, (scan, labels) in FORMATS.items():
        segment = ["-m", "alsiseg", "segment", str(folder / scan), str(folder / labels), "--run", run_dir, *size]
        yield run(f"segment {name}", *segment)
        measure = ["-m", "alsiseg", "measure", str(folder / labels), "--json", str(folder / f"{labels}.json"), *size]
        yield run(f"measure the labels of {name}", *measure)
    compared = [PARTS, "compare", str(folder), "--run", run_dir]
    for scan, labels in FORMATS.values():
        compared += ["--pair", scan, labels]
    yield run("compare the labels, and the scan with the training scan", *compared)


def expected_minutes(folder: Path) -> float:
    """How long the network needs for the scan, from the few slices that were timed on the way."""
    made = read(folder / "made.json")
    return made["n_voxels"] / made["tried_voxels_per_s"] / 60


def read(path: Path) -> dict[str, Any]:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def report(folder: Path, done: list[Step]) -> dict[str, Any]:
    """Put together what the steps left."""
    made, compared = read(folder / "made.json"), read(folder / "compared.json")
    measures = [read(folder / f"{labels}.json") | {"labels": None} for _, labels in FORMATS.values()]
    return {
        **made,
        "expected_minutes": expected_minutes(folder),
        "python": platform.python_version(),
        "n_cores": os.cpu_count(),
        "steps": [asdict(step) | {"voxels_per_s": made["n_voxels"] / step.seconds} for step in done],
        **compared,
        "same_measures": measures[0] == measures[1],
        "measures": measures[0]["networks"],
    }


def as_markdown(found: dict[str, Any]) -> str:
    """Write a report for people."""
    judged = [step for step in found["steps"] if step["what"].startswith(("segment", "measure"))]
    rows = [
        f"| {s['what']} | {s['seconds']:.0f} | {s['voxels_per_s'] / 1e6:.2f} | {s['peak_mib']:.0f} |" for s in judged
    ]
    sizes = ", ".join(f"{name} {n / 1e6:.0f} MB" for name, n in found["bytes_on_disk"].items())
    warned = [f"- {sentence}" for sentence in found["warnings"]] or ["- none"]
    shape = " x ".join(str(n) for n in found["shape_zyx"])
    differing = found["differing_voxels"]
    return "\n".join(
        [
            "# A large scan, measured by `benchmarks/large_scan.py`\n",
            f"{shape} voxels of 16 bit ({found['n_bytes'] / 1e6:.0f} MB; on the disk: {sizes}), a simulated block of "
            f"{' x '.join(map(str, found['block_zyx']))} voxels in mirrored tiles with fresh noise. Network of "
            f"{found['stem_channels']} channels, {found['n_cores']} cores, load before {found['load_before']:.1f}; "
            "every row is a command with its start and all its reading and writing.\n",
            "| command | s | 10⁶ voxels/s | peak memory, MiB |",
            "|---|---|---|---|",
            *rows,
            f"\nLabels of the two formats: {differing} voxels differ; measures "
            f"{'are the same' if found['same_measures'] else 'DIFFER'}. Accuracy against the truth of the block, which "
            f"it was trained on: {100 * found['accuracy']:.1f} %.\n",
            f"Is it like the training scan? Told in {found['likeness_s']:.1f} s; warnings:\n",
            *warned,
        ]
    )


def write(found: dict[str, Any], results: Path) -> None:
    """Write the report as JSON and Markdown."""
    results.mkdir(parents=True, exist_ok=True)
    texts = {".json": json.dumps(found, indent=1), ".md": as_markdown(found)}
    for suffix, text in texts.items():
        path = results / f"large_scan{suffix}"
        path.with_suffix(f"{suffix}.new").write_text(text + "\n", encoding="utf-8")
        path.with_suffix(f"{suffix}.new").replace(path)


@contextmanager
def scratch(folder: Path, n_voxels: int, *, keep: bool) -> Iterator[Path]:
    """Make a new folder with room for the scans, and remove it at the end."""
    if folder.exists():
        raise SystemExit(f"needs a folder of its own, found {folder}; remove it or name another with --folder")
    folder.mkdir(parents=True)
    try:
        free = shutil.disk_usage(folder).free
        if free < DISK_PER_VOXEL * n_voxels:
            raise SystemExit(f"needs {DISK_PER_VOXEL * n_voxels / GIB:.1f} GiB in {folder}, found {free / GIB:.1f}")
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default=SHAPE, help="voxels of the scan, Z,Y,X")
    parser.add_argument("--block", default="128,256,256", help="voxels of the simulated block, Z,Y,X")
    parser.add_argument("--angles", type=int, default=360, help="projections of the block")
    parser.add_argument("--run", type=Path, default=None, help="a run; without it, one is trained on the block")
    parser.add_argument("--images", type=int, default=300, help="images of each of the three epochs of that training")
    parser.add_argument("--folder", type=Path, default=HERE.parent / "data" / "large_scan", help="for the scans")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="for the results")
    parser.add_argument("--keep", action="store_true", help="leave the scans and labels there")
    options = parser.parse_args()
    n_z, n_y, n_x = (int(n) for n in options.shape.split(","))
    load = os.getloadavg()[0]
    with scratch(options.folder, n_z * n_y * n_x, keep=options.keep) as folder:
        found = report(folder, list(steps(folder, options))) | {"load_before": load}
    write(found, options.results)
    print(as_markdown(found))


if __name__ == "__main__":
    main()
