"""One row per epoch: tables that are whole, and those that the run recorded."""

import csv
import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alsiseg.runs.files import contents_of, numbered, read_header
from alsiseg.runs.places import located
from alsiseg.runs.records import read_truth
from alsiseg.volumes import written_whole

TABLES = HISTORY, ACCURACY_PER_SLICE = "history.csv", "accuracy_per_slice.csv"
SPEED = "images_per_s"  # the only column that a repetition does not repeat

Table = list[list[str]]  # the names of the columns, then one row per epoch from 0


def record(run_dir: Path, row: dict[str, float], accuracy_z: NDArray[np.float64]) -> None:
    """Add one epoch to the histories, in place of any row of the same or a later epoch."""
    _append_row(run_dir / HISTORY, row)
    slices = {f"slice_{z + 1}": float(value) for z, value in enumerate(accuracy_z)}
    _append_row(run_dir / ACCURACY_PER_SLICE, {"epoch": row["epoch"], **slices})


def _append_row(path: Path, row: dict[str, float]) -> None:
    epoch = int(row["epoch"])
    table = read_table(path) if epoch > 0 and path.is_file() else [list(row)]
    if len(table) <= epoch or table[0] != list(row):
        raise ValueError(
            f"the row of epoch {epoch} must follow that of the epoch before it with the same columns, "
            f"{path} holds {len(table) - 1} rows of {len(table[0])} columns; record every epoch"
        )
    write_table(path, [*table[: epoch + 1], [str(value) for value in row.values()]])


def read_history(run_dir: str | Path) -> dict[str, NDArray[np.float64]]:
    """Read `history.csv` as one array per column.

    Columns: `epoch` (0 is the untrained network), `train_loss` and `test_loss` (per pixel), `accuracy` and
    `interface_accuracy` (0..1, test section), for each network `_volume_fraction_pct`, `_interconnectivity`
    (0..1), `_euler_number`, and `images_per_s`.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ValueError
        When a row is torn or is not the one that was recorded, or an epoch is left out.
    """
    return _read_columns(located(run_dir) / HISTORY)


def read_accuracy_per_slice(run_dir: str | Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read the epochs (E,) and the accuracy of every test slice (E, Z), 0..1."""
    columns = _read_columns(located(run_dir) / ACCURACY_PER_SLICE)
    epochs = columns.pop("epoch").astype(np.int64)
    return epochs, np.stack(list(columns.values()), axis=1)


def _read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    if not path.is_file():
        raise FileNotFoundError(f"needs a run with {path.name}, found none in {path.parent}; train first")
    recorded = _recorded(path)  # before the table, which may grow meanwhile
    table = read_table(path)
    if without_speed(table)[: len(recorded)] != recorded:
        raise ValueError(f"{path} is not what the run recorded; continue the run (--resume), which restores it")
    values = np.array(table[1:], np.float64)
    return {name: values[:, column] for column, name in enumerate(table[0])}


def _recorded(path: Path) -> Table:
    """Rows of a table that the last complete state vouches for."""
    states = numbered(path.parent / "resume")
    with suppress(OSError, ValueError):  # a damaged state is the matter of whoever needs it
        return as_table(read_header(states[max(states)])["tables"][path.name]) if states else []
    return []


def read_table(path: Path) -> Table:
    """Read the column names and every row of a table, of which row i is epoch i."""
    with contents_of(path), path.open(newline="", encoding="utf-8") as file:
        text = file.read()
        names, *rows = csv.reader(io.StringIO(text, newline=""))
        if not rows or not text.endswith("\n") or len(set(names)) < len(names):
            raise ValueError("its end or its beginning is missing")
        for epoch, row in enumerate(rows):
            if len(row) != len(names) or [float(value) for value in row][names.index("epoch")] != epoch:
                raise ValueError(f"its row of epoch {epoch} is torn")
        return [names, *rows]


def write_table(path: Path, table: Table) -> None:
    """Write a table whole."""
    with written_whole(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)


def without_speed(table: Table) -> Table:
    """Leave out the column that a repetition does not repeat."""
    kept = [index for index, name in enumerate(table[0]) if name != SPEED]
    return [[row[index] for index in kept] for row in table]


def as_lines(run_dir: Path) -> dict[str, list[str]]:
    """Every table of a run without its speeds, one string a row, for the state that vouches for them."""
    paths = [path for name in TABLES if (path := run_dir / name).is_file()]
    return {path.name: [",".join(row) for row in without_speed(read_table(path))] for path in paths}


def as_table(lines: list[str]) -> Table:
    """Undo `as_lines`."""
    return [line.split(",") for line in lines]


def restore(path: Path, recorded: Table) -> bool:
    """Bring a table to what was recorded, rows of later epochs dropped; True when more than those was wrong.

    A row that had to be restored has the speed 0.
    """
    table: Table = []
    with suppress(OSError, ValueError):
        table = read_table(path)
    if table and without_speed(table)[: len(recorded)] == recorded:
        whole = table[: len(recorded)]
        if whole != table:
            write_table(path, whole)
        return False
    speed = [[SPEED], *[["0.0"]] * (len(recorded) - 1)] if path.name == HISTORY else [[]] * len(recorded)
    write_table(path, [row + last for row, last in zip(recorded, speed, strict=True)])
    return True


@dataclass(frozen=True)
class BestEpochs:
    """The trained epochs that are best by one measure each; the first where several are.

    Attributes
    ----------
    accuracy : int
        Highest accuracy on the test section.
    topology : int
        Lowest `topology_error`.
    """

    accuracy: int
    topology: int


def topology_error(run_dir: str | Path) -> NDArray[np.float64]:
    """Mean over the three networks of |Euler number - truth| / |truth|, of every epoch (E,) from 0.

    A true Euler number of 0 counts as 1.
    """
    run_dir = located(run_dir)
    history, truth = read_history(run_dir), read_truth(run_dir)
    with contents_of(run_dir / HISTORY):
        numbers = {name: (history[f"{name}_euler_number"], measure.euler_number) for name, measure in truth.items()}
    return np.mean([np.abs(found_e - true) / max(abs(true), 1) for found_e, true in numbers.values()], axis=0)


def best_epochs(run_dir: str | Path) -> BestEpochs:
    """Find the trained epochs that are best by accuracy and by topology error.

    Raises
    ------
    ValueError
        When no epoch was trained yet, or the history is damaged.
    """
    accuracy, error = read_history(run_dir)["accuracy"], topology_error(run_dir)
    if len(accuracy) < 2:
        raise ValueError(f"needs a trained epoch, found the untrained network alone in {run_dir}; train on")
    return BestEpochs(accuracy=1 + int(accuracy[1:].argmax()), topology=1 + int(error[1:].argmin()))
