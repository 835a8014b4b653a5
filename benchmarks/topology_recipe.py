"""Try the recipe that won `alsiseg.study.topology` with a network trained for longer.

    python benchmarks/topology_recipe.py [--run alsi-small] [--home data/coverage]

Smoothing and threshold are tuned on a few labelled specimens, as one's own labelled part of a scan would be, and
tried on ten that served for nothing, of the same casting and of the other one. Writes a row for every specimen and a
table of what adds up over all of them to `benchmarks/results/topology_recipe.*`.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alsiseg import metrics, phantom, prediction, runs, volumes
from alsiseg.phases import NETWORKS
from alsiseg.prediction import Options
from alsiseg.progress import steps
from alsiseg.study import rows as tidy
from alsiseg.study.answers import estimate
from alsiseg.study.rows import Row
from alsiseg.study.topology import recipes
from alsiseg.study.topology.recipes import SLICES, SMOOTHED, THREE_VIEWS, THRESHOLD, Labels, Tuning, Votes
from alsiseg.volumes import written_whole

RESULTS = Path(__file__).parent / "results"
SHAPE_ZYX, N_ANGLES, DIFFICULTY, VOXEL_SIZE_UM = (64, 128, 128), 360, "clean", 1.2
CASTINGS = tuple(phantom.SPECIMENS)
TUNED_ON, UNSEEN = range(504, 509), range(1001, 1011)  # the epoch of alsi-small was chosen on 500 to 503
MIN_VOXELS = 40
BEST = SMOOTHED + THRESHOLD
QUANTITIES = {"euler_26": "Euler number (26)", "euler_6": "Euler number (6)", "b0_26": "components (b0)"}


@dataclass(frozen=True, eq=False)
class Voted:
    """What a network says of a specimen, along z and along three views, and its truth."""

    slices_czyx: Votes
    views_czyx: Votes
    truth_zyx: Labels


def voted(run: str, home: Path, casting: str, seed: int) -> Voted:
    """Make a specimen, or find it, and run the network over it."""
    paths = phantom.make(
        home / "specimens" / f"{casting}_{seed}_{DIFFICULTY}",
        specimen=casting,
        shape_zyx=SHAPE_ZYX,
        seed=seed,
        difficulty=DIFFICULTY,
        modalities=("synchrotron",),
        n_angles=N_ANGLES,
        voxel_size_um=VOXEL_SIZE_UM,
    )
    views = prediction.probabilities(volumes.open(paths["synchrotron"]), run, options=Options(three_views=True))
    return Voted(views["view z"], np.sum(list(views.values()), axis=0), volumes.open(paths["truth"])[:])


def tuned(found: Sequence[Voted]) -> dict[str, Tuning]:
    """Choose smoothing and threshold on several specimens, put on top of each other."""
    votes_czyx = np.concatenate([one.views_czyx for one in found], axis=1)
    return recipes.tuned(votes_czyx, np.concatenate([one.truth_zyx for one in found]), min_voxels=MIN_VOXELS)


def rows_of(run: str, casting: str, seed: int, one: Voted, tunings: dict[str, dict[str, Tuning]]) -> list[Row]:
    """Measure every recipe on one specimen, cleaned as the truth is."""
    ways = {SLICES: recipes.labels_of(one.slices_czyx), THREE_VIEWS: recipes.labels_of(one.views_czyx)}
    for tuned_on, by_name in tunings.items():
        ways[f"{THREE_VIEWS}{BEST}, tuned on {tuned_on}"] = recipes.labels_of(one.views_czyx, by_name[BEST])
    truth_zyx = metrics.without_specks(one.truth_zyx, MIN_VOXELS)
    return [
        Row(DIFFICULTY, "truth", run, seed, casting, recipe, True, *value)
        for recipe, labels_zyx in ways.items()
        for value in tidy.values_of(metrics.without_specks(labels_zyx, MIN_VOXELS), truth_zyx)
    ]


def table(rows: Sequence[Row], tunings: dict[str, dict[str, Tuning]]) -> str:
    """Write errors of the sums over all specimens, with intervals over specimens, as Markdown."""
    n_seeds = len({row.seed for row in rows})
    head = [
        "casting",
        "recipe",
        "accuracy %",
        *(f"{name}, error %" for name in QUANTITIES.values()),
        "interconnectivity, error points",
    ]
    lines = []
    for casting in dict.fromkeys(row.specimen for row in rows):
        for recipe in dict.fromkeys(row.recipe for row in rows):
            chosen = [row for row in rows if (row.specimen, row.recipe) == (casting, recipe)]
            accuracy = estimate([row.value for row in chosen if row.quantity == "accuracy_pct"]).mean
            errors = [" / ".join(_error(chosen, quantity, network) for network in NETWORKS) for quantity in QUANTITIES]
            points = " / ".join(_points(chosen, network) for network in NETWORKS)
            lines.append([casting, recipe, f"{accuracy:.2f}", *errors, points])
    size = " x ".join(map(str, SHAPE_ZYX))
    said = [
        f"{name}: smoothed by {best.sigma_voxel:g} voxels, silicon's votes times {best.silicon_factor:.3g}"
        for name, best in ((name, by_name[BEST]) for name, by_name in tunings.items())
    ]
    return (
        f"# The winning recipe with a network trained for longer\n\n{n_seeds} unseen specimens of each casting ({size} "
        f"voxels, `{DIFFICULTY}`, seeds from {UNSEEN.start}), labels and truth without particles under {MIN_VOXELS} "
        "voxels. Errors of silicon / aluminides / hybrid, as a share of the mean truth, with the 95 % interval of "
        f"their mean over specimens. Tuned on the seeds {TUNED_ON.start} to {TUNED_ON.stop - 1} of a casting; "
        f"{'; '.join(said)}.\n\n" + tidy.markdown_table(head, lines) + "\n"
    )


def _error(rows: Sequence[Row], quantity: str, network: str) -> str:
    pairs = np.array([(row.value, row.truth) for row in rows if (row.quantity, row.of) == (quantity, network)])
    return _written(100 * (pairs[:, 0] - pairs[:, 1]) / abs(pairs[:, 1].mean()), 0)


def _points(rows: Sequence[Row], network: str) -> str:
    found = [row for row in rows if (row.quantity, row.of) == ("interconnectivity_26", network)]
    return _written(100 * np.array([row.value - row.truth for row in found]), 1)


def _written(errors: np.ndarray, decimals: int) -> str:
    found = estimate(errors.tolist())
    return f"{found.mean:+.{decimals}f} ± {(found.high - found.low) / 2:.{decimals}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="alsi-small", help="run folder, or name of a network")
    parser.add_argument("--home", type=Path, default=Path("data/coverage"), help="where specimens lie, or are made")
    chosen = parser.parse_args()
    runs.located(chosen.run)
    tunings = {
        casting: tuned([voted(chosen.run, chosen.home, casting, seed) for seed in TUNED_ON])
        for casting in steps(CASTINGS, "tuning", unit=" castings")
    }
    rows = [
        row
        for casting in CASTINGS
        for seed in steps(UNSEEN, f"unseen, {casting}", unit=" specimens")
        for row in rows_of(chosen.run, casting, seed, voted(chosen.run, chosen.home, casting, seed), tunings)
    ]
    tidy.write(rows, RESULTS / "topology_recipe.csv")
    with written_whole(RESULTS / "topology_recipe.md") as partial:
        partial.write_text(table(rows, tunings), encoding="utf-8")
    print(table(rows, tunings))


if __name__ == "__main__":
    main()
