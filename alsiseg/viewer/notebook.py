"""Sliders in a notebook, and beside them a still picture that needs no browser."""

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import figures
from alsiseg.phases import Phase
from alsiseg.viewer.stack import PLANE_AXES, Sliceable, Stack, row_of_pictures, still
from alsiseg.weightmaps import PixelWeights, weight_map

if TYPE_CHECKING:
    import ipywidgets
    from matplotlib.figure import Figure

PICTURE_PX = 480  # smallest width of a picture in a notebook
NEEDS_WIDGETS = (
    "The sliders need ipywidgets, which is not installed here; the picture above shows one slice. "
    'To have them: pip install "alsiseg[notebooks]"'
)


def compare(
    grey_zyx: Sliceable,
    *,
    truth: Sliceable | None = None,
    prediction: Sliceable | None = None,
    voxel_size_um: float | None = None,
) -> "ipywidgets.VBox | None":
    """Step through a volume in a notebook with truth and prediction over it.

    Shows the still picture of the middle slice, then gives sliders for slice, plane, opacity and layer
    (difference included when truth and prediction are given).

    Parameters
    ----------
    grey_zyx, truth, prediction : volume (Z, Y, X)
        Arrays or `volumes.Volume`. Slices along z are read one at a time.
    voxel_size_um : float, optional
        For the scale bar of the still picture.

    Returns
    -------
    ipywidgets.VBox or None
        Shown by Jupyter as the last line of a cell; None, with a sentence, when ipywidgets is missing.
    """
    stack = Stack.of(grey_zyx, truth, prediction)
    _display(still(grey_zyx, truth=truth, prediction=prediction, voxel_size_um=voxel_size_um))
    widgets = _widgets()
    if widgets is None:
        return None
    layer = widgets.ToggleButtons(options=stack.layers, value=stack.layers[-1], description="show")
    plane = widgets.ToggleButtons(options=list(PLANE_AXES), value="xy", description="plane")
    index = widgets.IntSlider(grey_zyx.shape[0] // 2, 0, grey_zyx.shape[0] - 1, description="slice")
    opacity = widgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.05, description="opacity")
    picture, words = widgets.Image(format="png"), widgets.Label()

    def redraw(_change: object = None) -> None:
        shown = stack.picture(layer.value, plane.value, index.value, opacity.value)
        picture.value = _png(shown)
        words.value = stack.agreement(plane.value, index.value)

    def turn(_change: object) -> None:
        n_slices = grey_zyx.shape[PLANE_AXES[plane.value]]
        index.max, index.value = n_slices - 1, n_slices // 2
        redraw()

    plane.observe(turn, "value")
    _redraw_on_change(redraw, layer, index, opacity)
    return widgets.VBox([layer, plane, index, opacity, picture, words])


def weights(labels_yx: NDArray[np.uint8], *, start: PixelWeights | None = None) -> "ipywidgets.VBox | None":
    """Turn the weights of silicon and interface in a notebook and see the map redrawn.

    Parameters
    ----------
    labels_yx : uint8 array (Y, X)
        The target; the map is that of Fig. 3.
    start : PixelWeights, optional
        (1, 1.25, 1.5) when absent.

    Returns
    -------
    ipywidgets.VBox or None
        None, with a sentence, when ipywidgets is missing. A still picture is shown in any case.
    """
    start = start or PixelWeights()
    with figures.style():
        figure = row_of_pictures(2, labels_yx.shape[0] / labels_yx.shape[1] * 1.15)
        figures.show_labels(figure.axes[0], labels_yx, "target")
        figures.show_weights(figure.axes[1], weight_map(labels_yx, start), "weights")
    _display(figure)
    widgets = _widgets()
    if widgets is None:
        return None
    silicon = widgets.FloatSlider(start.silicon, min=1.0, max=2.0, step=0.05, description="silicon")
    interface = widgets.FloatSlider(start.interface, min=1.0, max=2.0, step=0.05, description="interface")
    picture, words = widgets.Image(format="png"), widgets.Label()

    def redraw(_change: object = None) -> None:
        chosen = PixelWeights(start.matrix, silicon.value, interface.value)
        weight_yx = weight_map(labels_yx, chosen)
        picture.value = _png(figures.colour_picture(weight_yx, 1.0, 2.0))
        words.value = f"dark 1, bright 2; mean weight {float(weight_yx.mean()):.3f}"

    _redraw_on_change(redraw, silicon, interface)
    return widgets.VBox([silicon, interface, picture, words])


def thresholds(
    scan_yx: NDArray,
    *,
    low: float | None = None,
    high: float | None = None,
    phase: Phase = Phase.SILICON,
) -> "ipywidgets.VBox | None":
    """Move two grey-value thresholds in a notebook and see which pixels lie between them.

    Parameters
    ----------
    scan_yx : array (Y, X)
        One slice of a scan.
    low, high : float, optional
        Where the thresholds start: pixels with low <= grey <= high are marked. The upper half of the grey range
        when absent.
    phase : Phase
        Its colour marks the pixels.

    Returns
    -------
    ipywidgets.VBox or None
        None, with a sentence, when ipywidgets is missing. A still picture is shown in any case.
    """
    darkest, brightest = float(scan_yx.min()), float(scan_yx.max())
    low = float(np.mean(figures.grey_range(scan_yx))) if low is None else low
    high = brightest if high is None else high

    def marked(between: tuple[float, float]) -> NDArray[np.uint8]:
        chosen = (scan_yx >= between[0]) & (scan_yx <= between[1])
        labels_yx = np.where(chosen, phase, Phase.MATRIX).astype(np.uint8)
        return figures.overlay_picture(scan_yx, labels_yx, 0.6)

    with figures.style():
        figure = row_of_pictures(2, scan_yx.shape[0] / scan_yx.shape[1])
        figures.show_grey(figure.axes[0], scan_yx, "scan")
        figures.show_picture(figure.axes[1], marked((low, high)), f"grey {low:.0f} to {high:.0f}")
    _display(figure)
    widgets = _widgets()
    if widgets is None:
        return None
    between = widgets.FloatRangeSlider(
        value=(low, high), min=darkest, max=brightest, step=(brightest - darkest) / 500, description="grey"
    )
    picture = widgets.Image(format="png")

    def redraw(_change: object = None) -> None:
        picture.value = _png(marked(between.value))

    _redraw_on_change(redraw, between)
    return widgets.VBox([between, picture])


def _widgets() -> Any:
    """Return the module ipywidgets; None, with a sentence, when it is missing."""
    try:
        import ipywidgets
    except ImportError:
        print(NEEDS_WIDGETS)
        return None
    return ipywidgets


def _redraw_on_change(redraw: Callable[..., None], *controls: Any) -> None:
    """Draw now and whenever one of the controls moves."""
    for control in controls:
        control.observe(redraw, "value")
    redraw()


def in_notebook() -> bool:
    """Whether a notebook, or another IPython, runs this."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _display(figure: "Figure") -> None:
    """Show a figure in the notebook that runs this; elsewhere do nothing."""
    if in_notebook():
        from IPython.display import display

        figures.show_in_notebooks()
        display(figure)


def _png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture, small ones enlarged by a whole factor so that pixels stay square."""
    from PIL import Image

    factor = max(1, round(PICTURE_PX / picture.shape[1]))
    large = picture.repeat(factor, axis=0).repeat(factor, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(large).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
