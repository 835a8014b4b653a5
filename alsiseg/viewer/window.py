"""A napari window with a scan and its labels; napari and Qt are loaded only here."""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.phases import PHASE_COLOURS, PHASE_NAMES, Phase, check_labels
from alsiseg.viewer.stack import Sliceable

if TYPE_CHECKING:
    import napari


def open_napari(
    grey_zyx: Sliceable,
    labels: Mapping[str, NDArray[np.uint8]],
    *,
    voxel_size_um: float | None = None,
    show: bool = True,
) -> "napari.Viewer":
    """Open a napari window with a grey volume and label volumes over it, and return it.

    Parameters
    ----------
    grey_zyx : volume (Z, Y, X)
    labels : mapping from a name to a uint8 volume (Z, Y, X)
        Drawn in the colours of the phases; the name of the phase under the cursor is in the status line.
    voxel_size_um : float, optional
        Sets scale and unit of the axes; pixels when unknown.
    show : bool
        Whether the window is shown at once. The event loop is not started; see `show_napari`.

    Raises
    ------
    ImportError
        When napari is not installed.
    ValueError
        When labels have another shape than the grey volume.
    """
    try:
        import napari
        from napari.utils.colormaps import DirectLabelColormap
    except ImportError as error:
        message = 'this needs napari, which is not installed here; pip install "alsiseg[viewer]"'
        raise ImportError(message) from error
    for name, volume in labels.items():
        check_labels(volume, name)
        if volume.shape != grey_zyx.shape:
            raise ValueError(
                f"{name} must have the shape of the grey volume {grey_zyx.shape}, got {volume.shape}; "
                "give labels of the same scan"
            )
    space = {
        "scale": (voxel_size_um or 1.0,) * 3,
        "units": ("um" if voxel_size_um else "pixel",) * 3,
        "axis_labels": ("z", "y", "x"),
    }
    window = napari.Viewer(title="alsiseg", show=show)
    window.add_image(grey_zyx, name="grey", colormap="gray", **space)
    colours: dict[int | None, Any] = {phase.value: PHASE_COLOURS[phase] for phase in Phase}
    colours |= {Phase.MATRIX.value: "transparent", None: "transparent"}
    for name, volume in labels.items():
        layer = window.add_labels(volume, name=name, opacity=0.5, **space)
        layer.colormap = DirectLabelColormap(color_dict=colours)
        layer.features = {"index": [p.value for p in Phase], "phase": [PHASE_NAMES[p] for p in Phase]}
    overlays = getattr(getattr(window, "canvas", None), "overlays", window)  # their place before napari 0.9
    overlays.scale_bar.visible = True
    return window


def show_napari(
    grey_zyx: Sliceable, labels: Mapping[str, NDArray[np.uint8]], *, voxel_size_um: float | None = None
) -> None:
    """Open a napari window as `open_napari` does and wait until it is closed.

    Raises
    ------
    OSError
        When there is no screen to open a window on.
    """
    screen = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"))
    if sys.platform.startswith("linux") and not screen:
        raise OSError(
            "napari needs a screen, found neither DISPLAY nor WAYLAND_DISPLAY; run this in a desktop session, "
            "or use viewer.compare in a notebook"
        )
    open_napari(grey_zyx, labels, voxel_size_um=voxel_size_um)
    import napari

    napari.run()
