"""Make the specimen of the paper's size and its three scans: time of each part, and the memory of all processes.

    python benchmarks/full_specimen.py                       # 1000 x 319 x 379 voxels, every core
    python benchmarks/full_specimen.py --shape 48,160,160    # a minute

The first part grows the specimen too. A call that was stopped goes on, but then its times are of the rest only, so
that the table is written for a folder that was empty at the start alone. Memory is sampled twice a second and summed
over the processes; what they share counts for each, so that it is an upper bound.
"""

import argparse
import json
import os
import threading
import time
from pathlib import Path

import psutil

from alsiseg import phantom
from alsiseg.volumes import written_whole

GIB = 2**30
EVERY_S = 0.5


class Memory(threading.Thread):
    """The most memory that this process and its children had together, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes, self.done = 0, threading.Event()

    def run(self) -> None:
        """Look again and again until `done`."""
        this = psutil.Process()
        while not self.done.wait(EVERY_S):
            self.peak_bytes = max(self.peak_bytes, sum(map(resident_bytes, [this, *this.children(recursive=True)])))


def resident_bytes(process: psutil.Process) -> int:
    """Memory of a process, 0 when it has ended meanwhile."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def table(measured: dict) -> str:
    """Write what was measured as Markdown."""
    z, y, x = measured["shape_zyx"]
    parts = [f"| {name} | {seconds / 60:.1f} |" for name, seconds in measured["seconds"].items()]
    total = sum(measured["seconds"].values())
    return "\n".join(
        [
            f"# A specimen of {z} x {y} x {x} voxels and its three scans",
            "",
            f"{measured['n_cores']} cores, load {measured['load']:.1f} when it began (1-minute average); "
            f"{measured['peak_gib']:.1f} GiB of memory at most, all processes together.",
            "",
            "| part | minutes |",
            "|---|---|",
            *parts,
            f"| **all** | **{total / 60:.1f}** |",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="1000,319,379", help="voxels along z, y, x [default: %(default)s]")
    parser.add_argument("--folder", type=Path, default=Path("data/full_specimen"), help="[default: %(default)s]")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/full_specimen.json"))
    chosen = parser.parse_args()
    shape_zyx = tuple(int(n) for n in chosen.shape.split(","))
    was_empty = not chosen.folder.exists()
    memory, load, seconds = Memory(), os.getloadavg()[0], {}
    memory.start()
    for modality in phantom.MODALITIES:
        started = time.perf_counter()
        phantom.make(chosen.folder, shape_zyx=shape_zyx, modalities=[modality])  # type: ignore[arg-type]
        seconds[f"specimen and {modality}" if not seconds else modality] = time.perf_counter() - started
    memory.done.set()
    peak_gib = memory.peak_bytes / GIB
    measured = {
        "shape_zyx": shape_zyx,
        "n_cores": os.cpu_count(),
        "load": load,
        "peak_gib": peak_gib,
        "seconds": seconds,
    }
    print(table(measured))
    if not was_empty:
        raise SystemExit(f"{chosen.folder} held parts of it already, so nothing was written; remove it to measure")
    for path, text in ((chosen.out, json.dumps(measured, indent=1)), (chosen.out.with_suffix(".md"), table(measured))):
        with written_whole(path) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
