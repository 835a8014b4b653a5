"""Choose the condition under which the weights helped most, by what may be looked at: the test section.

The unseen specimens, on which everything is reported, have no say.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alsiseg.claims import HIGH_WEIGHTS, WITHOUT_WEIGHTS
from alsiseg.study.answers import Estimate, paired
from alsiseg.study.rows import TEST_SECTION, Row
from alsiseg.study.scores import ACCURACY, CLEANED_EULER, INTERFACE, Place, by_training
from alsiseg.volumes import written_whole

NAME = "choice.json"


@dataclass(frozen=True)
class Choice:
    """A condition, and why it was chosen, as Markdown."""

    difficulty: str
    labels: str
    why: str


def where_weights_help_most(rows: Sequence[Row]) -> Choice:
    """Choose the condition with the largest mean gain of accuracy by (1, 1.25, 1.5) against no weights.

    Raises
    ------
    ValueError
        When the study has no condition with both settings.
    """
    gains = {key: found for key in _conditions(rows) if (found := _gains(rows, *key))}
    if not gains:
        raise ValueError(
            f"needs a study with trainings with ({WITHOUT_WEIGHTS}) and ({HIGH_WEIGHTS}) of the same seed, found none; "
            "let it train more, or give --difficulty and --labels"
        )
    difficulty, labels = max(gains, key=lambda key: gains[key][0].mean)
    return Choice(difficulty, labels, _why(gains, difficulty, labels))


def kept(choice: Choice, home: Path) -> Choice:
    """Keep a choice in a folder, so that a study that grows does not change it."""
    with written_whole(home / NAME) as partial:
        partial.write_text(json.dumps(asdict(choice), indent=1) + "\n", encoding="utf-8")
    return choice


def kept_before(home: Path) -> Choice | None:
    """Return the choice that a folder was made with, if there is one."""
    path = home / NAME
    return Choice(**json.loads(path.read_text("utf-8"))) if path.is_file() else None


def _conditions(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row.difficulty, row.labels) for row in rows))


def _gains(rows: Sequence[Row], difficulty: str, labels: str) -> list[Estimate]:
    """Estimate how much better the high weights are on the test section, by accuracy, interface and Euler numbers."""
    place = Place(difficulty, labels, TEST_SECTION)
    gains = []
    for score in (ACCURACY, INTERFACE, CLEANED_EULER):
        scores = by_training(rows, score, place)
        gain = paired(scores.get(HIGH_WEIGHTS, {}), scores.get(WITHOUT_WEIGHTS, {}), sign=score.sign)
        if gain is None:
            return []
        gains.append(gain)
    return gains


def _why(gains: dict[tuple[str, str], list[Estimate]], difficulty: str, labels: str) -> str:
    lines = [
        f"Chosen: {difficulty} scans, labels from the {labels}. There ({HIGH_WEIGHTS}) gained most accuracy against "
        f"({WITHOUT_WEIGHTS}) in the study, on the test section of the specimen that was trained on (the unseen "
        "specimens, on which the maps are reported, had no say). All conditions of the study, in points, more is "
        "better:",
        "",
        "| scans | labels | seeds | accuracy | interface accuracy | Euler numbers (specks removed) |",
        "|---|---|---|---|---|---|",
    ]
    for (scans, learned), (accuracy, interface, euler) in gains.items():
        lines.append(f"| {scans} | {learned} | {accuracy.n_seeds} | {accuracy} | {interface} | {euler} |")
    return "\n".join(lines)
