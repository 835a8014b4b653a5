"""The measures as a table that people read."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from alsiseg.metrics.intervals import Interval
from alsiseg.metrics.networks import NetworkMeasure, as_dict
from alsiseg.metrics.reports import Comparison, Measured, Report
from alsiseg.phases import PHASE_NAMES, Phase

# Heading of a row, field of NetworkMeasure, factor to the unit printed, decimals.
_ROWS = (
    ("volume fraction [vol.%]", "volume_fraction_pct", 1, 2),
    ("interconnectivity [%]", "interconnectivity", 100, 2),
    ("Euler number", "euler_number", 1, 0),
    ("components", "n_components", 1, 0),
    ("Euler number [1000/mm3]", "euler_density_per_mm3", 1e-3, 1),
    ("  corrected for faces", "euler_density_corrected_per_mm3", 1e-3, 1),
    ("mean local thickness [um]", "mean_local_thickness_um", 1, 2),
    ("mean chord length [um]", "mean_chord_um", 1, 2),
)
OfNetworks = Mapping[str, Mapping[str, Interval]]


def table(
    measures: Mapping[str, NetworkMeasure],
    truth: Mapping[str, NetworkMeasure] | None = None,
    *,
    intervals: OfNetworks | None = None,
    difference_intervals: OfNetworks | None = None,
) -> str:
    """Write the measures as a table with units: a row for each that was taken of each network.

    Parameters
    ----------
    measures
        By network, from `measure_networks`.
    truth
        Measures to set beside them, with the difference.
    intervals, difference_intervals
        From `network_intervals`, without and with a truth, for a column each.

    Raises
    ------
    ValueError
        When `truth` does not hold the same networks.
    """
    return _aligned(
        table_rows(measures, truth, intervals=intervals, difference_intervals=difference_intervals), n_words=2
    )


def table_rows(
    measures: Mapping[str, NetworkMeasure],
    truth: Mapping[str, NetworkMeasure] | None = None,
    *,
    intervals: OfNetworks | None = None,
    difference_intervals: OfNetworks | None = None,
) -> list[list[str]]:
    """List the cells of `table`, the headings first; cells that do not apply are empty."""
    if truth is not None and set(truth) != set(measures):
        raise ValueError(
            f"the truth must hold the networks {', '.join(measures)}, got {', '.join(truth)}; "
            "measure both with measure_networks"
        )
    level, difference_level = _level(intervals), _level(difference_intervals)
    rows = [["network", "measure", "value", level, "truth", "difference", difference_level]]
    for name, measure in measures.items():
        of_truth = None if truth is None else truth[name]
        of_network = [{} if found is None else found.get(name, {}) for found in (intervals, difference_intervals)]
        rows += _rows(name, measure, of_truth, *of_network)
    return rows


def estimates_table(
    estimates: Mapping[str, Mapping[str, tuple[float, float, float]]], *, heading: str, level: float
) -> str:
    """Write estimates with their intervals and units in the manner of `table`.

    Parameters
    ----------
    estimates
        Value and both ends, by network, then by field of `NetworkMeasure`; other fields are left out.
    heading
        Of the column of values.
    level
        Of the intervals, 0..1.
    """
    rows = [["network", "measure", heading, f"{100 * level:g} % interval"]]
    for name, of in estimates.items():
        for title, field, factor, decimals in _ROWS:
            if field in of:
                value, low, high = (_number(one, factor, decimals) for one in of[field])
                rows.append([name, title, value, f"{low} to {high}"])
                name = ""
    return _aligned(rows, n_words=2)


def _rows(
    name: str,
    measure: NetworkMeasure,
    truth: NetworkMeasure | None,
    intervals: Mapping[str, Interval],
    differences: Mapping[str, Interval],
) -> Iterator[list[str]]:
    """Write the rows of one network; what was not measured has none."""
    for heading, field, factor, decimals in _ROWS:
        value, true_value = getattr(measure, field), getattr(truth, field, None)
        if value is None and true_value is None:
            continue
        gap = None if value is None or true_value is None else value - true_value
        numbers = [_number(one, factor, decimals) for one in (value, true_value)]
        ranges = [
            _range(found.get(field), factor, decimals, sign) for found, sign in ((intervals, "-"), (differences, "+"))
        ]
        yield [name, heading, numbers[0], ranges[0], numbers[1], _number(gap, factor, decimals, sign="+"), ranges[1]]
        name = ""


def _level(intervals: OfNetworks | None) -> str:
    """Head the column of intervals; empty without any."""
    levels = [found.level for by_field in (intervals or {}).values() for found in by_field.values()]
    return f"{100 * levels[0]:g} % interval" if levels else ""


def _number(value: float | None, factor: float, decimals: int, *, sign: str = "-") -> str:
    return "" if value is None else f"{value * factor:{sign}.{decimals}f}"


def _range(interval: Interval | None, factor: float, decimals: int, sign: str) -> str:
    if interval is None:
        return ""
    low, high = (_number(end, factor, decimals, sign=sign) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def as_text(report: Report) -> str:
    """Write a report for people: networks, interfaces, agreement with the truth, and what is missing."""
    parts = [_headline(report)]
    comparison = report.comparison
    parts.append(
        table(
            report.labels.networks,
            report.truth.networks if report.truth else None,
            intervals=report.labels.intervals,
            difference_intervals=comparison.difference_intervals if comparison else None,
        )
    )
    if report.labels.interface_areas_per_mm:
        parts.append(_interface_table(report))
    if comparison is not None:
        parts.append(_agreement_table(comparison))
    if report.notes:
        parts.append("\n".join(f"note: {note}" for note in report.notes))
    return "\n\n".join(parts)


def _headline(report: Report) -> str:
    """Say what was measured, and how."""
    size = " x ".join(map(str, report.shape_zyx))
    words = [f"{size} voxels"]
    if report.voxel_size_um is not None:
        words[0] += f" of {report.voxel_size_um:g} um"
    words.append(f"connectivity {report.options.connectivity}")
    if report.options.min_voxels > 1:
        words.append(f"particles under {report.options.min_voxels} voxels removed")
    some = next((i for found in report.labels.intervals.values() for i in found.values()), None)
    if some is not None:
        edge = "" if some.block_um is None else f" of {some.block_um:.0f} um"
        words.append(f"intervals from {some.n_blocks} blocks{edge}")
    return ", ".join(words)


def _interface_table(report: Report) -> str:
    """Write the areas of the interfaces."""
    rows = [["interface", "area per volume [1/mm]", "truth", "difference"]]
    for name, area in report.labels.interface_areas_per_mm.items():
        true_area = report.truth.interface_areas_per_mm[name] if report.truth else None
        gap = None if true_area is None else area - true_area
        rows.append([name, _number(area, 1, 1), _number(true_area, 1, 1), _number(gap, 1, 1, sign="+")])
    return _aligned(rows)


def _agreement_table(comparison: Comparison) -> str:
    """Write how labels and truth agree."""
    agreement = comparison.agreement
    line = f"accuracy: {100 * agreement.accuracy:.2f} % of the voxels"
    if not math.isnan(agreement.interface_accuracy):
        line += f", {100 * agreement.interface_accuracy:.2f} % at silicon-aluminide interfaces"
    rows = [["phase", "Dice", "IoU", "mean surface distance [um]", "95 % Hausdorff [um]"]]
    for phase in Phase:
        found = comparison.surface_distances.get(phase)
        lengths = [f"{found.mean_um:.2f}", f"{found.hausdorff95_um:.2f}"] if found else ["", ""]
        rows.append([PHASE_NAMES[phase], f"{agreement.dice[phase]:.4f}", f"{agreement.iou[phase]:.4f}", *lengths])
    return f"{line}\n{_aligned(rows)}"


def as_json(report: Report) -> dict[str, Any]:
    """Turn a report into what JSON can hold; a distance or share that is no finite number becomes null."""
    options = report.options
    numbers: dict[str, Any] = {
        "shape_zyx": list(report.shape_zyx),
        "voxel_size_um": report.voxel_size_um,
        "connectivity": options.connectivity,
        "min_voxels": options.min_voxels,
        **_measured_as_json(report.labels, ""),
        "notes": list(report.notes),
    }
    if report.truth is not None and report.comparison is not None:
        agreement = report.comparison.agreement
        numbers |= _measured_as_json(report.truth, "truth_")
        # The names under which earlier versions wrote them.
        numbers["truth"] = numbers.pop("truth_networks")
        numbers |= {
            "accuracy": agreement.accuracy,
            "interface_accuracy": _finite(agreement.interface_accuracy),
            "dice": {phase.name.lower(): value for phase, value in agreement.dice.items()},
            "iou": {phase.name.lower(): value for phase, value in agreement.iou.items()},
            "surface_distances": {
                phase.name.lower(): {field: _finite(value) for field, value in asdict(found).items()}
                for phase, found in report.comparison.surface_distances.items()
            },
            "difference_intervals": _intervals_as_json(report.comparison.difference_intervals),
        }
    return numbers


def _measured_as_json(measured: Measured, prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}networks": as_dict(measured.networks),
        f"{prefix}interface_areas_per_mm": measured.interface_areas_per_mm,
        f"{prefix}intervals": _intervals_as_json(measured.intervals),
    }


def _intervals_as_json(intervals: OfNetworks) -> dict[str, Any]:
    return {
        name: {field: asdict(found) for field, found in of_network.items()} for name, of_network in intervals.items()
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _aligned(rows: Sequence[Sequence[str]], *, n_words: int = 1) -> str:
    """Set rows in columns: the first `n_words` to the left, numbers to the right; leave out empty columns."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            cell.ljust(width) if i < n_words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in zip(*columns, strict=True)
    ]
    return "\n".join(line.rstrip() for line in lines)
