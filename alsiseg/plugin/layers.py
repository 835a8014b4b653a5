"""Volumes as napari's layers, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.phases import check_labels
from alsiseg.viewer import window

if TYPE_CHECKING:
    from napari.layers import Image, Labels, Layer

LayerData = tuple[Any, dict[str, Any], str]  # data, options and kind, as napari takes layers from plugins


def voxels(layer: "Layer | None", what: str) -> Any:
    """Volume (Z, Y, X) of a layer at full resolution; whatever can be sliced.

    Raises
    ------
    ValueError
        When no layer is chosen, or it holds no volume.
    """
    if layer is None:
        raise ValueError(f"needs {what}, no such layer is open; drop a file on the window or open one with File > Open")
    volume_zyx = layer.data[0] if layer.multiscale else layer.data
    if len(volume_zyx.shape) != 3 or getattr(layer, "rgb", False):
        raise ValueError(
            f"needs {what} with three axes (z, y, x), the layer {layer.name!r} has the shape "
            f"{tuple(volume_zyx.shape)}; open a stack of grey slices"
        )
    return volume_zyx


def phases(layer: "Labels | None", what: str) -> NDArray[np.uint8]:
    """Volume (Z, Y, X) of the phases in a labels layer, in memory.

    Raises
    ------
    ValueError, TypeError
        When no layer is chosen, or it holds something else.
    """
    labels_zyx = np.asarray(voxels(layer, what))
    check_labels(labels_zyx, what)
    return labels_zyx.astype(np.uint8, copy=False)


def voxel_size_um(layer: "Layer") -> float | None:
    """Edge of the cubic voxels of a layer; None where the axes have no unit of length.

    Raises
    ------
    ValueError
        When the voxels of the layer are not cubic.
    """
    from pint import DimensionalityError

    try:
        edges_um = [
            float((scale * unit).to("um").magnitude) for scale, unit in zip(layer.scale, layer.units, strict=True)
        ]
    except DimensionalityError:
        return None
    if not np.allclose(edges_um, edges_um[0], rtol=1e-3):
        shown = ", ".join(f"{edge:g}" for edge in edges_um)
        raise ValueError(f"needs cubic voxels, those of the layer {layer.name!r} measure {shown} um; resample the scan")
    return edges_um[0]


def place(layer: "Layer") -> dict[str, Any]:
    """Where a layer lies in space, for another that covers the same volume."""
    return {
        "scale": layer.scale,
        "units": layer.units,
        "axis_labels": layer.axis_labels,
        "translate": layer.translate,
    }


def labels_over(grey: "Image", labels_zyx: NDArray[np.uint8], name: str) -> LayerData:
    """Make a layer of phases that covers a scan."""
    return labels_zyx, {"name": name, **window.phase_look(), **place(grey)}, "labels"


def check_same_shape(one: Any, other: Any, sentence: str) -> None:
    """Refuse two volumes of different shapes; the sentence says which."""
    if tuple(one.shape) != tuple(other.shape):
        raise ValueError(
            f"{sentence}, got the shapes {tuple(one.shape)} and {tuple(other.shape)}; choose two of one scan"
        )
