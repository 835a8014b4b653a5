"""The sliding window of the paper (Fig. 3), taken literally: what the weight map is measured against."""

from collections.abc import Callable
from functools import cache


@cache
def compiled() -> Callable[..., None]:
    """`slide` as machine code, made on the first call."""
    from numba import njit

    return njit(slide)


def slide(labels_zyx, weight_zyx, matrix, silicon, interface):  # type: ignore[no-untyped-def]
    """Write weights: mark every 3 x 3 window of a slice that holds silicon (1) and aluminide (2)."""
    n_z, n_y, n_x = labels_zyx.shape
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                weight_zyx[z, y, x] = silicon if labels_zyx[z, y, x] == 1 else matrix
        for y in range(n_y):
            for x in range(n_x):
                found = 0
                for v in range(max(y - 1, 0), min(y + 2, n_y)):
                    for u in range(max(x - 1, 0), min(x + 2, n_x)):
                        found |= labels_zyx[z, v, u]
                if found == 3:  # silicon is bit 1, aluminide bit 2
                    weight_zyx[z, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = interface
