"""Euler numbers, counted slab by slab."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from alsiseg.topology.packing import Packed, Words, pack_network
from alsiseg.topology.reading import (
    CONNECTIVITIES,
    Connectivity,
    Sliceable,
    check_connectivity,
    check_joinable,
    check_network,
    count_slabs,
)

if TYPE_CHECKING:
    from torch import Tensor

UM3_PER_MM3 = 1e9


def euler_number(network_zyx: Sliceable, *, connectivity: Connectivity = 26, n_threads: int | None = None) -> int:
    """Euler number of a 3-D network: objects - loops + cavities.

    More negative means more connecting branches. Voxels outside the volume count as background
    (`EulerCounts.face_corrected` for the other view). Not additive: measure the hybrid network on
    the union of its phases.

    Parameters
    ----------
    network_zyx
        Boolean volume (Z, Y, X), True in the network: a NumPy array, memory map, zarr array, HDF5
        data set or dask array, read slab by slab, or a torch tensor, counted where it is.
    connectivity
        26: voxels touching at a face, an edge or a corner are joined, background by faces only
        (the paper's choice, reference 18). 6: the reverse. 18: by faces and edges, background by
        faces only.
    n_threads
        As many as this process may use processors, unless given.

    Raises
    ------
    TypeError
        When the volume is not boolean.
    ValueError
        When it has not three axes, or the connectivity is none of 6, 18, 26.
    """
    if type(network_zyx).__module__ == "torch":
        from alsiseg.topology.tensors import euler_number_of_tensor

        return euler_number_of_tensor(cast("Tensor", network_zyx), connectivity=connectivity, n_threads=n_threads)
    return EulerCounts.of(network_zyx, connectivity=connectivity, n_threads=n_threads).number


@dataclass(frozen=True, eq=False)
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

    By 18 two voxels that touch at a corner alone are not joined. Each such corner (of its eight
    voxels two are set, opposite each other) is one point by 26 and two by 18, so

        Euler number by 18 = Euler number by 26 + number of such corners

    Attributes
    ----------
    connectivity
        6, 18 or 26, as in `euler_number`.
    shape_zyx
        Shape of the slab.
    number
        Euler number of the slab taken alone.
    eighths
        8 x the Euler number of the slab - 4 x that of its four side faces + 2 x that of its four
        upright edges; see `face_corrected`.
    first, last
        First and last slice, packed; None for a slab without slices.
    """

    connectivity: Connectivity
    shape_zyx: tuple[int, int, int]
    number: int
    eighths: int
    first: Packed | None
    last: Packed | None

    @classmethod
    def of(cls, slab_zyx: Sliceable, *, connectivity: Connectivity = 26, n_threads: int | None = None) -> "EulerCounts":
        """Count a slab (Z, Y, X), boolean, in one pass; raises as `euler_number` does."""
        check_connectivity(connectivity)
        check_network(slab_zyx, "euler_number")

        def count(thin_zyx: NDArray[Any]) -> EulerCounts:
            return count_all(pack_network(thin_zyx))[connectivity]

        return count_slabs(slab_zyx, count, n_threads=n_threads)

    def followed_by(self, upper: "EulerCounts") -> "EulerCounts":
        """Join the counts of the slab right above this one, as if they had never been cut.

        Raises
        ------
        ValueError
            When the two differ in connectivity, rows or columns.
        """
        check_joinable((self.connectivity, *self.shape_zyx[1:]), (upper.connectivity, *upper.shape_zyx[1:]))
        if self.last is None or upper.first is None:
            return upper if self.last is None else self
        alone = _starts(upper.first)[self.connectivity]
        on_top = _starts(upper.first, before=self.last.words[0])[self.connectivity]
        return EulerCounts(
            connectivity=self.connectivity,
            shape_zyx=(self.shape_zyx[0] + upper.shape_zyx[0], *self.shape_zyx[1:]),
            number=self.number + upper.number + on_top[0] - alone[0],
            eighths=self.eighths + upper.eighths + on_top[1] - alone[1],
            first=self.first,
            last=upper.last,
        )

    @property
    def face_corrected(self) -> float:
        """Euler number without the share that the faces of the volume add, in eighths.

        A network cut by the faces of the volume shows ends there that it does not have. What is
        counted here is, with the faces, edges and corners of the box as pictures of fewer axes,

            Euler number - 1/2 sum over 6 faces + 1/4 sum over 12 edges - 1/8 sum over 8 corners

        (Odgaard and Gundersen 1993, Bone 14, 173-182, whom BoneJ follows too): the mean over the
        eight ways to leave out three faces that meet, as in the unbiased brick of stereology. It
        is the number of signed cells with weight 1/2 on a face of the box through the outermost
        voxel centres, 1/4 on its edges, 1/8 on its corners. Two boxes that share a layer of voxels
        therefore add up to the whole, and it is unbiased for a part of a larger specimen.
        """
        faces = [face for face in (self.first, self.last) if face is not None]
        at_faces = sum(_starts(face)[self.connectivity][1] for face in faces)
        return (2 * self.eighths - at_faces) / 16

    def density_per_mm3(self, voxel_size_um: float, *, face_corrected: bool = True) -> float:
        """Euler number per cubic millimetre.

        Corrected for the faces: `face_corrected` / ((Z - 1)(Y - 1)(X - 1) a^3), because the box
        reaches from the first voxel centre to the last. Otherwise: `number` / (Z Y X a^3), with
        the outside as background. a is the edge of a voxel, in um.

        Raises
        ------
        ValueError
            When the voxel size is no length, or the box has no volume.
        """
        if not (math.isfinite(voxel_size_um) and voxel_size_um > 0):
            raise ValueError(
                f"voxel_size_um must be a length above 0 in micrometres, got {voxel_size_um}; "
                "the paper's scans have 1.2"
            )
        least = 2 if face_corrected else 1
        if min(self.shape_zyx) < least:
            raise ValueError(
                f"an Euler density needs at least {least} voxels along every axis, got shape {self.shape_zyx}; "
                "measure a larger part"
            )
        n_voxels = math.prod(n - 1 for n in self.shape_zyx) if face_corrected else math.prod(self.shape_zyx)
        return (self.face_corrected if face_corrected else self.number) * UM3_PER_MM3 / (n_voxels * voxel_size_um**3)


def count_all(slab: Packed) -> dict[Connectivity, EulerCounts]:
    """Count a packed slab by all three connectivities at once."""
    first, last = (slab.slab(slice(0, 1)), slab.slab(slice(-1, None))) if slab.shape_zyx[0] else (None, None)
    return {
        connectivity: EulerCounts(connectivity, slab.shape_zyx, number, eighths, first, last)
        for connectivity, (number, eighths) in _starts(slab).items()
    }


def _starts(slab: Packed, *, before: Words | None = None) -> dict[Connectivity, tuple[int, int]]:
    """Euler number and `eighths` of a slab, as far as they start in it, when `before` lies below."""
    from alsiseg.topology.kernels import euler_starts, side_starts

    if before is None:
        before = np.zeros(slab.words.shape[1], dtype=np.uint64)
    numbers = euler_starts(slab.words, before, slab.n_words)
    at_sides = side_starts(slab.words, before, slab.n_words, slab.shape_zyx[2])
    return {
        connectivity: (number, 8 * number + side)
        for connectivity, number, side in zip(CONNECTIVITIES, numbers, at_sides, strict=True)
    }
