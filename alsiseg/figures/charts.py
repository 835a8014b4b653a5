"""Charts: what is measured against the epoch, per slice, and per network."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from alsiseg.figures import manner
from alsiseg.phases import NETWORK_COLOURS, NETWORKS

if TYPE_CHECKING:
    from alsiseg.metrics import NetworkMeasure

History = Mapping[str, NDArray]


def normalised(loss: ArrayLike) -> NDArray[np.float64]:
    """Divide a loss by its first value, that of the untrained network (paper, Fig. 4)."""
    values = np.asarray(loss, dtype=np.float64)
    return values / values[0]


def mark_every(n_points: int, n_marks: int = 8) -> int:
    """Distance between markers so that about `n_marks` stand on a line."""
    return max(1, round(n_points / n_marks))


def plot_loss(axes: Axes, history: History, *, style: manner.LineStyle) -> Axes:
    """Plot the normalised train (open marker, thin) and test loss (full marker) against the epoch.

    Logarithmic, so that a rise of the small values at the end can be seen.
    """
    epochs = np.asarray(history["epoch"])
    every = mark_every(len(epochs))
    train, test = normalised(history["train_loss"]), normalised(history["test_loss"])
    common: dict[str, Any] = {"color": style.color, "marker": style.marker, "markevery": every}
    axes.plot(epochs, train, **common, linestyle=":", markerfacecolor="white", label="train")
    axes.plot(epochs, test, **common, linestyle="-", label="test")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.set(xlabel="epoch", ylabel="normalised loss")
    return axes


def plot_accuracy_per_slice(axes: Axes, accuracy_by_setting: Mapping[str, ArrayLike]) -> Axes:
    """Plot the accuracy (0..1, drawn in per cent) of every test slice for each weight setting.

    The mean over the slices stands in the legend.
    """
    for position, (label, accuracy) in enumerate(accuracy_by_setting.items()):
        per_cent = 100 * np.asarray(accuracy, dtype=np.float64)
        name = f"{manner.setting_name(label)}, mean {np.nanmean(per_cent):.1f} %"
        style = manner.setting_style(position)
        slices = np.arange(1, len(per_cent) + 1)
        axes.plot(slices, per_cent, **style.options(), markevery=mark_every(len(slices)), label=name)
    axes.set(xlabel="test slice", ylabel="accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    options: dict[str, Any] = {
        "loc": "lower center",
        "bbox_to_anchor": (0.5, 1.0),
        "ncols": len(accuracy_by_setting),
    }
    axes.legend(title=manner.SETTING_LEGEND_TITLE, **options)
    return axes


# quantity in the history, attribute of NetworkMeasure, axis label, factor
QUANTITIES = {
    "volume_fraction_pct": ("volume fraction (vol.%)", 1.0),
    "interconnectivity": ("interconnectivity (%)", 100.0),
    "euler_number": ("Euler number", 1.0),
}


def plot_quantity(
    axes: Axes,
    histories: Mapping[str, History],
    truth: Mapping[str, "NetworkMeasure"],
    *,
    network: str,
    quantity: str,
) -> Axes:
    """Plot one quantity of one network against the epoch for every setting, the truth dashed.

    Parameters
    ----------
    histories : mapping from the label of a setting to its history
        Epoch 0, the untrained network, is left out.
    truth : mapping from network to NetworkMeasure
    network : str
        "silicon", "aluminides" or "hybrid".
    quantity : str
        "volume_fraction_pct", "interconnectivity" (drawn in per cent) or "euler_number".
    """
    name, factor = QUANTITIES[quantity]
    for position, history in enumerate(histories.values()):
        epochs = np.asarray(history["epoch"])
        trained = epochs > 0
        values = factor * np.asarray(history[f"{network}_{quantity}"], dtype=np.float64)[trained]
        style = manner.setting_style(position)
        axes.plot(epochs[trained], values, **style.options(), markevery=mark_every(len(values)))
    axes.axhline(factor * getattr(truth[network], quantity), **manner.TRUTH_STYLE)
    axes.set(xlabel="epoch", ylabel=name)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if quantity == "euler_number":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}".replace("-", "−")))
    return axes


def settings_legend(figure: FigureBase, labels: Sequence[str], *, truth: bool = True) -> None:
    """One legend above the figure: the weight settings in their styles and the dashed truth."""
    lines = [
        Line2D([], [], **manner.setting_style(position).options(), label=manner.setting_name(label))
        for position, label in enumerate(labels)
    ]
    if truth:
        lines.append(Line2D([], [], **manner.TRUTH_STYLE, label="ground truth"))
    title = Line2D([], [], linestyle="none", label=f"{manner.SETTING_LEGEND_TITLE}:")
    figure.legend(handles=[title, *lines], loc="outside upper center", ncols=len(lines) + 1, columnspacing=1.4)


def euler_density(measure: "NetworkMeasure") -> float:
    """Euler number per mm3, or per million voxels of the volume when the voxel size is unknown."""
    if measure.euler_density_per_mm3 is not None:
        return float(measure.euler_density_per_mm3)
    n_volume = measure.n_voxels / max(measure.volume_fraction_pct / 100, 1e-12)
    return 1e6 * measure.euler_number / max(n_volume, 1.0)


def thousands_power(volumes: Mapping[str, Mapping[str, "NetworkMeasure"]]) -> int:
    """Find the power of ten (a multiple of three) in which the Euler densities are short numbers."""
    largest = max(abs(euler_density(m)) for measures in volumes.values() for m in measures.values())
    return 3 * int(np.floor(np.log10(max(largest, 1.0)) / 3))


def plot_network_bars(
    axes: Axes, volumes: Mapping[str, Mapping[str, "NetworkMeasure"]], *, quantity: str, scale: float = 1.0
) -> Axes:
    """Bars of one quantity: a group per network, a bar per volume, the number over each bar.

    Parameters
    ----------
    volumes : mapping from the name of a volume to its measures
        Drawn from left to right: filled, hatched, then open and dashed (the truth).
    quantity : str
        "volume_fraction_pct", "interconnectivity" or "euler_density".
    scale : float
        Bars show the quantity divided by it; say so in the label of the axis.
    """
    width = 0.8 / len(volumes)
    upright = len(volumes) > 2 or quantity == "euler_density"
    for position, measures in enumerate(volumes.values()):
        for group, network in enumerate(NETWORKS):
            value = _bar_value(measures[network], quantity) / scale
            x = group + (position - (len(volumes) - 1) / 2) * width
            axes.bar(x, value, 0.92 * width, **bar_style(network, position))
            _write_value(axes, x, value, _bar_text(measures[network], quantity), upright=upright)
    axes.set_xticks(range(len(NETWORKS)), list(NETWORKS))
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if axes.get_ylim()[0] < 0:
        axes.axhline(0, color="black", linewidth=0.6)
    axes.margins(y=0.3 if quantity == "euler_density" else 0.14)
    return axes


def bar_style(network: str, position: int) -> dict[str, Any]:
    """Fill the bars of the first volume, hatch the second, leave the truth open and dashed."""
    colour = NETWORK_COLOURS[network]
    if position == 0:
        return {"facecolor": colour, "edgecolor": colour}
    if position == 1:
        return {"facecolor": "white", "edgecolor": colour, "hatch": "/////"}
    return {"facecolor": "none", "edgecolor": "black", "linestyle": "--", "linewidth": 0.8}


def volume_legend(figure: FigureBase, names: Sequence[str]) -> None:
    """Name the bar styles of the volumes in a neutral colour."""
    styles: list[dict[str, Any]] = [
        {"facecolor": "0.45", "edgecolor": "0.45"},
        {"facecolor": "white", "edgecolor": "0.45", "hatch": "/////"},
        {"facecolor": "none", "edgecolor": "black", "linestyle": "--", "linewidth": 0.8},
    ]
    patches = [Patch(**style, label=name) for style, name in zip(styles, names, strict=False)]
    figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), handlelength=1.8)


def _bar_value(measure: "NetworkMeasure", quantity: str) -> float:
    if quantity == "euler_density":
        return euler_density(measure)
    return QUANTITIES[quantity][1] * float(getattr(measure, quantity))


def _bar_text(measure: "NetworkMeasure", quantity: str) -> str:
    """Write the number over a bar; for the Euler density the Euler number of the volume itself."""
    if quantity == "euler_density":
        return f"{measure.euler_number:,d}".replace("-", "−")
    return f"{_bar_value(measure, quantity):.1f}"


def _write_value(axes: Axes, x: float, value: float, text: str, *, upright: bool) -> None:
    """Write a number beyond the end of its bar."""
    beyond = 2 if value >= 0 else -2
    axes.annotate(
        text,
        xy=(x, value),
        xytext=(0, beyond),
        textcoords="offset points",
        ha="center",
        va="bottom" if value >= 0 else "top",
        fontsize=5.5,
        rotation=90 if upright else 0,
    )


def topology_columns(histories: Mapping[str, History], truth: Mapping[str, "NetworkMeasure"]) -> dict[str, Any]:
    """Columns behind Fig. 6 and Supplementary Fig. 1: every quantity of every network, true and per setting."""
    columns: dict[str, Any] = {"epoch": next(iter(histories.values()))["epoch"]}
    for quantity, (network, measure) in product(
        ("volume_fraction_pct", "euler_number", "interconnectivity"), truth.items()
    ):
        columns[f"{network} {quantity} truth"] = [getattr(measure, quantity)]
        for label, history in histories.items():
            columns[f"{network} {quantity} ({label})"] = history[f"{network}_{quantity}"]
    return columns
