"""The sliding window of Fig. 3 over one slice, compiled by Numba, row by row.

All that a row needs stays in the processor's nearest cache, and the map is written once: with whole
slices in between, memory sets the pace. No loop over a row has a branch, so that the compiler takes
many pixels at a time.
"""

import numpy as np
from numba import njit, types

LABELS_YX = types.Array(types.uint8, 2, "C", readonly=True)  # read-only labels, of a file say, and others alike


def _of(kind):
    """Signature of `write_slice` for weights or regions of this kind."""
    return types.void(LABELS_YX, types.Array(kind, 1, "C"), types.Array(kind, 2, "C"))


@njit(types.void(LABELS_YX, types.int64, types.uint8[::1], types.uint8[::1]), nogil=True, cache=True)
def _mark_centres(labels_yx, y, seen, centre):
    """Mark by 2 the pixels of row y whose window holds both phases; the rim of one pixel beside the row stays 0.

    Silicon (1) and aluminide (2) are different bits: where OR over the window reads 3, it holds both.
    """
    n_y, n_x = labels_yx.shape
    above, here, below = labels_yx[max(y - 1, 0)], labels_yx[y], labels_yx[min(y + 1, n_y - 1)]
    for x in range(n_x):
        seen[x + 1] = above[x] | here[x] | below[x]
    for x in range(n_x):
        window = seen[x] | seen[x + 1] | seen[x + 2]
        centre[x + 1] = window & (window << 1) & 2


@njit([_of(types.float32), _of(types.uint8)], nogil=True, cache=True)
def write_slice(labels_yx, of_region, out_yx):
    """Write the value of every pixel's region: 0 matrix, 1 silicon, 2 interface, 3 interface in silicon."""
    n_y, n_x = labels_yx.shape
    seen, region = np.zeros(n_x + 2, np.uint8), np.zeros(n_x, np.uint8)
    centres = np.zeros((3, n_x + 2), np.uint8)  # of the rows before, here and behind, in turn
    matrix, silicon, interface, both = of_region[0], of_region[1], of_region[2], of_region[3]
    for y in range(-1, n_y):
        centre = centres[(y + 1) % 3]
        if y + 1 < n_y:
            _mark_centres(labels_yx, y + 1, seen, centre)
        else:
            centre[:] = 0
        if y < 0:
            continue
        for x in range(n_x + 2):
            seen[x] = centres[0, x] | centres[1, x] | centres[2, x]
        for x in range(n_x):
            region[x] = (labels_yx[y, x] & 1) | seen[x] | seen[x + 1] | seen[x + 2]
        for x in range(n_x):
            near, away = both if region[x] & 1 else interface, silicon if region[x] & 1 else matrix
            out_yx[y, x] = near if region[x] & 2 else away
