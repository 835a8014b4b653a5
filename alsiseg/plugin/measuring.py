"""Measure the networks of a labels layer, as a table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alsiseg import metrics, volumes
from alsiseg.plugin.layers import check_same_shape
from alsiseg.plugin.work import Progress, Watched
from alsiseg.topology import Connectivity

READ_TIMES = 3  # networks, interfaces, intervals: how often a volume of labels is read
HEADINGS_OF_WORDS = ("network", "measure")


@dataclass(frozen=True)
class Table:
    """What was measured: headings, rows of the same length, and sentences that belong to it.

    Attributes
    ----------
    headings : tuple of str
    rows : list of tuple of str
    notes : list of str
    """

    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]

    def as_csv(self) -> str:
        """Write headings and rows with commas between the cells."""
        return self._written(",")

    def as_tabs(self) -> str:
        """Write headings and rows with tabs between the cells, as spreadsheets paste them."""
        return self._written("\t")

    def _written(self, delimiter: str) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([self.headings, *self.rows])
        return text.getvalue()


def measure(
    labels_zyx: Any,
    truth_zyx: Any | None,
    progress: Progress,
    *,
    voxel_size_um: float | None,
    connectivity: Connectivity = 26,
    min_voxels: int = 1,
    intervals: bool = True,
) -> Table:
    """Measure labels (Z, Y, X), and compare them with others of the same scan; anything that can be sliced.

    Raises
    ------
    Stopped
        When the user asked to stop.
    ValueError, TypeError
        As `metrics.measure` does.
    """
    progress.begin("measuring")
    given = [one for one in (labels_zyx, truth_zyx) if one is not None]
    if truth_zyx is not None:
        check_same_shape(labels_zyx, truth_zyx, "needs two volumes of labels of one shape")
    watched = [Watched(one, progress, n_times=READ_TIMES) for one in given]
    options = metrics.Options(
        connectivity=connectivity, min_voxels=min_voxels, bootstrap=metrics.Bootstrap() if intervals else None
    )
    report = metrics.measure(*watched, voxel_size_um=voxel_size_um, options=options)
    return table_of(report)


def table_of(report: metrics.Report) -> Table:
    """Make a table of a report: the networks, then the interfaces between phases."""
    truth, comparison = report.truth, report.comparison
    headings, *rows = metrics.table_rows(
        report.labels.networks,
        None if truth is None else truth.networks,
        intervals=report.labels.intervals,
        difference_intervals=None if comparison is None else comparison.difference_intervals,
    )
    for name, area in report.labels.interface_areas_per_mm.items():
        true_area = None if truth is None else truth.interface_areas_per_mm[name]
        compared = ["", ""] if true_area is None else [f"{true_area:.1f}", f"{area - true_area:+.1f}"]
        rows.append([name, "interface area per volume [1/mm]", f"{area:.1f}", "", *compared, ""])
    notes = list(report.notes)
    if comparison is not None:
        agreement = f"{100 * comparison.agreement.accuracy:.2f} % of the voxels agree with those compared."
        notes.insert(0, agreement)
    return _without_empty_columns(headings, rows, notes)


def _without_empty_columns(headings: Sequence[str], rows: Sequence[Sequence[str]], notes: list[str]) -> Table:
    """Leave out the columns of what was not asked for; say in every row what it is of, for sorting and CSV."""
    filled = [i for i in range(len(headings)) if any(row[i] for row in rows)]
    names: list[list[str]] = []
    for name, measured, *numbers in rows:
        is_indented = measured.startswith(" ")  # it continues the measure above
        named = f"{names[-1][1]},{measured[1:]}" if is_indented else measured
        names.append([name or names[-1][0], named, *numbers])
    shown = tuple(headings[i].replace("truth", "compared with") for i in filled)
    return Table(shown, [tuple(row[i].strip() for i in filled) for row in names], notes)


def save_csv(table: Table, path: Path) -> Path:
    """Write a table as CSV, whole or not at all.

    Raises
    ------
    OSError
        When it cannot be written there.
    """
    path = path.with_suffix(path.suffix or ".csv")
    with volumes.written_whole(path) as partial:
        partial.write_text(table.as_csv(), encoding="utf-8")
    return path
