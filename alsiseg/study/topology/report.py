"""What a comparison of recipes says: tables, what helps, which aims are met, and a figure."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from alsiseg.claims import WITHOUT_WEIGHTS
from alsiseg.phases import NETWORKS
from alsiseg.study.answers import Estimate, estimate
from alsiseg.study.rows import WHOLE, Row, markdown_table, read
from alsiseg.study.topology.recipes import ENSEMBLE, HOLES, SLICES, SMOOTHED, THRESHOLD
from alsiseg.study.topology.tested import RESOLVABLE, TRUTH_ITSELF, VALIDATION
from alsiseg.volumes import written_whole

ALL_SEEDS = -1  # in the place of a seed: an ensemble, or a truth
FIGURE = "fig_recipes"
EULER_26, EULER_6 = "euler_26", "euler_6"
# How far from the truth at most: per cent, but points of interconnectivity. Of cleaned labels.
AIMS: dict[str, dict[str, float]] = {
    "clean": {EULER_26: 5.0, EULER_6: 15.0, "interconnectivity_26": 1.0, "b0_26": 10.0},
    "hard": {EULER_26: 15.0, EULER_6: 15.0, "interconnectivity_26": 1.0, "b0_26": 15.0},
}
NAMES = {
    EULER_26: "Euler number (26)",
    EULER_6: "Euler number (6)",
    "interconnectivity_26": "interconnectivity",
    "b0_26": "components (b0)",
}
UNITS = {quantity: "points" if quantity.startswith("inter") else "%" for quantity in NAMES}
TUNED = {"sigma_voxel": "smoothed by {} voxels", "silicon_factor": "silicon's votes times {}"}

Key = tuple[bool, str, str]  # cleaned, of, quantity


class Measured:
    """All values of one recipe on one specimen by one network or ensemble."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[Key, Row] = {(row.cleaned, row.of, row.quantity): row for row in rows}

    def value(self, quantity: str) -> float:
        """Look up a value of all labels together, as they are where they were measured so."""
        rows = [self._rows.get((cleaned, WHOLE, quantity)) for cleaned in (False, True)]
        return next((row.value for row in rows if row is not None), float("nan"))

    def pair(self, quantity: str, network: str, *, cleaned: bool) -> tuple[float, float]:
        """Look up a value of a network and its truth."""
        row = self._rows[cleaned, network, quantity]
        return row.value, row.truth

    def error(self, quantity: str, network: str, *, cleaned: bool = True) -> float:
        """Distance from the truth: in per cent of it, in points of interconnectivity; NaN where the truth is 0."""
        value, truth = self.pair(quantity, network, cleaned=cleaned)
        if quantity.startswith("inter"):
            return 100 * (value - truth)
        return 100 * (value - truth) / abs(truth) if truth else float("nan")

    def mean_error(self, quantity: str) -> float:
        """Mean over the networks of the errors without their signs."""
        return float(np.mean([abs(self.error(quantity, network)) for network in NETWORKS]))

    def misses(self, difficulty: str) -> float:
        """Mean over networks and aims of the errors, each as a multiple of its aim."""
        return float(np.mean([self.mean_error(quantity) / aim for quantity, aim in AIMS[difficulty].items()]))


BySeed = dict[int, Measured]


class Findings:
    """The rows of a comparison, found by difficulty, specimen, recipe and seed."""

    def __init__(self, rows: Sequence[Row]) -> None:
        grouped: dict[tuple[str, str, str], dict[int, list[Row]]] = {}
        for row in rows:
            by_seed = grouped.setdefault((row.difficulty, row.specimen, label(row)), {})
            by_seed.setdefault(row.seed, []).append(row)
        self._found = {key: {s: Measured(found) for s, found in seeds.items()} for key, seeds in grouped.items()}
        self.difficulties = list(dict.fromkeys(row.difficulty for row in rows))
        names = dict.fromkeys(row.specimen for row in rows)
        self.unseen = [name for name in names if name != VALIDATION and not name.endswith(RESOLVABLE)]

    def of(self, difficulty: str, specimen: str, recipe: str) -> BySeed:
        """Everything measured of a recipe on a specimen, by seed; empty where there is nothing."""
        return self._found.get((difficulty, specimen, recipe), {})

    def recipes(self, difficulty: str) -> list[str]:
        """Recipes by name, in the order in which they were measured."""
        names = dict.fromkeys(recipe for found, _, recipe in self._found if found == difficulty)
        return [name for name in names if name != TRUTH_ITSELF]

    @property
    def tuned(self) -> bool:
        """Whether smoothing and threshold were tried at all (they are left out of a brief comparison)."""
        return any(tuning in recipe for _, _, recipe in self._found for tuning in (SMOOTHED, THRESHOLD))

    def best(self, difficulty: str) -> str | None:
        """Choose the recipe with the least misses on the validation specimen, over all seeds."""
        scores = {
            recipe: float(np.mean([found.misses(difficulty) for found in by_seed.values()]))
            for recipe in self.recipes(difficulty)
            if (by_seed := self.of(difficulty, VALIDATION, recipe))
        }
        judged = {recipe: score for recipe, score in scores.items() if np.isfinite(score)}
        return min(judged, key=lambda recipe: judged[recipe], default=None)


def label(row: Row) -> str:
    """Name a recipe; weights are named where there are any."""
    plain = row.weights in (WITHOUT_WEIGHTS, "none")
    return row.recipe if plain else f"{row.recipe}, weights ({row.weights})"


def value_over_seeds(by_seed: BySeed, quantity: str) -> Estimate:
    """Mean of a value over the seeds, with its interval."""
    return estimate([found.value(quantity) for found in by_seed.values()])


def error_over_seeds(by_seed: BySeed, quantity: str, network: str) -> Estimate:
    """Mean of an error with its sign, over the seeds."""
    return estimate([found.error(quantity, network) for found in by_seed.values()])


def size_over_seeds(by_seed: BySeed, quantity: str, network: str) -> Estimate:
    """Mean of an error without its sign, over the seeds."""
    return estimate([abs(found.error(quantity, network)) for found in by_seed.values()])


def gain(findings: Findings, difficulty: str, specimen: str, recipe: str) -> Estimate | None:
    """By how many points a recipe has less error of the Euler numbers (26, cleaned) than plain slices, seed by seed.

    An ensemble is compared with every one of the networks alone.
    """
    base, found = findings.of(difficulty, specimen, SLICES), findings.of(difficulty, specimen, recipe)
    pairs = [(each, found.get(seed, found.get(ALL_SEEDS))) for seed, each in base.items()]
    gains = [one.mean_error(EULER_26) - other.mean_error(EULER_26) for one, other in pairs if other is not None]
    return estimate(gains) if gains else None


def sentence(findings: Findings, difficulty: str, recipe: str) -> str:
    """Say of a recipe whether it helps, on every unseen specimen."""
    parts = []
    for specimen in findings.unseen:
        change = gain(findings, difficulty, specimen, recipe)
        if change is not None:
            parts.append(f"on {specimen} {_in_words(change)}")
    return f"**{recipe}**, {difficulty}: {'; '.join(parts) or 'not measured'}."


def _in_words(change: Estimate) -> str:
    if not np.isfinite(change.mean):
        return "cannot be told (a true value is 0)"
    if change.n_seeds < 2:
        return f"cannot be told from one seed ({change.mean:+.1f} points)"
    interval = f"{change.mean:+.1f} points [{change.low:+.1f}, {change.high:+.1f}]"
    if change.side == 0:
        return f"cannot be told ({interval})"
    return f"{'helps' if change.side > 0 else 'does not help, it harms'} ({interval})"


def table(findings: Findings, difficulty: str, specimen: str) -> str:
    """Write every recipe on one specimen as Markdown, a line each."""
    head = [
        "recipe",
        "accuracy %",
        "at interfaces %",
        *(f"{NAMES[quantity]}, error {UNITS[quantity]}" for quantity in NAMES),
        f"{NAMES[EULER_26]} against what the scan could show, error %",
        f"{NAMES[EULER_6]} against that, error %",
        "training s",
        "segmenting s per 10⁶ voxels",
    ]
    lines = []
    for recipe in findings.recipes(difficulty):
        if by_seed := findings.of(difficulty, specimen, recipe):
            seen = findings.of(difficulty, specimen + RESOLVABLE, recipe)
            shares = [value_over_seeds(by_seed, q).mean for q in ("accuracy_pct", "interface_accuracy_pct")]
            costs = [value_over_seeds(by_seed, q).mean for q in ("training_s", "inference_s_per_mvoxel")]
            errors = [_three(by_seed, quantity) for quantity in NAMES] + [_three(seen, q) for q in (EULER_26, EULER_6)]
            lines.append([recipe, *(f"{s:.2f}" for s in shares), *errors, *(f"{c:.3g}" for c in costs)])
    return markdown_table(head, lines)


def _three(by_seed: BySeed, quantity: str) -> str:
    """Errors of the three networks, with half the width of their intervals."""
    if not by_seed:
        return ""
    return " / ".join(_plus_minus(error_over_seeds(by_seed, quantity, network)) for network in NETWORKS)


def _plus_minus(value: Estimate) -> str:
    digits = 1 if abs(value.mean) < 100 else 0
    half = "" if np.isnan(value.low) else f" ± {(value.high - value.low) / 2:.{digits}f}"
    return f"{value.mean:+.{digits}f}{half}"


def truths_table(findings: Findings) -> str:
    """Write how the Euler numbers of the truth change when it is shown as the scan could show it."""
    head = ["specimen", "voxels alike %", "network"]
    head += [f"{NAMES[q]} of the {what}" for q in (EULER_26, EULER_6) for what in ("truth", "resolvable truth")]
    lines = []
    for difficulty in findings.difficulties:
        for specimen in findings.unseen:
            for found in findings.of(difficulty, specimen, TRUTH_ITSELF).values():
                for network in NETWORKS:
                    pairs = [found.pair(quantity, network, cleaned=False) for quantity in (EULER_26, EULER_6)]
                    cells = [f"{number:,.0f}" for value, truth in pairs for number in (truth, value)]
                    place = [f"{specimen}, {difficulty}", f"{found.value('accuracy_pct'):.2f}", network]
                    lines.append([*place, *cells])
    return markdown_table(head, lines)


def chosen(findings: Findings, difficulty: str) -> str:
    """Say which recipe was chosen, how it was tuned, and how many networks it was measured with."""
    recipe = findings.best(difficulty)
    if recipe is None:
        return f"{difficulty}: none, the validation specimen has not been measured."
    if not findings.tuned:
        return f"{difficulty}: **{recipe}** (smoothing and threshold were not tried)."
    found = findings.of(difficulty, VALIDATION, recipe).values()
    values = {quantity: [f"{each.value(quantity):.3g}" for each in found] for quantity in TUNED}
    tunings = [words.format(", ".join(values[quantity])) for quantity, words in TUNED.items()]
    return f"{difficulty}: **{recipe}** ({'; '.join(tunings)}; a value for each network or ensemble)."


def judged(findings: Findings) -> list[tuple[list[str], bool]]:
    """Hold the best recipe of each difficulty against every aim: the cells of a line, and whether it is met."""
    found = []
    for difficulty in findings.difficulties:
        best = findings.best(difficulty)
        for specimen in findings.unseen if best else ():
            by_seed = findings.of(difficulty, specimen, str(best))
            for quantity, aim in AIMS[difficulty].items() if by_seed else ():
                for network in NETWORKS:
                    size = size_over_seeds(by_seed, quantity, network)
                    unit = UNITS[quantity]
                    within = f"within {aim:g} {unit.removesuffix('s') if aim == 1 else unit}"
                    cells = [difficulty, str(best), specimen, NAMES[quantity], network, within, f"{size} {unit}"]
                    found.append((cells, size.mean <= aim))
    return found


def aims_table(findings: Findings) -> str:
    """Write which aims the best recipe meets on the unseen specimens."""
    head = ["difficulty", "recipe", "specimen", "quantity", "network", "aim", "error, mean over trainings", "verdict"]
    return markdown_table(head, ([*cells, f"**{'met' if met else 'missed'}**"] for cells, met in judged(findings)))


def summary(path: str | Path) -> str:
    """Write the short answer of a comparison as Markdown, for a notebook or a page.

    Parameters
    ----------
    path
        `topology.csv.gz`.

    Returns
    -------
    str
        What the scan could show of the truth, the best recipe, and its aims; a sentence that says how to get them
        when there is no such file.
    """
    if not Path(path).is_file():
        return f"No comparison lies at `{path}` yet; `python -m alsiseg.study.topology` makes one from a study."
    findings = Findings(read(Path(path)))
    met = [met for _, met in judged(findings)]
    return "\n\n".join(
        [
            truths_table(findings),
            "The recipe that was best on the validation specimen. "
            + " ".join(chosen(findings, d) for d in findings.difficulties),
            f"On unseen specimens it meets {sum(met)} of {len(met)} aims:",
            aims_table(findings),
        ]
    )


_TUNED = (
    "Smoothing (the votes of every phase by a Gaussian) and threshold (a factor on silicon's votes) were tuned on one "
    "half of a validation specimen; the best recipe was chosen on the other half."
)
_NOT_TUNED = "Smoothing and threshold were not tried; the best recipe was chosen on one half of a validation specimen."


def text(rows: Sequence[Row], min_voxels: int) -> str:
    """Write the whole report as Markdown."""
    findings = Findings(rows)
    parts = [
        "# Which way of segmenting gives a topology that can be trusted?",
        "Errors are those of cleaned labels against the cleaned truth, silicon / aluminides / hybrid, mean over seeds "
        "± half the 95 % interval; an ensemble has one value. Cleaned means without specks of fewer than "
        f"{min_voxels} voxels; where holes are filled, without holes of fewer voxels too. A positive error of an Euler "
        f"number means too few branches or too many pieces. {_TUNED if findings.tuned else _NOT_TUNED}",
        "## The truth as the scan could show it",
        truths_table(findings),
    ]
    for difficulty in findings.difficulties:
        for specimen in findings.unseen:
            parts += [f"## {difficulty}, {specimen}", table(findings, difficulty, specimen)]
    parts += ["## Aims", "The best recipe on the validation specimen, on the unseen ones."]
    parts += [chosen(findings, difficulty) for difficulty in findings.difficulties] + [aims_table(findings)]
    parts += ["## What helps", "Points: mean error of the three Euler numbers (26), slices less the recipe."]
    for difficulty in findings.difficulties:
        others = [recipe for recipe in findings.recipes(difficulty) if recipe != SLICES]
        parts.append("\n".join(f"- {sentence(findings, difficulty, recipe)}" for recipe in others))
    return "\n\n".join(parts) + "\n"


def write_report(rows: Sequence[Row], folder: Path, min_voxels: int) -> Path:
    """Write `topology.md`, and a figure of the Euler numbers in `figures/` for every difficulty."""
    path = folder / "topology.md"
    with written_whole(path) as partial:
        partial.write_text(text(rows, min_voxels), encoding="utf-8")
    findings = Findings(rows)
    for difficulty in findings.difficulties:
        draw(findings, difficulty, folder / "figures")
    return path


def draw(findings: Findings, difficulty: str, folder: Path) -> list[Path]:
    """Draw the errors of the Euler numbers (26, cleaned) of the recipes, and write them beside the figure."""
    from alsiseg import figures

    errors = {f"{difficulty}, {specimen}": _errors(findings, difficulty, specimen) for specimen in findings.unseen}
    figure = figures.recipes(
        errors,
        aim=AIMS[difficulty][EULER_26],
        label=f"{NAMES[EULER_26]}, error (%)",
        marked=findings.best(difficulty),
    )
    lines = [
        (title, recipe, network, *values)
        for title, panel in errors.items()
        for recipe, by_network in panel.items()
        for network, values in by_network.items()
    ]
    head = ("panel", "recipe", "network", "error_pct", "low_pct", "high_pct")
    numbers = {name: [line[i] for line in lines] for i, name in enumerate(head)}
    return figures.save(figure, f"{FIGURE}_{difficulty}", folder, numbers)


def _errors(findings: Findings, difficulty: str, specimen: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Errors of the recipes that are drawn: the one that was chosen, and those that are no fine shade of another."""
    best = findings.best(difficulty)
    errors = {}
    for recipe in findings.recipes(difficulty):
        by_seed = findings.of(difficulty, specimen, recipe)
        if by_seed and (recipe == best or _is_plainly_other(recipe)):
            found = {network: error_over_seeds(by_seed, EULER_26, network) for network in NETWORKS}
            errors[recipe] = {network: (each.mean, each.low, each.high) for network, each in found.items()}
    return errors


def _is_plainly_other(recipe: str) -> bool:
    """Leave out thresholds, filled holes, and ensembles of anything but plain networks."""
    of_others = ENSEMBLE in recipe and ("weights" in recipe or not recipe.startswith(ENSEMBLE))
    return not (THRESHOLD in recipe or HOLES in recipe or of_others)
