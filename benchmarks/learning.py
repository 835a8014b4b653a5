"""Hold a small unweighted network against a random forest on the specimen, at both difficulties.

    python benchmarks/learning.py

The specimen is to be so hard that a forest on multi-scale features stays below a small network, and that at
"hard" the network ends near the 93 % of the paper. Both learn from the truth of the same training slices and
are tested on the same slices, which neither saw; the network has no weights in its loss. The specimens and
run folders lie in a folder of their own; an interrupted training goes on from its last epoch. About an
hour on a quiet core.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from alsiseg import baselines, dataset, metrics, phantom, runs, training, volumes
from alsiseg.profiles import PROFILES
from alsiseg.volumes import written_whole
from alsiseg.weightmaps import PixelWeights

N_TESTED = 16  # slices from the middle of the test section
N_LAST = 5  # epochs whose mean is reported beside the last one


def measure(
    folder: Path, difficulty: str, shape_zyx: tuple[int, int, int], seed: int, epochs: int, images: int
) -> dict:
    """Train both on one specimen and test them on the same slices."""
    paths = phantom.make(folder, shape_zyx=shape_zyx, seed=seed, difficulty=difficulty, modalities=["synchrotron"])
    grey, truth = volumes.open(paths["synchrotron"]), volumes.open(paths["truth"])
    quick = PROFILES["quick"].training
    config = replace(quick, weights=PixelWeights(1, 1, 1), epochs=epochs, images_per_epoch=images, crop_px=None)
    run_dir = training.train(grey, truth, folder / "run", config, voxel_size_um=1.2, resume=True)

    true_zyx, found_zyx = runs.read_test(run_dir, epochs)
    middle = slice((len(true_zyx) - N_TESTED) // 2, (len(true_zyx) + N_TESTED) // 2)
    train = dataset.split(shape_zyx[0]).train
    upper = slice(train.start, train.stop)
    forest = baselines.train_forest(grey[upper], truth[upper])
    of_forest_zyx = forest.segment(dataset.test_section(grey, true_zyx.shape[1])[middle])
    _, accuracy_ez = runs.read_accuracy_per_slice(run_dir)
    return {
        "difficulty": difficulty,
        "forest": agreement(of_forest_zyx, true_zyx[middle]),
        "network": agreement(found_zyx[middle], true_zyx[middle]),
        "network_last_epochs_pct": [round(100 * float(a), 2) for a in accuracy_ez[-N_LAST:, middle].mean(axis=1)],
        "history_pct": [round(100 * float(a), 2) for a in runs.read_history(run_dir)["accuracy"]],
    }


def agreement(labels_zyx: np.ndarray, truth_zyx: np.ndarray) -> dict[str, float]:
    """Accuracy everywhere and on the interface, in per cent."""
    return {
        "accuracy_pct": round(100 * metrics.accuracy(labels_zyx, truth_zyx), 2),
        "interface_accuracy_pct": round(100 * metrics.interface_accuracy(labels_zyx, truth_zyx), 2),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """One line per difficulty, for people."""
    lines = [f"{'accuracy in %':<14}{'forest':>8}{'network':>9}{'mean of last epochs':>21}{'both at interfaces':>20}"]
    for row in rows:
        forest, network = row["forest"], row["network"]
        at = f"{forest['interface_accuracy_pct']:.1f}, {network['interface_accuracy_pct']:.1f}"
        last = float(np.mean(row["network_last_epochs_pct"]))
        lines.append(
            f"{row['difficulty']:<14}{forest['accuracy_pct']:>8.2f}{network['accuracy_pct']:>9.2f}{last:>21.2f}{at:>20}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="400,256,256", help="voxels along z, y, x")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--images", type=int, default=700, help="images per epoch")
    parser.add_argument("--difficulties", default=",".join(phantom.DIFFICULTIES))
    parser.add_argument("--specimens", type=Path, default=Path("data/learning"), help="where specimens and runs lie")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/learning.json"))
    chosen = parser.parse_args()
    shape_zyx = tuple(int(n) for n in chosen.shape.split(","))
    request = {"shape_zyx": list(shape_zyx), "seed": chosen.seed, "epochs": chosen.epochs, "images": chosen.images}
    rows = []
    for difficulty in chosen.difficulties.split(","):
        folder = chosen.specimens / f"{difficulty}_{chosen.seed}_{'x'.join(map(str, shape_zyx))}"
        rows.append(measure(folder, difficulty, shape_zyx, chosen.seed, chosen.epochs, chosen.images))  # type: ignore[arg-type]
        print(table(rows), flush=True)
        with written_whole(chosen.out) as partial:
            Path(partial).write_text(json.dumps(request | {"rows": rows}, indent=1), encoding="utf-8")
        with written_whole(chosen.out.with_suffix(".txt")) as partial:
            Path(partial).write_text(table(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
