"""Compare ways of segmenting: which gives a topology that can be trusted.

``python -m alsiseg.study.topology --profile quick --study data/study --out data/topology`` takes the plain networks
of a study, trains variants in the same time, segments unseen specimens by every recipe, and writes ``topology.csv.gz``
(see `rows.Row`), ``topology.md`` and a figure. What a recipe has to choose is chosen on a validation specimen.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path

from alsiseg import phantom, runs
from alsiseg.progress import steps
from alsiseg.study import rows as tidy
from alsiseg.study.rows import Row
from alsiseg.study.running import GROWING
from alsiseg.study.settings import check_same
from alsiseg.study.topology import comparing, recipes
from alsiseg.study.topology.comparing import Comparison, Family
from alsiseg.study.topology.recipes import SMOOTHED, THRESHOLD, Ballot, Tuning
from alsiseg.study.topology.report import ALL_SEEDS, summary, write_report
from alsiseg.study.topology.tested import VALIDATION, Scene, Tester, key_of
from alsiseg.study.topology.variants import NAMES, PLAIN

__all__ = ["TABLE", "Comparison", "run", "summary"]

TABLE = "topology.csv.gz"
TUNED = tuple(field.name for field in fields(Tuning))
CANNOT_BE_TRAINED = (ValueError, ImportError, FloatingPointError)
TUNINGS = ("", THRESHOLD, SMOOTHED, SMOOTHED + THRESHOLD)


def run(comparison: Comparison, *, say: Callable[[str], object] = print) -> Path:
    """Do a comparison, or what is left of it.

    Parameters
    ----------
    comparison
    say
        Called with a line before each family of networks. Several processes may work in one folder: each takes the
        families that no other is at.

    Returns
    -------
    Path
        `topology.csv.gz`, written anew after every family, with `topology.md` and `figures/` beside it.

    Raises
    ------
    ValueError
        When the study has not finished a single plain network, or the folder holds another comparison.
    """
    plan, families = comparison.study, list(comparison.families)
    check_same(replace(plan, recipes={}), comparison.out, may_differ=GROWING)
    if not any(comparing.trained(comparison, family) for family in families if family.variant == PLAIN):
        raise ValueError(
            f"needs at least one finished network of a study in {comparison.home}, found none; "
            f"run python -m alsiseg.study --profile {plan.profile.name} --out {comparison.home} first"
        )
    for difficulty in plan.difficulties:
        _measure_truths(comparison, difficulty)
    for number, family in enumerate(families, start=1):
        say(f"[{number}/{len(families)}] {family.variant} networks, {family.difficulty}, weights ({family.weights})")
        with runs.claimed(comparison.out / "runs" / family.name) as ours:
            if not ours:
                say("    in work elsewhere; who does it adds it to the table")
                continue
            _compare(comparison, family, say)
    return comparison.out / TABLE


def _compare(comparison: Comparison, family: Family, say: Callable[[str], object]) -> None:
    """Train and measure what is missing of a family, and write the table and the report anew."""
    try:
        trained = comparing.trained(comparison, family)
    except CANNOT_BE_TRAINED as error:  # the others go on
        say(f"    left out: {' '.join(str(error).split())}")
        return
    n_seeds = comparison.study.n_seeds
    if len(trained) < n_seeds:
        say(f"    {len(trained)} of {n_seeds} are there; the same command measures the others later")
    if trained:
        _measure(comparison, family, trained)
        write_report(_collected(comparison), comparison.out, comparison.study.min_voxels)


def _path(comparison: Comparison, family: Family, seeds: tuple[int, ...], specimen: str) -> Path:
    return comparison.out / "measured" / f"{family.name}_{'-'.join(map(str, seeds))}_{specimen}.csv"


def _measure(comparison: Comparison, family: Family, trained: Mapping[int, Path]) -> None:
    """Test the networks of a family and their ensemble, the validation specimen first, unless that has been done."""
    members = [(seed,) for seed in trained] + ([tuple(trained)] if len(trained) > 1 else [])
    for name in (VALIDATION, *comparison.study.unseen):
        paths = {seeds: _path(comparison, family, seeds, name) for seeds in members}
        missing = [seeds for seeds, path in paths.items() if not path.exists()]
        if missing:
            scene = comparison.scene(name, family.difficulty)
            truths = scene.truths(comparison.study.min_voxels)
            for seeds, found in _ballots(comparison, family, trained, scene, missing):
                tester = Tester(scene, truths, _key(family, seeds))
                tidy.write(_rows(comparison, family, tester, seeds, found), paths[seeds])


def _key(family: Family, seeds: tuple[int, ...]) -> Row:
    return key_of(family.difficulty, str(family.weights), seeds[0] if len(seeds) == 1 else ALL_SEEDS)


def _ballots(
    comparison: Comparison,
    family: Family,
    trained: Mapping[int, Path],
    scene: Scene,
    missing: list[tuple[int, ...]],
) -> Iterator[tuple[tuple[int, ...], dict[str, Ballot]]]:
    """Let the networks vote that are needed, each by itself, then all together."""
    together = tuple(trained)
    total: dict[str, Ballot] = {}
    seeds = [seed for seed in trained if (seed,) in missing or (together in missing and len(together) > 1)]
    title = f"{family.variant}, {scene.difficulty}, {scene.name}"
    for seed in steps(seeds, title, unit=" networks"):
        found = comparing.votes(comparison, family, trained[seed], scene)
        if (seed,) in missing:
            yield (seed,), found
        total = recipes.added(total, found)
    if together in missing and len(together) > 1:
        yield together, {recipes.ensemble_of(name): ballot for name, ballot in total.items()}


def _rows(
    comparison: Comparison, family: Family, tester: Tester, seeds: tuple[int, ...], found: Mapping[str, Ballot]
) -> Iterator[Row]:
    """Measure every recipe of one network, or of an ensemble."""
    plan, scene = comparison.study, tester.scene
    training_s = comparing.training_seconds(comparison) * len(seeds)
    for name, ballot in found.items():
        recipe = family.recipe(name)
        in_full = comparison.in_full(family) and recipes.SYMMETRIES not in name
        if plan.brief:
            tunings = {"": Tuning()}
        elif scene.name == VALIDATION:
            tunings = scene.tunings(ballot, plan.min_voxels, thresholds=in_full)
        else:
            tunings = _tunings(_path(comparison, family, seeds, VALIDATION), recipe)
        yield from tester.of_ballot(ballot, recipe, tunings, training_s=training_s, holes=in_full)


def _tunings(path: Path, recipe: str) -> dict[str, Tuning]:
    """Read the tunings of a recipe that were chosen on the validation specimen."""
    found: dict[str, dict[str, float]] = {}
    for row in tidy.read(path):
        if row.quantity in TUNED and row.recipe.startswith(recipe):
            found.setdefault(row.recipe.removeprefix(recipe), {})[row.quantity] = row.value
    return {behind: Tuning(**found[behind]) for behind in TUNINGS if behind in found}


def _measure_truths(comparison: Comparison, difficulty: str) -> None:
    """Measure how far the truth that the scan could show is from the truth."""
    for name in comparison.study.unseen:
        path = comparison.out / "measured" / f"{difficulty}_truth_{name}.csv"
        if not path.exists():
            scene = comparison.scene(name, difficulty)
            key = key_of(difficulty, "none", ALL_SEEDS)
            tidy.write(Tester(scene, scene.truths(comparison.study.min_voxels), key).of_truth(), path)


def _collected(comparison: Comparison) -> list[Row]:
    """Write the rows of all that has been measured into one table, now or before; of ensembles the largest."""
    folder, unseen = comparison.out / "measured", list(comparison.study.unseen)
    plan = replace(comparison.study, difficulties=tuple(phantom.DIFFICULTIES))
    paths = [folder / f"{difficulty}_truth_{name}.csv" for difficulty in plan.difficulties for name in unseen]
    for family in replace(comparison, study=plan, variants=NAMES).families:
        for specimen in (VALIDATION, *unseen):
            alone = [_path(comparison, family, (seed,), specimen) for seed in range(plan.n_seeds)]
            there = tuple(seed for seed, path in enumerate(alone) if path.exists())
            paths += [*alone, _path(comparison, family, there, specimen)] if len(there) > 1 else alone
    found = [row for path in paths if path.exists() for row in tidy.read(path)]
    tidy.write(found, comparison.out / TABLE)
    return found
