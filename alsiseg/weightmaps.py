"""The pixel-wise weights of the loss: silicon and silicon-aluminide interfaces count more (Fig. 3).

Windows lie in the slice plane, as in the paper: a stack is weighted slice by slice. Make the map
of the whole slice and crop it afterwards; a crop must not change a weight at its border.
"""

import math
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from alsiseg.phases import Phase, check_labels

Mark = TypeVar("Mark", np.uint8, np.bool_)


@dataclass(frozen=True)
class PixelWeights:
    """Weights of the three kinds of pixel; the default is the paper's best setting.

    Attributes
    ----------
    matrix
        omega_0: neither silicon nor interface, so also aluminide away from silicon.
    silicon
        omega_Si: silicon away from aluminides.
    interface
        omega_Int: every pixel of a 3 x 3 window that holds both; wins over silicon.
    """

    matrix: float = 1.0
    silicon: float = 1.25
    interface: float = 1.5

    def __post_init__(self) -> None:
        for field in fields(self):
            weight = getattr(self, field.name)
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(
                    f"the {field.name} weight must be a finite number above 0, got {weight}; "
                    "the paper uses 1.0 to 1.5, and 1, 1, 1 means no weights"
                )

    def __str__(self) -> str:
        """Write the setting as in the figures, e.g. "1, 1.25, 1.5"."""
        return f"{self.matrix:g}, {self.silicon:g}, {self.interface:g}"


# The three settings compared in the paper (end of section Pixel-wise weighted loss function).
PUBLISHED_SETTINGS = (PixelWeights(1.0, 1.0, 1.0), PixelWeights(1.0, 1.15, 1.2), PixelWeights(1.0, 1.25, 1.5))


def silicon_mask(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark silicon: Output 1 of Fig. 3, the window of one pixel.

    Parameters
    ----------
    labels
        One slice (Y, X) or a stack (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide.

    Raises
    ------
    TypeError, ValueError
        When the labels are not such a slice or stack.
    """
    _check(labels)
    return labels == Phase.SILICON


def interface_mask(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark every pixel of every 3 x 3 window holding both silicon and aluminide: Output 2 of Fig. 3.

    From 3 x 3 pixels up, windows cut by the border of the slice and windows kept inside it give
    the same mask.

    Parameters
    ----------
    labels
        One slice (Y, X) or a stack (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide.

    Raises
    ------
    TypeError, ValueError
        When the labels are not such a slice or stack.
    """
    _check(labels)
    mask_zyx = np.empty(_as_stack(labels).shape, dtype=bool)
    for labels_yx, mask_yx in zip(_as_stack(labels), mask_zyx, strict=True):
        mask_yx[...] = _interface(labels_yx)
    return mask_zyx.reshape(labels.shape)


def weight_map(labels: NDArray[np.uint8], weights: PixelWeights | None = None) -> NDArray[np.float32]:
    """Weight of every pixel in the loss, float32 of the same shape (Fig. 3, the final image).

    Parameters
    ----------
    labels
        One slice (Y, X) or a stack (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide.
    weights
        `PixelWeights()`, the paper's best setting, unless given.

    Raises
    ------
    TypeError, ValueError
        When the labels are not such a slice or stack.
    """
    _check(labels)
    weights = weights or PixelWeights()
    weight_zyx = np.full(_as_stack(labels).shape, weights.matrix, dtype=np.float32)
    for labels_yx, weight_yx in zip(_as_stack(labels), weight_zyx, strict=True):
        np.copyto(weight_yx, weights.silicon, where=labels_yx == Phase.SILICON)
        np.copyto(weight_yx, weights.interface, where=_interface(labels_yx))  # wins over silicon
    return weight_zyx.reshape(labels.shape)


def busiest_window(labels_zyx: NDArray[np.uint8], size_px: int) -> tuple[int, slice, slice]:
    """Find the square window with the most interface pixels: where weights show best (Figs. 3 and 4 b).

    Returns
    -------
    z : int
    rows, columns : slice
        Of `size_px` pixels each, or of the whole slice where that is smaller.
    """
    interface_zyx = interface_mask(labels_zyx)
    z = int(interface_zyx.sum(axis=(1, 2)).argmax())
    height, width = (min(size_px, n) for n in interface_zyx.shape[1:])
    # Sums over all windows from the cumulative sums at their four corners.
    sums = np.pad(interface_zyx[z].cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    in_window = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = (int(i) for i in np.unravel_index(in_window.argmax(), in_window.shape))
    return z, slice(top, top + height), slice(left, left + width)


def _check(labels: NDArray[np.uint8]) -> None:
    """Refuse what is not a slice or a stack of phase labels."""
    check_labels(labels)
    if labels.ndim not in (2, 3):
        raise ValueError(
            f"labels must be a slice (Y, X) or a stack (Z, Y, X), got shape {labels.shape}; "
            "give one channel without a batch axis"
        )


def _as_stack(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """View a slice as a stack of one; a slice at a time stays in the processor's cache."""
    return labels[np.newaxis] if labels.ndim == 2 else labels


def _interface(labels_yx: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark the windows that hold both phases.

    Silicon (1) and aluminide (2) are different bits, so one spreading of the labels finds the
    neighbours of both: where it reads 3, the window around the pixel holds both.
    """
    centres_yx = _spread(labels_yx) == (Phase.SILICON | Phase.ALUMINIDE)
    return _spread(centres_yx)


def _spread(marks_yx: NDArray[Mark]) -> NDArray[Mark]:
    """OR every pixel with its eight neighbours, along columns and then along rows."""
    tall = marks_yx.copy()
    tall[1:] |= marks_yx[:-1]
    tall[:-1] |= marks_yx[1:]
    wide = tall.copy()
    # Shifting all rows as one long line is several times faster than row by row, but lets the
    # ends of neighbouring rows meet; the outer columns are therefore done again.
    wide.reshape(-1)[1:] |= tall.reshape(-1)[:-1]
    wide.reshape(-1)[:-1] |= tall.reshape(-1)[1:]
    wide[:, :1] = np.bitwise_or.reduce(tall[:, :2], axis=1, keepdims=True)
    wide[:, -1:] = np.bitwise_or.reduce(tall[:, -2:], axis=1, keepdims=True)
    return wide
