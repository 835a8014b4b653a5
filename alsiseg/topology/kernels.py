"""The loops over machine words, compiled by Numba: one word holds 64 voxels of a row.

A packed slice is one line of words. Each row ends with at least one spare bit, and two spare rows
stand before and behind the rows of the slice (`packing`), so that a neighbour in x is a shift by
one bit, a neighbour in y a shift by one row, and no loop has to ask where a row begins or ends.
"""

import numpy as np
from numba import njit

from alsiseg.topology.bits import NONE, ONE, TOP, ones

LOWEST_BITS = np.uint64(0x0101010101010101)  # of the eight bytes of a word
FORBIDDEN_BITS = np.uint64(0xFCFCFCFCFCFCFCFC)  # labels are 0, 1, 2
GATHER = np.uint64(0x0102040810204080)  # moves the lowest bit of byte i to bit 56 + i
TO_OCTET = np.uint64(56)


@njit(nogil=True, cache=True)
def _before(words, w):
    """Bring the voxel before each voxel of word w to its place."""
    return (words[w] << ONE) | (words[w - 1] >> TOP)


@njit(nogil=True, cache=True)
def _octet(word):
    """Gather the lowest bits of eight bytes."""
    return np.uint8(((word & LOWEST_BITS) * GATHER) >> TO_OCTET)


@njit(nogil=True, cache=True)
def pack_network(voxels, octets, rows_before):
    """Pack booleans, eight to a word (Z, Y, X/8), into octets (Z, more than Y, at least X/8)."""
    n_z, n_y, n_x = voxels.shape
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                word = voxels[z, y, x]
                word |= word >> np.uint64(4)  # any byte but 0 is True
                word |= word >> np.uint64(2)
                word |= word >> ONE
                octets[z, y + rows_before, x] = _octet(word)


@njit(nogil=True, cache=True)
def pack_labels(labels, silicon, aluminide, rows_before):
    """Pack labels, eight to a word (Z, Y, X/8), into octets of two phases; tell whether all are 0, 1 or 2."""
    n_z, n_y, n_x = labels.shape
    wrong = NONE
    for z in range(n_z):
        for y in range(n_y):
            # Three loops, for the compiler takes many words at a time in each of them.
            for x in range(n_x):
                silicon[z, y + rows_before, x] = _octet(labels[z, y, x])
            for x in range(n_x):
                aluminide[z, y + rows_before, x] = _octet(labels[z, y, x] >> ONE)
            for x in range(n_x):
                word = labels[z, y, x]
                wrong |= (word & FORBIDDEN_BITS) | (word & (word >> ONE) & LOWEST_BITS)
    return wrong == NONE


@njit(nogil=True, cache=True)
def euler_starts(slices, before, n_words):
    """Signed numbers of runs along z that start in the slices: (by 6, by 18, by 26); see `euler.EulerCounts`."""
    by_6, by_26, at_corners = np.int64(0), np.int64(0), np.int64(0)
    for z in range(len(slices)):
        found = _slice_starts(slices[z], slices[z - 1] if z else before, n_words)
        by_6 += found[0]
        by_26 += found[1]
        at_corners += found[2]
    return by_6, by_26 + at_corners, by_26


@njit(nogil=True, cache=True)
def _slice_starts(here, below, n_words):
    """Count the starts of one slice: (by 6, by 26), and the corners where two voxels alone touch.

    Over all rows and the spare row behind them.
    """
    first, end = 2 * n_words, len(here) - n_words
    # Views instead of indices, so that the compiler sees plain loops and takes eight words at a time.
    v, v_x = here[first:end], here[first - 1 : end - 1]
    v_y, v_xy = here[first - n_words : end - n_words], here[first - n_words - 1 : end - n_words - 1]
    p, p_x = below[first:end], below[first - 1 : end - 1]
    p_y, p_xy = below[first - n_words : end - n_words], below[first - n_words - 1 : end - n_words - 1]
    by_6, by_26, at_corners = np.int64(0), np.int64(0), np.int64(0)
    for i in range(len(v)):
        a, ax = v[i], (v[i] << ONE) | (v_x[i] >> TOP)
        ay, axy = v_y[i], (v_y[i] << ONE) | (v_xy[i] >> TOP)
        b, bx = p[i], (p[i] << ONE) | (p_x[i] >> TOP)
        by, bxy = p_y[i], (p_y[i] << ONE) | (p_xy[i] >> TOP)
        single = ones(a & ~b)
        by_26 += np.int64(single - ones((a | ax) & ~(b | bx)) - ones((a | ay) & ~(b | by)))
        by_26 += np.int64(ones((a | ax | ay | axy) & ~(b | bx | by | bxy)))
        by_6 += np.int64(single - ones(a & ax & ~(b & bx)) - ones(a & ay & ~(b & by)))
        by_6 += np.int64(ones(a & ax & ay & axy & ~(b & bx & by & bxy)))
        # One voxel of this slice and the one opposite below, the other six of the eight unset.
        opposite = (a ^ axy) & (b ^ bxy) & ~((a ^ bxy) | ax | ay | bx | by)
        opposite |= (ax ^ ay) & (bx ^ by) & ~((ax ^ by) | a | axy | b | bxy)
        at_corners += np.int64(ones(opposite))
    return by_6, by_26, at_corners


@njit(nogil=True, cache=True)
def side_starts(slices, before, n_words, n_x):
    """Euler numbers of the four side faces x -4, and of the four upright edges x 2: (by 6, by 18, by 26).

    A face has no corners of the volume: by 18 and by 26 its voxels touch alike.
    """
    by_6, by_26 = np.int64(0), np.int64(0)
    for z in range(len(slices)):
        here, below = slices[z], slices[z - 1] if z else before
        for first in (2 * n_words, len(here) - 3 * n_words):
            found = _row_starts(here, below, first, first + n_words)
            by_26 -= 4 * found[1]
            by_6 -= 4 * found[0]
        for x in (0, n_x - 1):
            found = _column_starts(here, below, n_words, x)
            by_26 += 2 * found[2] - 4 * found[1]
            by_6 += 2 * found[2] - 4 * found[0]
    return by_6, by_26, by_26


@njit(nogil=True, cache=True)
def _row_starts(here, below, first, end):
    """Starts in one upright face along x: (by 6, by 26).

    With one axis less, the cells counted by 26 change their sign.
    """
    by_6, by_26 = np.int64(0), np.int64(0)
    for w in range(first, end):
        a, ax, b, bx = here[w], _before(here, w), below[w], _before(below, w)
        single = ones(a & ~b)
        by_26 += np.int64(ones((a | ax) & ~(b | bx)) - single)
        by_6 += np.int64(single - ones(a & ax & ~(b & bx)))
    return by_6, by_26


@njit(nogil=True, cache=True)
def _column_starts(here, below, n_words, x):
    """Starts of one upright face along y: (by 6, by 26), and of its first and last column together."""
    by_6, by_26, at_edges = np.int64(0), np.int64(0), np.int64(0)
    shift = np.uint64(x % 64)
    first, last = 2 * n_words + x // 64, len(here) - 3 * n_words + x // 64
    ay, by = NONE, NONE
    for w in range(first, last + n_words + 1, n_words):  # the spare row too
        a, b = (here[w] >> shift) & ONE, (below[w] >> shift) & ONE
        single = np.int64(a & ~b)
        by_26 += np.int64((a | ay) & ~(b | by)) - single
        by_6 += single - np.int64(a & ay & ~(b & by))
        at_edges += single * (np.int64(w == first) + np.int64(w == last))
        ay, by = a, b
    return by_6, by_26, at_edges


@njit(nogil=True, cache=True)
def count_voxels(slices):
    """Count the bits set."""
    flat = slices.ravel()
    n = np.int64(0)
    for i in range(len(flat)):
        n += np.int64(ones(flat[i]))
    return n


@njit(nogil=True, cache=True)
def count_runs(slices):
    """Count the runs of set bits; a slice begins and ends with empty rows."""
    flat = slices.ravel()
    here, before = flat[1:], flat[:-1]
    n = np.int64(0)
    for i in range(len(here)):
        n += np.int64(ones(here[i] & ~((here[i] << ONE) | (before[i] >> TOP))))
    return n
