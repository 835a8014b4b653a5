"""Hold the network of the paper against peers: the same training slices, the same minutes, the same unseen specimens.

    python benchmarks/peers.py --minutes 5 [--nnunet-python PATH] [--shape 160,160,192] [--seeds 1000,1001]

A random forest on multi-scale features (scikit-learn, as in Weka or ilastik), MONAI's U-Net with its own loss,
transforms and sliding window, and nnU-Net's 2-D configuration, each in a process of its own. nnU-Net is looked for
in an environment of its own (`pip install nnunetv2`, then `--nnunet-python that/bin/python`) and left out without it.
All learn from the truth of the training slices of one `slow` specimen and segment castings that served for nothing
else; what a peer needs to get ready (features, plans, a trial epoch) is not counted. Writes `peers.json` and
`peers.txt` in `benchmarks/results`. Nothing of a peer was tuned; its settings are those its documentation starts with.
"""

import argparse
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from alsiseg import dataset, metrics, phantom, volumes
from alsiseg.study.rows import topology_of
from alsiseg.volumes import written_whole

HERE = Path(__file__).parent
CASTINGS = ("slow", "fast")
# What a peer is, and the program that takes part for it.
PEERS = {
    "alsiseg": ("the paper's network, width 8, weights 1, 1.25, 1.5", "peer_alsiseg.py"),
    "alsiseg_three_views": ("the same, three views averaged", "peer_alsiseg.py"),
    "forest": ("random forest (scikit-learn)", "peer_forest.py"),
    "monai": ("MONAI U-Net", "peer_monai_unet.py"),
    "nnunet": ("nnU-Net 2d", "peer_nnunet.py"),
}
TOPOLOGY = ("euler_26", "euler_6", "b0_26", "interconnectivity_26", "volume_fraction_pct")
Found = dict[str, Any]


def prepare(folder: Path, shape_zyx: tuple[int, int, int], difficulty: str, seeds: list[int]) -> dict[str, np.ndarray]:
    """Write what a peer gets: training slices with labels, unseen scans; return the truth of each unseen scan."""
    made = specimen(folder, "slow", 0, shape_zyx, difficulty)
    train = dataset.split(shape_zyx[0]).train
    for name, what in (("synchrotron", "train_grey"), ("truth", "train_labels")):
        upper_zyx = volumes.open(made[name])[train.start : train.stop]
        volumes.write(folder / f"{what}.tif", upper_zyx, voxel_size_um=1.2, overwrite=True)
    truths = {}
    for casting in CASTINGS:
        for seed in seeds:
            paths = specimen(folder, casting, seed, shape_zyx, difficulty)
            name = f"{casting}_{seed}"
            grey_zyx = volumes.open(paths["synchrotron"])[:]
            volumes.write(folder / f"unseen_{name}.tif", grey_zyx, voxel_size_um=1.2, overwrite=True)
            truths[name] = volumes.open(paths["truth"])[:]
    return truths


def specimen(folder: Path, casting: str, seed: int, shape_zyx: tuple[int, int, int], difficulty: str) -> dict:
    """Make a specimen, or find it."""
    options = {"shape_zyx": shape_zyx, "seed": seed, "difficulty": difficulty, "modalities": ["synchrotron"]}
    return phantom.make(folder / "specimens" / f"{casting}_{seed}_{difficulty}", specimen=casting, **options)  # type: ignore[arg-type]


def run_peer(name: str, python: str, folder: Path, minutes: float) -> Found:
    """Let one peer train and segment in a process of its own."""
    what, program = PEERS[name]
    print(f"{what} ...", flush=True)
    options = ["--three-views"] if name.endswith("three_views") else []
    subprocess.run([python, str(HERE / program), str(folder), "--minutes", str(minutes), *options], check=True)
    return json.loads((folder / f"peer_{name}.json").read_text())


def score(folder: Path, name: str, truths: dict[str, np.ndarray]) -> list[Found]:
    """Measure what a peer made of the unseen scans."""
    rows = []
    for unseen, truth_zyx in truths.items():
        labels_zyx = volumes.open(folder / f"{name}_{unseen}.tif", axes="ZYX")[:]
        found = {
            (of, quantity): [value, true]
            for of, quantity, value, true in topology_of(labels_zyx, truth_zyx)
            if quantity in TOPOLOGY
        }
        rows.append(
            {
                "peer": name,
                "casting": unseen.split("_")[0],
                "specimen": unseen,
                "accuracy_pct": 100 * metrics.accuracy(labels_zyx, truth_zyx),
                "interface_accuracy_pct": 100 * metrics.interface_accuracy(labels_zyx, truth_zyx),
                "networks": {f"{of} {quantity}": pair for (of, quantity), pair in found.items()},
            }
        )
    return rows


def table(rows: list[Found], ran: dict[str, Found]) -> str:
    """One line per peer and casting: means over the specimens; Euler numbers as errors in % of the truth."""
    head = ("", "casting", "right %", "at interfaces %", "Euler 26 Si, Al, hybrid: error %", "train s", "10^6 voxels/s")
    lines = [f"{head[0]:<22}{head[1]:<9}{head[2]:>8}{head[3]:>17}{head[4]:>35}{head[5]:>9}{head[6]:>15}{'MiB':>8}"]
    for name in ran:
        for casting in CASTINGS:
            chosen = [row for row in rows if (row["peer"], row["casting"]) == (name, casting)]
            right, at_interfaces = (
                np.mean([row[key] for row in chosen]) for key in ("accuracy_pct", "interface_accuracy_pct")
            )
            errors = [
                100 * np.mean([(v - t) / abs(t) for v, t in (row["networks"][f"{n} euler_26"] for row in chosen)])
                for n in ("silicon", "aluminides", "hybrid")
            ]
            off = ", ".join(f"{error:+.0f}" for error in errors)
            used = ran[name]
            speed = used["voxels_per_s"] / 1e6
            lines.append(
                f"{name:<22}{casting:<9}{right:>8.2f}{at_interfaces:>17.1f}{off:>35}{used['train_s']:>9.0f}"
                f"{speed:>15.3f}{used['peak_mib']:>8.0f}"
            )
    return "\n".join(lines)


def available(nnunet_python: str | None) -> dict[str, str]:
    """Name the peers that can run, each with its interpreter; say which cannot."""
    found = dict.fromkeys(("alsiseg", "alsiseg_three_views", "forest"), sys.executable)
    if find_spec("monai"):
        found["monai"] = sys.executable
    else:
        print('MONAI is left out; it comes with: pip install "alsiseg[bench]"')
    if nnunet_python:
        found["nnunet"] = nnunet_python
    else:
        print("nnU-Net is left out; install nnunetv2 in an environment of its own and give --nnunet-python")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="of training for each peer")
    parser.add_argument("--shape", default="160,160,192", help="voxels along z, y, x of every specimen")
    parser.add_argument("--seeds", default="1000,1001", help="of the unseen specimens")
    parser.add_argument("--difficulty", default="clean")
    parser.add_argument("--nnunet-python", default=None, help="interpreter of an environment with nnunetv2")
    parser.add_argument("--folder", type=Path, default=Path("data/peers"), help="where specimens and labels lie")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "peers.json")
    chosen = parser.parse_args()
    z, y, x = (int(n) for n in chosen.shape.split(","))
    truths = prepare(chosen.folder, (z, y, x), chosen.difficulty, [int(seed) for seed in chosen.seeds.split(",")])
    rows: list[Found] = []
    ran: dict[str, Found] = {}
    for name, python in available(chosen.nnunet_python).items():
        ran[name] = run_peer(name, python, chosen.folder, chosen.minutes)
        rows += score(chosen.folder, name, truths)
        settings = {key: getattr(chosen, key) for key in ("minutes", "shape", "seeds", "difficulty")}
        found = {"settings": settings, "peers": ran, "rows": rows}
        with written_whole(chosen.out) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        with written_whole(chosen.out.with_suffix(".txt")) as partial:
            partial.write_text(table(rows, ran) + "\n", encoding="utf-8")
    print(table(rows, ran))


if __name__ == "__main__":
    main()
