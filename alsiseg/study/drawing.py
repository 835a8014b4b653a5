"""The figures of a study: the scores of every training, and what weights and labels gain seed by seed."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alsiseg import figures
from alsiseg.claims import HIGH_WEIGHTS, MILD_WEIGHTS, WITHOUT_WEIGHTS
from alsiseg.study import rows
from alsiseg.study.answers import SETTINGS, estimate
from alsiseg.study.effects import label_gains
from alsiseg.study.report import SPECIMENS
from alsiseg.study.rows import TEST_SECTION, Row
from alsiseg.study.scores import SCORES, Place, Score, by_training
from alsiseg.volumes import written_whole

SCORES_FIGURE, GAINS_FIGURE = "fig_study", "fig_study_gains"
COLUMNS = (TEST_SECTION, "slow", "fast")
LABELS_GAIN = "labels: truth against procedure"
WEIGHT_GAINS = {weights: f"weights: ({weights}) against none" for weights in (MILD_WEIGHTS, HIGH_WEIGHTS)}


def save(path: Path) -> list[Path]:
    """Draw what a table of a study holds; write both figures beside it, each as PNG, PDF and CSV."""
    found = rows.read(path)
    scores, gains = (
        [[make(found, score, name) for name in COLUMNS] for score in SCORES] for make in (panel, gain_panel)
    )
    drawn = {
        SCORES_FIGURE: (figures.seed_scores(scores, SETTINGS), scores),
        GAINS_FIGURE: (figures.seed_gains(gains, [LABELS_GAIN, *WEIGHT_GAINS.values()]), gains),
    }
    written = [figures.save(figure, name, path.parent, columns(panels)) for name, (figure, panels) in drawn.items()]
    return [file for files in written for file in files]


def copied(paths: Sequence[Path], folder: Path | None) -> None:
    """Put a figure into a second folder, if one is given."""
    if folder is None:
        return
    for path in paths:
        with written_whole(folder / path.name) as partial:
            shutil.copyfile(path, partial)


def panel(found: Sequence[Row], score: Score, specimen: str) -> figures.ScorePanel:
    """Gather the scores of every condition and setting on one specimen, segmented slice by slice."""
    groups = []
    for difficulty, labels in _conditions(found):
        scores = by_training(found, score, Place(difficulty, labels, specimen))
        groups += [_group(f"{difficulty}\n{labels}", setting, scores.get(setting, {})) for setting in SETTINGS]
    return figures.ScorePanel(score.name, score.unit, SPECIMENS[specimen], [group for group in groups if group.values])


def gain_panel(found: Sequence[Row], score: Score, specimen: str) -> figures.ScorePanel:
    """Gather what weights gain under every condition, and labels at every difficulty; above zero is better."""
    groups = []
    for difficulty, labels in _conditions(found):
        scores = by_training(found, score, Place(difficulty, labels, specimen))
        without = scores.get(WITHOUT_WEIGHTS, {})
        for weights, name in WEIGHT_GAINS.items():
            gains = {s: score.sign * (v - without[s]) for s, v in scores.get(weights, {}).items() if s in without}
            groups.append(_group(f"{difficulty}\n{labels}", name, gains))
    for difficulty in dict.fromkeys(difficulty for difficulty, _ in _conditions(found)):
        groups.append(_group(f"{difficulty}\nlabels", LABELS_GAIN, label_gains(found, score, difficulty, specimen)))
    name = f"{'rise' if score.more_is_better else 'fall'} of the {score.name}"
    return figures.ScorePanel(name, "points", SPECIMENS[specimen], [group for group in groups if group.values])


def _conditions(found: Sequence[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.difficulty, row.labels) for row in found))


def _group(condition: str, name: str, by_seed: Mapping[int, float]) -> figures.SeedScores:
    values = {seed: value for seed, value in sorted(by_seed.items()) if not np.isnan(value)}
    if not values:
        return figures.SeedScores(condition, name, {}, *3 * [float("nan")])
    mean = estimate(list(values.values()))
    return figures.SeedScores(condition, name, values, mean.mean, mean.low, mean.high)


def columns(panels: Sequence[Sequence[figures.ScorePanel]]) -> dict[str, Any]:
    """Return the numbers behind a figure: a training a row, the mean and interval of its group beside it."""
    lines = [
        {
            "score": p.score,
            "unit": p.unit,
            "tested on": p.specimen,
            "trained on": group.condition.replace("\n", ", "),
            "setting": group.setting,
            "seed": seed,
            "value": value,
            "mean": group.mean,
            "low": group.low,
            "high": group.high,
        }
        for row in panels
        for p in row
        for group in p.groups
        for seed, value in group.values.items()
    ]
    return {name: [line[name] for line in lines] for name in lines[0]} if lines else {}
