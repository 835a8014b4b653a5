"""Measure topology and weight maps beside the usual tools, on the same volumes, in one run.

    python benchmarks/bench_topology.py --sizes 128 256 512 1024 --lazy 1833

Every measurement runs in a process of its own, which reports its best time and by how much its memory grew over the
volume it was given. All tools must give the same answer, and where gudhi is installed, Betti numbers are checked
against it first. Compare ratios, not machines: the rates hold for one machine and its load, and the ratios of
processor times depend on it least. What would need more memory than allowed, by its bytes a voxel at the size before,
is not run. Writes `benchmarks/RESULTS.md`.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sliding_window import compiled

from alsiseg import topology
from alsiseg.phases import Phase
from alsiseg.weightmaps import PixelWeights, weight_map

RESULTS = Path(__file__).parent / "RESULTS.md"
FEATURE_VOXELS = 2.0
SHARES = {Phase.SILICON: 0.13, Phase.ALUMINIDE: 0.10}  # of the volume, as in the alloy
REACH = 8  # slices that the smoothing sees to either side
SLAB = 64
LARGEST_DRAWN = 512  # a larger volume is this one mirrored: drawing takes minutes
LEAST_REPEATS, MOST_REPEATS, SHORT_S, LONG_S = 3, 20, 0.5, 5.0
FOUR = ("silicon", "aluminides", "hybrid", "matrix")
BYTES_PER_MB, GIB = 1e6, 2**30


def smooth_noise(size: int, seed: int, start: int, stop: int) -> NDArray[np.float32]:
    """Return some slices of a smooth random field of mean 0 and spread 1, the same however it is cut."""
    from scipy.ndimage import gaussian_filter

    low, high = max(0, start - REACH), min(size, stop + REACH)
    noise = [np.random.default_rng([seed, z]).standard_normal((size, size), np.float32) for z in range(low, high)]
    field_zyx = gaussian_filter(np.stack(noise), FEATURE_VOXELS, truncate=REACH / FEATURE_VOXELS)
    return field_zyx[start - low : stop - low] * (4 * np.pi * FEATURE_VOXELS**2) ** 0.75


class Mirrored:
    """A volume of any size that exists slab by slab: a smaller one, mirrored at its faces."""

    def __init__(self, tile_zyx: NDArray[np.uint8], size: int) -> None:
        self.shape, self.dtype = (size, size, size), tile_zyx.dtype
        n_tiles = -(-size // len(tile_zyx))
        self.order = np.resize(np.concatenate([np.arange(len(tile_zyx)), np.arange(len(tile_zyx))[::-1]]), size)
        self.wide_zyx = np.concatenate(([tile_zyx, tile_zyx[:, :, ::-1]] * n_tiles)[:n_tiles], axis=2)[:, :, :size]

    def __getitem__(self, index: slice) -> NDArray[np.uint8]:
        return self.wide_zyx[np.ix_(self.order[index], self.order)]


class Drawn:
    """Labels from two smooth random fields, slab by slab."""

    def __init__(self, size: int) -> None:
        self.shape = (size, size, size)

    def __getitem__(self, index: slice) -> NDArray[np.uint8]:
        labels_zyx = np.zeros((index.stop - index.start, *self.shape[1:]), dtype=np.uint8)
        for phase, share in SHARES.items():
            above = NormalDist().inv_cdf(1 - share)
            labels_zyx[smooth_noise(self.shape[0], int(phase), index.start, index.stop) > above] = phase
        return labels_zyx


def write_volumes(folder: Path, size: int) -> None:
    """Write labels, and the silicon network alone, as .npy files; large ones are a smaller one, mirrored."""
    if size > LARGEST_DRAWN and not (folder / f"labels_{LARGEST_DRAWN}.npy").exists():
        write_volumes(folder, LARGEST_DRAWN)
    is_drawn = size <= LARGEST_DRAWN
    source = Drawn(size) if is_drawn else Mirrored(np.load(folder / f"labels_{LARGEST_DRAWN}.npy"), size)
    labels_zyx, silicon_zyx = (
        np.lib.format.open_memmap(folder / f"{name}_{size}.npy", "w+", dtype, (size, size, size))
        for name, dtype in (("labels", np.uint8), ("silicon", bool))
    )
    for z in range(0, size, SLAB):
        stop = min(z + SLAB, size)
        labels_zyx[z:stop] = source[z:stop]
        silicon_zyx[z:stop] = labels_zyx[z:stop] == Phase.SILICON


def n_and_largest(labels_zyx: NDArray[np.integer], n: int) -> list[int]:
    """Number of components and voxels of the largest, a few slices at a time because bincount widens what it counts."""
    sizes = np.zeros(n + 1, dtype=np.int64)
    for z in range(0, len(labels_zyx), SLAB // 8):
        found = np.bincount(labels_zyx[z : z + SLAB // 8].ravel())
        sizes[: len(found)] += found
    return [n, int(sizes[1:].max(initial=0))]


def ours_components(network_zyx: NDArray[np.bool_], connectivity: topology.Connectivity, n_threads: int) -> list[int]:
    counts = topology.ComponentCounts.of(network_zyx, connectivity=connectivity, n_threads=n_threads)
    return [counts.n, counts.largest_voxels]


def ours_all_euler(labels_zyx: topology.Sliceable, n_threads: int) -> list[int]:
    counts = topology.NetworkCounts.of(labels_zyx, networks=FOUR, components=False, n_threads=n_threads)
    return [network.euler[by].number for network in counts.networks.values() for by in (26, 18, 6)]


def ours_networks(labels_zyx: topology.Sliceable, n_threads: int) -> list[int]:
    counts = topology.NetworkCounts.of(labels_zyx, n_threads=n_threads)
    return [n for network in counts.networks.values() for n in (network.n_voxels, network.components.n)]


def ours_betti(network_zyx: NDArray[np.bool_], n_threads: int) -> list[int]:
    return list(topology.betti_numbers(network_zyx, n_threads=n_threads))


def skimage_euler(network_zyx: NDArray[np.bool_], connectivity: int) -> int:
    from skimage.measure import euler_number

    return int(euler_number(network_zyx, connectivity=3 if connectivity == 26 else 1))


def skimage_components(network_zyx: NDArray[np.bool_], connectivity: int) -> list[int]:
    from skimage.measure import label

    return n_and_largest(*label(network_zyx, connectivity=3 if connectivity == 26 else 1, return_num=True))


def scipy_components(network_zyx: NDArray[np.bool_], connectivity: int) -> list[int]:
    from scipy.ndimage import generate_binary_structure, label

    return n_and_largest(*label(network_zyx, generate_binary_structure(3, 3 if connectivity == 26 else 1)))


def cc3d_components(network_zyx: NDArray[np.bool_], connectivity: int) -> list[int]:
    import cc3d

    zero_or_one_zyx = network_zyx.view(np.uint8)
    return n_and_largest(*cc3d.connected_components(zero_or_one_zyx, connectivity=connectivity, return_N=True))


def touched_room(labels_zyx: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Memory for weights that the system has handed out already, every page of it."""
    room_zyx = np.empty(labels_zyx.shape, dtype=np.float32)
    room_zyx.fill(0)
    return room_zyx


def ours_weights(labels_zyx: NDArray[np.uint8], room_zyx: NDArray[np.float32] | None = None) -> float:
    return some_weights(weight_map(labels_zyx, out=room_zyx))


def window_weights(labels_zyx: NDArray[np.uint8], room_zyx: NDArray[np.float32] | None = None) -> float:
    weight_zyx = np.empty(labels_zyx.shape, dtype=np.float32) if room_zyx is None else room_zyx
    compiled()(labels_zyx, weight_zyx, *astuple(PixelWeights()))
    return some_weights(weight_zyx)


def written_alone(labels_zyx: NDArray[np.uint8], room_zyx: NDArray[np.float32] | None = None) -> None:
    weight_zyx = np.empty(labels_zyx.shape, dtype=np.float32) if room_zyx is None else room_zyx
    weight_zyx.fill(1)


def some_weights(weight_zyx: NDArray[np.float32]) -> float:
    return float(weight_zyx[:: max(1, len(weight_zyx) // 3)].sum(dtype=np.float64))


WEIGHTS: dict[str, Callable[..., Any]] = {
    "alsiseg, 1 thread": ours_weights,
    "sliding window, compiled": window_weights,
    "writing one number alone": written_alone,
}


@dataclass(frozen=True)
class Task:
    """One measurement: what, by which tool, on which volume; `given` is made before the clock starts."""

    what: str
    tool: str
    volume: str
    work: Callable[..., Any]
    given: Callable[[Any], Any] | None = None

    def arguments(self, volume: Any) -> list[Any]:
        """What the work is done on."""
        return [volume] if self.given is None else [volume, self.given(volume)]


def tasks() -> list[Task]:
    """All measurements; ours on one thread comes first of its kind, the others are compared with it."""
    found = []
    for by in (26, 6):
        for n in (1, 2):
            euler = partial(topology.euler_number, connectivity=by, n_threads=n)
            found.append(Task(f"Euler number by {by}", f"alsiseg, {n} thread{'s' * (n > 1)}", "silicon", euler))
        found.append(Task(f"Euler number by {by}", "scikit-image", "silicon", partial(skimage_euler, connectivity=by)))
        for n in (1, 2):
            components = partial(ours_components, connectivity=by, n_threads=n)
            found.append(Task(f"components by {by}", f"alsiseg, {n} thread{'s' * (n > 1)}", "silicon", components))
        for tool, peer in (
            ("connected-components-3d", cc3d_components),
            ("SciPy", scipy_components),
            ("scikit-image", skimage_components),
        ):
            found.append(Task(f"components by {by}", tool, "silicon", partial(peer, connectivity=by)))
    for what, volume, ours in (
        ("Euler numbers of four networks by 6, 18 and 26", "labels", ours_all_euler),
        ("three networks: voxels, Euler numbers, components", "labels", ours_networks),
        ("Betti numbers by 26", "silicon", ours_betti),
    ):
        for n in (1, 2):
            found.append(Task(what, f"alsiseg, {n} thread{'s' * (n > 1)}", volume, partial(ours, n_threads=n)))
    for where, given in (("fresh", None), ("given", touched_room)):
        found += [Task(f"weight map in {where} memory", tool, "labels", work, given) for tool, work in WEIGHTS.items()]
    return found


def peak_bytes() -> int:
    """Most memory that this process has held (ru_maxrss would count that of its parent at the start, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measure(index: int, folder: Path, size: int, lazy: int) -> dict[str, Any]:
    """Run one task on a volume in memory, or on a larger one made from it slab by slab."""
    task = tasks()[index]
    volume_zyx = np.load(folder / f"{task.volume}_{size}.npy")
    task.work(*task.arguments(volume_zyx[:3, :50, :70].copy()))  # imports, and compiled loops from the cache
    volume_zyx = Mirrored(volume_zyx, lazy) if lazy else volume_zyx
    before, seconds, cpu_seconds, answer = peak_bytes(), [], [], None
    arguments = task.arguments(volume_zyx)
    while again(seconds) and not (lazy and seconds):
        start, cpu_start = time.perf_counter(), time.process_time()
        answer = task.work(*arguments)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    extra = peak_bytes() - before
    return {"seconds": min(seconds), "cpu_seconds": min(cpu_seconds), "extra_bytes": extra, "answer": answer}


def again(seconds: list[float]) -> bool:
    """Whether to measure once more: long tasks a few times, short ones until their best time is steady."""
    n, total = len(seconds), sum(seconds)
    return (n < LEAST_REPEATS and total < LONG_S) or (n < MOST_REPEATS and total < SHORT_S)


def in_child(index: int, folder: Path, size: int, limit_gib: float, lazy: int = 0) -> dict[str, Any] | None:
    """Measure in a fresh process; None where it needs more memory than allowed."""
    arguments = ["--child", str(index), "--folder", str(folder), "--sizes", str(size), "--lazy", str(lazy)]
    ended = subprocess.run(
        [sys.executable, __file__, *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (int(limit_gib * GIB),) * 2),
    )
    if ended.returncode == 0:
        return json.loads(ended.stdout.splitlines()[-1])
    if "MemoryError" in ended.stderr or "bad_alloc" in ended.stderr or "allocate" in ended.stderr:
        return None
    raise SystemExit(ended.stderr)


def rows_of(folder: Path, size: int, limit_gib: float, bytes_per_voxel: dict[int, float]) -> Iterator[str]:
    """Measure all tasks on one size, and write a row of the table for each; learn how much memory each needs."""
    ours: dict[str, dict[str, Any]] = {}
    for index, task in enumerate(tasks()):
        begin = f"| {task.what} | {size}³ | {task.tool} |"
        expected = size**3 * bytes_per_voxel.get(index, 0.0)
        found = None if size**3 + expected > limit_gib * GIB else in_child(index, folder, size, limit_gib)
        if found is None:
            estimate = f"{expected / BYTES_PER_MB:.0f} MB estimated" if expected else f"more than {limit_gib:g} GiB"
            yield f"{begin} does not fit | {estimate} | - | - |"
            continue
        reference = ours.setdefault(task.what, found)
        if found["answer"] not in (None, reference["answer"]):
            raise SystemExit(f"{task.what}, {size}: {task.tool} says {found['answer']}, not {reference['answer']}")
        rate, bytes_per_voxel[index] = size**3 / found["seconds"], found["extra_bytes"] / size**3
        ratios = " | ".join(rounded(found[key] / reference[key]) for key in ("seconds", "cpu_seconds"))
        memory = f"{found['extra_bytes'] / BYTES_PER_MB:.0f} MB, {bytes_per_voxel[index]:.2f} B a voxel"
        yield f"{begin} {rate / 1e6:.0f} | {memory} | {ratios} |"


def rounded(ratio: float) -> str:
    """Write a ratio with as many digits as it is sure of."""
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def lazy_rows(folder: Path, size: int, lazy: int, limit_gib: float) -> Iterator[str]:
    """Measure a volume that is larger than memory may be, made slab by slab from the last one."""
    for index, task in enumerate(tasks()):
        if task.volume != "labels" or "2 threads" not in task.tool:
            continue
        found = in_child(index, folder, size, limit_gib, lazy)
        assert found is not None, "a slab must fit"
        extra = found["extra_bytes"] / BYTES_PER_MB
        rate = lazy**3 / found["seconds"] / 1e6
        yield f"| {task.what} | {lazy}³ | {found['seconds']:.0f} s | {rate:.0f} | {extra:.0f} MB |"


def check_against_gudhi(size: int = 40) -> str:
    """Compare Betti numbers with an independent library for the homology of cubical complexes."""
    try:
        import gudhi
    except ImportError:
        return "gudhi was not installed: Betti numbers were not checked against it."
    rng = np.random.default_rng(0)
    for by, share in [(by, share) for by in (6, 26) for share in (0.1, 0.3, 0.5, 0.9)]:
        network_zyx = rng.random((size, size, size)) < share
        cells = {"top_dimensional_cells" if by == 26 else "vertices": np.where(network_zyx, 0.0, 1.0)}
        cubes = gudhi.CubicalComplex(**cells)
        cubes.compute_persistence(min_persistence=0)
        expected = tuple(cubes.persistent_betti_numbers(0, 0))[:3]
        found = topology.betti_numbers(network_zyx, connectivity=by)
        if found != expected:
            raise SystemExit(f"Betti numbers by {by}: {found} here, {expected} by gudhi")
    return f"Betti numbers of 8 random volumes of {size}³ voxels by 6 and 26 equal those of gudhi {version('gudhi')}."


def conditions() -> str:
    """Say what the numbers were measured with."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    tools = ("numpy", "numba", "scikit-image", "scipy", "connected-components-3d")
    versions = ", ".join(f"{tool} {version(tool)}" for tool in tools)
    load = os.getloadavg()[0]
    return (
        f"{model}, {len(os.sched_getaffinity(0))} processors, Python {platform.python_version()}, {versions}. "
        f"Load of the machine when the run began: {load:.1f}."
    )


def report(sizes: list[int], lazy: int, limit_gib: float, folder: Path) -> Iterator[str]:
    """Write the lines of the report as they are measured."""
    yield "# Measured by `make bench`\n"
    yield conditions() + "\n"
    yield check_against_gudhi() + "\n"
    yield (
        "Volumes: smooth random fields of 13 % silicon and 10 % aluminide, features of about 5 voxels; beyond "
        f"{LARGEST_DRAWN}³ that volume mirrored. Networks are silicon unless named. Memory is what the process grew "
        "by over the volume it was given. The ratios are the time taken, and the processor time, over those of "
        "alsiseg on one thread; that of processor times depends less on the load. All tools gave the same answer on "
        f"every row. What does not fit into {limit_gib:g} GiB was not run; its memory is estimated from the bytes a "
        "voxel at the size before. Weight maps are float32. Fresh memory: every call makes a new map, and the system "
        "hands out its pages as they are first written, which takes as long as the weights or longer. Given memory: "
        "the map is written into an array used before (`out=`), so that the weights alone are timed. Both beside the "
        "sliding window of the paper, taken literally and compiled by numba, and beside writing one number "
        "everywhere, the most that memory allows.\n"
    )
    yield "| measure | volume | tool | 10⁶ voxels/s | extra memory | time / ours | CPU time / ours |"
    yield "|---|---|---|---|---|---|---|"
    bytes_per_voxel: dict[int, float] = {}
    for size in sizes:
        write_volumes(folder, size)
        yield from rows_of(folder, size, limit_gib, bytes_per_voxel)
    if lazy:
        tile = min(sizes[-1], LARGEST_DRAWN)
        yield f"\nA volume made slab by slab ({tile}³ mirrored; the making is counted in the time):\n"
        yield "| measure, 2 threads | volume | time | 10⁶ voxels/s | extra memory |"
        yield "|---|---|---|---|---|"
        yield from lazy_rows(folder, tile, lazy, limit_gib)
    yield f"\nLoad of the machine when the run ended: {os.getloadavg()[0]:.1f}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 256, 512, 1024], help="edges of the cubes")
    parser.add_argument("--lazy", type=int, default=1833, help="edge of the volume made slab by slab; 0 for none")
    parser.add_argument("--memory", type=float, default=16, help="GiB that a process may take")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the table")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        print(json.dumps(measure(given.child, given.folder, given.sizes[0], given.lazy)))
        return
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for line in report(given.sizes, given.lazy, given.memory, Path(folder)):
            print(line, flush=True)
            lines.append(line)
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
