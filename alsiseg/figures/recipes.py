"""How far ways of segmenting are from the truth: a line for every recipe, a dot with its interval for every network."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from alsiseg.figures import manner
from alsiseg.figures.sizes import NETWORK_MARKERS
from alsiseg.phases import NETWORK_COLOURS

MeanAndInterval = tuple[float, float, float]  # mean, low, high; the last two NaN where there is none
ByNetwork = Mapping[str, MeanAndInterval]
LINE_MM, AROUND_MM = 3.4, 26.0
STRAIGHT_TO_PCT = 20.0  # the axis is linear as far as this, logarithmic beyond
TICKS = (-1000, -100, 0, 100, 1000)


@manner.style()
def recipes(
    errors: Mapping[str, Mapping[str, ByNetwork]], *, aim: float, label: str, marked: str | None = None
) -> Figure:
    """Draw the errors of all recipes, a panel for every specimen.

    Parameters
    ----------
    errors
        By panel, recipe and network: mean and interval in per cent of the truth.
    aim
        The error that was aimed at, drawn as a band.
    label
        Of the axis of the errors.
    marked
        The recipe that was chosen, set in bold.
    """
    names = list(dict.fromkeys(name for panel in errors.values() for name in panel))
    figure = manner.new_figure(height_mm=AROUND_MM + LINE_MM * len(names))
    every = figure.subplots(1, len(errors), sharey=True, squeeze=False).ravel().tolist()
    for axes, (title, panel) in zip(every, errors.items(), strict=True):
        plot_errors(axes, panel, names=names, aim=aim, marked=marked)
        axes.set(title=title, xlabel=label)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    manner.panel_letters(every)
    return figure


def plot_errors(
    axes: Axes, panel: Mapping[str, ByNetwork], *, names: Sequence[str], aim: float, marked: str | None = None
) -> Axes:
    """Plot one panel of `recipes`: from top to bottom the recipes by name, those that are missing left empty.

    The axis reaches as far as the means do; longer intervals are cut off.
    """
    largest = max((abs(mean) for by_network in panel.values() for mean, _, _ in by_network.values()), default=0.0)
    axes.axvspan(-aim, aim, color="0.9", linewidth=0, label=f"aim: ± {aim:g} %")
    axes.axvline(0, **manner.TRUTH_STYLE)
    axes.hlines(np.arange(1, len(names)) - 0.5, 0, 1, color="0.88", linewidth=0.4, transform=axes.get_yaxis_transform())
    rows = {name: row for row, name in enumerate(names) if name in panel}
    for shift, network in zip((-0.25, 0.0, 0.25), NETWORK_COLOURS, strict=True):
        found = np.array([panel[name][network] for name in rows]).reshape(-1, 3)
        means, lows, highs = found.T
        reach = np.nan_to_num(np.stack([means - lows, highs - means]))
        colour = NETWORK_COLOURS[network]
        style: dict[str, Any] = {"color": colour, "fmt": NETWORK_MARKERS[network], "elinewidth": 0.8}
        style["ecolor"] = (colour, 0.5)  # a mean stands out from the intervals beside it
        axes.errorbar(means, np.array(list(rows.values())) + shift, xerr=reach, **style, label=network)
    axes.set_xscale("symlog", linthresh=STRAIGHT_TO_PCT)
    axes.set_xlim(-1.6 * max(largest, 100), 1.6 * max(largest, 100))
    ends = (-STRAIGHT_TO_PCT, STRAIGHT_TO_PCT) if largest < 500 else ()  # beyond there is no room for their labels
    axes.set_xticks(sorted([*ends, *(tick for tick in TICKS if abs(tick) <= max(largest, 100))]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), list(names))
    axes.tick_params(axis="y", length=0)
    for text in axes.get_yticklabels():
        text.set_fontweight("bold" if text.get_text() == marked else "normal")
    return axes
