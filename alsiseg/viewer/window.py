"""A napari window with a scan and its labels; napari and Qt are loaded only here."""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from alsiseg import figures
from alsiseg.phases import PHASE_COLOURS, PHASE_NAMES, Phase, check_labels
from alsiseg.viewer.lazily import resolutions
from alsiseg.viewer.stack import Sliceable

if TYPE_CHECKING:
    import napari

OPACITY = 0.5
LEGEND = "\n".join(
    f"{colour}: {PHASE_NAMES[phase]}" for colour, phase in (("green", Phase.SILICON), ("red", Phase.ALUMINIDE))
)


def open_napari(
    grey_zyx: Sliceable,
    labels: Mapping[str, Sliceable],
    *,
    voxel_size_um: float | None = None,
    show: bool = True,
) -> "napari.Viewer":
    """Open a napari window with a grey volume and label volumes over it, and return it.

    Nothing is loaded whole: of a `volumes.Volume` the slice on the screen is read, and of more than 512 x 512 x 512
    voxels several resolutions are shown, those of the file in an OME-Zarr. Labels in memory up to that size can be
    painted on.

    Parameters
    ----------
    grey_zyx : volume (Z, Y, X)
        An array or an opened `volumes.Volume`.
    labels : mapping from a name to a volume (Z, Y, X) of phases
        Drawn in the colours of the phases; the name of the phase under the cursor is in the status line.
    voxel_size_um : float, optional
        Sets scale and unit of the axes; that of the volume unless given, pixels when unknown.
    show : bool
        Whether the window is shown at once. The event loop is not started; see `show_napari`.

    Raises
    ------
    ImportError
        When napari is not installed.
    ValueError, TypeError
        When labels have another shape than the grey volume, or hold other values than phases.
    """
    try:
        import napari
    except ImportError as error:
        message = 'this needs napari, which is not installed here; pip install "alsiseg[viewer]"'
        raise ImportError(message) from error
    for name, volume in labels.items():
        if tuple(volume.shape) != tuple(grey_zyx.shape):
            raise ValueError(
                f"{name} must have the shape of the grey volume {grey_zyx.shape}, got {volume.shape}; "
                "give labels of the same scan"
            )
        check_slice(volume, name)
    size_um = voxel_size_um or getattr(grey_zyx, "voxel_size_um", None)
    window = napari.Viewer(title="alsiseg", show=show)
    data, keywords = grey_layer(grey_zyx, voxel_size_um=size_um)
    window.add_image(data, **keywords)
    for name, volume in labels.items():
        data, keywords = labels_layer(volume, name, voxel_size_um=size_um)
        window.add_labels(data, **keywords)
    show_scale(window, legend=bool(labels))
    return window


def show_scale(window: "napari.Viewer", *, legend: bool) -> None:
    """Show the scale bar, and which colour is which phase."""
    overlays = getattr(getattr(window, "canvas", None), "overlays", None)  # their place since napari 0.9
    scale_bar, text = (
        (window.scale_bar, window.text_overlay) if overlays is None else (overlays.scale_bar, overlays.text)
    )
    scale_bar.visible = True
    text.text, text.visible = LEGEND, legend


def check_slice(labels_zyx: Sliceable, name: str) -> None:
    """Refuse a volume that does not hold phases, by its middle slice."""
    check_labels(np.asarray(labels_zyx[labels_zyx.shape[0] // 2]), name)


def space(voxel_size_um: float | None) -> dict[str, Any]:
    """Scale, units and names of the axes, as napari's layers take them."""
    return {
        "scale": (voxel_size_um or 1.0,) * 3,
        "units": ("um" if voxel_size_um else "pixel",) * 3,
        "axis_labels": ("z", "y", "x"),
    }


def grey_layer(
    grey_zyx: Sliceable, *, name: str = "grey", voxel_size_um: float | None = None
) -> tuple[Any, dict[str, Any]]:
    """Data and options of napari's image layer for a grey volume (Z, Y, X).

    Black and white are those of the middle slice, so that a large volume need not be searched for them.
    """
    levels = resolutions(grey_zyx)
    low, high = figures.grey_range(np.asarray(grey_zyx[grey_zyx.shape[0] // 2]))
    options = {"name": name, "colormap": "gray", "contrast_limits": (low, high if high > low else low + 1)}
    return _data(levels), {**options, "multiscale": len(levels) > 1, **space(voxel_size_um)}


def labels_layer(labels_zyx: Sliceable, name: str, *, voxel_size_um: float | None = None) -> tuple[Any, dict[str, Any]]:
    """Data and options of napari's labels layer for a volume (Z, Y, X) of phases, in their colours and names."""
    levels = resolutions(labels_zyx)
    return _data(levels), {
        "name": name,
        "multiscale": len(levels) > 1,
        **phase_look(),
        **space(voxel_size_um),
    }


def phase_look() -> dict[str, Any]:
    """Colours and names of the phases, as napari's labels layers take them; the matrix is clear."""
    from napari.utils.colormaps import DirectLabelColormap

    colours: dict[int | None, Any] = {phase.value: PHASE_COLOURS[phase] for phase in Phase}
    colours |= {Phase.MATRIX.value: "transparent", None: "transparent"}
    return {
        "opacity": OPACITY,
        "colormap": DirectLabelColormap(color_dict=colours),
        "features": {"index": [p.value for p in Phase], "phase": [PHASE_NAMES[p] for p in Phase]},
    }


def _data(levels: list[Any]) -> Any:  # one array, or a list of them, as napari wants it
    return levels if len(levels) > 1 else levels[0]


def show_napari(grey_zyx: Sliceable, labels: Mapping[str, Sliceable], *, voxel_size_um: float | None = None) -> None:
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
