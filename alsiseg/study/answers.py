"""What a study says: values with intervals over seeds, settings compared seed by seed, the paper's claims.

Two settings are compared by the differences of trainings with the same seed: same images, same order, same initial
weights. An interval holds the mean of the seeds at the level of 95 % (Student's t). A difference whose interval holds
zero cannot be told from the scatter between trainings; that is an answer too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alsiseg.claims import HIGH_WEIGHTS, MET, MILD_WEIGHTS, NOT_MET, NOT_TESTABLE, WITHOUT_WEIGHTS, Outcome
from alsiseg.study.rows import Row
from alsiseg.study.scores import ByTraining, Place, Score, by_training, reading

LEVEL = 0.95
SETTINGS = (WITHOUT_WEIGHTS, MILD_WEIGHTS, HIGH_WEIGHTS)
PAIRS = ((HIGH_WEIGHTS, WITHOUT_WEIGHTS), (HIGH_WEIGHTS, MILD_WEIGHTS), (MILD_WEIGHTS, WITHOUT_WEIGHTS))
PUBLISHED_GAIN = 3.0  # points of accuracy, from about 93 % without weights to about 96 %
CONNECTED_PCT = 90.0  # silicon is connected when its largest particle holds so much of it, as in `claims`


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

    @property
    def negative(self) -> "Estimate":
        """The same of the opposite difference."""
        return Estimate(-self.mean, -self.high, -self.low, self.n_seeds)

    @property
    def signed(self) -> str:
        """Write it as a difference, with its sign."""
        interval = "" if np.isnan(self.low) else f" [{number(self.low, sign='+')}, {number(self.high, sign='+')}]"
        return f"{number(self.mean, sign='+')}{interval}"

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{number(self.low)}, {number(self.high)}]"
        return f"{number(self.mean)}{interval}"


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


def paired(one: Mapping[int, float], other: Mapping[int, float], *, sign: int = 1) -> Estimate | None:
    """Estimate how much more `one` is than `other`, seed by seed; less with a `sign` of -1. None without a pair."""
    common = sorted(one.keys() & other.keys())
    return estimate([sign * (one[seed] - other[seed]) for seed in common]) if common else None


def by_setting(scores: ByTraining) -> dict[str, Estimate]:
    """Estimate the mean of every weight setting of the paper that has a score."""
    return {setting: estimate(list(scores[setting].values())) for setting in SETTINGS if setting in scores}


@dataclass(frozen=True)
class Answer:
    """A claim under one condition, at one place.

    Attributes
    ----------
    claim : str
    place : Place
    what : str
        What was scored, with its unit.
    values : dict
        Means over seeds, by weights.
    gains : dict
        How much better the first setting of each pair of `PAIRS` is than the second, in points.
    outcome : Outcome
    sentence : str
        The answer in plain words.
    reason : str
        Why it is not met or not testable, in two or three words.
    """

    claim: str
    place: Place
    what: str
    values: dict[str, Estimate]
    gains: dict[tuple[str, str], Estimate]
    outcome: Outcome
    sentence: str
    reason: str = ""


def answer(rows: Sequence[Row], score: Score, place: Place) -> Answer:
    """Answer one of the claims C3 to C6, and C7 but for the silicon, under one condition at one place.

    The criteria are those of `claims`, over seeds. *Met* when (1, 1.25, 1.5) beats both other settings by more than
    the scatter between seeds: the intervals of both paired differences lie above zero. *Not met* when one of them
    lies below zero, or when the whole interval against no weights lies below the size that the claim speaks of: 3
    points of accuracy for C3, half of the wrong interface voxels for C4 (the other claims give no size). *Not testable
    here* when neither is so, or there are fewer than two seeds.
    """
    found = by_training(rows, score, place)
    values = by_setting(found)
    gains = {}
    for one, other in PAIRS:
        gain = paired(found.get(one, {}), found.get(other, {}), sign=score.sign)
        if gain is not None:
            gains[one, other] = gain
    what = f"{score.name}, {score.unit}"
    if len(gains) < len(PAIRS):
        sentence = "Not all three settings are trained yet."
        return Answer(score.claim, place, what, values, gains, NOT_TESTABLE, sentence, "settings missing")
    size = _claimed_gain(score, found)
    outcome, reason = _judged(gains, size)
    sentence = _sentence(score, values, gains, size)
    return Answer(score.claim, place, what, values, gains, outcome, sentence, reason)


def _claimed_gain(score: Score, found: ByTraining) -> float | None:
    """How much the weights (1, 1.25, 1.5) gain against none by the words of the claim; None where it says no size."""
    if score.claim == "C3":
        return PUBLISHED_GAIN
    return 0.5 * (100 - float(np.mean(list(found[WITHOUT_WEIGHTS].values())))) if score.claim == "C4" else None


def _judged(gains: Mapping[tuple[str, str], Estimate], size: float | None) -> tuple[Outcome, str]:
    """Judge by the intervals; the outcome and, unless it is met, the reason."""
    over_none, over_mild = gains[PAIRS[0]], gains[PAIRS[1]]
    if np.isnan(over_none.low):
        return NOT_TESTABLE, "one seed" if over_none.n_seeds < 2 else "no true value"
    if -1 in (over_none.side, over_mild.side):
        return NOT_MET, "worse than without" if over_none.side < 0 else "worse than (1, 1.15, 1.2)"
    if size is not None and over_none.high < size:
        return NOT_MET, "gain too small" if over_none.side > 0 else "no gain"
    return (MET, "") if over_none.side == over_mild.side == 1 else (NOT_TESTABLE, "within scatter")


def _sentence(
    score: Score, values: Mapping[str, Estimate], gains: Mapping[tuple[str, str], Estimate], size: float | None
) -> str:
    """Say in plain words what the weights change."""
    over_none, over_mild = gains[PAIRS[0]], gains[PAIRS[1]]
    if np.isnan(over_none.mean):
        return f"The {score.name} cannot be had: a true value is zero."
    if over_none.n_seeds < 2:
        return (
            f"One seed cannot tell a gain from chance: {number(values[HIGH_WEIGHTS].mean)} with (1, 1.25, 1.5), "
            f"{number(values[WITHOUT_WEIGHTS].mean)} without weights."
        )
    parts = [f"{_change(score, over_none)}; {_beside_mild(over_mild)}"]
    if size is not None:
        parts.append(_beside_claim(score, over_none, size))
    return ". ".join(parts) + "."


def _change(score: Score, gain: Estimate) -> str:
    """Say what (1, 1.25, 1.5) changes against no weights."""
    if gain.side == 0:
        return (
            f"The weights (1, 1.25, 1.5) change the {score.name} by no more than trainings scatter: {gain.signed} "
            "points against none, plus is better"
        )
    verb = "raise" if score.more_is_better == (gain.side > 0) else "lower"
    return f"The weights (1, 1.25, 1.5) {verb} the {score.name} by {gain if gain.side > 0 else gain.negative} points"


def _beside_mild(gain: Estimate) -> str:
    words = {1: "better than", 0: "not to be told from", -1: "worse than"}
    return f"they are {words[gain.side]} (1, 1.15, 1.2)"


def _beside_claim(score: Score, gain: Estimate, size: float) -> str:
    """Say whether a gain as large as the claim's is still possible."""
    claimed = (
        "The paper's gain of 3 points"
        if score.claim == "C3"
        else f"To put half of the wrong interface voxels right, {number(size)} points,"
    )
    if gain.high < size:
        return f"{claimed} lies above this interval"
    return f"{claimed} {'is reached' if gain.low >= size else 'lies within this interval'}"


def silicon_connected(rows: Sequence[Row], place: Place) -> Answer:
    """Answer the second half of C7: silicon stays connected only with weights.

    Met when, over seeds, the largest particle holds at least 90 % of the silicon with (1, 1.25, 1.5) and less without
    weights, both by the whole interval. Not met when one of the intervals lies wholly on the other side. Not
    testable here when neither is so, with fewer than two seeds, or when the silicon of the truth is not connected in
    this sense.
    """
    what = "silicon in its largest particle, %"
    values = by_setting(by_training(rows, reading("interconnectivity_26", "silicon", factor=100), place))
    if not {WITHOUT_WEIGHTS, HIGH_WEIGHTS} <= set(values):
        sentence = "Not both settings are trained yet."
        return Answer("C7", place, what, values, {}, NOT_TESTABLE, sentence, "settings missing")
    true_pct = 100 * next(r.truth for r in place.rows_of(rows) if _is_silicon_connectivity(r))
    without, high = values[WITHOUT_WEIGHTS], values[HIGH_WEIGHTS]
    said = (
        f"Of the silicon, {high} % are in one piece with (1, 1.25, 1.5), {without} % without weights, {true_pct:.1f} %"
    )
    outcome, reason = _judged_connected(without, high, true_pct)
    return Answer("C7", place, what, values, {}, outcome, f"{said} in the truth.", reason)


def _judged_connected(without: Estimate, high: Estimate, true_pct: float) -> tuple[Outcome, str]:
    if true_pct < CONNECTED_PCT:
        return NOT_TESTABLE, "true silicon in pieces"
    if np.isnan(high.low):
        return NOT_TESTABLE, "one seed"
    if high.low >= CONNECTED_PCT > without.high:
        return MET, ""
    if without.low >= CONNECTED_PCT:
        return NOT_MET, "connected without weights"
    return (NOT_MET, "in pieces with weights") if high.high < CONNECTED_PCT else (NOT_TESTABLE, "within scatter")


def _is_silicon_connectivity(row: Row) -> bool:
    return (row.of, row.quantity) == ("silicon", "interconnectivity_26")


def number(value: float, *, sign: Literal["-", "+"] = "-") -> str:
    """Write a number with two decimals, a large one with none, and a question mark for none at all."""
    if np.isnan(value):
        return "?"
    rounded = round(value, 2 if abs(value) < 100 else 0) + 0.0  # and no minus before a zero
    return f"{rounded:{sign}.2f}" if abs(value) < 100 else f"{rounded:{sign},.0f}"
