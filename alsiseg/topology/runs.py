"""Joining runs of voxels into components, compiled by Numba.

Every run of set voxels in a row is a node of a union-find forest; its number is the number of runs
before it, so that no label of a voxel is ever stored: the run of a bit is found by counting the
starts of runs up to it. Runs of neighbouring rows are linked once for each stretch in which they
touch, and not at all where a third row already joins them.

The two slices at work are one array `rows`, (2, 3, words of a slice): for each slice its words,
and for each word that is not empty the runs that start in it and the number of runs before it.
(Numba is slow with tuples of arrays, and where one name may stand for several arrays.)
"""

import numpy as np
from numba import njit

from alsiseg.topology.bits import ALL, NONE, ONE, TOP, lowest, ones

WORDS, STARTS, RUNS_BEFORE = 0, 1, 2


@njit(nogil=True, cache=True)
def join_slab(slices, n_words, by, parent, size):
    """Join the runs of a slab; on return `parent` leads straight to the root, which has the size.

    The root of a component is its first run.
    """
    n = 0
    rows = np.zeros((2, 3, slices.shape[1]), np.uint64)
    for z in range(len(slices)):
        here = z % 2
        rows[here, WORDS] = slices[z]
        n = _add_runs(rows, here, n_words, parent, size, n)
        _link_slices(parent, rows, here, n_words, by, True)
    _flatten(parent, size, n)


@njit(nogil=True, cache=True)
def join_seam(last, first, n_words, by, below, above, parent, size):
    """Join the components of two slabs where the last slice of one meets the first of the next.

    `below` and `above` hold the component of every run of the two slices; `parent` begins with the
    components, each its own root, and has room for these runs behind them.
    """
    n_components = len(size)
    unused = np.empty(len(parent), np.int64)
    rows = np.zeros((2, 3, len(last)), np.uint64)
    rows[0, WORDS], rows[1, WORDS] = last, first
    n = _add_runs(rows, 0, n_words, parent, unused, n_components)
    _add_runs(rows, 1, n_words, parent, unused, n)
    parent[n_components:n] = below
    parent[n:] = above
    _link_slices(parent, rows, 1, n_words, by, False)
    _flatten(parent, size, n_components)


@njit(nogil=True, cache=True)
def renumber(parent, at_first, at_last, number):
    """Number the components that reach the first or last slice; the others are closed.

    `at_first` and `at_last` hold nodes and get the new numbers of their components; `number`, -1
    for every node at the start, gets the new number of every root. Returns how many there are.
    """
    n_live = 0
    for nodes in (at_first, at_last):
        for i in range(len(nodes)):
            root = parent[nodes[i]]
            if number[root] < 0:
                number[root] = n_live
                n_live += 1
            nodes[i] = number[root]
    return n_live


@njit(nogil=True, cache=True)
def _add_runs(rows, here, n_words, parent, size, n):
    """Append the runs of a slice as nodes of their own, with their lengths."""
    n_ended = n
    for w in range(n_words, rows.shape[2] - n_words):
        voxels, before, after = _around(rows, here, w)
        if voxels == NONE:
            continue
        begin, end = voxels & ~before, voxels & ~after
        rows[here, RUNS_BEFORE, w], rows[here, STARTS, w] = n, begin
        while begin:
            parent[n], size[n] = n, -(64 * w + np.int64(lowest(begin)))
            n += 1
            begin &= begin - ONE
        while end:
            size[n_ended] += 64 * w + np.int64(lowest(end)) + 1
            n_ended += 1
            end &= end - ONE
    return n


@njit(nogil=True, cache=True)
def _link_slices(parent, rows, here, n_words, by, in_slice):
    """Link the runs of a slice with those below, and with each other when asked, by 6, 18 or 26."""
    if by == 6:
        _link_slices_by_6(parent, rows, here, n_words, in_slice)
    else:
        _link_slices_by_26(parent, rows, here, n_words, in_slice, by == 26)


@njit(nogil=True, cache=True)
def _link_slices_by_6(parent, rows, here, n_words, in_slice):
    """Link each word with the one below and the one in the row before."""
    below = 1 - here
    for w in range(n_words, rows.shape[2] - n_words):
        both = rows[here, WORDS, w] & rows[below, WORDS, w]
        _link(parent, rows, both & ~(both << ONE), 0, here, w, below, w)
        if in_slice:
            u = w - n_words
            through_below = rows[below, WORDS, w] & rows[below, WORDS, u]
            both = rows[here, WORDS, w] & rows[here, WORDS, u] & ~through_below
            _link(parent, rows, both & ~(both << ONE), 0, here, w, here, u)


@njit(nogil=True, cache=True)
def _link_slices_by_26(parent, rows, here, n_words, in_slice, corners):
    """Link each word with the three rows below and the row before; by 18 when corners do not join.

    A row is spared where another one touches both: the row right below touches all others, and
    the row before the last of them. `to_left` (`to_right`) marks the voxels where no such row
    joins them with what lies in their column or to the left (right) of it.
    """
    below = 1 - here
    for w in range(n_words, rows.shape[2] - n_words):
        mine = _around(rows, here, w)
        if mine[0] == NONE:
            continue
        under = _around(rows, below, w)
        contacts = _contacts(mine, under, ALL, ALL)
        if _some(contacts):
            _link_contacts(parent, rows, contacts, here, w, below, w)
        to_left, to_right = ~(under[0] | under[1]), ~(under[0] | under[2])
        if w + 2 * n_words < rows.shape[2]:  # behind the last row nothing is set
            contacts = _at_edges(_contacts(mine, _around(rows, below, w + n_words), to_left, to_right), corners)
            if _some(contacts):
                _link_contacts(parent, rows, contacts, here, w, below, w + n_words)
        if in_slice:
            beside = _around(rows, here, w - n_words)
            # By 18 the row right below touches both, but its voxels may not: they can lie corner to corner.
            contacts = _contacts(mine, beside, to_left if corners else ALL, to_right if corners else ALL)
            if _some(contacts):
                _link_contacts(parent, rows, contacts, here, w, here, w - n_words)
            to_left, to_right = to_left & ~(beside[0] | beside[1]), to_right & ~(beside[0] | beside[2])
        contacts = _at_edges(_contacts(mine, _around(rows, below, w - n_words), to_left, to_right), corners)
        if _some(contacts):
            _link_contacts(parent, rows, contacts, here, w, below, w - n_words)


@njit(nogil=True, cache=True)
def _contacts(mine, other, to_left, to_right):
    """Voxels where a word touches that of a neighbouring row, once for each stretch.

    Straight, slanting to the left, and slanting to the right; by 26, where the marks allow.
    """
    voxels, before, after = mine
    facing, left, right = other
    straight = voxels & facing & to_left & to_right
    slanting = voxels & ~facing
    return straight & ~(straight << ONE), slanting & left & ~before & to_left, slanting & right & ~after & to_right


@njit(nogil=True, cache=True)
def _at_edges(contacts, corners):
    """Leave out the slanting contacts with a row that touches at edges, which are corners, unless these join."""
    return contacts if corners else (contacts[0], NONE, NONE)


@njit(nogil=True, cache=True)
def _some(contacts):
    """Whether there is any contact."""
    return (contacts[0] | contacts[1] | contacts[2]) != NONE


@njit(nogil=True, cache=True)
def _link_contacts(parent, rows, contacts, here, w, other, u):
    """Link the runs of word w with those of word u that they touch."""
    _link(parent, rows, contacts[0], 0, here, w, other, u)
    _link(parent, rows, contacts[1], -1, here, w, other, u)
    _link(parent, rows, contacts[2], 1, here, w, other, u)


@njit(nogil=True, cache=True, inline="always")
def _link(parent, rows, voxels, step, here, w, other, u):
    """Join the run of each bit of `voxels`, in word w, with that of the bit `step` further in word u."""
    while voxels:
        bit = np.int64(lowest(voxels))
        far = bit + step
        _join(parent, _run(rows, here, w, bit), _run(rows, other, u + (far >> 6), far & 63))
        voxels &= voxels - ONE


@njit(nogil=True, cache=True)
def _around(rows, here, w):
    """Word w, and the voxels before and after each of its voxels, brought to its place."""
    word = rows[here, WORDS, w]
    before = (word << ONE) | (rows[here, WORDS, w - 1] >> TOP)
    after = (word >> ONE) | (rows[here, WORDS, w + 1] << TOP)
    return word, before, after


@njit(nogil=True, cache=True)
def _run(rows, here, w, bit):
    """Node of the run that bit `bit` of word w belongs to."""
    up_to_bit = ALL >> np.uint64(63 - bit)
    return rows[here, RUNS_BEFORE, w] + ones(rows[here, STARTS, w] & up_to_bit) - ONE


@njit(nogil=True, cache=True)
def _join(parent, i, j):
    """Make one component of two; the earlier root stays."""
    i, j = _root(parent, i), _root(parent, j)
    if i < j:
        parent[j] = i
    elif j < i:
        parent[i] = j


@njit(nogil=True, cache=True)
def _root(parent, node):
    """Find the root of a node, halving the way for the next search."""
    above = np.uint64(parent[node])
    while above != node:
        parent[node] = parent[above]
        node = np.uint64(parent[above])
        above = np.uint64(parent[node])
    return node


@njit(nogil=True, cache=True)
def _flatten(parent, size, n):
    """Let every node point to its root, and add its size there; a parent comes before its children."""
    for i in range(n):
        root = parent[parent[i]]
        parent[i] = root
        if root != i:
            size[root] += size[i]
