"""How often intervals hold the truth, against how often they claim to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alsiseg.figures import manner

# Measure and title of its panel, which stands for all networks.
PANELS = {
    "volume_fraction_pct": "volume fraction",
    "interconnectivity": "interconnectivity",
    "euler_density_corrected_per_mm3": "Euler density",
    "n_components": "particles (b$_0$)",
    "mean_chord_um": "mean chord",
}
KINDS = {
    "spread": ("spread of the views", manner.SETTING_STYLES[0]),
    "bootstrap": ("block bootstrap", manner.SETTING_STYLES[1]),
    "both": ("both together", manner.SETTING_STYLES[3]),
    "calibrated": ("calibrated", manner.SETTING_STYLES[2]),
}


@manner.style()
def coverage(columns: Mapping[str, Sequence[Any]]) -> Figure:
    """Draw the share of intervals that hold the truth against their level: a panel a measure, a row a casting.

    Intervals that are right lie on the dashed diagonal, within the grey band: 95 % of shares would, of so many
    specimens, if every interval held the truth as often as it claims.

    Parameters
    ----------
    columns
        "casting", "measure", "kind", "level", "share", "low", "high" (the band), one entry for each share, from
        `study.shares.columns`.
    """
    table = {name: np.asarray(values) for name, values in columns.items()}
    castings = list(dict.fromkeys(table["casting"].tolist()))
    panels = [name for name in PANELS if name in table["measure"]]
    figure = manner.new_figure(height_mm=16 + 44 * len(castings))
    grid = figure.subplots(len(castings), len(panels), sharex=True, sharey=True, squeeze=False)
    for casting, line in zip(castings, grid, strict=True):
        for measure, axes in zip(panels, line, strict=True):
            here = (table["casting"] == casting) & (table["measure"] == measure)
            _panel(axes, {name: values[here] for name, values in table.items()})
        line[0].set(ylabel=f"{casting}: hold the truth (%)")
    for axes, measure in zip(grid[0], panels, strict=True):
        axes.set_title(PANELS[measure])
    for axes in grid[-1]:
        axes.set(xlabel="level (%)")
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return figure


def _panel(axes: Axes, table: Mapping[str, np.ndarray]) -> None:
    levels, first = np.unique(table["level"], return_index=True)
    low, high = 100 * table["low"][first], 100 * table["high"][first]
    axes.fill_between(100 * levels, low, high, color="0.88", linewidth=0)
    axes.plot([40, 100], [40, 100], **manner.TRUTH_STYLE)
    for kind, (label, look) in KINDS.items():
        chosen = table["kind"] == kind
        if chosen.any():
            axes.plot(100 * table["level"][chosen], 100 * table["share"][chosen], label=label, **look.options())
    axes.set(xlim=(45, 100), ylim=(-3, 103), xticks=[50, 80, 95], yticks=[0, 25, 50, 75, 100])
