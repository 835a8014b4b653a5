"""Which slices train, which test, and which part of them is looked at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsiseg.volumes import Volume


@dataclass(frozen=True)
class Split:
    """The slices for training and for test, zero-based and half-open.

    The published split of 1000 slices is ``Split(train=range(403, 998), test=range(0, 300))``: with two
    context slices on each side, training touches slices 402-1000 (one-based) and 301-401 stay unused.
    """

    train: range
    test: range


SMALLEST_SPLIT = 30


def split(n_slices: int, *, n_context: int = 2) -> Split:
    """Divide a volume as the paper does: first 30 % test, a gap of 10 %, the rest for training.

    1000 slices give exactly the published numbers; others are divided in the same proportion.

    Raises
    ------
    ValueError
        With fewer than 30 slices, where no gap would be left between test and training.
    """
    if n_slices < SMALLEST_SPLIT:
        raise ValueError(
            f"the split into test, gap and training needs at least {SMALLEST_SPLIT} slices, found {n_slices}; "
            "give a taller volume"
        )
    return Split(train=range(n_slices * 403 // 1000, n_slices - n_context), test=range(0, n_slices * 3 // 10))


def centre_window(shape_yx: tuple[int, ...], crop: int) -> tuple[slice, slice]:
    """Rows and columns of the central section that is tested (256 x 256 in the paper)."""
    top, left = ((size - crop) // 2 for size in shape_yx)
    return slice(top, top + crop), slice(left, left + crop)


def test_section(volume_zyx: NDArray | Volume, crop_px: int) -> NDArray:
    """Cut the section that is tested: the centre of the first slices (256 x 256 x 300 in the paper)."""
    rows, columns = centre_window(tuple(volume_zyx.shape[1:]), crop_px)
    test = split(volume_zyx.shape[0]).test
    return np.asarray(volume_zyx[test.start : test.stop, rows, columns])


def context_slices(z: int, n_total: int, n_slices: int) -> NDArray[np.int64]:
    """Numbers of the `n_slices` slices around `z`; beyond the ends the outermost slice is repeated."""
    return np.arange(z - n_slices // 2, z + n_slices // 2 + 1).clip(0, n_total - 1)
