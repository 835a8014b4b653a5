"""Grow both specimens from several seeds and hold their networks against the paper's samples.

    python benchmarks/calibration.py --seeds 5 --shape 300,319,379 --out benchmarks/results/calibration.json

Slow must look like the paper's training sample, fast like its second volume (PAPER.md, section 4, claims C8-C10).
A volume that was measured before by the same generator is not grown again. The table is kept beside the JSON
file, for notebook 1.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import metrics, phantom
from alsiseg.phantom import microstructure
from alsiseg.phases import NETWORKS, network_mask
from alsiseg.progress import steps
from alsiseg.volumes import written_whole

Row = dict[str, Any]
VOXEL_SIZE_UM = 1.2
# What makes a specimen; `materials` only names its constituents.
GENERATOR = ("dendrites", "fields", "growth", "microstructure", "partial_volume", "particles", "specimens", "surfaces")

# Lowest and highest value of a volume of one specimen, in per cent.
LIMITS: dict[tuple[str, str, str], tuple[float, float]] = {
    ("slow", "silicon", "volume_fraction_pct"): (13, 18),
    ("slow", "aluminides", "volume_fraction_pct"): (10, 12),
    ("slow", "silicon", "interconnectivity_pct"): (95, 100),
    ("slow", "aluminides", "interconnectivity_pct"): (94, 100),
    ("slow", "hybrid", "interconnectivity_pct"): (99, 100),
    ("fast", "silicon", "volume_fraction_pct"): (13, 15),
    ("fast", "aluminides", "volume_fraction_pct"): (17, 19),
    ("fast", "hybrid", "volume_fraction_pct"): (30.5, 33.5),
    ("fast", "aluminides", "interconnectivity_pct"): (94, 100),
    ("fast", "hybrid", "interconnectivity_pct"): (99, 100),
}
# Lowest and highest value of fast less slow, of the same seed.
NEVER = float("inf")
DIFFERENCES: dict[tuple[str, str], tuple[float, float]] = {("silicon", "interconnectivity_pct"): (-20, -10)} | {
    (network, measure): (-NEVER, 0) for network in NETWORKS for measure in ("euler_density_per_mm3", "mean_chord_um")
}
COLUMNS = (
    ("vol.%", "volume_fraction_pct", 2),
    ("interconn. %", "interconnectivity_pct", 2),
    ("Euler / mm3", "euler_density_per_mm3", 0),
    ("particles", "n_components", 0),
    ("chord um", "mean_chord_um", 2),
)


def source_checksum() -> str:
    folder = Path(phantom.__file__).parent
    sources = [(folder / f"{name}.py").read_bytes() for name in GENERATOR]
    return hashlib.sha256(b"\0".join(sources)).hexdigest()


def mean_chord_um(network_zyx: NDArray[np.bool_]) -> float:
    """Mean length of the network along lines in z, y and x; about twice the thickness of plates."""
    n_ends = sum(
        np.count_nonzero(network_zyx.take(range(1, n), axis) != network_zyx.take(range(n - 1), axis))
        for axis, n in enumerate(network_zyx.shape)
    )
    return 2 * VOXEL_SIZE_UM * network_zyx.ndim * np.count_nonzero(network_zyx) / n_ends


def measure(specimen: str, seed: int, shape_zyx: tuple[int, int, int]) -> Row:
    """Grow one volume and measure its networks."""
    start = time.process_time()
    grown = microstructure.grow(shape_zyx, specimen=specimen, seed=seed, voxel_size_um=VOXEL_SIZE_UM)
    seconds = time.process_time() - start
    measures = metrics.as_dict(metrics.measure_networks(grown.labels_zyx, voxel_size_um=VOXEL_SIZE_UM))
    for name, one in measures.items():
        one["interconnectivity_pct"] = 100 * one.pop("interconnectivity")
        one["mean_chord_um"] = mean_chord_um(network_mask(grown.labels_zyx, name))
    labels_sha256 = hashlib.sha256(grown.labels_zyx.tobytes()).hexdigest()
    return {
        "specimen": specimen,
        "seed": seed,
        "cpu_seconds": round(seconds, 1),
        "labels_sha256": labels_sha256,
        "networks": measures,
        "missed": missed(specimen, measures),
    }


def missed(specimen: str, networks: Row) -> list[str]:
    """Say which limits a volume does not keep."""
    return [
        f"{network} {measure} {networks[network][measure]:.2f} not in {low}..{high}"
        for (of, network, measure), (low, high) in LIMITS.items()
        if of == specimen and not low <= networks[network][measure] <= high
    ]


def differences(rows: list[Row]) -> list[Row]:
    """Compare fast with slow for every seed that both were grown from."""
    volumes = {(row["specimen"], row["seed"]): row["networks"] for row in rows}
    pairs = [
        (seed, networks, volumes.get(("slow", seed))) for (name, seed), networks in volumes.items() if name == "fast"
    ]
    return [{"seed": seed} | _difference(fast, slow) for seed, fast, slow in pairs if slow is not None]


def _difference(fast: Row, slow: Row) -> Row:
    """Fast less slow, and which limits it does not keep."""
    values = {(network, measure): fast[network][measure] - slow[network][measure] for network, measure in DIFFERENCES}
    return {
        "fast_less_slow": {" ".join(key): value for key, value in values.items()},
        "missed": [
            f"{' '.join(key)} {value:.2f} not in {DIFFERENCES[key][0]}..{DIFFERENCES[key][1]}"
            for key, value in values.items()
            if not DIFFERENCES[key][0] <= value <= DIFFERENCES[key][1]
        ],
    }


def known_rows(path: Path, request: Row) -> list[Row]:
    """Rows of an earlier run of the same generator and shape."""
    if not path.is_file():
        return []
    earlier = json.loads(path.read_text(encoding="utf-8"))
    return earlier["volumes"] if all(earlier.get(key) == value for key, value in request.items()) else []


def new_rows(jobs: list[tuple[str, int]], shape_zyx: tuple[int, int, int], n_processes: int) -> Iterator[Row]:
    """Measure the volumes, each as soon as it is done."""
    if n_processes == 1:
        yield from (measure(specimen, seed, shape_zyx) for specimen, seed in jobs)
        return
    with ProcessPoolExecutor(n_processes) as pool:
        started = [pool.submit(measure, specimen, seed, shape_zyx) for specimen, seed in jobs]
        yield from (job.result() for job in as_completed(started))


def write(path: Path, request: Row, rows: list[Row]) -> None:
    """Write all that is known; an interrupted run goes on from there."""
    limits = {" ".join(key): value for key, value in LIMITS.items()}
    report = request | {"limits": limits, "volumes": rows, "comparisons": differences(rows)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        Path(partial).write_text(json.dumps(report, indent=1), encoding="utf-8")


def tables(rows: list[Row]) -> str:
    """Every network of every volume, then fast beside slow."""
    lines = [f"{'specimen':<10}{'seed':>5}  {'network':<11}" + "".join(f"{title:>14}" for title, *_ in COLUMNS)]
    for row in rows:
        for name, one in row["networks"].items():
            values = "".join(f"{one[key]:>14.{decimals}f}" for _, key, decimals in COLUMNS)
            lines.append(f"{row['specimen']:<10}{row['seed']:>5}  {name:<11}{values}")
        lines.append(f"{'':<17}{'all limits kept' if not row['missed'] else 'MISSED: ' + '; '.join(row['missed'])}")
    lines.append("\nfast less slow")
    for row in differences(rows):
        loss = row["fast_less_slow"]["silicon interconnectivity_pct"]
        verdict = "MISSED: " + "; ".join(row["missed"]) if row["missed"] else "finer, more branched in every network"
        lines.append(f"seed {row['seed']}: silicon interconnectivity {loss:+.1f} points; {verdict}")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="the generator was tuned on seeds from 100 on")
    parser.add_argument("--shape", default="300,319,379", help="voxels along z, y, x")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/calibration.json"))
    parser.add_argument("--processes", type=int, default=1, help="volumes grown at once, 3 GB each")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    shape_zyx = tuple(int(n) for n in chosen.shape.split(","))
    request = {"source_sha256": source_checksum(), "shape_zyx": list(shape_zyx), "voxel_size_um": VOXEL_SIZE_UM}
    rows = known_rows(chosen.out, request)
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    known = {(row["specimen"], row["seed"]) for row in rows}
    jobs = [(name, seed) for name in microstructure.SPECIMENS for seed in seeds if (name, seed) not in known]
    for row in steps(new_rows(jobs, shape_zyx, chosen.processes), "volumes", total=len(jobs)):
        rows = sorted([*rows, row], key=lambda r: (list(microstructure.SPECIMENS).index(r["specimen"]), r["seed"]))
        write(chosen.out, request, rows)
    print(tables(rows))
    with written_whole(chosen.out.with_suffix(".txt")) as partial:
        Path(partial).write_text(tables(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
