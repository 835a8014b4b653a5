"""Count how many bootstrap intervals hold the value of the alloy, on pieces of specimens grown from many seeds.

    python benchmarks/interval_coverage.py --seeds 8 --piece 64

Every specimen is cut into pieces that lie side by side; each piece gives an interval of each measure of each
network, as `alsiseg measure` would. The value of the alloy is that of all pieces of all seeds together. A share
far below the level says that the blocks are too small beside the structure: choose a larger piece. A share above
it is no proof of the reverse: the generator sets the fraction of phases of a whole specimen, so that large pieces
of it scatter less than those of an alloy would.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
from calibration import source_checksum
from numpy.typing import NDArray

from alsiseg import metrics
from alsiseg.phantom import microstructure
from alsiseg.phases import NETWORKS, network_mask
from alsiseg.progress import steps
from alsiseg.volumes import written_whole

VOXEL_SIZE_UM = 1.2
PIECES_PER_EDGE = 2
SPECIMENS = list(microstructure.SPECIMENS)
THICKNESS = "mean_local_thickness_um"


@dataclass(frozen=True)
class Sample:
    """One interval of one piece, and the weight of its value in that of the alloy."""

    specimen: str
    network: str
    measure: str
    interval: metrics.Interval
    weight: float


def pieces(specimen: str, seed: int, edge_voxels: int) -> Iterator[NDArray[np.uint8]]:
    """Grow a specimen and cut it into cubes."""
    shape_zyx = (PIECES_PER_EDGE * edge_voxels,) * 3
    labels_zyx = microstructure.grow(shape_zyx, specimen=specimen, seed=seed, voxel_size_um=VOXEL_SIZE_UM).labels_zyx
    for corner in product(range(0, shape_zyx[0], edge_voxels), repeat=3):
        z, y, x = (slice(at, at + edge_voxels) for at in corner)
        yield np.ascontiguousarray(labels_zyx[z, y, x])


def samples(specimen: str, seed: int, edge_voxels: int, bootstrap: metrics.Bootstrap) -> Iterator[Sample]:
    """Measure every piece of a specimen."""
    for labels_zyx in pieces(specimen, seed, edge_voxels):
        found = metrics.network_intervals(labels_zyx, voxel_size_um=VOXEL_SIZE_UM, bootstrap=bootstrap)
        for network, by_measure in found.items():
            for measure, interval in by_measure.items():
                yield Sample(specimen, network, measure, interval, 1.0)
            network_zyx = network_mask(labels_zyx, network)
            thickness_zyx = metrics.local_thickness_um(network_zyx, VOXEL_SIZE_UM)
            interval = metrics.thickness_interval(thickness_zyx, voxel_size_um=VOXEL_SIZE_UM, bootstrap=bootstrap)
            # The thickness of the alloy is a mean over the voxels of its network.
            yield Sample(specimen, network, THICKNESS, interval, float(np.count_nonzero(network_zyx)))


def row(found: list[Sample]) -> dict[str, Any]:
    """Count the intervals of one measure that hold the value of the alloy, and compare their width with the scatter."""
    alloy = sum(s.weight * s.interval.value for s in found) / sum(s.weight for s in found)
    share = fmean(s.interval.low <= alloy <= s.interval.high for s in found)
    scatter = stdev(s.interval.value for s in found)
    width = fmean(s.interval.high - s.interval.low for s in found)
    return {
        "specimen": found[0].specimen,
        "network": found[0].network,
        "measure": found[0].measure,
        "alloy": alloy,
        "n_intervals": len(found),
        "share_that_hold_it": share,
        "standard_error": math.sqrt(share * (1 - share) / len(found)),
        "scatter_of_the_pieces": scatter,
        "mean_width_over_that_of_the_scatter": width / (2 * 1.96 * scatter),
    }


def rows(found: list[Sample]) -> list[dict[str, Any]]:
    """One row for each measure of each network of each specimen."""
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in found:
        groups.setdefault((sample.specimen, sample.measure, sample.network), []).append(sample)
    return [
        row(groups[key]) for key in sorted(groups, key=lambda k: (k[0] != "slow", k[1], list(NETWORKS).index(k[2])))
    ]


def table(report: dict[str, Any]) -> str:
    """Write the rows for people."""
    lines = [
        f"{report['n_intervals_each']} intervals of {100 * report['level']:g} % each: pieces of "
        f"{report['piece_voxels']}³ voxels ({report['piece_um']:.0f} um), "
        f"{report['n_blocks']} blocks of {report['block_um']:.0f} um",
        f"{'specimen':<10}{'measure':<34}{'network':<12}{'alloy':>12}{'hold it %':>11}{'+-':>6}{'width':>8}",
    ]
    for one in report["rows"]:
        lines.append(
            f"{one['specimen']:<10}{one['measure']:<34}{one['network']:<12}{one['alloy']:>12.5g}"
            f"{100 * one['share_that_hold_it']:>11.1f}{100 * one['standard_error']:>6.1f}"
            f"{one['mean_width_over_that_of_the_scatter']:>8.2f}"
        )
    lines.append("+-: one standard error. width: mean width of the intervals over 2 x 1.96 x scatter of the pieces.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8, help="specimens of each kind, eight pieces each")
    parser.add_argument("--piece", type=int, default=64, help="edge of a piece in voxels")
    parser.add_argument("--specimens", nargs="+", choices=SPECIMENS, default=SPECIMENS, help="kinds")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "results", help="for the results")
    chosen = parser.parse_args()
    jobs = list(product(chosen.specimens, range(chosen.seeds)))
    found: list[Sample] = []
    for specimen, seed in steps(jobs, "specimens", total=len(jobs)):
        found += samples(specimen, seed, chosen.piece, metrics.Bootstrap(seed=seed))
    interval = found[0].interval
    report = {
        "source_sha256": source_checksum(),
        "piece_voxels": chosen.piece,
        "piece_um": chosen.piece * VOXEL_SIZE_UM,
        "seeds": chosen.seeds,
        "n_intervals_each": chosen.seeds * PIECES_PER_EDGE**3,
        "level": interval.level,
        "n_blocks": interval.n_blocks,
        "block_um": interval.block_um,
        "rows": rows(found),
    }
    print(table(report))
    chosen.folder.mkdir(parents=True, exist_ok=True)
    out = chosen.folder / f"interval_coverage_{chosen.piece}.json"
    for path, text in ((out, json.dumps(report, indent=1)), (out.with_suffix(".txt"), table(report))):
        with written_whole(path) as partial:
            Path(partial).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
