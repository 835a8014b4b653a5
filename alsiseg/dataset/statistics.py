"""What the grey of a scan looks like to a network, in a few numbers, and how far these vary within the scan.

A network sees a scan normalised by its own grey scale, so mean and contrast cannot mislead it; the shape of the grey
distribution, noise, sharpness and size of the structure in voxels, and blank voxels can. Each is measured on up to 32
blocks (8 slabs of 12 slices, 4 windows of up to 256 x 256 pixels each) and averaged.

How far is far is not chosen but measured: the blocks are dealt at random into two halves, again and again, and the
`limits` are what two halves differ by in all but one of 1000 deals. Halves vary more than whole volumes do (1.4 times,
when blocks vary independently), which leaves room for what differs between specimens and not within one. A volume that
varies more, or is smaller, has wider limits.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg.dataset.specimen import GreyScale, grey_scale
from alsiseg.progress import steps
from alsiseg.volumes import Volume

N_SLABS, SLAB_SLICES = 8, 12
WINDOW_PX = 256
QUANTILES = np.linspace(0.02, 0.98, 25)  # beyond them a few very bright voxels decide
N_DEALS, RARE = 10_000, 0.001
# Second difference along rows and columns together: blind to edges along either (Immerkaer 1996).
NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
MEDIAN_OF_NORMAL = 0.6745  # of the size of a normal variable, in standard deviations
QUIET, QUIET_OF_NORMAL = 0.1, 0.12566  # this share of all is that small, in standard deviations


@dataclass(frozen=True)
class Statistics:
    """What the grey of one scan looks like.

    Attributes
    ----------
    voxel_size_um : float or None
    n_slab_slices : int
        Slices of a slab: correlation across slices is known up to one less.
    grey_quantiles : tuple of float
        The 25 quantiles from 2 to 98 %, every block normalised by itself: 0 is its mean grey, 1 its spread.
    noise : float
        Standard deviation of what neighbouring pixels do not share, in units of the spread (J. Immerkaer 1996,
        Comput. Vis. Image Underst. 64, 300-302, with the median for the mean, so that edges hardly count).
    length_px, length_z_px : float
        Distance at which the correlation of two voxels falls to one half, within slices and across them: short in
        a sharp, fine or binned scan, long in a blurred or magnified one.
    blank_pct : float
        Voxels at the lowest or highest value of all, or equal to their four neighbours in the slice: saturated,
        padded or masked.
    limits : dict
        How far each may lie from that of another scan of the same kind, by name; of `grey_quantiles` the mean
        difference, which is the earth mover's distance of two distributions.
    noise_z : float or None
        Noise from slice to slice, in the same units: from second differences across slices and, once each, along rows
        and columns, of which the tenth of the voxels where they are smallest decides, so that structure hardly counts.
        Rings and the ramp filter of a reconstruction, which hide the dose within slices, are the same in neighbouring
        slices or act within them. None in records of before 2026-11-23, and of a scan of fewer than three slices.
    """

    voxel_size_um: float | None
    n_slab_slices: int
    grey_quantiles: tuple[float, ...]
    noise: float
    length_px: float
    length_z_px: float
    blank_pct: float
    limits: dict[str, float]
    noise_z: float | None = None


def grey_statistics(grey_zyx: NDArray[Any] | Volume, *, voxel_size_um: float | None = None) -> Statistics:
    """Measure a scan on a sample of it: seconds for a scan of any size, and the same numbers every time.

    Parameters
    ----------
    grey_zyx : (Z, Y, X)
        Anything with `shape` that can be sliced; slabs are read one at a time.
    voxel_size_um
        Of a scan that does not say it itself.

    Raises
    ------
    ValueError
        When the scan has one grey value only, or fewer than three rows or columns.
    """
    n_z, n_y, n_x = grey_zyx.shape
    if min(n_y, n_x) < 3:
        raise ValueError(f"needs slices of 3 x 3 pixels or more, got {n_y} x {n_x}; give the whole scan")
    scale = grey_scale(grey_zyx)
    slabs = steps(_slab_starts(n_z), "looking at the grey", unit=" slabs")
    blocks = [block for start in slabs for block in _blocks(grey_zyx, start, scale)]
    measured = {name: np.array([block[name] for block in blocks]) for name in blocks[0]}
    if np.isnan(measured["noise"]).all():
        raise ValueError("needs a scan with contrast, found one grey value in the middle of all slices; crop it")
    means = {name: np.nanmean(values, axis=0) for name, values in measured.items()}
    return Statistics(
        voxel_size_um=voxel_size_um or getattr(grey_zyx, "voxel_size_um", None),
        n_slab_slices=min(n_z, SLAB_SLICES),
        grey_quantiles=tuple(means.pop("grey_quantiles").tolist()),
        **{name: float(mean) for name, mean in means.items()},
        limits=_limits(measured),
    )


def _slab_starts(n_slices: int) -> list[int]:
    """First slices of evenly spread slabs."""
    n_slabs = min(max(n_slices // SLAB_SLICES, 1), N_SLABS)
    return np.linspace(0, max(n_slices - SLAB_SLICES, 0), n_slabs).astype(int).tolist()


def _blocks(grey_zyx: NDArray[Any] | Volume, start: int, scale: GreyScale) -> list[dict[str, Any]]:
    """Measure the four quarters of a slab."""
    slab_zyx = np.asarray(grey_zyx[start : start + SLAB_SLICES])
    blank_zyx = _blank(slab_zyx)
    halves = [(slice(0, n // 2), slice(n // 2, n)) if n >= 6 else (slice(0, n),) for n in slab_zyx.shape[1:]]
    found = []
    for rows, columns in product(*halves):
        block_zyx = scale.normalise(_central(slab_zyx[:, rows, columns]))
        found.append(_measured(block_zyx) | {"blank_pct": 100 * blank_zyx[:, rows, columns].mean()})
    return found


def _central(block_zyx: NDArray[Any]) -> NDArray[Any]:
    """Cut the middle of each slice."""
    first = [max(n - WINDOW_PX, 0) // 2 for n in block_zyx.shape[1:]]
    return block_zyx[:, first[0] : first[0] + WINDOW_PX, first[1] : first[1] + WINDOW_PX]


def _measured(block_zyx: NDArray[np.float32]) -> dict[str, Any]:
    """Measure a block of normalised grey; of one value alone nothing is known (NaN)."""
    low, *quantiles, high = np.quantile(block_zyx, [0.005, *QUANTILES, 0.995])
    clipped_zyx = block_zyx.clip(low, high)  # hot pixels do not count
    three_slices = len(block_zyx) > 2
    if low == high:
        names = ("noise", "length_px", "length_z_px", *(["noise_z"] if three_slices else []))
        return {"grey_quantiles": np.full(len(QUANTILES), np.nan), **dict.fromkeys(names, np.nan)}
    return {
        "grey_quantiles": (quantiles - clipped_zyx.mean()) / clipped_zyx.std(),
        "noise": _noise(block_zyx),
        "length_px": _half_length(clipped_zyx, axes=(1, 2)),
        "length_z_px": _half_length(clipped_zyx, axes=(0,)),
        **({"noise_z": _noise_z(block_zyx)} if three_slices else {}),
    }


def _noise(block_zyx: NDArray[np.float32]) -> float:
    second_zyx = ndimage.convolve(block_zyx, NOISE_KERNEL[None])[:, 1:-1, 1:-1]
    return float(np.median(np.abs(second_zyx)) / MEDIAN_OF_NORMAL / np.linalg.norm(NOISE_KERNEL))


def _noise_z(block_zyx: NDArray[np.float32]) -> float:
    """Size of the noise from the quietest second differences in the planes through the axis z."""
    across_zyx = np.diff(block_zyx, 2, axis=0)
    quiet = [np.quantile(np.abs(np.diff(across_zyx, 2, axis=axis)), QUIET) for axis in (1, 2)]
    return float(np.mean(quiet) / QUIET_OF_NORMAL / np.linalg.norm(NOISE_KERNEL))


def _half_length(block_zyx: NDArray[np.float32], axes: tuple[int, ...]) -> float:
    """Distance along the axes at which the correlation is one half, interpolated; the largest known if it never is."""
    variance, before = float(block_zyx.var()), 1.0
    largest = min(block_zyx.shape[axis] for axis in axes) - 1
    for lag in range(1, largest + 1):
        now = 1 - float(np.mean([_mean_square_step(block_zyx, axis, lag) for axis in axes])) / (2 * variance)
        if now < 0.5:
            return lag - 1 + (before - 0.5) / (before - now)
        before = now
    return float(largest)


def _mean_square_step(block_zyx: NDArray[np.float32], axis: int, lag: int) -> float:
    along = np.moveaxis(block_zyx, axis, 0)
    return float(np.square(along[lag:] - along[:-lag]).mean())


def _blank(slab_zyx: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark voxels at the lowest or highest value of a slab, or equal to their four neighbours in the slice."""
    blank_zyx = (slab_zyx == slab_zyx.min()) | (slab_zyx == slab_zyx.max())
    same_y, same_x = slab_zyx[:, 1:] == slab_zyx[:, :-1], slab_zyx[..., 1:] == slab_zyx[..., :-1]
    blank_zyx[:, 1:-1, 1:-1] |= same_y[:, 1:, 1:-1] & same_y[:, :-1, 1:-1] & same_x[:, 1:-1, 1:] & same_x[:, 1:-1, :-1]
    return blank_zyx


def _limits(measured: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """How far the means of two random halves of the blocks lie apart at most, but for rare deals."""
    n_blocks = len(measured["noise"])
    deals = np.random.default_rng(0).permuted(np.tile(np.arange(n_blocks), (N_DEALS, 1)), axis=1)
    first = np.zeros((N_DEALS, n_blocks), bool)
    np.put_along_axis(first, deals[:, : n_blocks // 2], True, axis=1)
    return {name: _limit(values.reshape(n_blocks, -1), first) for name, values in measured.items()}


def _limit(values: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    known = ~np.isnan(values).any(axis=1)
    values, first = values[known], first[:, known]
    n_first = first.sum(axis=1, keepdims=True)
    n_second = len(values) - n_first
    both = ((n_first > 0) & (n_second > 0))[:, 0]
    if not both.any():
        return 0.0
    sums = first[both] @ values
    apart = sums / n_first[both] - (values.sum(axis=0) - sums) / n_second[both]
    return float(np.quantile(np.abs(apart).mean(axis=1), 1 - RARE))
