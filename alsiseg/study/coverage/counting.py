"""How often intervals hold the truth: every interval one row, counted by kind and level.

Kinds of interval, for a measure of a network of one segmented specimen:

* "spread": Student's t times the standard deviation between the views, about the value of their average;
* "bootstrap": of blocks of the volume (`metrics.network_intervals`; fractions and Euler densities only);
* "both": these two together, as if they were independent;
* "calibrated": corrected by the errors on validation specimens (`alsiseg.calibration`).

What is meant for a level is compared with the share that hold the truth. The networks of a specimen share its errors,
so that a share counts as one of as many tries as there are specimens (`Share.low`, `Share.high`); all calibrated
intervals share one calibration too, so that their share may lie outside somewhat more often than that.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alsiseg.calibration import Calibration, Measures
from alsiseg.phases import NETWORKS
from alsiseg.study.rows import markdown_table

LEVELS = (0.5, 0.8, 0.9, 0.95)
KINDS = ("spread", "bootstrap", "both", "calibrated")
BAND = 0.95  # of shares lie within it when intervals hold what they claim
MEASURES = {
    "volume_fraction_pct": "volume fraction",
    "interconnectivity": "interconnectivity",
    "euler_density_corrected_per_mm3": "Euler density, face-corrected",
    "euler_density_per_mm3": "Euler number per volume",
    "n_components": "number of particles (b0)",
    "mean_chord_um": "mean chord length",
}
Ends = tuple[float, float]
Bootstrapped = dict[str, dict[str, list[Ends]]]  # by network and measure, one of each of LEVELS


@dataclass(frozen=True)
class Measured:
    """What was measured of one segmented specimen.

    Attributes
    ----------
    ours, truth : dict
        By network, then by measure.
    views : list of dict
        The same of the labels of each view.
    bootstrap : dict
        Ends of the intervals at `LEVELS`, by network, then by measure.
    accuracy_pct : float
    warnings : list of str
        What `likeness` says of the scan.
    """

    ours: Measures
    truth: Measures
    views: list[Measures]
    bootstrap: Bootstrapped
    accuracy_pct: float
    warnings: list[str]


@dataclass(frozen=True)
class Row:
    """One interval, and whether it holds the truth of its specimen.

    Attributes
    ----------
    casting, seed
        Of the specimen.
    network, measure, kind : str
    level : float
        Share of such intervals that should hold the truth.
    measured, value : float
        As segmented, and as the interval has it: these differ where it corrects.
    low, high, truth : float
    holds : bool
    """

    casting: str
    seed: int
    network: str
    measure: str
    kind: str
    level: float
    measured: float
    value: float
    low: float
    high: float
    truth: float
    holds: bool


def rows_of(casting: str, seed: int, found: Measured, calibration: Calibration) -> Iterator[Row]:
    """Make every interval of one specimen."""
    for level in LEVELS:
        corrected = calibration.corrected(found.ours, level=level)
        for network in NETWORKS:
            for measure, truth in found.truth[network].items():
                if measure not in corrected[network]:
                    continue
                value, key = found.ours[network][measure], (network, measure)
                ours = corrected[network][measure]
                intervals = {kind: (value, *ends) for kind, ends in _uncorrected(found, key, level).items()}
                intervals["calibrated"] = (ours.value, ours.low, ours.high)
                for kind, (middle, low, high) in intervals.items():
                    about = (casting, seed, *key, kind, level)
                    yield Row(*about, value, middle, low, high, truth, low <= truth <= high)


def _uncorrected(found: Measured, key: tuple[str, str], level: float) -> dict[str, Ends]:
    """Ends of the intervals that know nothing of the errors of the network."""
    network, measure = key
    value = found.ours[network][measure]
    of_views = [view[network][measure] for view in found.views if measure in view[network]]
    ends: dict[str, Ends] = {}
    if len(of_views) > 1:
        ends["spread"] = _spread(value, of_views, level)
    if measure in found.bootstrap[network]:
        low, high = found.bootstrap[network][measure][LEVELS.index(level)]
        ends["bootstrap"] = (low, high)
    if len(ends) == 2:
        below, above = ([abs(end[side] - value) for end in ends.values()] for side in (0, 1))
        ends["both"] = (value - math.hypot(*below), value + math.hypot(*above))
    return ends


def _spread(value: float, of_views: Sequence[float], level: float) -> Ends:
    from scipy import stats

    half = float(stats.t.ppf((1 + level) / 2, len(of_views) - 1) * np.std(of_views, ddof=1))
    return value - half, value + half


def within_views(found: Iterable[Measured]) -> str:
    """Count the measures whose truth lies between the least and the largest of the views and their average.

    That is what `prediction.spread` gives; it claims no level.
    """
    held = [
        min(values) <= truth <= max(values)
        for one in found
        for network in NETWORKS
        for measure, truth in one.truth[network].items()
        if len(values := [of[network][measure] for of in (one.ours, *one.views) if measure in of[network]]) > 1
    ]
    return f"between the least and the largest of the views: {sum(held)} of {len(held)} truths"


@dataclass(frozen=True)
class Share:
    """How many intervals of one kind hold the truth.

    Attributes
    ----------
    casting, measure, kind, level
        As in `Row`.
    n, n_held : int
        Intervals, over all networks and specimens; those that hold the truth.
    share : float
    low, high : float
        Between these the share lies in 95 of 100 repetitions, if every interval held the truth as often as it claims.
    width : float
        Median of (high - low) / |truth|.
    """

    casting: str
    measure: str
    kind: str
    level: float
    n: int
    n_held: int
    share: float
    low: float
    high: float
    width: float


def shares(rows: Iterable[Row]) -> list[Share]:
    """Count the intervals of all networks by casting, measure, kind and level."""
    groups: dict[tuple[str, str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.casting, row.measure, row.kind, row.level), []).append(row)
    order = {name: place for place, name in enumerate((*MEASURES, *KINDS))}
    castings = list(dict.fromkeys(casting for casting, *_ in groups))
    keys = sorted(groups, key=lambda key: (castings.index(key[0]), order[key[1]], order[key[2]], key[3]))
    return [_share(key, groups[key]) for key in keys]


def _share(key: tuple[str, str, str, float], rows: Sequence[Row]) -> Share:
    from scipy import stats

    n_specimens, held = len({row.seed for row in rows}), sum(row.holds for row in rows)
    low, high = (float(end) / n_specimens for end in stats.binom.interval(BAND, n_specimens, key[3]))
    widths = [(row.high - row.low) / abs(row.truth) for row in rows if row.truth]
    width = float(np.median(widths)) if widths else float("nan")
    return Share(*key, len(rows), held, held / len(rows), low, high, width)


def columns(counted: Sequence[Share]) -> dict[str, list[Any]]:
    """Turn shares into columns, as `figures.coverage` draws them."""
    return {name: [getattr(share, name) for share in counted] for name in Share.__dataclass_fields__}


def table(counted: Sequence[Share], casting: str) -> str:
    """Write the shares of one casting as Markdown: a line for each measure and kind."""
    head = ["measure", "interval", "n", *(f"{100 * level:g} %" for level in LEVELS), "median width at 95 % / truth"]
    of_casting = {(s.measure, s.kind, s.level): s for s in counted if s.casting == casting}
    lines = []
    for measure, kind in dict.fromkeys(key[:2] for key in of_casting):
        found = [of_casting[measure, kind, level] for level in LEVELS]
        held = (f"{100 * share.share:.0f}" for share in found)
        lines.append([MEASURES[measure], kind, str(found[0].n), *held, f"{100 * found[-1].width:.3g} %"])
    return markdown_table(head, lines) + "\n"


def sentence(rows: Iterable[Row], casting: str, kind: str) -> str:
    """Say of one kind of interval how many of 95 % hold the truth, over all measures.

    The standard error is that of the mean over specimens, whose measures err together.
    """
    level = LEVELS[-1]
    chosen = [row for row in rows if (row.casting, row.kind, row.level) == (casting, kind, level)]
    seeds = dict.fromkeys(row.seed for row in chosen)
    of_seeds = [float(np.mean([row.holds for row in chosen if row.seed == seed])) for seed in seeds]
    error = f" -+ {100 * np.std(of_seeds, ddof=1) / math.sqrt(len(seeds)):.0f} %" if len(seeds) > 1 else " %"
    held, n = sum(row.holds for row in chosen), len(chosen)
    return f"{kind}: {held} of {n} intervals of {100 * level:g} % hold the truth ({100 * held / n:.0f}{error})"


def error_table(calibration: Calibration) -> str:
    """Write the errors of the network on the validation specimens as Markdown: mean and scatter."""
    lines = []
    for network, by_measure in calibration.errors.items():
        for measure, errors in by_measure.items():
            mean, scatter = float(np.mean(errors.of_specimens)), float(np.std(errors.of_specimens, ddof=1))
            if errors.scale == "ratio":
                cells = ["truth / measured", f"{math.exp(mean):.3f}", f"x {math.exp(scatter):.3f}"]
            else:
                cells = ["truth - measured", f"{mean:.4g}", f"{scatter:.3g}"]
            lines.append([network, MEASURES[measure], *cells])
    return markdown_table(["network", "measure", "error", "mean", "standard deviation"], lines) + "\n"
