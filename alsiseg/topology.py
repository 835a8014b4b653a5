"""How a network hangs together: Euler number, components, interconnectivity, Betti numbers.

The Euler number counts the connecting branches of a network (paper, section Material, after
Toriwaki and Yonekura 2002): objects - loops + cavities, the more negative the more branches.
Voxels outside the volume count as background, as in scikit-image and ImageJ.

Every volume only needs ``shape``, ``dtype`` and slicing along z: NumPy arrays, memory maps, zarr
arrays and HDF5 data sets are read a few slices at a time for the Euler number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Connectivity = Literal[6, 26]
Words = NDArray[np.uint64]

WORD_BITS = 64
VOXELS_AT_ONCE = 2**18
WORDS_AT_ONCE = 2**14  # 128 KiB: slices are counted in groups that stay in the processor's cache


class Sliceable(Protocol):
    """What a volume must offer to be measured: a shape, a dtype, and slicing along z."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of slices, rows and columns."""

    @property
    def dtype(self) -> DTypeLike:
        """Type of one voxel."""

    def __getitem__(self, index: slice, /) -> object:
        """Return the slices of `index`, as something NumPy can make an array of."""


def euler_number(network_zyx: Sliceable, *, connectivity: Connectivity = 26) -> int:
    """Euler number of a 3-D network: objects - loops + cavities.

    More negative means more connecting branches. Voxels outside the volume count as background.
    Not additive: measure the hybrid network on the union of its phases.

    Parameters
    ----------
    network_zyx
        Boolean volume (Z, Y, X), True in the network; read a few slices at a time.
    connectivity
        26: voxels touching at a face, an edge or a corner are joined, background by faces only
        (the paper's choice, reference 18). 6: the reverse.

    Raises
    ------
    TypeError
        When the volume is not boolean.
    ValueError
        When it has not three axes, or the connectivity is neither 6 nor 26.
    """
    return EulerCounts.of(network_zyx, connectivity=connectivity).number


@dataclass(frozen=True)
class EulerCounts:
    """Euler number of a slab, with the two faces that the neighbouring slabs will touch.

    Slabs of one volume, cut along z in any way, are measured apart and put together in order:
    ``EulerCounts.of(lower).followed_by(EulerCounts.of(upper))`` equals the counts of the whole.

    How it counts. The Euler number of a row of voxels is its number of runs. Going from one axis
    to two and then three by inclusion and exclusion leaves

        Euler number = runs(v) - runs(v_x) - runs(v_y) + runs(v_xy)

    where runs() counts the runs along z of all voxel columns, v is the volume, and v_x, v_y, v_xy
    join each voxel with its neighbour in x, in y, in both. Joining is OR for 26 neighbours, which
    counts closed cells, and AND for 6, which counts cells between voxel centres. A run starts
    where a voxel is set and the one in the slice before is not, so one slice of memory suffices,
    and 64 voxels of a row share one machine word.

    Attributes
    ----------
    connectivity
        6 or 26, as in `euler_number`.
    shape_zyx
        Shape of the slab.
    number
        Euler number of the slab taken alone.
    first, last
        First and last slice, packed; None for a slab without slices.
    """

    connectivity: Connectivity
    shape_zyx: tuple[int, int, int]
    number: int
    first: Words | None
    last: Words | None

    @classmethod
    def of(cls, slab_zyx: Sliceable, *, connectivity: Connectivity = 26) -> "EulerCounts":
        """Count a slab (Z, Y, X), boolean, in one pass; raises as `euler_number` does."""
        check_connectivity(connectivity)
        check_network(slab_zyx, "euler_number")
        n_z, n_y, n_x = slab_zyx.shape
        number, first, last = 0, None, None
        for thin_zyx in _thin_slabs(slab_zyx):
            slices = _packed(thin_zyx)
            number += _starts(slices, before=last, connectivity=connectivity)
            first = slices[0].copy() if first is None else first
            last = slices[-1].copy()
        return cls(connectivity, (n_z, n_y, n_x), number, first, last)

    def followed_by(self, upper: "EulerCounts") -> "EulerCounts":
        """Join the counts of the slab right above this one, as if they had never been cut.

        Raises
        ------
        ValueError
            When the two differ in connectivity, rows or columns.
        """
        if (self.connectivity, self.shape_zyx[1:]) != (upper.connectivity, upper.shape_zyx[1:]):
            raise ValueError(
                "slabs to be joined need the same connectivity, rows and columns, got "
                f"{self.connectivity} and {upper.connectivity}, {self.shape_zyx[1:]} and "
                f"{upper.shape_zyx[1:]}; cut both from the same volume along z"
            )
        if self.last is None or upper.first is None:
            return upper if self.last is None else self
        first = upper.first[np.newaxis]
        alone = _starts(first, before=None, connectivity=self.connectivity)
        seam = _starts(first, before=self.last, connectivity=self.connectivity) - alone
        shape_zyx = (self.shape_zyx[0] + upper.shape_zyx[0], *self.shape_zyx[1:])
        return EulerCounts(self.connectivity, shape_zyx, self.number + seam + upper.number, self.first, upper.last)


def _thin_slabs(volume_zyx: Sliceable) -> Iterator[NDArray[np.bool_]]:
    """Read the volume from bottom to top, as many slices at a time as fit the cache."""
    n_z, n_y, n_x = volume_zyx.shape
    n_slices = max(1, WORDS_AT_ONCE // ((n_y + 1) * (n_x // WORD_BITS + 1)))
    for z in range(0, n_z, n_slices):
        yield np.asarray(volume_zyx[z : z + n_slices])


def _packed(slab_zyx: NDArray[np.bool_]) -> Words:
    """Pack rows into words, one bit a voxel, with a spare bit and a spare row that stay empty.

    They stand for the background outside, and they let a shift of the whole slab by one bit or
    one row take the place of shifting every row and every slice.
    """
    n_z, n_y, n_x = slab_zyx.shape
    n_words = n_x // WORD_BITS + 1
    octets = np.zeros((n_z, n_y + 1, n_words * WORD_BITS // 8), dtype=np.uint8)
    octets[:, :n_y, : -(-n_x // 8)] = np.packbits(slab_zyx, axis=-1, bitorder="little")
    return octets.view("<u8")


def _starts(slices: Words, *, before: Words | None, connectivity: Connectivity) -> int:
    """Signed number of runs along z that start in `slices`, packed, when `before` lies below."""
    join = np.bitwise_or if connectivity == 26 else np.bitwise_and
    n_z, n_rows, n_words = slices.shape
    per_slice = n_rows * n_words
    flat = np.zeros(n_words + (n_z + 1) * per_slice, dtype=np.uint64)  # an empty row leads
    if before is not None:
        flat[n_words:][:per_slice] = before.ravel()
    flat[n_words + per_slice :] = slices.ravel()
    with_x = _joined_in_x(flat, join)
    with_y = join(flat[n_words:], flat[:-n_words])
    with_xy = join(with_x[n_words:], with_x[:-n_words])
    return (
        _count_starts(flat[n_words:], per_slice)
        - _count_starts(with_x[n_words:], per_slice)
        - _count_starts(with_y, per_slice)
        + _count_starts(with_xy, per_slice)
    )


def _joined_in_x(flat: Words, join: Callable[..., Words]) -> Words:
    """Join each voxel with the one before it in its row; words hand their last bit on."""
    shifted = flat << np.uint64(1)
    shifted[1:] |= flat[:-1] >> np.uint64(WORD_BITS - 1)
    return join(flat, shifted, out=shifted)


def _count_starts(flat: Words, per_slice: int) -> int:
    """Count the bits that are set while the same bit one slice before is not."""
    starts = flat[per_slice:] & ~flat[:-per_slice]
    return int(np.bitwise_count(starts).sum(dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components ("particles") of a network.

    Attributes
    ----------
    n
        Number of components.
    sizes
        Voxels of each component, int64 (n,), largest first.
    """

    n: int
    sizes: NDArray[np.int64]

    @property
    def interconnectivity(self) -> float:
        """Voxels of the largest component / voxels of all, 0..1; 0.0 without any voxel."""
        return float(self.sizes[0] / self.sizes.sum()) if self.n else 0.0


def components(network_zyx: Sliceable, *, connectivity: Connectivity = 26) -> Components:
    """Find the connected components of a network; the volume and one label a voxel are held.

    Parameters
    ----------
    network_zyx
        Boolean volume (Z, Y, X).
    connectivity
        26 joins voxels that share a face, an edge or a corner; 6 those that share a face.

    Raises
    ------
    TypeError, ValueError
        As `euler_number` does.
    """
    import cc3d

    check_connectivity(connectivity)
    check_network(network_zyx, "components")
    if not all(network_zyx.shape):
        return Components(0, np.zeros(0, dtype=np.int64))
    # As labels 0 and 1, not as booleans: for these cc3d 4.1 reserves too few labels and gives up
    # on thin volumes full of single voxels. It is no slower.
    zero_or_one_zyx = np.ascontiguousarray(network_zyx).view(np.uint8)
    labels_zyx, n = cc3d.connected_components(zero_or_one_zyx, connectivity=connectivity, return_N=True)
    return Components(n, np.sort(_voxels_of_each(labels_zyx, n))[::-1])


def _voxels_of_each(labels_zyx: NDArray[np.unsignedinteger], n: int) -> NDArray[np.int64]:
    """Count the voxels of labels 1..n, in parts because bincount widens all that it is given."""
    counts = np.zeros(n + 1, dtype=np.int64)
    labels = labels_zyx.ravel()
    n_at_once = max(VOXELS_AT_ONCE, n)
    for start in range(0, labels.size, n_at_once):
        found = np.bincount(labels[start : start + n_at_once])
        counts[: len(found)] += found
    return counts[1:]


def interconnectivity(network_zyx: Sliceable, *, connectivity: Connectivity = 26) -> float:
    """Global interconnectivity: voxels of the largest component / voxels of the network, 0..1.

    The paper names the measure without a formula; this is the one usual in its group (README,
    choice 9). An empty network gives 0.0: none of it is connected, and tables and JSON, which
    have no NaN, stay whole when an untrained network finds no silicon at all.

    Raises
    ------
    TypeError, ValueError
        As `euler_number` does.
    """
    return components(network_zyx, connectivity=connectivity).interconnectivity


def betti_numbers(network_zyx: Sliceable, *, connectivity: Connectivity = 26) -> tuple[int, int, int]:
    """Betti numbers (b0, b1, b2) of a network: objects, independent loops, closed cavities.

    The background is joined the other way (6 for 26, 26 for 6), and a cavity is a background
    component that does not reach the outside of the volume. The Euler number is b0 - b1 + b2.

    Raises
    ------
    TypeError, ValueError
        As `euler_number` does.
    """
    check_connectivity(connectivity)
    check_network(network_zyx, "betti_numbers")
    network_zyx = np.asarray(network_zyx)
    n_objects = components(network_zyx, connectivity=connectivity).n
    background_zyx = np.pad(~network_zyx, 1, constant_values=True)  # joins all that reaches outside
    dual: Connectivity = 6 if connectivity == 26 else 26
    n_cavities = components(background_zyx, connectivity=dual).n - 1
    n_loops = n_objects + n_cavities - euler_number(network_zyx, connectivity=connectivity)
    return n_objects, n_loops, n_cavities


def check_connectivity(connectivity: int) -> None:
    """Refuse a connectivity other than 6 and 26 with a ValueError."""
    if connectivity not in (6, 26):
        raise ValueError(
            f"connectivity must be 6 (faces) or 26 (faces, edges, corners), got {connectivity!r}; "
            "the paper's measures use 26"
        )


def check_network(network_zyx: Sliceable, measure: str) -> None:
    """Refuse what is not a boolean volume (TypeError) of three axes (ValueError)."""
    dtype = getattr(network_zyx, "dtype", None)
    if dtype is None:
        raise TypeError(
            f"{measure} needs a boolean network, got {type(network_zyx).__name__}; "
            "give an array, e.g. labels_zyx == Phase.SILICON"
        )
    if np.dtype(dtype).kind != "b":
        raise TypeError(
            f"{measure} needs a boolean network, got dtype {dtype}; "
            "select phases first, e.g. labels_zyx == Phase.SILICON"
        )
    if len(network_zyx.shape) != 3:
        raise ValueError(
            f"{measure} needs a volume with axes z, y, x, got shape {tuple(network_zyx.shape)}; "
            "a single slice is a volume too: labels_yx[np.newaxis]"
        )
