"""A volume cut into blocks, and what each block adds to the measures of the whole.

Volume fraction and Euler number are sums over space, so they can be shared out exactly. A voxel belongs
to the block that holds it. For the Euler number the blocks overlap by the one layer of voxels between
them, and each counts signed cells (voxel centres, steps, squares and cubes between them; their closed
counterparts for 26 neighbours) with weight 1 inside, 1/2 on its faces, 1/4 on its edges and 1/8 at its
corners: `topology.EulerCounts.face_corrected`. A cell on the plane between two blocks gives half to each,
so the blocks add up to the face-corrected number of the whole, exactly and not on average, and every
block is an unbiased sample of the Euler density of the alloy. Euler numbers of blocks taken alone do neither:
cutting a network open makes new ends, in a network like silicon more than there were.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import islice, pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.metrics.checks import check_volume, check_voxel_size
from alsiseg.metrics.slabs import n_slices_at_once, parts, run
from alsiseg.metrics.workers import Task, active_client
from alsiseg.phases import NETWORKS, check_labels
from alsiseg.topology import Connectivity, NetworkCounts, Sliceable, check_connectivity

if TYPE_CHECKING:
    from distributed import Client

Cuts = NDArray[np.int64]
PerBlock = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BlockCounts:
    """What each block of a volume adds to the measures of its networks.

    Attributes
    ----------
    cuts_zyx
        For each axis the voxel layers at which blocks begin and end, the first and last of the volume
        included, int64 (blocks + 1,).
    n_voxels
        By network, voxels of each block, int64 (blocks z, y, x). A voxel on a cut belongs to the upper
        block, on the last cut to the last one.
    euler
        By network, share of each block in the face-corrected Euler number, float64 (blocks z, y, x).
    block_voxels
        Voxels of each block, network or not, int64 (blocks z, y, x).
    """

    cuts_zyx: tuple[Cuts, Cuts, Cuts]
    n_voxels: dict[str, NDArray[np.int64]]
    euler: dict[str, PerBlock]
    block_voxels: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        labels_zyx: Sliceable,
        cuts_zyx: tuple[Cuts, Cuts, Cuts],
        *,
        connectivity: Connectivity = 26,
        client: "Client | None" = None,
    ) -> "BlockCounts":
        """Count the blocks between the cuts in one pass, slab by slab (memory: one slab).

        Parameters
        ----------
        labels_zyx
            Volume (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide.
        cuts_zyx
            As the attribute; see `cubes` and `halved_blocks`. What lies beyond the last cut is left out.
        connectivity
            Of the Euler number: 6, 18 or 26.
        client
            A dask.distributed client whose workers count the slabs; the active one of this process, if
            there is one, unless given. The numbers are the same.
        """
        check_volume(labels_zyx)
        check_connectivity(connectivity)
        layers = list(_layers(labels_zyx, cuts_zyx, client or active_client()))
        grid_yx = tuple(len(cuts) - 1 for cuts in cuts_zyx[1:])
        return cls(
            cuts_zyx,
            {name: np.array([layer.n_voxels[name] for layer in layers]) for name in NETWORKS},
            {name: np.array([_euler(layer, name, connectivity, grid_yx) for layer in layers]) for name in NETWORKS},
            _outer([np.diff(_begins(cuts)) for cuts in cuts_zyx]),
        )

    @property
    def block_boxes(self) -> NDArray[np.int64]:
        """Volume of each block from voxel centre to voxel centre, in voxels, int64 (blocks z, y, x)."""
        return _outer([np.diff(cuts) for cuts in self.cuts_zyx])

    @property
    def grid_zyx(self) -> tuple[int, ...]:
        """Blocks along each axis."""
        return self.block_voxels.shape

    def joined(self, n: int) -> "BlockCounts":
        """Join n x n x n blocks to one; what is left over at the upper ends is left out."""
        kept = tuple(cuts[: (len(cuts) - 1) // n * n + 1 : n] for cuts in self.cuts_zyx)
        return BlockCounts(
            (kept[0], kept[1], kept[2]),
            {name: joined_sums(voxels, n) for name, voxels in self.n_voxels.items()},
            {name: joined_sums(euler, n) for name, euler in self.euler.items()},
            joined_sums(self.block_voxels, n),
        )


def halved_blocks(shape_zyx: tuple[int, ...], n_blocks: int) -> tuple[Cuts, Cuts, Cuts]:
    """Cut a volume into about `n_blocks` blocks, as much like cubes as its shape allows, and each block in 2 x 2 x 2.

    Raises
    ------
    ValueError
        When the blocks would have less than 4 voxels along an edge.
    """
    counts = _blocks_per_axis(shape_zyx, n_blocks)
    if min(n // k for n, k in zip(shape_zyx, counts, strict=True)) < 4:
        raise ValueError(
            f"{n_blocks} blocks need at least 4 voxels along every edge of a block, got a volume of "
            f"{tuple(shape_zyx)}; ask for fewer blocks or measure a larger volume"
        )
    z, y, x = (_even_cuts(n, 2 * k) for n, k in zip(shape_zyx, counts, strict=True))
    return z, y, x


def _blocks_per_axis(shape_zyx: tuple[int, ...], n_blocks: int) -> list[int]:
    """Share blocks out among the axes, the shortest first, so that a thin volume gets no more of them."""
    counts = [1, 1, 1]
    axes = sorted(range(3), key=lambda axis: shape_zyx[axis])
    for i, axis in enumerate(axes):
        n_left = n_blocks / math.prod(counts)
        edge = (math.prod(shape_zyx[other] for other in axes[i:]) / n_left) ** (1 / (3 - i))
        counts[axis] = max(1, round(shape_zyx[axis] / edge)) if edge else 1
    return counts


def _even_cuts(n_voxels: int, n_parts: int) -> Cuts:
    return np.linspace(0, n_voxels - 1, n_parts + 1).round().astype(np.int64)


def cubes(shape_zyx: tuple[int, ...], edge_voxels: int) -> tuple[Cuts, Cuts, Cuts]:
    """Cut a volume into cubes of one edge; what is left over at the upper ends is left out.

    Raises
    ------
    ValueError
        When not one cube fits.
    """
    if edge_voxels < 1 or edge_voxels > min(shape_zyx) - 1:
        raise ValueError(
            f"cubes in a volume of {tuple(shape_zyx)} need an edge of 1 to {min(shape_zyx) - 1} voxels, "
            f"got {edge_voxels}; choose another edge or measure a larger volume"
        )
    z, y, x = (np.arange(0, n, edge_voxels, dtype=np.int64) for n in shape_zyx)
    return z, y, x


def sums_per_block(values_zyx: NDArray, cuts_zyx: tuple[Cuts, Cuts, Cuts]) -> PerBlock:
    """Sum up a value of every voxel over the blocks, float64 (blocks z, y, x)."""
    z_begins, y_begins, x_begins = (_begins(cuts) for cuts in cuts_zyx)
    inside_zyx = values_zyx[: z_begins[-1], : y_begins[-1], : x_begins[-1]]
    over_x = np.add.reduceat(inside_zyx, x_begins[:-1], axis=2, dtype=np.float64)
    return np.add.reduceat(np.add.reduceat(over_x, y_begins[:-1], axis=1), z_begins[:-1], axis=0)


def joined_sums(values: NDArray, n: int) -> NDArray:
    """Sum up n x n x n neighbours; what is left over at the upper ends is left out."""
    n_z, n_y, n_x = (length // n for length in values.shape)
    whole = values[: n_z * n, : n_y * n, : n_x * n]
    return whole.reshape(n_z, n, n_y, n, n_x, n).sum(axis=(1, 3, 5))


def density_per_mm3(euler: PerBlock, boxes: NDArray[np.int64], voxel_size_um: float) -> PerBlock:
    """Euler numbers per cubic millimetre of boxes given in voxels."""
    check_voxel_size(voxel_size_um)
    return euler / (boxes * (voxel_size_um / 1e3) ** 3)


@dataclass(frozen=True, eq=False)
class _Layer:
    """What some slices add to the blocks (y, x) of one layer: voxels by network, and the counts of each block."""

    n_voxels: dict[str, NDArray[np.int64]]
    columns: list[NetworkCounts]

    def followed_by(self, upper: "_Layer") -> "_Layer":
        """Join with the slices right above."""
        n_voxels = {name: n + upper.n_voxels[name] for name, n in self.n_voxels.items()}
        columns = zip(self.columns, upper.columns, strict=True)
        return _Layer(n_voxels, [lower.followed_by(above) for lower, above in columns])


def _layers(labels_zyx: Sliceable, cuts_zyx: tuple[Cuts, Cuts, Cuts], client: "Client | None") -> Iterator[_Layer]:
    """Count the layers of blocks from bottom to top; two that are neighbours share a slice."""
    z_cuts, *cuts_yx = cuts_zyx
    n_slices = n_slices_at_once([labels_zyx], client)
    by_layer = [parts(z, z_end + 1, n_slices) for z, z_end in pairwise(z_cuts.tolist())]
    tasks = []
    for each in by_layer:
        for z in each:
            # The shared slice belongs to the upper layer, the last one of all to the last layer.
            is_shared = z.stop == each[-1].stop < z_cuts[-1] + 1
            tasks.append(Task(z, partial(_slab_of_layer, cuts_yx=cuts_yx, n_own=z.stop - z.start - is_shared)))
    counted = run(tasks, [labels_zyx], client)
    for each in by_layer:
        yield reduce(_Layer.followed_by, islice(counted, len(each)))


def _slab_of_layer(slab_zyx: NDArray[Any], *, cuts_yx: Sequence[Cuts], n_own: int) -> _Layer:
    """Count some slices of one layer, of which the first `n_own` give their voxels to it."""
    check_labels(slab_zyx)
    n_voxels = {}
    for name, phases in NETWORKS.items():
        n_yx = sum(np.count_nonzero(slab_zyx[:n_own] == phase, axis=0) for phase in phases)
        n_voxels[name] = _plane_sums(np.asarray(n_yx), *cuts_yx)
    boxes = [slab_zyx[:, y : y_end + 1, x : x_end + 1] for (y, y_end), (x, x_end) in product(*map(pairwise, cuts_yx))]
    return _Layer(n_voxels, [NetworkCounts.of(box_zyx, components=False, n_threads=1) for box_zyx in boxes])


def _euler(layer: _Layer, name: str, connectivity: Connectivity, grid_yx: tuple[int, ...]) -> PerBlock:
    """Shares of the blocks (y, x) in the face-corrected Euler number."""
    shares = [column.networks[name].euler[connectivity].face_corrected for column in layer.columns]
    return np.array(shares).reshape(grid_yx)


def _plane_sums(n_yx: NDArray[np.int64], y_cuts: Cuts, x_cuts: Cuts) -> NDArray[np.int64]:
    y_begins, x_begins = _begins(y_cuts), _begins(x_cuts)
    over_x = np.add.reduceat(n_yx[: y_begins[-1], : x_begins[-1]], x_begins[:-1], axis=1)
    return np.add.reduceat(over_x, y_begins[:-1], axis=0)


def _begins(cuts: Cuts) -> Cuts:
    """Where the voxels of the blocks begin; the last block keeps the voxels on the last cut."""
    return np.append(cuts[:-1], cuts[-1] + 1)


def _outer(edges: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    z, y, x = edges
    return z[:, None, None] * y[:, None] * x
