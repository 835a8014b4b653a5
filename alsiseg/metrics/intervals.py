"""How sure a measure of one volume is: block bootstrap, and how large a volume must be.

One volume is one sample of the alloy. Its blocks are many, of a smaller size; how much they differ says
how much another volume would. The block bootstrap (Hall 1985, Stoch. Proc. Appl. 20, 231-246; Kuensch 1989,
Ann. Statist. 17, 1217-1241) draws as many blocks as there are, with replacement, again and again, and takes
the measure of each draw. It needs blocks larger than the reach of the structure (arm spacing, length of
plates), and enough of them: `representative_volumes` shows from which size on blocks vary like independent
ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.metrics.blocks import (
    BlockCounts,
    PerBlock,
    cubes,
    density_per_mm3,
    halved_blocks,
    joined_sums,
    sums_per_block,
)
from alsiseg.metrics.checks import check_same_shape, check_volume, check_voxel_size
from alsiseg.phases import NETWORKS
from alsiseg.topology import Connectivity, Sliceable

if TYPE_CHECKING:
    from distributed import Client

MIN_BLOCKS = 8
N_RESAMPLES = 9999
FRACTION, EULER_DENSITY, THICKNESS = "volume_fraction_pct", "euler_density_corrected_per_mm3", "mean_local_thickness_um"
UNITS = {FRACTION: "vol.%", EULER_DENSITY: "1/mm3", THICKNESS: "um"}


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made.

    Attributes
    ----------
    n_blocks
        About how many blocks a volume is cut into, as much like cubes as its shape allows.
    level
        Share of intervals that hold the value of the alloy, 0..1.
    seed
        Of the resampling; the same seed gives the same interval.
    """

    n_blocks: int = 27
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_blocks < MIN_BLOCKS:
            raise ValueError(f"n_blocks must be {MIN_BLOCKS} or more, got {self.n_blocks}; 27 to 125 are usual")
        if not 0 < self.level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {self.level}; 0.95 is usual")


@dataclass(frozen=True)
class Interval:
    """A measure with its bootstrap interval.

    Attributes
    ----------
    value
        Of the whole volume.
    low, high
        Ends of the interval.
    unit
        Of the three: "vol.%", "1/mm3" or "um".
    level
        Nominal share of such intervals that hold the value of the alloy, 0..1.
    n_blocks
        Blocks resampled.
    block_um
        Edge of a cube as large as a block, in micrometres; None without a voxel size.
    """

    value: float
    low: float
    high: float
    unit: str
    level: float
    n_blocks: int
    block_um: float | None

    def __str__(self) -> str:
        size = "" if self.block_um is None else f" of {self.block_um:.0f} um"
        return (
            f"{self.value:.6g} {self.unit}, {100 * self.level:g} % interval {self.low:.6g} to {self.high:.6g} "
            f"({self.n_blocks} blocks{size})"
        )


Intervals = dict[str, dict[str, Interval]]


def network_intervals(
    labels_zyx: Sliceable,
    *,
    truth_zyx: Sliceable | None = None,
    voxel_size_um: float | None = None,
    connectivity: Connectivity = 26,
    bootstrap: Bootstrap | None = None,
    client: "Client | None" = None,
) -> Intervals:
    """Intervals of volume fraction and face-corrected Euler density of each network, slab by slab.

    Both are sums over space, which blocks share out. Interconnectivity and the number of components are not:
    whether two parts are connected may be decided anywhere in the volume.

    Parameters
    ----------
    labels_zyx
        Volume (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide.
    truth_zyx
        With a second volume of the same shape the intervals are those of the difference, labels - truth:
        the blocks of both are drawn together, so that what varies from place to place in both cancels.
    voxel_size_um
        Edge of a voxel in micrometres; without it there is no Euler density.
    connectivity
        Of the Euler number: 6, 18 or 26.
    bootstrap
        `Bootstrap()` unless given.
    client
        A dask.distributed client whose workers count the blocks; the active one of this process, if
        there is one, unless given. The numbers are the same.

    Returns
    -------
    dict
        By network, then by the field of `NetworkMeasure`: "volume_fraction_pct" and
        "euler_density_corrected_per_mm3".

    Raises
    ------
    TypeError, ValueError
        When the labels are not volumes of one shape, or too small for so many blocks.
    """
    bootstrap = bootstrap or Bootstrap()
    check_volume(labels_zyx)
    if voxel_size_um is not None:
        check_voxel_size(voxel_size_um)
    cuts_zyx = halved_blocks(labels_zyx.shape, bootstrap.n_blocks)
    ours = BlockCounts.of(labels_zyx, cuts_zyx, connectivity=connectivity, client=client)
    theirs = None
    if truth_zyx is not None:
        check_same_shape(labels_zyx, truth_zyx)
        theirs = BlockCounts.of(truth_zyx, cuts_zyx, connectivity=connectivity, client=client)
    return {name: _of_network(name, ours, theirs, voxel_size_um, bootstrap) for name in NETWORKS}


def _of_network(
    name: str, ours: BlockCounts, theirs: BlockCounts | None, voxel_size_um: float | None, bootstrap: Bootstrap
) -> dict[str, Interval]:
    """Intervals of one network, or of its difference from the truth."""
    voxels, euler = ours.n_voxels[name].astype(np.float64), ours.euler[name]
    if theirs is not None:
        voxels, euler = voxels - theirs.n_voxels[name], euler - theirs.euler[name]
    edge_um = None if voxel_size_um is None else _edge_of_blocks(ours.block_boxes) * voxel_size_um
    found = {FRACTION: ratio_interval(100 * voxels, ours.block_voxels, FRACTION, edge_um, bootstrap)}
    if voxel_size_um is not None:
        boxes_mm3 = ours.block_boxes * (voxel_size_um / 1e3) ** 3
        found[EULER_DENSITY] = ratio_interval(euler, boxes_mm3, EULER_DENSITY, edge_um, bootstrap)
    return found


def _edge_of_blocks(parts: NDArray[Any]) -> float:
    """Edge of a cube as large as the mean block of 2 x 2 x 2 parts."""
    return float(8 * parts.mean()) ** (1 / 3)


def thickness_interval(
    thickness_zyx: NDArray[np.float32], *, voxel_size_um: float, bootstrap: Bootstrap | None = None
) -> Interval:
    """Interval of the mean local thickness of a network.

    The thickness is measured once, on the whole volume, so that no block limits a ball; the blocks share
    out its sum.

    Parameters
    ----------
    thickness_zyx
        From `local_thickness_um`, 0 outside the network, of which there must be some.
    voxel_size_um
        Edge of a voxel in micrometres.
    bootstrap
        `Bootstrap()` unless given.

    Raises
    ------
    ValueError
        When the network has no voxel, or the volume is too small for so many blocks.
    """
    bootstrap = bootstrap or Bootstrap()
    check_voxel_size(voxel_size_um)
    cuts_zyx = halved_blocks(thickness_zyx.shape, bootstrap.n_blocks)
    network_zyx = thickness_zyx > 0
    if not network_zyx.any():
        raise ValueError("thickness_interval needs a network, found none in the volume; leave it out")
    sums, voxels = sums_per_block(thickness_zyx, cuts_zyx), sums_per_block(network_zyx, cuts_zyx)
    edge_um = _edge_of_blocks(sums_per_block(np.ones(thickness_zyx.shape, dtype=bool), cuts_zyx)) * voxel_size_um
    return ratio_interval(sums, voxels, THICKNESS, edge_um, bootstrap)


def ratio_interval(
    amounts: PerBlock, sizes: NDArray[Any], quantity: str, block_um: float | None, bootstrap: Bootstrap
) -> Interval:
    """Interval of sum(amounts) / sum(sizes), resampled in blocks of 2 x 2 x 2 of the parts given.

    The percentiles of the resampled ratio are too close, for three known reasons, which are put right.
    With n blocks, they are by sqrt((n - 1) / n) and as the normal distribution is to Student's t: they are
    taken at a higher level ("expanded percentiles", Hesterberg 2015, Am. Statist. 69, 371-386). And blocks
    side by side share structure: `_widening`. Of 100 intervals of 95 %, on fields whose mean is known, 95
    hold it where structures are a third to a half of a block wide (Boolean models of balls), and 93, 90 and
    88 where the correlation of a Gaussian field has fallen to 1/e at a fifth, a third and half of a block.
    Where blocks are smaller than the structure it is fewer: on pieces of grown specimens with blocks of 25 um,
    where dendrite arms lie 40 um apart, 81 to 91 for fraction, Euler density and thickness alike
    (`benchmarks/results/interval_coverage_64.txt`).
    """
    from scipy import stats

    of_block, size_of_block = joined_sums(amounts, 2).ravel(), joined_sums(sizes, 2).ravel()
    n = len(of_block)
    t = stats.t.ppf((1 + bootstrap.level) / 2, n - 1)
    level = 2 * stats.norm.cdf(t * math.sqrt(n / (n - 1))) - 1
    drawn = np.random.default_rng(bootstrap.seed).integers(0, n, (N_RESAMPLES, n))
    drawn_sizes = size_of_block[drawn].sum(axis=1)
    ratios = of_block[drawn].sum(axis=1)[drawn_sizes > 0] / drawn_sizes[drawn_sizes > 0]
    value = float(amounts.sum() / sizes.sum())
    ends = value + _widening(amounts, sizes) * (np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2]) - value)
    return Interval(value, float(ends[0]), float(ends[1]), UNITS[quantity], bootstrap.level, n, block_um)


def _widening(amounts: PerBlock, sizes: NDArray[Any]) -> float:
    """By how much blocks of 2 x 2 x 2 parts underrate the deviation of the whole: 1, to 1.4 at most.

    What blocks share with their neighbours, over a layer as thick as the structure, is missing from their
    variance: a share proportional to 1 / edge. The parts, of half the edge, miss twice as much, so the two
    variances tell the share, and that of the whole volume, which misses the least (extrapolated as the
    flat-top kernel of Politis and Romano 1995, J. Time Ser. Anal. 16, 67-103, does for series).
    """
    in_parts = _total_variance(amounts, sizes)
    in_blocks = _total_variance(joined_sums(amounts, 2), joined_sums(sizes, 2))
    if in_blocks <= in_parts:  # nothing is shared as far as one can see
        return 1.0
    growth = in_blocks / in_parts if in_parts else math.inf
    missing = (growth - 1) / (2 * growth - 1) if math.isfinite(growth) else 0.5  # share at the size of the blocks
    blocks_per_edge = (amounts.size / 8) ** (1 / 3)
    return math.sqrt((1 - missing / blocks_per_edge) / (1 - missing))


def _total_variance(amounts: PerBlock, sizes: NDArray[Any]) -> float:
    """Variance of the sum of all amounts about their share of the size, were the blocks independent."""
    deviations = amounts - amounts.sum() / sizes.sum() * sizes
    return float((deviations**2).sum() * deviations.size / (deviations.size - 1))


@dataclass(frozen=True, eq=False)
class SizeCurve:
    """A measure of cubes of growing edge: its mean, and how much it varies between them.

    Attributes
    ----------
    edge_um
        Edge of the cubes, in micrometres, float64 (n,).
    mean, spread
        Mean and standard deviation over the cubes, float64 (n,), in `unit`.
    n_cubes
        Cubes side by side that the volume holds, int64 (n,).
    unit
        "vol.%" or "1/mm3".
    """

    edge_um: NDArray[np.float64]
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    n_cubes: NDArray[np.int64]
    unit: str

    def representative_edge_um(self, relative_spread: float = 0.05) -> float | None:
        """Smallest edge from which on the spread stays under a share of the mean; None when it never does."""
        too_wide = np.flatnonzero(~(self.spread <= relative_spread * np.abs(self.mean)))
        first = 0 if not len(too_wide) else too_wide[-1] + 1
        return float(self.edge_um[first]) if first < len(self.edge_um) else None


def representative_volumes(
    labels_zyx: Sliceable,
    *,
    voxel_size_um: float,
    smallest_voxels: int = 16,
    connectivity: Connectivity = 26,
    client: "Client | None" = None,
) -> dict[str, dict[str, SizeCurve]]:
    """Volume fraction and Euler density of each network against the size of the cube they are measured on.

    The volume is cut into cubes of `smallest_voxels`, counted in one pass, slab by slab; larger cubes are
    joined from them, so that all sizes see the same places. Sizes go up by whole multiples to the largest of
    which the volume holds `MIN_BLOCKS`. Cubes lie side by side: their spread is that of separate samples.
    (PoreSpy's `rev_porosity` takes cubes at random places, which overlap more the larger they are, so their
    spread comes out too small; it knows the fraction of one network in memory, and no Euler number.)

    Returns
    -------
    dict
        By network, then "volume_fraction_pct" and "euler_density_corrected_per_mm3"; `size_columns` makes
        a table of it.

    Raises
    ------
    TypeError, ValueError
        When the labels are not a volume, the voxel size not above zero, or the volume too small for
        `MIN_BLOCKS` of the smallest cubes.
    """
    check_volume(labels_zyx)
    check_voxel_size(voxel_size_um)
    cuts_zyx = cubes(labels_zyx.shape, smallest_voxels)
    finest = BlockCounts.of(labels_zyx, cuts_zyx, connectivity=connectivity, client=client)
    sizes = [n for n in range(1, max(finest.grid_zyx) + 1) if np.prod([k // n for k in finest.grid_zyx]) >= MIN_BLOCKS]
    if not sizes:
        raise ValueError(
            f"{MIN_BLOCKS} cubes of {smallest_voxels} voxels do not fit into a volume of {tuple(labels_zyx.shape)}; "
            "give a smaller smallest_voxels or a larger volume"
        )
    joined = [finest.joined(n) for n in sizes]
    edges_um = smallest_voxels * voxel_size_um * np.array(sizes, dtype=np.float64)
    curves = {}
    for name in NETWORKS:
        fractions = [100 * blocks.n_voxels[name] / blocks.block_voxels for blocks in joined]
        densities = [density_per_mm3(blocks.euler[name], blocks.block_boxes, voxel_size_um) for blocks in joined]
        curves[name] = {FRACTION: _curve(edges_um, fractions, FRACTION)}
        curves[name][EULER_DENSITY] = _curve(edges_um, densities, EULER_DENSITY)
    return curves


def _curve(edges_um: NDArray[np.float64], values: list[PerBlock], quantity: str) -> SizeCurve:
    return SizeCurve(
        edges_um,
        np.array([of_size.mean() for of_size in values]),
        np.array([of_size.std(ddof=1) for of_size in values]),
        np.array([of_size.size for of_size in values]),
        UNITS[quantity],
    )


def size_columns(curves: Mapping[str, Mapping[str, SizeCurve]]) -> dict[str, NDArray]:
    """Columns behind a figure of representative volumes: edge, number of cubes, mean and spread of each measure."""
    first = next(iter(next(iter(curves.values())).values()))
    columns: dict[str, NDArray] = {"edge_um": first.edge_um, "n_cubes": first.n_cubes}
    for name, by_quantity in curves.items():
        for quantity, curve in by_quantity.items():
            columns[f"{name} {quantity} mean"] = curve.mean
            columns[f"{name} {quantity} spread"] = curve.spread
    return columns
