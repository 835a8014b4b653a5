"""Hold the labels that the ground-truth procedure makes from three scans against the truth of the specimen.

    python benchmarks/procedure.py --seeds 0,1 --shape 96,128,128 --out benchmarks/results/procedure.json

Both specimens at both difficulties. The procedure's constants were found on seeds 100 and 101: measure
others. Specimens lie in a folder of their own; what exists there is used again, and what was measured
before by the same sources is not measured again. The table is kept beside the JSON file, for notebook 1.
"""

import argparse
import hashlib
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import ground_truth, metrics, phantom, volumes
from alsiseg.ground_truth import Registration
from alsiseg.phantom.poses import Misalignment, misalignment
from alsiseg.phases import Phase
from alsiseg.progress import steps
from alsiseg.volumes import written_whole

Row = dict[str, Any]
Shape = tuple[int, int, int]
VOXEL_SIZE_UM = 1.2
SCANS = ("lab_ct", "synchrotron", "etched")
NETWORK_MEASURES = ("volume_fraction_pct", "interconnectivity", "euler_number", "n_components")


def source_checksum() -> str:
    """Checksum of what makes the specimens and what labels them."""
    digest = hashlib.sha256()
    for room in (phantom, ground_truth):
        for path in sorted(Path(room.__path__[0]).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def measure(folder: Path, specimen: str, difficulty: str, seed: int, shape_zyx: Shape, n_angles: int | None) -> Row:
    """Make or find one specimen, label its scans and compare with its truth."""
    paths = phantom.make(
        folder, specimen=specimen, shape_zyx=shape_zyx, seed=seed, difficulty=difficulty, n_angles=n_angles
    )
    truth_zyx = volumes.open(paths["truth"])[:]
    scans = [volumes.open(paths[name])[:] for name in SCANS]
    start = time.perf_counter()
    made = ground_truth.label_scans(*scans)
    seconds = time.perf_counter() - start
    key: Row = {"specimen": specimen, "difficulty": difficulty, "seed": seed}
    return (
        key
        | comparison(made.labels_zyx, truth_zyx, seen_by_all(made))
        | {
            "registration_error_voxel": {
                name: round(largest_error_voxel(move, misalignment(name, seed), shape_zyx), 3)
                for name, move in (("lab_ct", made.lab), ("etched", made.etched))
            },
            "seconds": round(seconds, 1),
            "labels_sha256": hashlib.sha256(made.labels_zyx.tobytes()).hexdigest(),
        }
    )


def seen_by_all(made: ground_truth.GroundTruth) -> NDArray[np.bool_]:
    """Voxels that every scan reaches; beyond, moved scans are continued."""
    shape_zyx = made.labels_zyx.shape
    return made.lab.covers(shape_zyx) & made.etched.covers(shape_zyx)


def comparison(labels_zyx: NDArray[np.uint8], truth_zyx: NDArray[np.uint8], seen_zyx: NDArray[np.bool_]) -> Row:
    """Compare labels with the truth: per cent of the voxels, and the three networks."""
    pairs = {
        f"{true.name.lower()} as {found.name.lower()}": (truth_zyx == true) & (labels_zyx == found)
        for true, found in product(Phase, Phase)
        if true != found
    }
    made, true = (
        metrics.as_dict(metrics.measure_networks(volume, voxel_size_um=VOXEL_SIZE_UM))
        for volume in (labels_zyx, truth_zyx)
    )
    dice = metrics.dice_per_phase(labels_zyx, truth_zyx)
    return {
        "accuracy_pct": 100 * metrics.accuracy(labels_zyx, truth_zyx),
        "accuracy_where_all_scans_reach_pct": 100 * float((labels_zyx == truth_zyx)[seen_zyx].mean()),
        "dice": {phase.name.lower(): value for phase, value in dice.items()},
        "wrong_pct": {name: 100 * float(mask.mean()) for name, mask in pairs.items()},
        "networks": {
            name: {key: {"labels": made[name][key], "truth": true[name][key]} for key in NETWORK_MEASURES}
            for name in made
        },
    }


def largest_error_voxel(found: Registration, pose: Misalignment, shape_zyx: Shape) -> float:
    """How far a corner of the volume ends from where it began, moved by the pose and then aligned back."""
    corners = np.array(np.meshgrid(*[(-n / 2, n / 2) for n in shape_zyx], indexing="ij")).reshape(3, -1)
    moved = found.matrix @ corners + np.array(found.shift_zyx_voxel)[:, None]
    moved = pose.matrix @ moved + np.array(pose.shift_zyx_voxel)[:, None]
    return float(np.linalg.norm(moved - corners, axis=0).max())


def known_rows(path: Path, request: Row) -> list[Row]:
    """Rows of an earlier run of the same sources, shape and angles."""
    if not path.is_file():
        return []
    earlier = json.loads(path.read_text(encoding="utf-8"))
    return earlier["rows"] if all(earlier.get(key) == value for key, value in request.items()) else []


def write(path: Path, request: Row, rows: list[Row]) -> None:
    """Write all that is known; an interrupted run goes on from there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        Path(partial).write_text(json.dumps(request | {"rows": rows}, indent=1), encoding="utf-8")


def tables(rows: list[Row]) -> str:
    """How right the labels are, then their networks beside the truth."""
    return "\n".join([*_agreement_lines(rows), "", *_network_lines(rows)])


def _agreement_lines(rows: list[Row]) -> list[str]:
    lines = [
        f"{'accuracy in %':<16}{'seed':>5}{'everywhere':>12}{'all scans reach':>17}  "
        f"{'Dice matrix, silicon, aluminide':<33}"
        f"{'lab, etched off by (voxel)':>26}{'seconds':>9}"
    ]
    for row in rows:
        dice = ", ".join(f"{value:.3f}" for value in row["dice"].values())
        off = ", ".join(f"{value:.2f}" for value in row["registration_error_voxel"].values())
        accuracy = f"{row['accuracy_pct']:>12.2f}{row['accuracy_where_all_scans_reach_pct']:>17.2f}"
        name = f"{row['specimen']} {row['difficulty']}"
        lines.append(f"{name:<16}{row['seed']:>5}{accuracy}  {dice:<33}{off:>26}{row['seconds']:>9.1f}")
    return lines


def _network_lines(rows: list[Row]) -> list[str]:
    titles = zip(("vol.%", "interconn.", "Euler", "particles"), COLUMNS, strict=True)
    lines = [f"{'labels / truth':<16}{'seed':>5}  {'network':<11}" + "".join(f"{t:>{c[2]}}" for t, c in titles)]
    for row in rows:
        for network, one in row["networks"].items():
            name = f"{row['specimen']} {row['difficulty']}"
            cells = [
                (f"{one[key]['labels']:{form}} / {one[key]['truth']:{form}}", width) for key, form, width in COLUMNS
            ]
            lines.append(
                f"{name:<16}{row['seed']:>5}  {network:<11}" + "".join(f"{text:>{width}}" for text, width in cells)
            )
    return lines


COLUMNS = (
    ("volume_fraction_pct", ".2f", 16),
    ("interconnectivity", ".3f", 18),
    ("euler_number", "d", 18),
    ("n_components", "d", 16),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1", help="the procedure was tuned on 100 and 101")
    parser.add_argument("--shape", default="96,128,128", help="voxels along z, y, x")
    parser.add_argument("--angles", type=int, default=None, help="projections of each scan; default: of the difficulty")
    parser.add_argument("--specimens", type=Path, default=Path("data/procedure"), help="where the specimens lie")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/procedure.json"))
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    shape_zyx = tuple(int(n) for n in chosen.shape.split(","))
    request = {"source_sha256": source_checksum(), "shape_zyx": list(shape_zyx), "n_angles": chosen.angles}
    rows = known_rows(chosen.out, request)
    known = {(row["specimen"], row["difficulty"], row["seed"]) for row in rows}
    seeds = [int(seed) for seed in chosen.seeds.split(",")]
    jobs = [job for job in product(phantom.SPECIMENS, phantom.DIFFICULTIES, seeds) if job not in known]
    size = "x".join(map(str, shape_zyx))
    for specimen, difficulty, seed in steps(jobs, "specimens labelled"):
        folder = chosen.specimens / f"{specimen}_{difficulty}_{seed}_{size}_{chosen.angles or 'all'}"
        rows.append(measure(folder, specimen, difficulty, seed, shape_zyx, chosen.angles))  # type: ignore[arg-type]
        write(chosen.out, request, rows)
    print(tables(rows))
    with written_whole(chosen.out.with_suffix(".txt")) as partial:
        Path(partial).write_text(tables(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
