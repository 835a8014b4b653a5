"""Small pictures for the notebooks, beside the figures of the paper."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alsiseg.figures import charts, manner, slices


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
    right.legend(title=manner.SETTING_LEGEND_TITLE, loc="lower right")
    return figure


def _panels(n_pictures: int, n_columns: int) -> tuple[Figure, list]:
    n_columns = min(n_columns, n_pictures)
    n_rows = -(-n_pictures // n_columns)
    figure = manner.new_figure(height_mm=n_rows * (8 + manner.DOUBLE_COLUMN_MM / n_columns))
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for axes in panels:
        axes.set_axis_off()
    return figure, panels[:n_pictures]
