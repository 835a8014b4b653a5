"""The surfaces of silicon and aluminides, and the shares of every voxel that lie inside of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alsiseg.phantom.fields import Field, Shape
from alsiseg.phantom.partial_volume import Sheets, covered_by_sheets, covered_by_solid, eighths
from alsiseg.phases import Phase
from alsiseg.progress import steps

WHOLE = 255
VOXELS_AT_ONCE = 2**18
# A part of a large volume tells how large a phase is: two of eight slices from 4 million voxels on.
SLICES_SAMPLED = 2
VOXELS_SAMPLED = 2**20
MAX_STEP = 4
Shares = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True)
class Body:
    """All of one phase: solid particles, and sheets.

    `solid_zyx` is the distance in voxels to the particles, negative inside, float32 (Z, Y, X).
    """

    solid_zyx: Field
    sheets: Sheets

    def level(self) -> Field:
        """Distance in voxels to the surface, negative inside."""
        return np.minimum(self.solid_zyx, self.sheets.level())

    def with_thicker_sheets(self, voxels: float) -> "Body":
        """Move the surface of the sheets outwards by `voxels`."""
        return Body(self.solid_zyx, self.sheets.thickened(voxels))

    def fields(self) -> list[Field]:
        """Smooth fields that `covered` can be worked out from, at any point."""
        return [self.solid_zyx, self.sheets.offset_zyx, self.sheets.reach_zyx]

    @staticmethod
    def covered(solid: Field, offset: Field, reach: Field) -> tuple[Field, Field]:
        """Parts (0..1) of an eighth of a voxel inside the particles and inside the sheets."""
        return covered_by_solid(solid), covered_by_sheets(offset, reach)


@dataclass(frozen=True)
class Surfaces:
    """Where silicon and aluminides end; the rest is matrix."""

    silicon: Body
    aluminide: Body

    @property
    def shape_zyx(self) -> Shape:
        """Voxels along z, y and x."""
        return self.silicon.solid_zyx.shape  # type: ignore[return-value]

    def shares(self) -> Shares:
        """Shares of silicon and of aluminide of every voxel in 1/255, uint8 (Z, Y, X)."""
        silicon, aluminide = (np.empty(self.shape_zyx, dtype=np.uint8) for _ in range(2))
        for slab in steps(self._slabs(), "filling voxels"):
            silicon[slab], aluminide[slab] = self.shares_of_slab(slab)
        return silicon, aluminide

    def labelled_fractions(self) -> dict[Phase, float]:
        """Shares of the volume that will be labelled silicon and aluminide, from a part of its slices."""
        n_z, n_y, n_x = self.shape_zyx
        step = SLICES_SAMPLED * int(np.clip(n_z * n_y * n_x // VOXELS_SAMPLED, 1, MAX_STEP))
        counts = np.zeros(len(Phase), dtype=np.int64)
        for z in range(0, n_z, step):
            labels = labels_of(*self.shares_of_slab(slice(z, min(z + SLICES_SAMPLED, n_z))))
            counts += np.bincount(labels.ravel(), minlength=len(Phase))
        return {phase: float(counts[phase] / counts.sum()) for phase in (Phase.SILICON, Phase.ALUMINIDE)}

    def shares_of_slab(self, z: slice) -> Shares:
        """As `shares`, of the slices `z`.

        Each takes what is left of an eighth of a voxel in the order of solidification: primary
        silicon, aluminides, eutectic silicon.
        """
        shape_zyx = (z.stop - z.start, *self.shape_zyx[1:])
        silicon_part, aluminide_part = (np.zeros(shape_zyx, dtype=np.float32) for _ in range(2))
        for at_eighth in eighths(self.silicon.fields() + self.aluminide.fields(), z):
            primary, eutectic = Body.covered(*at_eighth[:3])
            aluminide = np.minimum(np.maximum(*Body.covered(*at_eighth[3:])), 1 - primary)
            silicon_part += np.minimum(np.maximum(primary, eutectic), 1 - aluminide)
            aluminide_part += aluminide
        aluminide_share = np.rint(aluminide_part * (WHOLE / 8)).astype(np.uint8)
        silicon_share = np.rint(silicon_part * (WHOLE / 8)).astype(np.uint8)
        return np.minimum(silicon_share, WHOLE - aluminide_share), aluminide_share

    def _slabs(self) -> list[slice]:
        """Slabs of a few slices, to be worked on one at a time."""
        n_z, n_y, n_x = self.shape_zyx
        n_slices = max(1, VOXELS_AT_ONCE // (n_y * n_x))
        return [slice(z, min(z + n_slices, n_z)) for z in range(0, n_z, n_slices)]


def labels_of(silicon_share: NDArray[np.uint8], aluminide_share: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Label every voxel with the `Phase` of its largest share.

    Of equal shares the more common phase wins: matrix before silicon before aluminide.
    """
    matrix_share = WHOLE - silicon_share - aluminide_share
    labels = np.where(silicon_share > matrix_share, np.uint8(Phase.SILICON), np.uint8(Phase.MATRIX))
    labels[aluminide_share > np.maximum(matrix_share, silicon_share)] = Phase.ALUMINIDE
    return labels
