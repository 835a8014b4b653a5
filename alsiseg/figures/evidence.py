"""The figures of the study: scores over the two weights, and what trainings with several seeds scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from alsiseg.figures import manner

# From dark to light in even steps, also for colour-blind readers and in grey print.
MAP_COLOURS = "cividis"
MOST_UPRIGHT = 4  # names of conditions that stand beside each other under a panel


@dataclass(frozen=True)
class MapPanel:
    """One map: a score over the weights of silicon (rows) and interface (columns).

    Attributes
    ----------
    title, unit : str
    silicon, interface : sequence of float
    values : float array (silicon, interface)
        NaN where nothing is known yet.
    best : tuple of int
        Row and column of the optimum.
    like_best : bool array (silicon, interface)
        Cells that cannot be told from it.
    more_is_better : bool
    """

    title: str
    unit: str
    silicon: Sequence[float]
    interface: Sequence[float]
    values: NDArray[np.float64]
    best: tuple[int, int]
    like_best: NDArray[np.bool_]
    more_is_better: bool = True


@manner.style()
def weight_maps(panels: Sequence[MapPanel], *, published: Sequence[tuple[float, float]] = ()) -> Figure:
    """Draw maps side by side, the value in every cell, lighter where it is better.

    Parameters
    ----------
    panels
    published : sequence of (silicon, interface)
        Weights to be marked by a dot: those of the paper.
    """
    figure = manner.new_figure(height_mm=76)
    every_axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for axes, panel in zip(every_axes, panels, strict=True):
        picture = show_map(axes, panel, published=published)
        bar = figure.colorbar(picture, ax=axes, location="bottom", aspect=28, pad=0.03)
        bar.set_label(panel.unit)
        bar.outline.set_linewidth(0.6)  # type: ignore[operator]
    manner.panel_letters(list(every_axes))
    figure.legend(handles=_map_legend(bool(published)), loc="outside upper center", ncols=3, handlelength=1.4)
    return figure


def show_map(axes: Axes, panel: MapPanel, *, published: Sequence[tuple[float, float]] = ()) -> AxesImage:
    """Show one map: optimum framed, cells that cannot be told from it marked by "≈"."""
    picture = axes.imshow(
        panel.values, cmap=MAP_COLOURS if panel.more_is_better else f"{MAP_COLOURS}_r", origin="lower"
    )
    digits = _digits(panel.values)
    for (row, column), value in np.ndenumerate(panel.values):
        if not np.isnan(value):
            alike = bool(panel.like_best[row, column]) and (row, column) != panel.best
            text = f"{'≈ ' if alike else ''}{value:.{digits}f}"
            ink = _ink(picture.to_rgba(np.array(value)))
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color=ink)
    row, column = panel.best
    for width, colour in ((2.6, "white"), (1.3, "#d62728")):
        axes.add_patch(
            Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, fill=False, linewidth=width, edgecolor=colour)
        )
    for silicon, interface in published:
        if silicon in panel.silicon and interface in panel.interface:
            x, y = list(panel.interface).index(interface) - 0.36, list(panel.silicon).index(silicon) + 0.36
            axes.plot(x, y, **_PUBLISHED)
    title = panel.title.replace(", ", ",\n")  # a line of it is as wide as a map
    axes.set(xlabel="interface weight $ω_{Int}$", ylabel="silicon weight $ω_{Si}$", title=title)
    axes.set_xticks(range(len(panel.interface)), [f"{weight:g}" for weight in panel.interface])
    axes.set_yticks(range(len(panel.silicon)), [f"{weight:g}" for weight in panel.silicon])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return picture


_PUBLISHED: dict[str, Any] = {
    "marker": "o",
    "linestyle": "none",
    "markersize": 4,
    "markerfacecolor": "white",
    "markeredgecolor": "black",
    "markeredgewidth": 0.7,
}


def _map_legend(published: bool) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Patch(facecolor="none", edgecolor="#d62728", linewidth=1.3, label="optimum"),
        Line2D([], [], linestyle="none", marker="$≈$", color="black", label="cannot be told from the optimum"),
    ]
    return handles + ([Line2D([], [], **_PUBLISHED, label="weights of the paper")] if published else [])


def _digits(values: NDArray[np.float64]) -> int:
    """Decimals that show how the cells differ, two at most."""
    spread = float(np.nanmax(values) - np.nanmin(values))
    return 2 if spread < 3 else 1 if spread < 30 else 0


def _ink(colour: Any) -> str:
    """Black or white, whichever reads better on a colour."""
    red, green, blue = to_rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


@dataclass(frozen=True)
class SeedScores:
    """What the trainings of one setting under one condition scored.

    Attributes
    ----------
    condition, setting : str
    values : mapping from seed to score
    mean, low, high : float
        Over seeds, and its interval; NaN where there is none.
    """

    condition: str
    setting: str
    values: Mapping[int, float]
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ScorePanel:
    """One score on one specimen, under every condition and setting."""

    score: str
    unit: str
    specimen: str
    groups: Sequence[SeedScores]


@manner.style()
def seed_scores(panels: Sequence[Sequence[ScorePanel]], settings: Sequence[str]) -> Figure:
    """Draw a score a row and a specimen a column: a dot for every training, the mean and its interval beside them.

    Parameters
    ----------
    panels : sequence of rows
    settings : sequence of str
        The weight settings, in the order of their styles.
    """
    figure, _ = _seed_grid(panels, settings)
    title = Line2D([], [], linestyle="none", label=f"{manner.SETTING_LEGEND_TITLE}:")
    handles = [title, *_seed_handles([manner.setting_name(setting) for setting in settings])]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1.4)
    return figure


@manner.style()
def seed_gains(panels: Sequence[Sequence[ScorePanel]], comparisons: Sequence[str]) -> Figure:
    """Draw differences between trainings with the same seed in the manner of `seed_scores`, and a line at zero.

    Parameters
    ----------
    panels : sequence of rows
        Their `setting` is a comparison; above zero is better.
    comparisons : sequence of str
        In the order of their styles.
    """
    figure, every_axes = _seed_grid(panels, comparisons)
    for axes in every_axes:
        axes.axhline(0, **manner.TRUTH_STYLE)
    figure.legend(handles=_seed_handles(comparisons), loc="outside upper center", ncols=len(comparisons))
    return figure


def _seed_grid(panels: Sequence[Sequence[ScorePanel]], names: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Draw all panels, named at the left and above."""
    figure = manner.new_figure(height_mm=16 + 34 * len(panels))
    grid = figure.subplots(len(panels), len(panels[0]), squeeze=False, sharex=True)
    for row, in_row in zip(grid, panels, strict=True):
        for axes, panel in zip(row, in_row, strict=True):
            show_seeds(axes, panel, names)
        row[0].set_ylabel("\n".join(fill(part, 24) for part in (in_row[0].score, f"({in_row[0].unit})")))
    for axes, panel in zip(grid[0], panels[0], strict=True):
        axes.set_title(panel.specimen)
    manner.panel_letters(list(grid.flat))
    figure.align_ylabels(grid[:, 0])
    return figure, list(grid.flat)


def _seed_handles(names: Sequence[str]) -> list[Line2D]:
    styles = [manner.setting_style(position) for position in range(len(names))]
    return [
        Line2D([], [], color=style.color, marker=style.marker, linestyle="none", label=name)
        for name, style in zip(names, styles, strict=True)
    ]


def show_seeds(axes: Axes, panel: ScorePanel, settings: Sequence[str]) -> Axes:
    """Show the trainings of every condition side by side, the settings in their styles."""
    conditions = list(dict.fromkeys(group.condition for group in panel.groups))
    for group in panel.groups:
        style = manner.setting_style(settings.index(group.setting))
        beside = [other.setting for other in panel.groups if other.condition == group.condition]
        x = conditions.index(group.condition) + 0.27 * (beside.index(group.setting) - (len(beside) - 1) / 2)
        values = list(group.values.values())
        axes.plot([x - 0.05] * len(values), values, ".", color=style.color, markersize=3, alpha=0.7)
        low, high = (abs(group.mean - end) for end in (group.low, group.high))
        interval = None if np.isnan(low) else [[low], [high]]
        axes.errorbar(x + 0.05, group.mean, yerr=interval, color=style.color, marker=style.marker, capsize=1.8)
    for between in range(1, len(conditions)):
        axes.axvline(between - 0.5, color="0.85", linewidth=0.6, zorder=0)
    if len(conditions) > MOST_UPRIGHT:
        axes.set_xticks(range(len(conditions)), [name.replace("\n", ", ") for name in conditions], rotation=90)
    else:
        axes.set_xticks(range(len(conditions)), conditions)
    axes.set_xlim(-0.5, max(len(conditions), 1) - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return axes
