"""Correct a network on a scan it was not trained for, as a user would, and measure what that changes and where.

    python benchmarks/correct_and_retrain.py --minutes 3

A small network learns from the slowly cooled specimen and segments the fast one, which is finer and which it has
never seen. In a few slices the labels of a square are mended by the truth: that is the user. The network is then
fine-tuned for some minutes, and its accuracy before and after is measured by the truth: in the mended squares, in
the rest of their slices, in slices far away, and on the test slices of the specimen of its first training, which
it might have forgotten. Each with and without the data of the first training mixed in.

Specimens and runs lie in a folder of their own; an interrupted training goes on from its last epoch.
"""

import argparse
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import correcting, dataset, metrics, phantom, prediction, runs, training, volumes
from alsiseg.correcting import CorrectingConfig
from alsiseg.profiles import PROFILES
from alsiseg.volumes import written_whole
from alsiseg.weightmaps import PUBLISHED_SETTINGS

FAR = 16  # slices between a mended slice and one that is far away
Regions = dict[str, NDArray[np.bool_]]
Pair = tuple[NDArray, NDArray[np.uint8]]  # a scan and its truth


def scan(folder: Path, specimen: str, shape_zyx: tuple[int, ...], chosen: argparse.Namespace) -> Pair:
    """Make a specimen and its synchrotron scan, or read those made before."""
    paths = phantom.make(
        folder / specimen,
        specimen=specimen,
        shape_zyx=shape_zyx,  # type: ignore[arg-type]
        seed=chosen.seed,
        difficulty=chosen.difficulty,
        modalities=["synchrotron"],
        n_angles=PROFILES["quick"].n_angles,
    )
    return volumes.open(paths["synchrotron"])[:], volumes.open(paths["truth"])[:]


def mended_slices(n_slices: int, n_mended: int, spacing: int) -> list[int]:
    """Slices in the middle of the volume that the user mends, a few apart."""
    first = (n_slices - (n_mended - 1) * spacing) // 2
    return [first + i * spacing for i in range(n_mended)]


def regions(shape_zyx: tuple[int, ...], mended: list[int]) -> Regions:
    """Where accuracy is measured: the mended squares, the rest of their slices, and slices far away."""
    names = ("mended squares", "rest of their slices", "slices far away")
    found = {name: np.zeros(shape_zyx, bool) for name in names}
    rows, columns = (slice(n // 4, 3 * n // 4) for n in shape_zyx[1:])
    found["mended squares"][mended, rows, columns] = True
    found["rest of their slices"][mended] = True
    found["rest of their slices"] &= ~found["mended squares"]
    z = np.arange(shape_zyx[0])
    found["slices far away"][np.abs(z[:, None] - mended).min(axis=1) > FAR] = True
    return found


def accuracies(run_dir: Path, second: Pair, where: Regions, first: Pair, device: str) -> dict[str, float]:
    """Accuracy of a run's network in every region, and on the test section of the first training, in per cent."""
    trained = runs.load_network(run_dir)
    (grey, truth), (first_grey, first_truth) = second, first
    labels = prediction.segment(grey, trained, device=device)
    found = {name: metrics.accuracy(labels[mask], truth[mask]) for name, mask in where.items()}
    test = dataset.split(first_grey.shape[0]).test
    of_first = prediction.segment(first_grey, trained, device=device)[test.start : test.stop]
    found["first training, test slices"] = metrics.accuracy(of_first, first_truth[test.start : test.stop])
    return {name: round(100 * value, 2) for name, value in found.items()}


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Train, segment, mend, fine-tune with and without the first data, and measure before and after."""
    first = scan(chosen.folder, "slow", (chosen.slow, 128, 128), chosen)
    second = grey, truth = scan(chosen.folder, "fast", (chosen.fast, 128, 128), chosen)
    config = replace(
        PROFILES["quick"].training, weights=PUBLISHED_SETTINGS[-1], epochs=chosen.epochs, images_per_epoch=chosen.images
    )
    parent = training.train(*first, chosen.folder / "run", config, voxel_size_um=1.2, resume=True, device=chosen.device)
    mended = mended_slices(len(grey), chosen.mended, chosen.spacing)
    where = regions(truth.shape, mended)
    labels = prediction.segment(grey, parent, device=chosen.device)
    corrected = np.where(where["mended squares"], truth, labels)
    rows, epochs = {"before": accuracies(parent, second, where, first, chosen.device)}, {}
    settings = CorrectingConfig(learning_rate=chosen.learning_rate)
    mixtures: dict[str, Any] = {"first data mixed in": first, "corrections alone": None}
    for name, original in mixtures.items():
        new = chosen.folder / name.replace(" ", "_")
        shutil.rmtree(new, ignore_errors=True)
        options: dict[str, Any] = {"minutes": chosen.minutes, "seed": chosen.seed, "voxel_size_um": 1.2}
        options |= {"device": chosen.device, "original": original, "config": settings}
        correcting.fine_tune(parent, new, grey, corrected, corrected != labels, **options)
        rows[name] = accuracies(new, second, where, first, chosen.device)
        epochs[name] = len(runs.read_history(new)["epoch"]) - 1
    n_wrong = int(np.count_nonzero(corrected != labels))
    found = {"mended_slices": mended, "corrected_voxels": n_wrong, "settings": asdict(settings)}
    return found | {"accuracy_pct": rows, "epochs_made": epochs}


def table(found: dict[str, Any]) -> str:
    """One line per region, for people."""
    rows = found["accuracy_pct"]
    lines = [
        f"{found['corrected_voxels']} voxels mended in {len(found['mended_slices'])} slices of the fast specimen; "
        f"{found['minutes']:g} minutes of fine-tuning, device {found['device']}",
        f"{'accuracy in %':<30}" + "".join(f"{name:>22}" for name in rows),
    ]
    for region in rows["before"]:
        lines.append(f"{region:<30}" + "".join(f"{rows[name][region]:>22.2f}" for name in rows))
    made = "".join(f"{found['epochs_made'].get(name, ''):>22}" for name in rows)
    return "\n".join([*lines, f"{'epochs':<30}{made}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0, help="of fine-tuning, with and without the first data")
    parser.add_argument("--slow", type=int, default=160, help="slices of the specimen that is trained on")
    parser.add_argument("--fast", type=int, default=96, help="slices of the specimen that is corrected")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=300, help="images per epoch")
    parser.add_argument("--mended", type=int, default=6, help="slices that are mended")
    parser.add_argument("--spacing", type=int, default=4, help="slices from one mended slice to the next")
    parser.add_argument("--learning-rate", type=float, default=CorrectingConfig().learning_rate)
    parser.add_argument("--difficulty", default="clean", choices=phantom.DIFFICULTIES)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("data/correcting"), help="where specimens and runs lie")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/correct_and_retrain.json"))
    chosen = parser.parse_args()
    request = {name: value for name, value in vars(chosen).items() if name not in ("folder", "out")}
    found = request | measure(chosen)
    print(table(found))
    with written_whole(chosen.out) as partial:
        Path(partial).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    with written_whole(chosen.out.with_suffix(".txt")) as partial:
        Path(partial).write_text(table(found) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
