"""What trainings are compared by: one number for a training on one specimen."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from alsiseg.phases import NETWORKS
from alsiseg.study.rows import WHOLE, Row

ByTraining = dict[str, dict[int, float]]  # a score by weights and seed


@dataclass(frozen=True)
class Place:
    """Where a score is taken: scans and labels of the training, the specimen of the test, how it was segmented."""

    difficulty: str
    labels: str
    specimen: str
    recipe: str = "slices"

    def rows_of(self, rows: Iterable[Row], *, cleaned: bool = False) -> list[Row]:
        """Choose the rows that were taken here."""
        key = (self.difficulty, self.labels, self.specimen, self.recipe, cleaned)
        return [r for r in rows if (r.difficulty, r.labels, r.specimen, r.recipe, r.cleaned) == key]

    @property
    def condition(self) -> str:
        """What the networks were trained on, in words."""
        return f"{self.difficulty} scans, labels from the {self.labels}"


@dataclass(frozen=True)
class Score:
    """A number for a training.

    Attributes
    ----------
    claim : str
        The claim of the paper that it bears on, e.g. "C3".
    name, unit : str
        In words, e.g. "accuracy" and "% of the voxels right".
    more_is_better : bool
    of : callable
        Makes the number from the rows of one training on one specimen.
    cleaned : bool
        Whether it is read from the rows whose small particles were removed first.
    """

    claim: str
    name: str
    unit: str
    more_is_better: bool
    of: Callable[[Sequence[Row]], float]
    cleaned: bool = False

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.more_is_better else -1


def value_of(quantity: str, of: str = WHOLE, *, factor: float = 1.0) -> Callable[[Sequence[Row]], float]:
    """Read one quantity."""
    return lambda rows: factor * next(row.value for row in rows if (row.quantity, row.of) == (quantity, of))


def reading(quantity: str, of: str = WHOLE, *, factor: float = 1.0, cleaned: bool = False) -> Score:
    """Make the score that is one quantity as it stands, for tables of values."""
    return Score("", quantity, "", True, value_of(quantity, of, factor=factor), cleaned)


def error_of(quantity: str, networks: Iterable[str]) -> Callable[[Sequence[Row]], float]:
    """Average relative errors, in per cent of the truth, over networks; NaN where a true value is zero."""
    names = tuple(networks)

    def error(rows: Sequence[Row]) -> float:
        found = [row for row in rows if row.quantity == quantity and row.of in names]
        if any(row.truth == 0 for row in found):
            return float("nan")
        return 100 * float(np.mean([abs(row.value - row.truth) / abs(row.truth) for row in found]))

    return error


_OF_TRUTH = "% of the true value"  # the mean over networks
ACCURACY = Score("C3", "accuracy", "% of the voxels right", True, value_of("accuracy_pct"))
INTERFACE = Score(
    "C4", "interface accuracy", "% of the interface voxels right", True, value_of("interface_accuracy_pct")
)
VOLUME = Score(
    "C5",
    "volume fraction error",
    _OF_TRUTH,
    False,
    error_of("volume_fraction_pct", ("silicon", "aluminides")),
)
EULER = Score("C6", "Euler number error", _OF_TRUTH, False, error_of("euler_26", NETWORKS))
CLEANED_EULER = Score("C6", "Euler number error, specks removed", _OF_TRUTH, False, EULER.of, cleaned=True)
CONNECTED = Score("C7", "interconnectivity error", _OF_TRUTH, False, error_of("interconnectivity_26", NETWORKS))
SCORES: tuple[Score, ...] = (ACCURACY, INTERFACE, VOLUME, EULER, CLEANED_EULER, CONNECTED)


def by_training(rows: Iterable[Row], score: Score, place: Place) -> ByTraining:
    """Score every training that was tested at `place`.

    Returns
    -------
    dict
        Scores by weights, as in "1, 1.25, 1.5", and seed.
    """
    found: dict[tuple[str, int], list[Row]] = {}
    for row in place.rows_of(rows, cleaned=score.cleaned):
        found.setdefault((row.weights, row.seed), []).append(row)
    scores: ByTraining = {}
    for (weights, seed), of_training in found.items():
        scores.setdefault(weights, {})[seed] = score.of(of_training)
    return scores


def scatter(scores: ByTraining) -> tuple[float, int]:
    """How much trainings differ that differ in nothing but the draws of chance.

    What all settings of a seed have in common is taken out, as in a comparison seed by seed: the residual of a
    two-way analysis of variance without interaction, of the seeds that every setting has.

    Returns
    -------
    float
        Standard deviation, in the unit of the score; NaN with fewer than two settings or seeds.
    int
        Its degrees of freedom.
    """
    common = sorted(set.intersection(*(set(found) for found in scores.values()))) if scores else []
    n_settings, n_seeds = len(scores), len(common)
    if n_settings < 2 or n_seeds < 2:
        return float("nan"), 0
    table = np.array([[found[seed] for seed in common] for found in scores.values()])
    residual = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    freedom = (n_settings - 1) * (n_seeds - 1)
    return float(np.sqrt((residual**2).sum() / freedom)), freedom
