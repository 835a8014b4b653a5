"""What a notebook shows: a still picture that needs no browser, and over it a widget where one can be had."""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import figures
from alsiseg.phases import Phase
from alsiseg.viewer.stack import Sliceable, Stack, row_of_pictures, still
from alsiseg.weightmaps import PixelWeights, weight_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from alsiseg.viewer.widgets import Compare, Thresholds, Weights

NEEDS_WIDGETS = (
    "The controls need anywidget, which is not installed here; the picture above shows what they start with. "
    'To have them: pip install "alsiseg[notebooks]"'
)

# Beside the still picture of a widget. Opened again without a kernel, a saved notebook holds no widget, and JupyterLab
# writes "Error displaying widget: model not found" in its place: the style hides that, the sentence says what to do.
NOTE = (
    '<p class="alsiseg-note">Run this cell to have the controls of this picture.</p>'
    "<style>.jp-OutputArea-child:has(.alsiseg-note) + .jp-OutputArea-child:has(> .jp-OutputArea-output.jupyter-widgets)"
    " { display: none; }</style>"
)


def compare(
    grey_zyx: Sliceable,
    *,
    truth: Sliceable | None = None,
    prediction: Sliceable | None = None,
    voxel_size_um: float | None = None,
) -> "Compare | None":
    """Step through a volume in a notebook with truth and prediction over it.

    Leaves the still picture of the middle slice, and over it, while a browser and a kernel are there, the slices
    with slider and keyboard: planes, layers side by side (difference included when truth and prediction are
    given), phases, opacity, grey window, zoom, and what lies under the cursor. Only the slices shown are read;
    those along y and x of a file need a walk through it, of which as much is kept as memory allows.

    Parameters
    ----------
    grey_zyx, truth, prediction : volume (Z, Y, X)
        Arrays or `volumes.Volume`, of any size.
    voxel_size_um : float, optional
        For scale bar and positions; that of the volume, when it knows one, else pixels.

    Returns
    -------
    Compare or None
        Shown by Jupyter as the last line of a cell; its attributes (plane, z, y, x, layers, phases, opacity,
        window) follow the browser and move it. None, with a sentence, when anywidget is missing.

    Raises
    ------
    ValueError, TypeError
        When shapes differ or labels are not labels.
    """
    stack = Stack.of(grey_zyx, truth, prediction)
    voxel_size_um = voxel_size_um or getattr(grey_zyx, "voxel_size_um", None)
    widgets = _shown(still(grey_zyx, truth=truth, prediction=prediction, voxel_size_um=voxel_size_um))
    return None if widgets is None else widgets.Compare(stack, voxel_size_um=voxel_size_um)


def weights(labels_yx: NDArray[np.uint8], *, start: PixelWeights | None = None) -> "Weights | None":
    """Turn the weights of the loss in a notebook and see the map redrawn at once.

    Parameters
    ----------
    labels_yx : uint8 array (Y, X)
        The target; the map is that of Fig. 3.
    start : PixelWeights, optional
        (1, 1.25, 1.5) when absent.

    Returns
    -------
    Weights or None
        Its attribute `weights` is the setting chosen. None, with a sentence, when anywidget is missing. A still
        picture is left in any case.

    Raises
    ------
    ValueError, TypeError
        When the labels are not one slice of labels.
    """
    if labels_yx.ndim != 2:
        raise ValueError(f"the weight map needs one slice (y, x) of labels, got shape {labels_yx.shape}; give one")
    start = start or PixelWeights()
    with figures.style():
        figure = row_of_pictures(2, labels_yx.shape[0] / labels_yx.shape[1] * 1.15)
        figures.show_weights(figure.axes[1], weight_map(labels_yx, start), "weights")
        figures.show_labels(figure.axes[0], labels_yx, "target")
    widgets = _shown(figure)
    return None if widgets is None else widgets.Weights(labels_yx, start)


def thresholds(
    scan_yx: NDArray,
    *,
    low: float | None = None,
    high: float | None = None,
    phase: Phase = Phase.SILICON,
) -> "Thresholds | None":
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
    Thresholds or None
        Its attributes `low` and `high` are the thresholds chosen, `marked_yx` the pixels between them. None, with
        a sentence, when anywidget is missing. A still picture is left in any case.

    Raises
    ------
    ValueError
        When the scan is not one slice.
    """
    if scan_yx.ndim != 2:
        raise ValueError(f"thresholds need one slice (y, x) of a scan, got shape {scan_yx.shape}; give one")
    low = float(np.mean(figures.grey_range(scan_yx))) if low is None else float(low)
    high = float(scan_yx.max()) if high is None else float(high)
    chosen = (scan_yx >= low) & (scan_yx <= high)
    labels_yx = np.where(chosen, phase, Phase.MATRIX).astype(np.uint8)
    with figures.style():
        figure = row_of_pictures(2, scan_yx.shape[0] / scan_yx.shape[1])
        figures.show_grey(figure.axes[0], scan_yx, "scan")
        marked = figures.overlay_picture(scan_yx, labels_yx, 0.6)
        figures.show_picture(figure.axes[1], marked, f"grey {low:.4g} to {high:.4g}")
    widgets = _shown(figure)
    return None if widgets is None else widgets.Thresholds(scan_yx, low, high, phase)


def _shown(figure: "Figure") -> Any:
    """Show a still picture; return the module of the widgets, or None, with a sentence, when anywidget is missing."""
    try:
        import anywidget  # noqa: F401
    except ImportError:
        _display(figure)
        print(NEEDS_WIDGETS)
        return None
    from alsiseg.viewer import widgets

    _display(figure, NOTE)
    return widgets


def in_notebook() -> bool:
    """Whether a notebook, or another IPython, runs this."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def _display(figure: "Figure", note: str = "") -> None:
    """Show a figure and a note in the notebook that runs this; elsewhere do nothing."""
    if in_notebook():
        from IPython.display import HTML, display

        figures.show_in_notebooks()
        display(figure)
        if note:
            display(HTML(note))
