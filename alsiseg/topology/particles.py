"""Connected components ("particles"), counted slab by slab without a label volume."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.topology.packing import Packed, Words, pack_network, words_per_row
from alsiseg.topology.reading import (
    Connectivity,
    Sliceable,
    check_connectivity,
    check_joinable,
    check_network,
    count_slabs,
)

SMALL_VOXELS = 2**16  # sizes below are counted in a table, larger ones by sorting


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


def components(network_zyx: Sliceable, *, connectivity: Connectivity = 26, n_threads: int | None = None) -> Components:
    """Find the connected components of a network in one pass, without a label volume.

    Parameters
    ----------
    network_zyx
        Boolean volume (Z, Y, X), read slab by slab.
    connectivity
        26 joins voxels that share a face, an edge or a corner; 18 those that share a face or an edge; 6 a face.
    n_threads
        As many as this process may use processors, unless given.

    Raises
    ------
    TypeError, ValueError
        As `euler_number` does.
    """
    check_connectivity(connectivity)
    check_network(network_zyx, "components")
    return ComponentCounts.of(network_zyx, connectivity=connectivity, n_threads=n_threads).components


def interconnectivity(
    network_zyx: Sliceable, *, connectivity: Connectivity = 26, n_threads: int | None = None
) -> float:
    """Global interconnectivity: voxels of the largest component / voxels of the network, 0..1.

    The paper names the measure without a formula; this is the one usual in its group (README,
    choice 9). An empty network gives 0.0: none of it is connected, and tables and JSON, which
    have no NaN, stay whole when an untrained network finds no silicon at all.

    Raises
    ------
    TypeError, ValueError
        As `euler_number` does.
    """
    check_connectivity(connectivity)
    check_network(network_zyx, "interconnectivity")
    return ComponentCounts.of(network_zyx, connectivity=connectivity, n_threads=n_threads).interconnectivity


@dataclass(frozen=True, eq=False)
class Face:
    """One end of a slab, where components may go on: packed words, and the component of each run."""

    words: Words
    component_of_run: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class ComponentCounts:
    """The components of a slab, of which only those that reach its first or last slice are kept.

    Slabs of one volume, cut along z in any way, are measured apart and put together in order, as
    with `EulerCounts`; the order of joining does not matter. Memory: two slices, one number for
    each component that reaches them, and how many closed components there are of each size.

    Attributes
    ----------
    connectivity
        6, 18 or 26, as in `components`.
    shape_zyx
        Shape of the slab.
    live_voxels
        Voxels, so far, of each component that reaches the first or last slice, int64.
    closed_voxels, closed_counts
        The sizes of all other components, ascending, and how many have each of them, int64.
    ends
        First and last slice of the slab; None for a slab without slices.
    """

    connectivity: Connectivity
    shape_zyx: tuple[int, int, int]
    live_voxels: NDArray[np.int64]
    closed_voxels: NDArray[np.int64]
    closed_counts: NDArray[np.int64]
    ends: tuple[Face, Face] | None

    @classmethod
    def of(
        cls, slab_zyx: Sliceable, *, connectivity: Connectivity = 26, n_threads: int | None = None
    ) -> "ComponentCounts":
        """Count a slab (Z, Y, X), boolean, in one pass; raises as `components` does."""
        check_connectivity(connectivity)
        check_network(slab_zyx, "components")

        def count(thin_zyx: NDArray[Any]) -> ComponentCounts:
            return count_components(pack_network(thin_zyx), connectivity)

        return count_slabs(slab_zyx, count, n_threads=n_threads)

    def followed_by(self, upper: "ComponentCounts") -> "ComponentCounts":
        """Join the components of the slab right above this one, as if they had never been cut.

        Raises
        ------
        ValueError
            When the two differ in connectivity, rows or columns.
        """
        check_joinable((self.connectivity, *self.shape_zyx[1:]), (upper.connectivity, *upper.shape_zyx[1:]))
        if self.ends is None or upper.ends is None:
            return upper if self.ends is None else self
        return _joined(self, upper, self.ends, upper.ends)

    @property
    def n_closed(self) -> int:
        """Components that reach neither the first nor the last slice."""
        return int(self.closed_counts.sum())

    @property
    def n(self) -> int:
        """Number of components."""
        return len(self.live_voxels) + self.n_closed

    @property
    def n_voxels(self) -> int:
        """Voxels of all components."""
        return int(self.live_voxels.sum() + self.closed_voxels @ self.closed_counts)

    @property
    def largest_voxels(self) -> int:
        """Voxels of the largest component; 0 without any."""
        return int(max(self.live_voxels.max(initial=0), self.closed_voxels.max(initial=0)))

    @property
    def interconnectivity(self) -> float:
        """Voxels of the largest component / voxels of all, 0..1; 0.0 without any voxel."""
        return self.largest_voxels / self.n_voxels if self.n else 0.0

    @property
    def components(self) -> Components:
        """All sizes, one by one."""
        closed = np.repeat(self.closed_voxels, self.closed_counts)
        return Components(self.n, np.sort(np.concatenate([self.live_voxels, closed]))[::-1])


def count_components(slab: Packed, connectivity: Connectivity) -> ComponentCounts:
    """Count the components of a packed slab, all in memory."""
    from alsiseg.topology import kernels, runs

    n_runs = kernels.count_runs(slab.words)
    parent, voxels = np.empty(n_runs, dtype=np.int32), np.empty(n_runs, dtype=np.int64)
    runs.join_slab(slab.words, slab.n_words, connectivity, parent, voxels)
    n_at_first, n_at_last = kernels.count_runs(slab.words[:1]), kernels.count_runs(slab.words[-1:])
    at_first = np.arange(n_at_first, dtype=np.int32)
    at_last = np.arange(n_runs - n_at_last, n_runs, dtype=np.int32)
    live, closed = _live_and_closed(parent, voxels, at_first, at_last)
    ends = None
    if slab.shape_zyx[0]:
        ends = Face(slab.words[0].copy(), at_first), Face(slab.words[-1].copy(), at_last)
    return ComponentCounts(connectivity, slab.shape_zyx, live, *_tally(closed), ends)


def _joined(
    lower: ComponentCounts, upper: ComponentCounts, lower_ends: tuple[Face, Face], upper_ends: tuple[Face, Face]
) -> ComponentCounts:
    """Join two slabs that both have slices."""
    from alsiseg.topology import runs

    (first, below), (above, last) = lower_ends, upper_ends
    n_lower = np.int32(len(lower.live_voxels))  # the components of the upper slab are numbered behind
    voxels = np.concatenate([lower.live_voxels, upper.live_voxels])
    runs_below, runs_above = below.component_of_run, above.component_of_run + n_lower
    parent = np.arange(len(voxels) + len(runs_below) + len(runs_above), dtype=np.int32)
    n_words = words_per_row(lower.shape_zyx[2])
    by = lower.connectivity
    runs.join_seam(below.words, above.words, n_words, by, runs_below, runs_above, parent, voxels)
    at_first, at_last = first.component_of_run.copy(), last.component_of_run + n_lower
    live, closed = _live_and_closed(parent[: len(voxels)], voxels, at_first, at_last)
    sizes, counts = _tally(closed)
    closed_voxels = np.concatenate([lower.closed_voxels, upper.closed_voxels, sizes])
    closed_counts = np.concatenate([lower.closed_counts, upper.closed_counts, counts])
    shape_zyx = (lower.shape_zyx[0] + upper.shape_zyx[0], *lower.shape_zyx[1:])
    ends = Face(first.words, at_first), Face(last.words, at_last)
    return ComponentCounts(lower.connectivity, shape_zyx, live, *_merged(closed_voxels, closed_counts), ends)


def _live_and_closed(
    parent: NDArray[np.int32], size: NDArray[np.int64], at_first: NDArray[np.int32], at_last: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sizes of the components that reach an end, and of the others; the nodes at the ends get their numbers."""
    from alsiseg.topology import runs

    number = np.full(len(parent), -1, dtype=np.int32)
    n_live = runs.renumber(parent, at_first, at_last, number)
    roots = np.flatnonzero(parent == np.arange(len(parent), dtype=np.int32))
    size, number = size[roots], number[roots]
    live = np.empty(n_live, dtype=np.int64)
    live[number[number >= 0]] = size[number >= 0]
    return live, size[number < 0]


def _tally(sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct sizes, ascending, and how often each occurs."""
    small = np.bincount(sizes[sizes < SMALL_VOXELS])
    distinct = np.flatnonzero(small)
    large, counts = np.unique(sizes[sizes >= SMALL_VOXELS], return_counts=True)
    return np.concatenate([distinct, large]), np.concatenate([small[distinct], counts])


def _merged(sizes: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add up the counts of equal sizes."""
    distinct, index = np.unique(sizes, return_inverse=True)
    totals = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(totals, index, counts)
    return distinct, totals
