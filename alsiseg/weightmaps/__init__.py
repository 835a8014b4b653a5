"""The pixel-wise weights of the loss: silicon and silicon-aluminide interfaces count more (Fig. 3).

Windows lie in the slice plane, as in the paper: a stack is weighted slice by slice. Make the map
of the whole slice and crop it afterwards; a crop must not change a weight at its border.
"""

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.phases import Phase, check_labels

if TYPE_CHECKING:
    from torch import Tensor


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

    @property
    def of_region(self) -> NDArray[np.float32]:
        """Weight of each region that `weight_regions` tells apart, float32 (4,)."""
        return np.array([self.matrix, self.silicon, self.interface, self.interface], dtype=np.float32)

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
    mask = np.empty(labels.shape, dtype=np.uint8)
    _write(labels, np.array([0, 0, 1, 1], dtype=np.uint8), mask)
    return mask.view(bool)


def weight_regions(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tell which weight every pixel has, whatever the weights: ``weights.of_region[weight_regions(labels)]``.

    Parameters
    ----------
    labels
        One slice (Y, X) or a stack (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide.

    Returns
    -------
    uint8 array of the same shape
        0 matrix, 1 silicon, 2 interface, 3 interface in silicon.

    Raises
    ------
    TypeError, ValueError
        When the labels are not such a slice or stack.
    """
    _check(labels)
    region = np.empty(labels.shape, dtype=np.uint8)
    _write(labels, np.arange(4, dtype=np.uint8), region)
    return region


def weight_map(
    labels: NDArray[np.uint8], weights: PixelWeights | None = None, *, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Weight of every pixel in the loss, float32 of the same shape (Fig. 3, the final image).

    Parameters
    ----------
    labels
        One slice (Y, X) or a stack (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide.
    weights
        `PixelWeights()`, the paper's best setting, unless given.
    out
        Where to write the map: a C-contiguous float32 array of the shape of the labels, which is returned, a
        memory-mapped file for instance. For several large stacks, one array used again saves the time that the
        system takes to hand out fresh memory, which is as long as that of the weights or longer. None: a new array.

    Raises
    ------
    TypeError, ValueError
        When the labels are not such a slice or stack, or `out` is not such an array.
    """
    _check(labels)
    weight = _room_for(labels, out)
    _write(labels, (weights or PixelWeights()).of_region, weight)
    return weight


def weight_tensor(labels: "Tensor", weights: PixelWeights | None = None) -> "Tensor":
    """Weight of every pixel, as `weight_map` gives it, by torch operations where the labels are.

    Parameters
    ----------
    labels
        Integer tensor (..., Y, X) of 0 matrix, 1 silicon, 2 aluminide, on any device: a slice, a
        stack, or a batch of crops (whose borders then count as borders of the slice).
    weights
        `PixelWeights()`, the paper's best setting, unless given.

    Returns
    -------
    Tensor
        float32, of the same shape and on the same device.

    Raises
    ------
    TypeError, ValueError
        When the labels are not such a tensor.
    """
    import torch

    check_labels(labels.new_empty(0).cpu().numpy())
    if labels.ndim < 2:
        raise ValueError(f"labels must have rows and columns, got shape {tuple(labels.shape)}; give a slice (Y, X)")
    if labels.numel() and not 0 <= labels.min() <= labels.max() <= Phase.ALUMINIDE:
        check_labels(labels.unique().cpu().numpy())
    weights = weights or PixelWeights()
    table = torch.tensor([weights.matrix, weights.silicon, weights.matrix], dtype=torch.float32, device=labels.device)
    centres = _spread_tensor(labels) == (Phase.SILICON | Phase.ALUMINIDE)
    return table[labels.long()].masked_fill(_spread_tensor(centres), weights.interface)


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


def _room_for(labels: NDArray[np.uint8], out: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Give the array that the weights are written into, a new one unless it is given and fits."""
    if out is None:
        return np.empty(labels.shape, dtype=np.float32)
    if not isinstance(out, np.ndarray) or out.dtype != np.float32:
        raise TypeError(
            f"out must be a float32 array, got {getattr(out, 'dtype', type(out).__name__)}; "
            "make it with np.empty(labels.shape, np.float32)"
        )
    if out.shape != labels.shape or not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError(
            f"out must be a writeable C-contiguous array of the labels' shape {labels.shape}, got shape {out.shape}"
            f"{'' if out.flags.c_contiguous else ', not C-contiguous'}"
            f"{'' if out.flags.writeable else ', read-only'}; make it with np.empty(labels.shape, np.float32)"
        )
    if np.may_share_memory(labels, out):
        raise ValueError("out must be memory of its own, got that of the labels; make another array")
    return out


def _as_stack(image: NDArray[Any]) -> NDArray[Any]:
    """View a slice as a stack of one; a slice at a time stays in the processor's cache."""
    return image[np.newaxis] if image.ndim == 2 else image


def _write(labels: NDArray[Any], of_region: NDArray[Any], out: NDArray[Any]) -> None:
    """Write the value of every pixel's region, slice by slice; only a slice is ever converted or copied."""
    from alsiseg.weightmaps.windows import write_slice

    for labels_yx, out_yx in zip(_as_stack(labels), _as_stack(out), strict=True):
        write_slice(np.ascontiguousarray(labels_yx, dtype=np.uint8), of_region, out_yx)


def _spread_tensor(marks: "Tensor") -> "Tensor":
    """OR every pixel of a tensor (..., Y, X) with its eight neighbours."""
    from torch.nn.functional import pad

    rimmed = pad(marks, (1, 1, 1, 1))
    tall = rimmed[..., :-2, :] | rimmed[..., 1:-1, :] | rimmed[..., 2:, :]
    return tall[..., :-2] | tall[..., 1:-1] | tall[..., 2:]
