"""A grey volume with the labels that belong to it, drawn slice by slice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from alsiseg import figures
from alsiseg.phases import check_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Plane = Literal["xy", "xz", "yz"]
PLANE_AXES: dict[Plane, int] = {"xy": 0, "xz": 1, "yz": 2}  # the axis of z, y, x that a slider walks along
LABELS = ("truth", "prediction")
LAYERS = ("input", *LABELS, "difference")


class Sliceable(Protocol):
    """An array, or anything with a shape that gives arrays when indexed, e.g. `volumes.Volume`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Slices, rows, columns."""

    def __getitem__(self, key: Any) -> NDArray:
        """Read a part."""


@dataclass(frozen=True)
class Stack:
    """A grey volume with the label volumes that belong to it, all (Z, Y, X)."""

    grey: Sliceable
    labels: Mapping[str, Sliceable]
    limits: tuple[float, float]

    @classmethod
    def of(cls, grey: Sliceable, truth: Sliceable | None, prediction: Sliceable | None) -> "Stack":
        """Check the shapes and choose the grey values shown black and white from the middle slice.

        Raises
        ------
        ValueError
            When the grey volume is not (z, y, x) or labels have another shape.
        """
        if len(grey.shape) != 3:
            raise ValueError(f"the viewer needs a grey volume (z, y, x), got shape {grey.shape}; give a stack")
        given = {"truth": truth, "prediction": prediction}
        labels = {name: volume for name, volume in given.items() if volume is not None}
        for name, volume in labels.items():
            if volume.shape != grey.shape:
                raise ValueError(
                    f"the {name} must have the shape of the grey volume {grey.shape}, got {volume.shape}; "
                    "cut both to the same region"
                )
        return cls(grey, labels, figures.grey_range(np.asarray(grey[grey.shape[0] // 2])))

    @property
    def layers(self) -> list[str]:
        """What can be shown: the input, the labels given, and their difference when there are both."""
        return [n for n in LAYERS if n == "input" or n in self.labels or len(self.labels) == 2]

    def picture(self, layer: str, z: int, alpha: float) -> NDArray[np.uint8]:
        """Draw slice `z`: grey, labels of opacity `alpha` over it, or the difference of the labels."""
        if layer == "difference":
            return figures.difference_picture(*(np.asarray(self.labels[name][z]) for name in ("prediction", "truth")))
        grey_yx = np.asarray(self.grey[z])
        if layer == "input":
            return figures.grey_picture(grey_yx, self.limits)
        labels_yx = np.asarray(self.labels[layer][z])
        check_labels(labels_yx, layer)
        return figures.overlay_picture(grey_yx, labels_yx, alpha, limits=self.limits)

    def agreement(self, z: int) -> str:
        """Say how many pixels of slice `z` agree, when there are truth and prediction."""
        if len(self.labels) < 2:
            return ""
        prediction, truth = (np.asarray(self.labels[name][z]) for name in ("prediction", "truth"))
        return f"{100 * float(np.mean(prediction == truth)):.2f} % of the pixels agree"


def still(
    grey: Sliceable,
    *,
    truth: Sliceable | None = None,
    prediction: Sliceable | None = None,
    z: int | None = None,
    voxel_size_um: float | None = None,
    alpha: float = 0.5,
) -> "Figure":
    """Draw one slice: the input, the labels over it, and the difference when there are two.

    Parameters
    ----------
    grey, truth, prediction : volume (Z, Y, X)
        Arrays or `volumes.Volume`; labels are 0 matrix, 1 silicon, 2 aluminide.
    z : int, optional
        Slice to show; the middle one when absent.
    voxel_size_um : float, optional
        For the scale bar; pixels when unknown.
    alpha : float
        Opacity of the labels, 0..1.

    Returns
    -------
    Figure
        In the journal's manner; single column for one or two pictures, else double.

    Raises
    ------
    ValueError, TypeError
        When shapes differ, there is no slice `z`, or the labels are not labels.
    """
    stack = Stack.of(grey, truth, prediction)
    n_slices = grey.shape[0]
    z = n_slices // 2 if z is None else z
    if not 0 <= z < n_slices:
        raise ValueError(f"slice z must be 0 to {n_slices - 1}, got {z}")
    with figures.style():
        figure = row_of_pictures(len(stack.layers), grey.shape[1] / grey.shape[2])
        for axes, layer in zip(figure.axes, stack.layers, strict=True):
            figures.show_picture(axes, stack.picture(layer, z, alpha), layer)
        figures.scale_bar(figure.axes[0], voxel_size_um)
        figure.axes[0].set_xlabel(f"slice {z + 1} of {n_slices}")
        if len(stack.labels) == 2:
            figure.axes[-1].set_xlabel(stack.agreement(z))
        if stack.labels:
            figures.phase_legend(
                figure,
                wrong="difference" in stack.layers,
                loc="outside lower center",
                ncols=4,
            )
    return figure


def row_of_pictures(n_pictures: int, aspect: float) -> "Figure":
    """Open a figure with pictures side by side, single or double column."""
    width_mm = figures.SINGLE_COLUMN_MM if n_pictures <= 2 else figures.DOUBLE_COLUMN_MM
    height_mm = min(160.0, aspect * width_mm / n_pictures + 22)
    figure = figures.new_figure(width_mm=width_mm, height_mm=height_mm)
    figure.subplots(1, n_pictures)
    return figure
