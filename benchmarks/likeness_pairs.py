"""Count how often a network trained on one scan would warn of another: false alarms, and what is noticed.

    python benchmarks/likeness_pairs.py --scans data/likeness

Small scans of both castings and difficulties, of several sizes and seeds (none of which was used to choose a
statistic), are compared each with each, as `alsiseg segment` compares a scan with the one a network learned from.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from typing import Any

from calibration import source_checksum

from alsiseg import likeness, phantom, volumes
from alsiseg.likeness import Statistics
from alsiseg.progress import steps
from alsiseg.volumes import written_whole

KINDS = list(product(phantom.SPECIMENS, phantom.DIFFICULTIES))
# Shape and first seed; half as many of the largest.
SIZES = (((48, 96, 96), 520, 1.0), ((64, 128, 128), 526, 1.0), ((128, 160, 160), 532, 0.5))
N_ANGLES = 360


@dataclass(frozen=True)
class Scan:
    """What a scan is of: casting, difficulty, seed and shape."""

    casting: str
    difficulty: str
    seed: int
    shape_zyx: tuple[int, int, int]

    @property
    def name(self) -> str:
        """A name for its folder."""
        return f"{self.casting}_{self.difficulty}_{self.seed}_{self.shape_zyx[0]}"

    @property
    def kind(self) -> str:
        """Scans of one kind should not warn of each other."""
        return f"{self.casting}, {self.difficulty}"


def scans(n_seeds: int) -> list[Scan]:
    """Every scan that is compared."""
    return [
        Scan(casting, difficulty, first + i, shape)
        for shape, first, share in SIZES
        for i in range(max(1, round(share * n_seeds)))
        for casting, difficulty in KINDS
    ]


def statistics(scan: Scan, home: Path) -> Statistics:
    """Make a scan, unless it is there, and look at its grey."""
    made = phantom.make(
        home / scan.name,
        specimen=scan.casting,
        shape_zyx=scan.shape_zyx,
        seed=scan.seed,
        difficulty=scan.difficulty,
        modalities=("synchrotron",),
        n_angles=N_ANGLES,
        n_processes=1,
    )
    return likeness.grey_statistics(volumes.open(made["synchrotron"]))


def rows(found: Mapping[Scan, Statistics]) -> list[dict[str, Any]]:
    """One row for each pair of kinds: how many pairs of scans gave a warning, and of what."""
    counted: dict[tuple[str, str], list[list[str]]] = {}
    for learned, other in permutations(found, 2):
        said = likeness.differences(found[learned], found[other])
        counted.setdefault((learned.kind, other.kind), []).append(said)
    return [
        {"learned": learned, "scan": other, "pairs": len(said), "warned": sum(map(bool, said)), **_of_what(said)}
        for (learned, other), said in sorted(counted.items(), reverse=True)
    ]


def _of_what(said: list[list[str]]) -> dict[str, int]:
    """Count the pairs in which each statistic differed."""
    words = {"grey": "grey values", "noise": "noise", "length": "correlation length"}
    return {name: sum(any(word in one for one in found) for found in said) for name, word in words.items()}


def table(report: Mapping[str, Any]) -> str:
    """Write the rows for people."""
    same = [row for row in report["rows"] if row["learned"] == row["scan"]]
    false, pairs = sum(row["warned"] for row in same), sum(row["pairs"] for row in same)
    lines = [
        f"{report['n_scans']} scans, each against each; false alarms among scans of one kind: {false} of {pairs} pairs "
        f"({100 * false / pairs:.1f} %)",
        f"{'learned from':<14}{'scan':<14}{'warned':>12}{'':>7}{'of grey':>10}{'of noise':>10}{'of length':>10}",
    ]
    lines += [
        f"{row['learned']:<14}{row['scan']:<14}{row['warned']:>5} of {row['pairs']:<4}"
        f"{100 * row['warned'] / row['pairs']:>5.0f} %{row['grey']:>10}{row['noise']:>10}{row['length']:>10}"
        for row in report["rows"]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=Path, default=Path("data/likeness"), help="folder for the scans")
    parser.add_argument("--seeds", type=int, default=6, help="of each kind and size, half as many of the largest")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "results", help="for the results")
    chosen = parser.parse_args()
    wanted = scans(chosen.seeds)
    found = {scan: statistics(scan, chosen.scans) for scan in steps(wanted, "scans", total=len(wanted))}
    sizes = [list(shape) for shape, _, _ in SIZES]
    report = {"source_sha256": source_checksum(), "sizes": sizes, "n_scans": len(found), "rows": rows(found)}
    print(table(report))
    chosen.folder.mkdir(parents=True, exist_ok=True)
    out = chosen.folder / "likeness_pairs.json"
    for path, text in ((out, json.dumps(report, indent=1)), (out.with_suffix(".txt"), table(report))):
        with written_whole(path) as partial:
            Path(partial).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
