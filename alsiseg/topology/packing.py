"""Networks with one bit a voxel: 64 voxels of a row share a machine word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.phases import NETWORKS, Phase, check_labels

Words = NDArray[np.uint64]

WORD_BITS = 64
OCTET_BITS = 8
SPARE_ROWS = 2  # before the rows of a slice and behind them

# Which phases make up what can be measured: the paper's networks, and the matrix between them.
PHASES_OF: dict[str, tuple[Phase, ...]] = {**NETWORKS, "matrix": (Phase.MATRIX,)}


def words_per_row(n_x: int) -> int:
    """Words of a row of `n_x` voxels and one spare bit or more."""
    return n_x // WORD_BITS + 1


@dataclass(frozen=True, eq=False)
class Packed:
    """A slab of a network, or of what lies around it, packed.

    Attributes
    ----------
    shape_zyx
        Shape of the slab in voxels.
    words
        uint64 (Z, words of a slice). A slice is one line of rows, each with at least one spare
        bit at its end and `SPARE_ROWS` empty rows before the first and behind the last. The
        spare bits stand for the outside.
    """

    shape_zyx: tuple[int, int, int]
    words: Words

    @property
    def n_words(self) -> int:
        """Words of one row."""
        return words_per_row(self.shape_zyx[2])

    @property
    def n_voxels(self) -> int:
        """Voxels of the network."""
        from alsiseg.topology.kernels import count_voxels

        return int(count_voxels(self.words))

    def background(self) -> "Packed":
        """All that is not network, joined with the outside: the spare bits are set too.

        So the end of each row leads around into the start of the next, which is right, for there
        both are outside. Only the outermost spare rows stay empty, so that slices keep apart.
        """
        words = np.zeros_like(self.words)
        inner = slice(self.n_words, words.shape[1] - self.n_words)
        np.invert(self.words[:, inner], out=words[:, inner])
        return replace(self, words=words)

    def slab(self, z: slice) -> "Packed":
        """Return some of the slices, copied, so that the others can be forgotten."""
        words = self.words[z].copy()
        return Packed((len(words), *self.shape_zyx[1:]), words)


def pack_network(network_zyx: NDArray[np.bool_]) -> Packed:
    """Pack a boolean slab (Z, Y, X)."""
    from alsiseg.topology import kernels

    packed, octets = _unset(network_zyx.shape)
    kernels.pack_network(_eight_to_a_word(network_zyx), octets, SPARE_ROWS)
    return packed


def pack_labels(labels_zyx: NDArray[np.integer[Any]], networks: Sequence[str]) -> dict[str, Packed]:
    """Pack the named networks of a slab of labels (Z, Y, X); raises as `phases.check_labels`."""
    from alsiseg.topology import kernels

    if labels_zyx.dtype.itemsize > 1:
        check_labels(labels_zyx)
        labels_zyx = labels_zyx.astype(np.uint8)
    silicon, silicon_octets = _unset(labels_zyx.shape)
    aluminide, aluminide_octets = _unset(labels_zyx.shape)
    known = kernels.pack_labels(_eight_to_a_word(labels_zyx), silicon_octets, aluminide_octets, SPARE_ROWS)
    if not known:
        check_labels(labels_zyx)
    by_phase = {Phase.SILICON: silicon.words, Phase.ALUMINIDE: aluminide.words}
    if "matrix" in networks:
        by_phase[Phase.MATRIX] = _neither(silicon, aluminide)
    return {name: replace(silicon, words=_union([by_phase[p] for p in PHASES_OF[name]])) for name in networks}


def _neither(silicon: Packed, aluminide: Packed) -> Words:
    """Voxels of the slab that are neither silicon nor aluminide."""
    n_z, n_y, n_x = silicon.shape_zyx
    row = pack_network(np.ones((1, 1, n_x), dtype=bool)).words.reshape(-1, silicon.n_words)[SPARE_ROWS]
    words = ~(silicon.words | aluminide.words).reshape(n_z, n_y + 2 * SPARE_ROWS, silicon.n_words)
    words[:, SPARE_ROWS : SPARE_ROWS + n_y] &= row
    words[:, :SPARE_ROWS] = words[:, SPARE_ROWS + n_y :] = 0
    return words.reshape(silicon.words.shape)


def _union(planes: Sequence[Words]) -> Words:
    """Join the voxels of several phases."""
    return planes[0] if len(planes) == 1 else reduce(np.bitwise_or, planes)


def _unset(shape: tuple[int, ...]) -> tuple[Packed, NDArray[np.uint8]]:
    """Make an empty slab, and a view of its octets (Z, rows, octets of a row) for packing into."""
    n_z, n_y, n_x = shape
    n_rows = n_y + 2 * SPARE_ROWS
    n_words = words_per_row(n_x)
    words = np.zeros((n_z, n_rows * n_words), dtype="<u8")
    octets = words.view(np.uint8).reshape(n_z, n_rows, n_words * WORD_BITS // OCTET_BITS)
    return Packed((n_z, n_y, n_x), words), octets


def _eight_to_a_word(voxels_zyx: NDArray[Any]) -> Words:
    """View bytes eight at a time along x, filled up with zeros where a row is no multiple of eight."""
    n_z, n_y, n_x = voxels_zyx.shape
    n_octets = -(-n_x // OCTET_BITS)
    whole = n_x % OCTET_BITS == 0 and voxels_zyx.flags.c_contiguous
    if not whole or voxels_zyx.ctypes.data % OCTET_BITS:
        filled_zyx = np.zeros((n_z, n_y, n_octets * OCTET_BITS), dtype=np.uint8)
        filled_zyx[:, :, :n_x] = voxels_zyx.view(np.uint8)
        voxels_zyx = filled_zyx
    return voxels_zyx.view("<u8")
