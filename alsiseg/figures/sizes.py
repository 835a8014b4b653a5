"""How large a volume must be: measures against the size of what they are measured on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from alsiseg.figures import manner
from alsiseg.phases import NETWORK_COLOURS

if TYPE_CHECKING:
    from alsiseg.metrics import SizeCurve

# quantity, label of its axis, factor
QUANTITIES = (
    ("volume_fraction_pct", "volume fraction (vol.%)", 1.0),
    ("euler_density_corrected_per_mm3", "Euler number (10$^6$ mm$^{-3}$)", 1e-6),
)
NETWORK_MARKERS = {"silicon": "o", "aluminides": "s", "hybrid": "^"}
EDGE_LABEL = "edge of the cubes (µm)"


@manner.style()
def representative_volumes(curves: Mapping[str, Mapping[str, "SizeCurve"]], *, enough_pct: float = 5.0) -> Figure:
    """Draw volume fraction and Euler density, with their spread, against the edge of the cubes measured.

    Above the mean over the cubes, with one standard deviation to either side; below that deviation as a
    share of the mean, from which the size of a representative volume is read.

    Parameters
    ----------
    curves
        By network and measure, from `metrics.representative_volumes`.
    enough_pct
        Where a dashed line is drawn: the relative spread, in per cent, that is small enough.
    """
    figure = manner.new_figure(height_mm=100)
    (top, bottom) = figure.subplots(2, len(QUANTITIES), sharex=True)
    for (quantity, label, factor), above, below in zip(QUANTITIES, top, bottom, strict=True):
        for network, by_quantity in curves.items():
            plot_mean_and_spread(above, by_quantity[quantity], network=network, factor=factor)
            plot_relative_spread(below, by_quantity[quantity], network=network)
        above.set(ylabel=label)
        below.axhline(enough_pct, **manner.TRUTH_STYLE)
        below.set(xlabel=EDGE_LABEL, ylabel="spread / mean (%)")
    figure.legend(*top[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(curves))
    manner.panel_letters([*top, *bottom])
    return figure


def plot_mean_and_spread(axes: Axes, curve: "SizeCurve", *, network: str, factor: float = 1.0) -> Axes:
    """Plot the mean of a measure against the edge, and a band of one standard deviation to either side."""
    mean, spread = factor * curve.mean, factor * curve.spread
    colour = NETWORK_COLOURS[network]
    axes.fill_between(curve.edge_um, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    axes.plot(curve.edge_um, mean, color=colour, marker=NETWORK_MARKERS[network], label=network)
    return axes


def plot_relative_spread(axes: Axes, curve: "SizeCurve", *, network: str) -> Axes:
    """Plot the standard deviation between the cubes, in per cent of their mean, against the edge; logarithmic."""
    with np.errstate(divide="ignore", invalid="ignore"):  # an empty network has no relative spread
        relative_pct = 100 * curve.spread / np.abs(curve.mean)
    axes.plot(curve.edge_um, relative_pct, color=NETWORK_COLOURS[network], marker=NETWORK_MARKERS[network])
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return axes
