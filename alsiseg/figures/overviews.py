"""Small pictures for the notebooks, beside the figures of the paper."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alsiseg.figures import charts, manner, slices
from alsiseg.phases import PHASE_COLOURS, Phase

GROUP_COLOURS = ("0.6", PHASE_COLOURS[Phase.SILICON], PHASE_COLOURS[Phase.ALUMINIDE], "black")


@manner.style()
def picture_row(pictures: Mapping[str, NDArray], *, n_columns: int = 5) -> Figure:
    """Draw grey pictures (Y, X) side by side, in rows of `n_columns`, on one grey scale; the keys are titles."""
    limits = slices.grey_range(np.stack(list(pictures.values())))
    figure, panels = _panels(len(pictures), n_columns)
    for axes, (title, picture) in zip(panels, pictures.items(), strict=True):
        axes.imshow(slices.grey_picture(picture, limits))
        axes.set_title(title)
    return figure


@manner.style()
def label_row(pictures: Mapping[str, NDArray[np.uint8]], *, n_columns: int = 5) -> Figure:
    """Draw label pictures (Y, X) side by side in the colours of the phases."""
    figure, panels = _panels(len(pictures), n_columns)
    for axes, (title, labels_yx) in zip(panels, pictures.items(), strict=True):
        slices.show_labels(axes, labels_yx, title)
    return figure


@manner.style()
def loss_overview(histories: Mapping[str, charts.History]) -> Figure:
    """Draw loss and accuracy on the test slices against the epoch, all weight settings together."""
    figure = manner.new_figure(height_mm=60)
    left, right = figure.subplots(1, 2)
    for position, (label, history) in enumerate(histories.items()):
        options = manner.setting_style(position).options() | {"label": manner.setting_name(label)}
        left.plot(history["epoch"], history["test_loss"] / history["test_loss"][0], **options)
        right.plot(history["epoch"], 100 * history["accuracy"], **options)
    left.set(xlabel="epoch", ylabel="normalised test loss", yscale="log")
    right.set(xlabel="epoch", ylabel="accuracy on the test slices (%)")
    if histories:
        right.legend(title=manner.SETTING_LEGEND_TITLE, loc="lower right")
    return figure


@manner.style()
def realism(greys: Mapping[str, NDArray], frequency: NDArray, power: NDArray) -> Figure:
    """Draw how the grey values of a scan are distributed, and the power of its noise against frequency.

    Parameters
    ----------
    greys
        Grey values of each group of voxels, e.g. "matrix" and "silicon"; each is drawn with area 1.
    frequency, power
        Cycles per voxel, and noise power in any unit; the ramp through the first quarter is drawn beside it.
    """
    figure = manner.new_figure(height_mm=60)
    left, right = figure.subplots(1, 2)
    darkest, brightest = np.percentile(np.concatenate([values.ravel() for values in greys.values()]), (0.2, 99.5))
    edges = np.linspace(darkest, brightest, 121)
    for position, (name, values) in enumerate(greys.items()):
        density, _ = np.histogram(values, edges, density=True)
        left.stairs(1e3 * density, edges / 1e3, label=name, color=GROUP_COLOURS[position], lw=1.1)
    left.set(xlabel="grey value / 1000", ylabel="share of the voxels per 1000 grey values")
    left.legend()
    low = frequency <= 0.25
    slope = (frequency[low] @ power[low]) / (frequency[low] @ frequency[low])
    right.plot(frequency, power / power.max(), "o-", color="black", ms=2.5, label="noise of the scan")
    right.plot(frequency[low], slope * frequency[low] / power.max(), "--", color="0.5", label="ramp filter")
    right.set(xlabel="frequency (cycles per voxel)", ylabel="noise power / its maximum", ylim=0)
    right.legend(loc="lower right")
    manner.panel_letters([left, right])
    return figure


def _panels(n_pictures: int, n_columns: int) -> tuple[Figure, list]:
    n_columns = min(n_columns, n_pictures)
    n_rows = -(-n_pictures // n_columns)
    figure = manner.new_figure(height_mm=n_rows * (8 + manner.DOUBLE_COLUMN_MM / n_columns))
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    return figure, panels[:n_pictures]
