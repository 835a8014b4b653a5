"""Labels beside weights: which of them changes a segmentation more.

The truth takes the place of the procedure's labels, or (1, 1.25, 1.5) that of no weights; all else, the seed among it,
stays. Every segmentation is measured against the truth, whatever its network learned from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alsiseg.claims import HIGH_WEIGHTS, WITHOUT_WEIGHTS
from alsiseg.study.answers import SETTINGS, Estimate, estimate
from alsiseg.study.rows import Row
from alsiseg.study.scores import ByTraining, Place, Score, by_training

BY_LABELS = ("truth", "procedure")


@dataclass(frozen=True)
class Effects:
    """What labels and weights change of a score, in points; above zero is better.

    Attributes
    ----------
    score : Score
    difficulty, specimen : str
    labels : Estimate
        Labels from the truth against those of the procedure, the mean over weight settings.
    weights : Estimate
        (1, 1.25, 1.5) against no weights, the mean over labels.
    larger : Estimate
        By how much the effect of the labels is larger than that of the weights, both without their sign.
    """

    score: Score
    difficulty: str
    specimen: str
    labels: Estimate
    weights: Estimate
    larger: Estimate

    @property
    def sentence(self) -> str:
        """Say which matters more."""
        verdict = {
            1: "the labels matter more",
            -1: "the weights matter more",
            0: "which matters more cannot be told from the scatter between trainings",
        }[self.larger.side]
        return (
            f"In {self.score.name}, labels from the truth instead of the procedure's gain {self.labels.signed} points, "
            f"the weights (1, 1.25, 1.5) instead of none {self.weights.signed} (plus is better): {verdict}."
        )


def effects(rows: Sequence[Row], score: Score, difficulty: str, specimen: str) -> Effects | None:
    """Compare what labels and weights change, seed by seed; None while there is nothing to compare."""
    found = _by_labels(rows, score, difficulty, specimen)
    by_labels, by_weights = _of_labels(found, score.sign), _of_weights(found, score.sign)
    seeds = sorted(by_labels.keys() & by_weights.keys())
    if not seeds:
        return None
    labels, weights = (np.array([effect[seed] for seed in seeds]) for effect in (by_labels, by_weights))
    larger = np.sign(labels.mean()) * labels - np.sign(weights.mean()) * weights
    estimates = (estimate(values.tolist()) for values in (labels, weights, larger))
    return Effects(score, difficulty, specimen, *estimates)


def label_gains(rows: Sequence[Row], score: Score, difficulty: str, specimen: str) -> dict[int, float]:
    """Gain by labels from the truth over those of the procedure, in points, the mean over weight settings, by seed."""
    return _of_labels(_by_labels(rows, score, difficulty, specimen), score.sign)


def _by_labels(rows: Sequence[Row], score: Score, difficulty: str, specimen: str) -> dict[str, ByTraining]:
    return {labels: by_training(rows, score, Place(difficulty, labels, specimen)) for labels in BY_LABELS}


def _of_labels(found: Mapping[str, ByTraining], sign: int) -> dict[int, float]:
    """Gain by the truth over the procedure for every seed that both have with all settings."""
    true, procedure = (found[labels] for labels in BY_LABELS)
    differences = [
        {seed: sign * (true[w][seed] - procedure[w][seed]) for seed in true[w].keys() & procedure[w].keys()}
        for w in SETTINGS
        if w in true and w in procedure
    ]
    return _means(differences, n_needed=len(SETTINGS))


def _of_weights(found: Mapping[str, ByTraining], sign: int) -> dict[int, float]:
    """Gain by the high weights over none for every seed that has both with both labels."""
    differences = [
        {
            seed: sign * (s[HIGH_WEIGHTS][seed] - value)
            for seed, value in s[WITHOUT_WEIGHTS].items()
            if seed in s[HIGH_WEIGHTS]
        }
        for s in found.values()
        if HIGH_WEIGHTS in s and WITHOUT_WEIGHTS in s
    ]
    return _means(differences, n_needed=len(BY_LABELS))


def _means(differences: Sequence[Mapping[int, float]], *, n_needed: int) -> dict[int, float]:
    """Average over the comparisons for every seed that has all of them."""
    if len(differences) < n_needed:
        return {}
    seeds = set.intersection(*(set(found) for found in differences))
    return {seed: float(np.mean([found[seed] for found in differences])) for seed in seeds}
