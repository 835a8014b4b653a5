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
    mask_zyx = np.empty(_as_stack(labels).shape, dtype=bool)
    for labels_yx, mask_yx in zip(_as_stack(labels), mask_zyx, strict=True):
        mask_yx[...] = _interface(labels_yx)
    return mask_zyx.reshape(labels.shape)


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
    region_zyx = np.empty(_as_stack(labels).shape, dtype=np.uint8)
    for labels_yx, region_yx in zip(_as_stack(labels), region_zyx, strict=True):
        region_yx[...] = _regions(labels_yx)
    return region_zyx.reshape(labels.shape)


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
        system takes to hand out fresh memory, which is more than that of the weights. None: a new array.

    Raises
    ------
    TypeError, ValueError
        When the labels are not such a slice or stack, or `out` is not such an array.
    """
    _check(labels)
    weight = _room_for(labels, out)
    of_four = _weights_of_four((weights or PixelWeights()).of_region)
    for labels_yx, weight_yx in zip(_as_stack(labels), _as_stack(weight), strict=True):
        _look_up(_regions(labels_yx).reshape(-1), of_four, weight_yx.reshape(-1))
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


def _weights_of_four(of_region: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weights (256, 4) of every four regions, the first in the lowest two bits of the row number."""
    return of_region[np.arange(256)[:, np.newaxis] >> np.array([0, 2, 4, 6]) & 3]


def _look_up(region: NDArray[np.uint8], of_four: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
    """Write the weight of every region of a line, four at a time: a look-up costs the same for four as for one."""
    n_fours = len(region) // 4
    fours, rest = region[: 4 * n_fours].view("<u4"), region[4 * n_fours :]
    # The product brings the two bits of all four bytes side by side into the highest byte.
    code = (fours * np.uint32(0x01041040)).astype("<u4", copy=False).view(np.uint8)[3::4]
    of_four.take(code, axis=0, out=weight[: 4 * n_fours].reshape(-1, 4), mode="wrap")  # "wrap" copies no output
    weight[4 * n_fours :] = of_four[rest, 0]


def _regions(labels_yx: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tell silicon by the lowest bit and the interface by the next."""
    region_yx = labels_yx.astype(np.uint8, order="C")
    region_yx &= int(Phase.SILICON)
    region_yx |= _interface(labels_yx, mark=2)
    return region_yx


def _interface(labels_yx: NDArray[np.uint8], *, mark: int = 1) -> NDArray[np.uint8]:
    """Mark the windows that hold both phases with the bit `mark`, leaving 0 elsewhere.

    Silicon (1) and aluminide (2) are different bits, so one spreading of the labels finds the
    neighbours of both: where it reads 3, the window around the pixel holds both.
    """
    rimmed_yx = np.zeros([n + 2 for n in labels_yx.shape], dtype=np.uint8)
    rimmed_yx[1:-1, 1:-1] = labels_yx
    near_yx = _spread(rimmed_yx)
    centres_yx = (near_yx == (Phase.SILICON | Phase.ALUMINIDE)).view(np.uint8)
    centres_yx *= mark
    return _spread(centres_yx)[1:-1, 1:-1]


def _spread(rimmed_yx: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """OR every pixel inside a rim of zeros with its eight neighbours, along columns and then along rows.

    With the rim, all rows can be shifted as one long line, several times faster than row by row:
    where the ends of neighbouring rows meet, there is only rim.
    """
    width = rimmed_yx.shape[1]
    line, spread_yx = rimmed_yx.reshape(-1), np.empty_like(rimmed_yx)
    tall = line[: -2 * width] | line[width:-width]
    tall |= line[2 * width :]
    wide = spread_yx.reshape(-1)[width + 1 : -width - 1]
    np.bitwise_or(tall[:-2], tall[1:-1], out=wide)
    wide |= tall[2:]
    for rim in (spread_yx[0], spread_yx[-1], spread_yx[:, 0], spread_yx[:, -1]):
        rim[...] = 0
    return spread_yx


def _spread_tensor(marks: "Tensor") -> "Tensor":
    """OR every pixel of a tensor (..., Y, X) with its eight neighbours."""
    from torch.nn.functional import pad

    rimmed = pad(marks, (1, 1, 1, 1))
    tall = rimmed[..., :-2, :] | rimmed[..., 1:-1, :] | rimmed[..., 2:, :]
    return tall[..., :-2] | tall[..., 1:-1] | tall[..., 2:]
