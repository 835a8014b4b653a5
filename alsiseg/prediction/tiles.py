"""Windows of a slice that give exactly what the whole slice gives.

The network has a finite reach: a pixel's label depends on the grey values of some hundred pixels around it and on no
other. A window that holds those of its core, begins at a multiple of 16 (so that the poolings fall on the same
pixels) and is cut only where the slice ends therefore gives the core its labels as the whole slice would.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from alsiseg.unet import ALIGNMENT, UNet


@dataclass(frozen=True)
class Part:
    """A window of an axis, and its core: the part whose result is kept. Half-open, in pixels of the padded axis."""

    start: int
    stop: int
    core_start: int
    core_stop: int


@dataclass(frozen=True)
class Cut:
    """A window of an image axis, its core counted from the window's start, and where the core goes in the result."""

    window: slice
    core: slice
    target: slice


def aligned(n: int) -> int:
    """Round up to the next multiple of 16."""
    return n + -n % ALIGNMENT


def parts(n: int, size: int, halo: int) -> list[Part]:
    """Cover an axis of `n` pixels with windows of one size whose cores lie side by side.

    `n`, `size` and `halo` are multiples of 16 and `size` exceeds two halos. At the ends of the axis, where nothing
    is missing, the window is moved inwards instead of being cut, so that all windows are alike.
    """
    if size >= n:
        return [Part(0, n, 0, n)]
    starts = [*range(0, n - size, size - 2 * halo), n - size]
    ends = [*(start + size - halo for start in starts[:-1]), n]
    return [Part(w, w + size, c, e) for w, c, e in zip(starts, [0, *ends[:-1]], ends, strict=True)]


def cuts(n: int, size: int, halo: int) -> list[Cut]:
    """Windows of an axis of `n` pixels that is mirrored up to a multiple of 16."""
    found = []
    for part in parts(aligned(n), size, halo):
        stop = min(part.core_stop, n)
        core = slice(part.core_start - part.start, stop - part.start)
        found.append(Cut(slice(part.start, part.stop), core, slice(part.core_start, stop)))
    return found


def mirrored(indices: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Where the pixels of an axis padded to a multiple of 16 are taken from.

    Beyond the end the axis is mirrored; one too short for that has its last pixel repeated.
    """
    if -n % ALIGNMENT < n:
        return np.where(indices < n, indices, 2 * (n - 1) - indices)
    return indices.clip(max=n - 1)


def reach_px(network: UNet) -> tuple[int, int]:
    """How far the network sees to the left of a window's first pixel and to the right of its last.

    Worked out from the layers: the interval of input pixels that each pixel depends on is followed from the stem to
    the output, in the order of `UNet.forward`. It differs from pixel to pixel, because of the poolings; that of a
    pixel at a multiple of 16 (the first of a core), and of the one before (the last of a core), is what counts.
    """
    interval = np.arange(64 * ALIGNMENT), np.arange(64 * ALIGNMENT)
    interval = _convolved(interval, _kernel(network.stem))
    skipped = []
    for level, convolve in enumerate(network.encoder):
        if level > 0:
            interval = interval[0][::2], interval[1][1::2]  # pooled in pairs
        interval = _convolved(interval, _kernel(convolve))
        skipped.append(interval)
    skipped.pop()
    for convolve in network.decoder:
        doubled = _convolved(_upsampled(interval), _kernel(convolve))
        beside = skipped.pop()
        interval = np.minimum(doubled[0], beside[0]), np.maximum(doubled[1], beside[1])
    low, high = _convolved(interval, int(network.output.kernel_size[0]))
    first = len(low) // 2
    return int(first - low[first]), int(high[first - 1] - (first - 1))


def halo_px(network: UNet) -> int:
    """Pixels, a multiple of 16, that a window needs around its core."""
    return aligned(max(reach_px(network)))


Interval = tuple[NDArray[np.int64], NDArray[np.int64]]


def _kernel(block: nn.Module) -> int:
    return int(block[0].kernel_size[0])  # type: ignore[index,arg-type]


def _convolved(interval: Interval, kernel: int) -> Interval:
    at, radius = np.arange(len(interval[0])), kernel // 2
    return interval[0][(at - radius).clip(0)], interval[1][(at + radius).clip(max=len(at) - 1)]


def _upsampled(interval: Interval) -> Interval:
    """Bilinear doubling: pixels 2q and 2q + 1 lie between q - 1, q and q + 1."""
    at = np.arange(2 * len(interval[0]))
    return interval[0][((at - 1) // 2).clip(0)], interval[1][((at + 1) // 2).clip(max=len(interval[1]) - 1)]
