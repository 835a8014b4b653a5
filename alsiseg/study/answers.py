"""What a study says: values with intervals over seeds, settings compared seed by seed, the paper's claims.

Two settings are compared by the differences of trainings with the same seed: same images, same order, same initial
weights. An interval holds the mean of the seeds at the level of 95 % (Student's t). A difference whose interval holds
zero cannot be told from the scatter between trainings; that is an answer too.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alsiseg import claims
from alsiseg.claims import HIGH_WEIGHTS, MET, MILD_WEIGHTS, NOT_MET, NOT_TESTABLE, WITHOUT_WEIGHTS, Outcome
from alsiseg.phases import NETWORKS
from alsiseg.study.rows import WHOLE, Row

LEVEL = 0.95
SETTINGS = (WITHOUT_WEIGHTS, MILD_WEIGHTS, HIGH_WEIGHTS)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its interval; `low` and `high` are NaN for a single seed."""

    mean: float
    low: float
    high: float
    n_seeds: int

    @property
    def side(self) -> int:
        """1 when the whole interval lies above zero, -1 below, 0 when it holds zero or there is none."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{_number(self.low)}, {_number(self.high)}]"
        return f"{_number(self.mean)}{interval}"


def estimate(values: Sequence[float]) -> Estimate:
    """Mean of some seeds with Student's interval.

    Raises
    ------
    ValueError
        When there is no value.
    """
    from scipy import stats

    if not len(values):
        raise ValueError("an estimate needs at least one value, got none")
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(mean, float("nan"), float("nan"), n)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Answer:
    """A claim under one condition: the values of the settings, what weights change, and a plain sentence."""

    claim: str
    difficulty: str
    labels: str
    values: dict[str, Estimate]
    difference: Estimate | None
    outcome: Outcome
    sentence: str


Score = Callable[[Sequence[Row]], float]  # of the rows of one training on one specimen


def value_of(quantity: str, of: str = WHOLE) -> Score:
    """Make the score that reads one quantity."""
    return lambda rows: next(row.value for row in rows if (row.quantity, row.of) == (quantity, of))


def error_of(quantity: str, networks: Iterable[str]) -> Score:
    """Make the score that averages relative errors, in per cent of the truth, over networks."""
    names = tuple(networks)

    def error(rows: Sequence[Row]) -> float:
        found = [row for row in rows if row.quantity == quantity and row.of in names]
        return 100 * float(np.mean([abs(row.value - row.truth) / abs(row.truth) for row in found]))

    return error


# Claim, what is scored, unit, and whether more is better. The criteria are those of `claims`, over seeds.
SCORES: dict[str, tuple[Score, str, bool]] = {
    "C3": (value_of("accuracy_pct"), "% of the pixels right", True),
    "C4": (value_of("interface_accuracy_pct"), "% of the interface pixels right", True),
    "C5": (error_of("volume_fraction_pct", ("silicon", "aluminides")), "% error of the volume fractions", False),
    "C6": (error_of("euler_26", NETWORKS), "% error of the Euler numbers", False),
    "C7": (error_of("interconnectivity_26", NETWORKS), "% error of the interconnectivities", False),
}


def answer(rows: Sequence[Row], claim: str, difficulty: str, labels: str, *, specimen: str, recipe: str) -> Answer:
    """Answer one of the claims C3 to C7 under one condition.

    Met when (1, 1.25, 1.5) beats both other settings by more than the scatter between seeds (the intervals of both
    paired differences lie on the claim's side of zero); not met when one of them lies on the other side; not
    testable here when neither is so, or there are fewer than two seeds.

    Parameters
    ----------
    rows
        Of `rows.read`.
    claim
        A key of `SCORES`.
    difficulty, labels, specimen, recipe
        Which rows count; cleaned ones do not.
    """
    score, unit, more_is_better = SCORES[claim]
    key = (difficulty, labels, specimen, recipe, False)
    chosen = [row for row in rows if (row.difficulty, row.labels, row.specimen, row.recipe, row.cleaned) == key]
    scores = {setting: _by_seed(chosen, setting, score) for setting in SETTINGS}
    values = {setting: estimate(list(found.values())) for setting, found in scores.items() if found}
    if len(values) < len(SETTINGS):
        return Answer(claim, difficulty, labels, values, None, NOT_TESTABLE, "needs all three settings")
    gains = [_paired(scores[HIGH_WEIGHTS], scores[other], more_is_better) for other in (WITHOUT_WEIGHTS, MILD_WEIGHTS)]
    sides = {gain.side for gain in gains}
    outcome = MET if sides == {1} else NOT_MET if -1 in sides else NOT_TESTABLE
    return Answer(claim, difficulty, labels, values, gains[0], outcome, _sentence(gains[0], unit))


def _by_seed(rows: Sequence[Row], setting: str, score: Score) -> dict[int, float]:
    """Score every training with a setting."""
    seeds = sorted({row.seed for row in rows if row.weights == setting})
    return {seed: score([row for row in rows if (row.weights, row.seed) == (setting, seed)]) for seed in seeds}


def _paired(high: dict[int, float], other: dict[int, float], more_is_better: bool) -> Estimate:
    """How much better the first is, seed by seed."""
    sign = 1 if more_is_better else -1
    return estimate([sign * (high[seed] - other[seed]) for seed in sorted(high.keys() & other.keys())])


def _sentence(gain: Estimate, unit: str) -> str:
    """Say what the weights (1, 1.25, 1.5) change against none."""
    what = f"the weights (1, 1.25, 1.5) {{}} {unit}: {gain} points better than none"
    if gain.n_seeds < 2:
        return f"one seed cannot tell whether the weights change the {unit}: {gain} points better than none"
    if gain.side == 0:
        return f"the weights change the {unit} by less than trainings scatter: {gain} points better than none"
    return what.format("improve the" if gain.side > 0 else "worsen the")


def table(rows: Sequence[Row], *, specimen: str, recipe: str) -> str:
    """Write the answers to C3 to C7 on one specimen as Markdown, a table for every condition."""
    conditions = list(dict.fromkeys((row.difficulty, row.labels) for row in rows))
    parts = []
    for difficulty, labels in conditions:
        found = [answer(rows, c, difficulty, labels, specimen=specimen, recipe=recipe) for c in SCORES]
        parts.append(f"### {difficulty}, labels from the {labels}, {specimen}, {recipe}\n\n{_markdown(found)}")
    return "\n\n".join(parts) + "\n"


def _markdown(found: Sequence[Answer]) -> str:
    head = ["", "claim of the paper", *(f"({setting})" for setting in SETTINGS), "verdict", "in words"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for a in found:
        values = [str(a.values[setting]) if setting in a.values else "" for setting in SETTINGS]
        cells = [a.claim, claims.CLAIMS[a.claim].text, *values, f"**{a.outcome}**", a.sentence]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"
