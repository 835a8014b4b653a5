"""Maps of a score over the two weights: where it is best, and what can be told from the scatter between trainings.

Two cells are told apart when they differ by more than the honest significant difference of Tukey at the level of
95 %, which allows for the best of many cells being picked. The scatter between trainings comes from the seeds of
the map itself, or, where it has one seed, from a study of the same condition. What the whole map says of each
weight is the slope of a plane through its cells, which needs no second seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from alsiseg.study.answers import LEVEL, Estimate
from alsiseg.study.rows import Row
from alsiseg.study.scores import ACCURACY, CLEANED_EULER, INTERFACE, ByTraining, Place, Score, by_training, scatter

MAPPED = (ACCURACY, INTERFACE, CLEANED_EULER)
WEIGHT_STEP = 0.1  # slopes are given for so much more weight
WITHOUT = (1.0, 1.0)


@dataclass(frozen=True)
class WeightMap:
    """A score over the weights of silicon and interface, the mean over seeds in every cell.

    Attributes
    ----------
    score : Score
    silicon, interface : tuple of float
        The weights of the rows and of the columns.
    mean : float array (silicon, interface)
        NaN where nothing was trained yet.
    n_seeds : int
        Trainings behind a cell, the fewest.
    apart : float
        How far two cells must be apart to be told from the scatter between trainings; NaN when that is not known.
    slopes : tuple of Estimate or None
        What `WEIGHT_STEP` more weight on silicon, and on the interface, change over the whole map.
    """

    score: Score
    silicon: tuple[float, ...]
    interface: tuple[float, ...]
    mean: NDArray[np.float64]
    n_seeds: int
    apart: float
    slopes: tuple[Estimate, Estimate] | None

    @property
    def best(self) -> tuple[int, int]:
        """Row and column of the optimum."""
        return divmod(int(np.nanargmax(self.score.sign * self.mean)), len(self.interface))  # type: ignore[return-value]

    @property
    def best_weights(self) -> tuple[float, float]:
        """Weights of silicon and interface at the optimum."""
        row, column = self.best
        return self.silicon[row], self.interface[column]

    @property
    def loss(self) -> NDArray[np.float64]:
        """How much worse than the optimum every cell is, in the unit of the score."""
        return self.score.sign * (self.mean[self.best] - self.mean)

    @property
    def like_best(self) -> NDArray[np.bool_]:
        """Cells, the optimum among them, that cannot be told from it; that alone when the scatter is not known."""
        with np.errstate(invalid="ignore"):
            return self.loss <= (0.0 if np.isnan(self.apart) else self.apart)

    def at(self, silicon: float, interface: float) -> float:
        """Score of a cell; NaN when it is not on the map."""
        if silicon not in self.silicon or interface not in self.interface:
            return float("nan")
        return float(self.mean[self.silicon.index(silicon), self.interface.index(interface)])


def weight_map(rows: Sequence[Row], score: Score, place: Place, *, study_rows: Sequence[Row] = ()) -> WeightMap:
    """Arrange the trainings of a sweep by their weights.

    Parameters
    ----------
    rows
        Of a sweep; the weight of the matrix is 1 everywhere.
    score
    place
        Which rows count.
    study_rows
        Of a study of the same condition: how much its trainings scatter.

    Raises
    ------
    ValueError
        When no row fits.
    """
    found = by_training(rows, score, place)
    if not found:
        raise ValueError(f"a map needs trainings with {place.condition} tested on {place.specimen}, found none")
    pairs = {weights: _silicon_and_interface(weights) for weights in found}
    silicon, interface = (tuple(sorted({pair[axis] for pair in pairs.values()})) for axis in (0, 1))
    mean = np.full((len(silicon), len(interface)), np.nan)
    for weights, by_seed in found.items():
        at_silicon, at_interface = pairs[weights]
        mean[silicon.index(at_silicon), interface.index(at_interface)] = np.mean(list(by_seed.values()))
    n_seeds = min(len(by_seed) for by_seed in found.values())
    apart = _least_difference(found, by_training(study_rows, score, place), n_seeds)
    return WeightMap(score, silicon, interface, mean, n_seeds, apart, _slopes(mean, silicon, interface))


def _silicon_and_interface(weights: str) -> tuple[float, float]:
    _, silicon, interface = (float(weight) for weight in weights.split(","))
    return silicon, interface


def _least_difference(found: ByTraining, in_study: ByTraining, n_seeds: int) -> float:
    """Tukey's honest significant difference between the means of cells."""
    deviation, freedom = scatter(found)
    if freedom == 0:
        deviation, freedom = scatter(in_study)
    if freedom == 0:
        return float("nan")
    return _studentized_range(len(found), freedom) * deviation / n_seeds**0.5


@cache
def _studentized_range(n_cells: int, freedom: int) -> float:
    from scipy import stats

    return float(stats.studentized_range.ppf(LEVEL, n_cells, freedom))


def _slopes(
    mean: NDArray[np.float64], silicon: Sequence[float], interface: Sequence[float]
) -> tuple[Estimate, Estimate] | None:
    """Fit a plane by least squares; Student's intervals of its two slopes."""
    from scipy import stats

    x, y = (axis[~np.isnan(mean)] for axis in np.meshgrid(silicon, interface, indexing="ij"))
    z = mean[~np.isnan(mean)]
    if len(z) < 6 or min(len(silicon), len(interface)) < 2:
        return None
    design = np.stack([np.ones_like(x), x, y], axis=1)
    fitted, *_ = np.linalg.lstsq(design, z, rcond=None)
    freedom = len(z) - 3
    variance = ((z - design @ fitted) ** 2).sum() / freedom
    half = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(variance * np.diag(np.linalg.pinv(design.T @ design)))
    return _slope(fitted[1], half[1]), _slope(fitted[2], half[2])


def _slope(mean: float, half: float) -> Estimate:
    """Give a slope for `WEIGHT_STEP` more weight."""
    return Estimate(
        float(WEIGHT_STEP * mean), float(WEIGHT_STEP * (mean - half)), float(WEIGHT_STEP * (mean + half)), 0
    )
