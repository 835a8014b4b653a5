"""Train the small network that comes with alsiseg, and pack it.

    python benchmarks/pretrain.py --out alsiseg/pretrained/alsi-small --specimens 4 --epochs 20 --images 900

One network learns from several synthetic specimens: cooled slowly and fast, scanned "clean" and "hard", in turn, with
the seeds 0, 1, ... It is segmented on other specimens after the training, of every kind: those with the seeds 500 to
503 choose one of the kept epochs, those with the seeds 504 to 507 are what the model card reports. No specimen of the
study's test (seeds from 1000) is looked at. What was done before is used again: a call that was stopped is continued
by the same call. A minute for every specimen, and a minute for every 500 to 1000 images of a quiet core.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alsiseg import exporting, metrics, phantom, prediction, runs, training, volumes
from alsiseg.progress import steps
from alsiseg.runs import Trained
from alsiseg.unet import UNetConfig
from alsiseg.weightmaps import PixelWeights

KINDS = tuple((casting, difficulty) for difficulty in phantom.DIFFICULTIES for casting in phantom.SPECIMENS)
CHOOSING_SEED, REPORTED_SEED = 500, 504
RECIPES = {"slices": prediction.Options(), "three views": prediction.Options(three_views=True)}
QUANTITIES = ("volume_fraction_pct", "interconnectivity", "euler_number")


@dataclass(frozen=True)
class Specimen:
    """A synthetic specimen, which its seed makes."""

    casting: str
    difficulty: str
    seed: int
    shape_zyx: tuple[int, int, int]
    n_angles: int
    voxel_size_um: float = 1.2

    def opened(self, home: Path, n_processes: int | None = None) -> tuple[volumes.Volume, volumes.Volume]:
        """Make it, unless that was done; its scan and its truth."""
        paths = phantom.make(
            home / "specimens" / f"{self.casting}_{self.difficulty}_{self.seed}",
            specimen=self.casting,
            shape_zyx=self.shape_zyx,
            seed=self.seed,
            difficulty=self.difficulty,
            modalities=("synchrotron",),
            n_angles=self.n_angles,
            voxel_size_um=self.voxel_size_um,
            n_processes=n_processes,
        )
        return volumes.open(paths["synchrotron"]), volumes.open(paths["truth"])


def specimens(n: int, first_seed: int, shape_zyx: tuple[int, int, int], n_angles: int) -> list[Specimen]:
    """Name specimens of every kind in turn, each with a seed of its own."""
    kinds = itertools.islice(itertools.cycle(KINDS), n)
    return [Specimen(*kind, seed, shape_zyx, n_angles) for seed, kind in enumerate(kinds, first_seed)]


def measured(one: Specimen, trained: Trained, home: Path, recipe: str) -> dict[str, Any]:
    """Segment a specimen by a recipe and compare it with its truth."""
    grey, truth = one.opened(home)
    truth_zyx = truth[:]
    labels_zyx = prediction.segment(grey, trained, options=RECIPES[recipe])
    found, true = (metrics.measure_networks(labels) for labels in (labels_zyx, truth_zyx))
    networks = {
        name: {what: {"found": getattr(found[name], what), "truth": getattr(true[name], what)} for what in QUANTITIES}
        for name in true
    }
    agreement = {
        "accuracy": metrics.accuracy(labels_zyx, truth_zyx),
        "interface_accuracy": metrics.interface_accuracy(labels_zyx, truth_zyx),
    }
    return {**asdict(one), "recipe": recipe, **agreement, "networks": networks}


def best_epoch(run_dir: Path, choosing: list[Specimen], home: Path) -> int:
    """Find the kept epoch that is right most often on specimens which serve for this choice alone."""
    kept = runs.kept_epochs(run_dir)
    pairs = steps(list(itertools.product(kept, choosing)), "choosing an epoch", unit=" specimens")
    found: dict[int, list[float]] = {epoch: [] for epoch in kept}
    for epoch, one in pairs:
        found[epoch].append(measured(one, runs.load_network(run_dir, epoch), home, "slices")["accuracy"])
    means = {epoch: float(np.mean(accuracies)) for epoch, accuracies in found.items()}
    print("epoch: % right on the choosing specimens:", {epoch: round(100 * mean, 2) for epoch, mean in means.items()})
    return max(means, key=lambda epoch: means[epoch])


def table(rows: list[dict[str, Any]]) -> str:
    """One line for every specimen and recipe, for people."""
    lines = [f"{'specimen':<20}{'recipe':<13}{'accuracy %':>11}{'interface %':>12}   Euler numbers found (truth)"]
    for row in rows:
        euler = (network["euler_number"] for network in row["networks"].values())
        numbers = ", ".join("{found} ({truth})".format(**number) for number in euler)
        name = f"{row['casting']} {row['difficulty']} {row['seed']}"
        shares = f"{100 * row['accuracy']:>11.2f}{100 * row['interface_accuracy']:>12.2f}"
        lines.append(f"{name:<20}{row['recipe']:<13}{shares}   {numbers}")
    return "\n".join(lines)


def config_of(chosen: argparse.Namespace) -> training.TrainingConfig:
    """Settings of the training: the published weights of the loss, at the size that was asked for."""
    return training.TrainingConfig(
        weights=PixelWeights(),
        unet=UNetConfig(stem_channels=chosen.width),
        epochs=chosen.epochs,
        batch=chosen.batch,
        images_per_epoch=chosen.images,
        directions=tuple(chosen.directions.split(",")),
        kept_every=max(1, chosen.epochs // chosen.kept),
    )


def pretrain(chosen: argparse.Namespace, shape_zyx: tuple[int, int, int]) -> Iterator[str]:
    """Do what is not done yet; say in sentences how far it is."""
    learning = specimens(chosen.specimens, 0, shape_zyx, chosen.angles)
    choosing, reported = (
        specimens(len(KINDS), seed, shape_zyx, chosen.angles) for seed in (CHOOSING_SEED, REPORTED_SEED)
    )
    for number, one in enumerate(every := [*learning, *choosing, *reported], 1):
        yield f"specimen {number} of {len(every)}: {one.casting}, {one.difficulty}, seed {one.seed}"
        one.opened(chosen.home, chosen.processes)
    yield f"training on {len(learning)} specimens"
    grey, truth = zip(*(one.opened(chosen.home) for one in learning), strict=True)
    run_dir, size_um = chosen.home / chosen.out.name, learning[0].voxel_size_um
    training.train(grey, truth, run_dir, config_of(chosen), voxel_size_um=size_um, resume=True, device=chosen.device)
    trained = runs.load_network(run_dir, best_epoch(run_dir, choosing, chosen.home))
    rows = [
        measured(one, trained, chosen.home, recipe)
        for one, recipe in steps(list(itertools.product(reported, RECIPES)), "measuring", unit=" specimens")
    ]
    yield table(rows)
    of_training = [asdict(one) for one in learning]
    exporting.pack(
        run_dir,
        chosen.out,
        epoch=trained.epoch,
        specimens=of_training,
        validation=rows,
        epoch_chosen_by=f"accuracy on specimens of the seeds {choosing[0].seed} to {choosing[-1].seed}",
        overwrite=chosen.overwrite,
    )
    yield f"{chosen.out}: epoch {trained.epoch}, {exporting.summary(str(chosen.out))}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the packed folder; its name is that of the network")
    parser.add_argument("--home", type=Path, default=Path("data/pretraining"), help="where specimens and run lie")
    parser.add_argument("--specimens", type=int, default=4, help="how many it learns from")
    parser.add_argument("--shape", default="128,160,160", help="voxels of each along z, y, x")
    parser.add_argument("--angles", type=int, default=360, help="projections of each scan")
    parser.add_argument("--processes", type=int, help="that scan a specimen [default: all cores]")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=900, help="images per epoch, of all specimens together")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--kept", type=int, default=5, help="how many epochs are kept to choose from")
    parser.add_argument("--directions", default="z,y,x", help="axes along which training slices are taken")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--overwrite", action="store_true", help="replace the packed folder")
    return parser.parse_args()


def main() -> None:
    chosen, started = arguments(), time.perf_counter()
    shape_zyx = tuple(int(n) for n in chosen.shape.split(","))
    if chosen.out.exists() and not chosen.overwrite:
        raise SystemExit(f"{chosen.out} exists already; choose another name or say --overwrite")
    for sentence in pretrain(chosen, shape_zyx):  # type: ignore[arg-type]
        print(f"[{(time.perf_counter() - started) / 60:.1f} min] {sentence}", flush=True)


if __name__ == "__main__":
    main()
