"""Time segmentation beside a plain slice loop and MONAI's sliding window, and take its memory at two lengths.

    python benchmarks/bench_prediction.py --shape 64,256,256 --width 8

All have the same weights and threads and take turns, so that a ratio holds on a busy machine too. Files are written by
all. Compare ratios, not machines. Writes `benchmarks/RESULTS_prediction.md`.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alsiseg import clusters, dataset, devices, prediction, unet, volumes
from alsiseg.dataset import GreyScale
from alsiseg.prediction import tasks
from alsiseg.prediction.files import write_task
from alsiseg.prediction.options import Options
from alsiseg.runs import Trained
from alsiseg.unet import UNetConfig

RESULTS = Path(__file__).parent / "RESULTS_prediction.md"
MEMORY_PX = 128
MIB = 2**20
ODD_SIZES = ((3, 17, 193), (1, 30, 355), (2, 190, 20), (1, 193, 209), (5, 41, 177))
CUTS: tuple[dict[str, int], ...] = (
    {"tile_px": 1},
    {"tile_px": 192, "batch_px": 1},
    {"batch_px": 1},
    {"slab_slices": 1},
)


def network(width: int) -> Trained:
    """An untrained network whose batch norms have seen some images."""
    made = unet.build(UNetConfig(stem_channels=width), seed=3).train()
    with torch.no_grad():
        for step in range(4):
            made(torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(step)))
    return Trained(made.eval(), GreyScale(0.0, 1.0, 1.0), 1, Path("run"))


def smooth_noise(shape_zyx: tuple[int, ...], seed: int = 0) -> NDArray[np.uint16]:
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape_zyx, np.float32), 1.5)
    return (30_000 + 30_000 * np.clip(noise / noise.std() / 4, -1, 1)).astype(np.uint16)


def windows(grey: volumes.Volume, scale: GreyScale) -> Iterator[torch.Tensor]:
    """Five slices around every slice, one image after the other, read from the file as they are wanted."""
    n_z = len(grey)
    for z in range(n_z):
        around = np.stack([grey[int(i)] for i in dataset.context_slices(z, n_z, 5)])
        yield torch.from_numpy(scale.normalise(around))[None]


def plain_loop(grey: volumes.Volume, trained: Trained, out: Path) -> None:
    scale, labels = dataset.grey_scale(grey), []
    with torch.no_grad():
        for window in windows(grey, scale):
            labels.append(trained.network(window)[0].argmax(dim=0).to(torch.uint8).numpy())
    volumes.write(out, np.stack(labels))


def monai_loop(grey: volumes.Volume, trained: Trained, out: Path) -> None:
    from monai.inferers import sliding_window_inference

    scale, labels = dataset.grey_scale(grey), []
    with torch.no_grad():
        for window in windows(grey, scale):
            logits = sliding_window_inference(window, (256, 256), 4, trained.network, overlap=0.25)
            labels.append(logits[0].argmax(dim=0).to(torch.uint8).numpy())
    volumes.write(out, np.stack(labels))


def ours(precision: str, seconds_of: list[dict[str, float]]) -> Callable[[volumes.Volume, Trained, Path], None]:
    def segment(grey: volumes.Volume, trained: Trained, out: Path) -> None:
        task = tasks.prepare(grey, trained, device="cpu", options=Options(precision=precision))
        start = time.perf_counter()
        write_task(task, out, overwrite=True)
        seconds_of.append({**task.clock.seconds, "all": time.perf_counter() - start})

    return segment


def times(
    shape_zyx: tuple[int, int, int], trained: Trained, folder: Path, n_repeats: int
) -> tuple[dict[str, list[float]], list[dict[str, float]]]:
    """Seconds of every way, in turns, and the parts of ours in the machine's own precision."""
    grey = volumes.open(volumes.write(folder / "grey.tif", smooth_noise(shape_zyx)))
    parts: list[dict[str, float]] = []
    ways = {"plain float32 slice loop": plain_loop, "alsiseg": ours("auto", parts)}
    ways["alsiseg, float32"] = ours("float32", [])
    try:
        import monai  # noqa: F401

        ways["MONAI sliding window"] = monai_loop
    except ImportError:
        print("MONAI is not installed: left out")
    took: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(n_repeats + 1):  # the first is for warming up
        for name, way in ways.items():
            start = time.perf_counter()
            way(grey, trained, folder / f"{name}.tif")
            if repeat:
                took[name].append(time.perf_counter() - start)
    return took, parts[1:]


def agreement(folder: Path, names: list[str]) -> dict[str, float]:
    """Share of voxels with the label of the first."""
    first, *others = ([volumes.open(folder / f"{name}.tif")[:]] for name in names)
    return {name: float(np.mean(other[0] == first[0])) for name, other in zip(names[1:], others, strict=True)}


def labels_in_pieces(grey_zyx: NDArray[np.uint16], trained: Trained, precision: str, **cut: int) -> NDArray[np.uint8]:
    """Segment with the work cut up in another way."""
    task = tasks.prepare(grey_zyx, trained, device="cpu", options=Options(precision=precision))
    task.plan = replace(task.plan, **cut)
    return np.concatenate([found.maps["labels"] for found in tasks.slab_maps(task)])


def differing_voxels(trained: Trained, precision: str, n_sizes: int) -> tuple[int, int]:
    """Voxels whose labels depend on how the work was cut up, and how many were compared."""
    n_differing = n_compared = 0
    for number, shape_zyx in enumerate(ODD_SIZES[:n_sizes]):
        grey_zyx = smooth_noise(shape_zyx, seed=number)
        whole = labels_in_pieces(grey_zyx, trained, precision)
        for cut in CUTS:
            n_differing += np.count_nonzero(labels_in_pieces(grey_zyx, trained, precision, **cut) != whole)
            n_compared += whole.size
    return n_differing, n_compared


def equality_table(options: argparse.Namespace) -> list[str]:
    rows = []
    for width in options.equality_widths:
        for precision in ("float32", "bfloat16"):
            n_differing, n_compared = differing_voxels(network(width), precision, options.equality_sizes)
            rows.append(f"| {width} | {precision} | {n_differing} of {n_compared} |")
    tried = ", ".join(" x ".join(map(str, shape)) for shape in ODD_SIZES[: options.equality_sizes])
    return [
        f"Untrained networks on volumes of {tried} voxels: labels that differ between whole slices in",
        "batches and four other ways to cut the work up, all added up (the smallest tiles; tiles of 192 pixels, one at",
        "a time; whole slices, one at a time; slabs of one slice):\n",
        "| width | precision | voxels that differ |",
        "|---|---|---|",
        *rows,
    ]


def workers_table(trained: Trained, shape_zyx: tuple[int, ...], n_repeats: int, folder: Path) -> list[str]:
    """One process with one thread beside two dask workers of one thread each, in turns."""
    try:
        from distributed import LocalCluster
    except ImportError:
        return ["\ndask.distributed is not installed: two workers were left out."]
    grey = volumes.open(volumes.write(folder / "of_workers.tif", smooth_noise(shape_zyx)))
    took: dict[str, list[float]] = {"one process": [], "two workers": []}
    n_threads = torch.get_num_threads()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0") as cluster,
        clusters.connected(cluster.scheduler_address) as client,
    ):
        for repeat in range(n_repeats + 1):  # the first is for warming up
            for name, who in (("one process", None), ("two workers", client)):
                torch.set_num_threads(1)
                start, out = time.perf_counter(), folder / f"{name}.zarr"
                prediction.segment_to_file(grey, trained, out, device="cpu", overwrite=True, client=who)
                torch.set_num_threads(n_threads)
                if repeat:
                    took[name].append(time.perf_counter() - start)
    one, two = (volumes.open(folder / f"{name}.zarr")[:] for name in took)
    ratios = [a / b for a, b in zip(*took.values(), strict=True)]
    return [
        f"\n{shape_zyx} voxels from file to OME-Zarr, one thread for each process:\n",
        "| | seconds | times one process | voxels that differ |",
        "|---|---|---|---|",
        f"| one process | {statistics.median(took['one process']):.1f} | 1.00 |  |",
        f"| two dask workers | {statistics.median(took['two workers']):.1f} | {statistics.median(ratios):.2f} | "
        f"{np.count_nonzero(one != two)} of {one.size} |",
    ]


def peak_mib(n_slices: int) -> float:
    """Peak memory of a process of its own that segments so many slices; they are made as they are read."""
    line = [sys.executable, __file__, "--peak", str(n_slices)]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=1800)
    return float(done.stdout.split()[-1])


def segment_made_up_slices(n_slices: int) -> float:
    pattern = smooth_noise((8, MEMORY_PX, MEMORY_PX))

    def read(z_indices) -> NDArray[np.uint16]:
        return pattern[np.asarray(z_indices) % len(pattern)]

    grey = volumes.Volume(Path("made_up"), (n_slices, MEMORY_PX, MEMORY_PX), pattern.dtype, None, read)
    with tempfile.TemporaryDirectory() as folder:
        prediction.segment_to_file(grey, network(2), Path(folder) / "labels.tif", device="cpu")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB


def sizes(text: str) -> tuple[int, int, int]:
    z, y, x = (int(n) for n in text.split(","))
    return z, y, x


def report(options: argparse.Namespace, folder: Path) -> list[str]:
    shape_zyx = sizes(options.shape)
    trained, load = network(options.width), os.getloadavg()[0]
    took, parts = times(shape_zyx, trained, folder, options.repeats)
    plain = took["plain float32 slice loop"]
    n_voxels = int(np.prod(shape_zyx))
    same = agreement(folder, list(took))
    rows = [
        f"| {name} | {n_voxels / statistics.median(seconds) / 1e6:.2f} | "
        f"{statistics.median(p / s for p, s in zip(plain, seconds, strict=True)):.2f} | "
        f"{'' if name not in same else f'{100 * same[name]:.3f}'} |"
        for name, seconds in took.items()
    ]
    whole = statistics.median(part["all"] for part in parts)
    shares = [
        f"| {name} | {statistics.median(part[name] for part in parts) / n_voxels * 1e9:.1f} | "
        f"{100 * statistics.median(part[name] / part['all'] for part in parts):.1f} |"
        for name in parts[0]
    ]
    peaks = {n: peak_mib(n) for n in options.lengths}
    return [
        "# Segmentation, measured by `benchmarks/bench_prediction.py`\n",
        f"{shape_zyx} voxels, width {options.width}, {torch.get_num_threads()} threads, {devices.choose('cpu')}, "
        f"torch {torch.__version__}; median of {options.repeats} turns; load when the run began: {load:.1f}.\n",
        "| | 10⁶ voxels/s, file to file | times the plain loop | same labels as the plain loop, % |",
        "|---|---|---|---|",
        *rows,
        f"\nParts of alsiseg ({whole:.2f} s without the grey scale; side by side, so they may add up to more):\n",
        "| part | ns per voxel | % of the time |",
        "|---|---|---|",
        *shares,
        "\nThe row `forward` is the time in which the network is busy.\n",
        f"Peak memory of slices of {MEMORY_PX} x {MEMORY_PX}, width 2, each in a process of its own: "
        + ", ".join(f"{n} slices {peak:.0f} MiB" for n, peak in peaks.items())
        + ".\n",
        *equality_table(options),
        *workers_table(trained, sizes(options.worker_shape), options.repeats, folder),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="64,256,256", help="voxels, Z,Y,X")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--equality-widths", type=int, nargs="*", default=[2, 8, 16, 64])
    parser.add_argument("--equality-sizes", type=int, default=len(ODD_SIZES), help="how many of the odd sizes to try")
    parser.add_argument("--worker-shape", default="256,128,128", help="voxels that one and two workers segment, Z,Y,X")
    parser.add_argument("--lengths", type=int, nargs="*", default=[200, 2000], help="slices whose peak memory is taken")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--peak", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        print(segment_made_up_slices(options.peak))
        return
    with tempfile.TemporaryDirectory() as folder:
        lines = report(options, Path(folder))
    print("\n".join(lines))
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
