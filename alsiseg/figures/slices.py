"""Slices: grey pictures, labels over them, differences, scale bars."""

from collections.abc import Sequence
from typing import Any

import matplotlib.colors
import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.image import AxesImage
from matplotlib.patches import Circle, Patch, Rectangle
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import weightmaps
from alsiseg.phases import PHASE_COLOURS, PHASE_NAMES, Phase

WRONG_COLOUR = "black"
CIRCLE_COLOUR = "#e6007e"  # bright on grey, green, red and white; no phase has it


def phase_rgb() -> NDArray[np.uint8]:
    """Return the colours of the phases as an array (phase, red-green-blue), 0..255."""
    colours = [matplotlib.colors.to_rgb(PHASE_COLOURS[phase]) for phase in Phase]
    return np.round(255 * np.array(colours)).astype(np.uint8)


def grey_range(grey: NDArray) -> tuple[float, float]:
    """Darkest and brightest grey value to show: the outer 0.5 % on each side saturate."""
    low, high = np.percentile(grey, (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def grey_picture(grey_yx: NDArray, limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Turn a grey slice of any number type into a picture (Y, X, 3) of 0..255."""
    low, high = limits or grey_range(grey_yx)
    scaled = np.clip((grey_yx.astype(np.float32) - low) / (high - low), 0, 1)
    return np.repeat((255 * scaled).astype(np.uint8)[..., None], 3, axis=-1)


def labels_picture(labels_yx: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour a label slice by phase: picture (Y, X, 3) of 0..255."""
    return phase_rgb()[labels_yx]


def overlay_picture(
    grey_yx: NDArray,
    labels_yx: NDArray[np.uint8],
    alpha: float = 0.45,
    *,
    limits: tuple[float, float] | None = None,
) -> NDArray[np.uint8]:
    """Lay silicon and aluminides in their colours over the grey slice; the matrix stays grey.

    Parameters
    ----------
    grey_yx, labels_yx : array (Y, X)
    alpha : float
        Opacity of the colours, 0 (grey only) to 1 (colours only).
    limits : two floats, optional
        Grey values shown black and white; `grey_range` of the slice when absent.

    Returns
    -------
    uint8 array (Y, X, 3)
    """
    picture = grey_picture(grey_yx, limits).astype(np.float32)
    share = np.where(labels_yx == Phase.MATRIX, 0.0, alpha).astype(np.float32)[..., None]
    return np.round((1 - share) * picture + share * labels_picture(labels_yx)).astype(np.uint8)


def difference_picture(labels_yx: NDArray[np.uint8], other_yx: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pale phases of `other_yx` (the truth) with every pixel where `labels_yx` differs in black."""
    pale = 255 - (255 - labels_picture(other_yx).astype(np.float32)) * 0.3
    pale[labels_yx != other_yx] = 255 * np.array(matplotlib.colors.to_rgb(WRONG_COLOUR))
    return np.round(pale).astype(np.uint8)


def colour_picture(values_yx: NDArray, low: float, high: float, colour_map: str = "viridis") -> NDArray[np.uint8]:
    """Colour values between `low` and `high`: picture (Y, X, 3) of 0..255."""
    scaled = (values_yx - low) / max(high - low, 1e-12)
    return matplotlib.colormaps[colour_map](scaled, bytes=True)[..., :3]


def show_picture(axes: Axes, picture: NDArray, title: str = "", **options: Any) -> AxesImage:
    """Show a picture without ticks; `options` go to ``Axes.imshow``."""
    image = axes.imshow(picture, **options)
    axes.set(xticks=[], yticks=[], title=title)
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.5)
    return image


def show_grey(axes: Axes, grey_yx: NDArray, title: str = "", *, limits: tuple[float, float] | None = None) -> Axes:
    """Show a grey slice (Y, X), the outer half per cent of grey values saturated."""
    show_picture(axes, grey_picture(grey_yx, limits), title)
    return axes


def show_labels(axes: Axes, labels_yx: NDArray[np.uint8], title: str = "") -> Axes:
    """Show a label slice (Y, X) in the colours of the phases."""
    show_picture(axes, labels_picture(labels_yx), title)
    return axes


def overlay(axes: Axes, grey_yx: NDArray, labels_yx: NDArray[np.uint8], alpha: float = 0.45, title: str = "") -> Axes:
    """Show a grey slice with silicon and aluminides in colour over it; see `overlay_picture`."""
    show_picture(axes, overlay_picture(grey_yx, labels_yx, alpha), title)
    return axes


def show_difference(axes: Axes, labels_yx: NDArray[np.uint8], truth_yx: NDArray[np.uint8], title: str = "") -> Axes:
    """Show where labels and truth differ: wrong pixels black over the pale phases of the truth."""
    show_picture(axes, difference_picture(labels_yx, truth_yx), title)
    return axes


def phase_legend(
    place: Axes | FigureBase,
    phases: Sequence[Phase] = tuple(Phase),
    *,
    wrong: bool = False,
    **options: Any,
) -> None:
    """Name the colours of the phases on axes or a figure; `wrong` adds the colour of wrong pixels."""
    patches = [Patch(facecolor=PHASE_COLOURS[p], edgecolor="0.3", lw=0.4, label=PHASE_NAMES[p]) for p in phases]
    if wrong:
        patches.append(Patch(facecolor=WRONG_COLOUR, label="wrong"))
    place.legend(handles=patches, handlelength=1.0, handleheight=1.0, **options)


def nice_length(longest: float) -> float:
    """Find the largest of 1, 2, 5 times a power of ten that is not longer than `longest`."""
    power = 10.0 ** np.floor(np.log10(longest))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9)))


def scale_bar(axes: Axes, voxel_size_um: float | None, *, share: float = 0.32) -> Axes:
    """Draw a scale bar at the lower right of a slice already shown.

    Parameters
    ----------
    axes : Axes
        Holds an image whose pixels are voxels.
    voxel_size_um : float or None
        Edge of a voxel in micrometres. When unknown the bar is in pixels, and says so.
    share : float
        Longest share of the width of the picture the bar may take.
    """
    x_left, x_right = sorted(axes.get_xlim())
    y_low, y_high = sorted(axes.get_ylim())
    width, height = x_right - x_left, y_high - y_low
    pixel_um = voxel_size_um or 1.0
    length = nice_length(max(share * width * pixel_um, pixel_um))
    bar_width, margin = length / pixel_um, 0.04 * max(width, height)
    thickness = 0.018 * max(width, height)
    bar = Rectangle(
        (x_right - margin - bar_width, y_high - margin - thickness),
        bar_width,
        thickness,
        facecolor="white",
        edgecolor="black",
        linewidth=0.5,
        zorder=5,
    )
    axes.add_patch(bar)
    unit = "µm" if voxel_size_um else "pixels"
    short = bar_width < 0.25 * width  # the text is wider: keep it inside
    axes.annotate(
        f"{length:g} {unit}",
        xy=(x_right - margin - (0 if short else bar_width / 2), y_high - margin - thickness),
        xytext=(0, 1.5),
        textcoords="offset points",
        ha="right" if short else "center",
        va="bottom",
        color="white",
        fontsize=6.5,
        fontweight="bold",
        zorder=6,
        path_effects=[matplotlib.patheffects.withStroke(linewidth=1.4, foreground="black")],
    )
    return axes


def wrong_interfaces(
    prediction_yx: NDArray[np.uint8], truth_yx: NDArray[np.uint8], *, n_places: int = 3, radius: float = 10.0
) -> list[tuple[float, float]]:
    """Places on the silicon-aluminide interface of the truth where a prediction is most wrong.

    Wrong pixels inside the interface band (Output 2 of Fig. 3) are counted in a Gaussian window of the size
    of a circle; the worst place is taken, the errors within two radii of it are left out, and so on. Circles
    lie inside the slice.

    Parameters
    ----------
    prediction_yx, truth_yx : uint8 array (Y, X)
    n_places : int
        At most this many places; fewer when fewer pixels are wrong.
    radius : float
        Radius of a circle in pixels; places lie at least two radii apart.

    Returns
    -------
    list of (row, column)
        The worst first; empty when no interface pixel is wrong.
    """
    wrong = (prediction_yx != truth_yx) & weightmaps.interface_mask(truth_yx)
    rows, columns = np.indices(wrong.shape)
    from_edge = np.minimum(np.minimum(rows, rows[::-1]), np.minimum(columns, columns[:, ::-1]))
    inside = from_edge >= min(radius, from_edge.max())
    places: list[tuple[float, float]] = []
    while len(places) < n_places:
        density = ndimage.gaussian_filter(wrong.astype(np.float64), radius / 2) * inside
        if density.max() <= 0:
            break
        row, column = np.unravel_index(int(np.argmax(density)), density.shape)
        places.append((float(row), float(column)))
        wrong &= np.hypot(rows - row, columns - column) > 2 * radius
    return places


def circle_places(axes: Axes, places: Sequence[tuple[float, float]], *, radius: float = 10.0) -> Axes:
    """Draw a circle of `radius` pixels round each (row, column)."""
    for row, column in places:
        axes.add_patch(Circle((column, row), radius, fill=False, edgecolor=CIRCLE_COLOUR, linewidth=1.1))
    return axes
