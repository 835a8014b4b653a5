"""What the loss curves of a study's trainings say, a few numbers each, so that they outlive the run folders.

They bear on C1 and C2. `curves.csv` is a tidy table like `study.csv`, its specimen is "training".
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from alsiseg import claims, runs
from alsiseg.study import rows as tidy
from alsiseg.study.plan import Condition, Study
from alsiseg.study.rows import WHOLE, Row
from alsiseg.study.running import run_dir_of

TABLE = "curves.csv"
TRAINING = "training"  # in the place of a specimen
SHARE, SLOPE, RISE = "fall_after_epoch_1_pct", "late_slope_pct_per_epoch", "late_rise_pct"
N_EPOCHS, N_IMAGES, WIDTH = "n_epochs", "n_images_per_epoch", "n_stem_channels"


def collect(study: Study, home: Path) -> Path:
    """Write `curves.csv` from the run folders that are there; rows of others that it has stay.

    Trainings that have not come to their end are left out.
    """
    path = home / TABLE
    known = read(home)
    made = {_key(row): row for c in study.conditions for row in _rows(study, c, home)}
    kept = [row for row in known if _key(row) not in made]
    return tidy.write(sorted([*kept, *made.values()], key=_key), path)


def read(home: Path) -> list[Row]:
    """Read `curves.csv` of a folder; nothing when there is none."""
    path = home / TABLE
    return tidy.read(path) if path.is_file() else []


def of_training(rows: Iterable[Row], difficulty: str, labels: str, quantity: str) -> dict[str, dict[int, float]]:
    """Find a quantity of all trainings of a condition, by weights and seed."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        if (row.difficulty, row.labels, row.quantity) == (difficulty, labels, quantity):
            found.setdefault(row.weights, {})[row.seed] = row.value
    return found


def _key(row: Row) -> tuple[str, str, int, str, str]:
    return row.difficulty, row.labels, row.seed, row.weights, row.quantity


def _rows(study: Study, condition: Condition, home: Path) -> Sequence[Row]:
    """Measure the history of one finished training."""
    run_dir = run_dir_of(home, condition)
    if not runs.exists(run_dir):
        return []
    history = runs.read_history(run_dir)
    if len(history["epoch"]) == 0 or history["epoch"][-1] < study.profile.training.epochs:
        return []
    values = {
        SHARE: 100 * claims.share_after_first_epoch(history["train_loss"]),
        SLOPE: 100 * claims.relative_slope(history),
        RISE: 100 * claims.late_rise(history),
        N_EPOCHS: float(history["epoch"][-1]),
        N_IMAGES: float(study.profile.n_images_per_epoch),
        WIDTH: float(study.profile.training.unet.stem_channels),
    }
    c, nothing = condition, float("nan")
    return [
        Row(c.difficulty, c.labels, str(c.weights), c.seed, TRAINING, "", False, WHOLE, quantity, value, nothing)
        for quantity, value in values.items()
    ]
