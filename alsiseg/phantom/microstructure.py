"""The specimen: dendrite arms of alpha-Al, a silicon network and aluminides between them.

Its truth is finer than a voxel: every voxel knows its label and which shares of it are silicon
and aluminide, as a detector would see them.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg.phantom import growth
from alsiseg.phantom.fields import Shape
from alsiseg.phantom.materials import Variant
from alsiseg.phantom.specimens import SPECIMENS, Specimen
from alsiseg.phantom.surfaces import WHOLE, labels_of
from alsiseg.phases import Phase

__all__ = ["SPECIMENS", "Microstructure", "Specimen", "check_request", "grow"]

MIN_AXIS = 16
# Pieces that no metallographer would call a particle.
MIN_VOXELS = {Phase.SILICON: 12, Phase.ALUMINIDE: 24}


@dataclass(frozen=True)
class Microstructure:
    """A specimen of known truth: what every voxel is labelled, and what it is made of.

    Attributes
    ----------
    labels_zyx
        `Phase` with the largest share of every voxel, uint8 (Z, Y, X).
    silicon_share_zyx, aluminide_share_zyx
        Share of the voxel that is silicon, aluminide, in 1/255, uint8 (Z, Y, X); they never add
        up to more than 255, and the rest is matrix.
    aluminides_zyx
        `Variant` of the aluminide in, or nearest to, the voxel, uint8 (Z, Y, X); meaningful where
        `aluminide_share_zyx` is not zero.
    voxel_size_um
        Edge of a voxel in micrometres.
    """

    labels_zyx: NDArray[np.uint8]
    silicon_share_zyx: NDArray[np.uint8]
    aluminide_share_zyx: NDArray[np.uint8]
    aluminides_zyx: NDArray[np.uint8]
    voxel_size_um: float

    @classmethod
    def sharp(
        cls, labels_zyx: NDArray[np.uint8], variants_zyx: NDArray[np.uint8], voxel_size_um: float
    ) -> "Microstructure":
        """Make every voxel wholly of one constituent; `variants_zyx` (uint8) says of which."""
        silicon, aluminide = (np.where(labels_zyx == p, WHOLE, 0) for p in (Phase.SILICON, Phase.ALUMINIDE))
        return cls(labels_zyx, silicon.astype(np.uint8), aluminide.astype(np.uint8), variants_zyx, voxel_size_um)

    @property
    def variants_zyx(self) -> NDArray[np.uint8]:
        """`Variant` of the labelled phase of every voxel, uint8 (Z, Y, X)."""
        constituents = np.array([Variant.AL, Variant.SI, Variant.AL], dtype=np.uint8)
        return np.where(self.labels_zyx == Phase.ALUMINIDE, self.aluminides_zyx, constituents[self.labels_zyx])

    def mixed(self, table: NDArray[np.floating], z: slice = slice(None)) -> NDArray[np.float32]:
        """Mean over the constituents of every voxel of a `table` indexed by `Variant`.

        Partial volume: float32 (slices of `z`, Y, X), in the unit of the table.
        """
        above = (table - table[Variant.AL]).astype(np.float32) / WHOLE
        mean_zyx = above[self.aluminides_zyx[z]]
        mean_zyx *= self.aluminide_share_zyx[z]
        mean_zyx += above[Variant.SI] * self.silicon_share_zyx[z]
        mean_zyx += np.float32(table[Variant.AL])
        return mean_zyx

    def slices(self, z: slice) -> "Microstructure":
        """Return the part that lies in the slices `z`."""
        return self.box(z, slice(None), slice(None))

    def box(self, z: slice, y: slice, x: slice) -> "Microstructure":
        """Return the part that lies in a box; a view, not a copy."""
        return replace(
            self,
            labels_zyx=self.labels_zyx[z, y, x],
            silicon_share_zyx=self.silicon_share_zyx[z, y, x],
            aluminide_share_zyx=self.aluminide_share_zyx[z, y, x],
            aluminides_zyx=self.aluminides_zyx[z, y, x],
        )


def grow(shape_zyx: Shape, *, specimen: str = "slow", seed: int = 0, voxel_size_um: float = 1.2) -> Microstructure:
    """Draw a specimen; the same arguments give the same bytes.

    Parameters
    ----------
    shape_zyx
        Voxels along z, y and x, each at least 16.
    specimen
        "slow" (the paper's training sample) or "fast" (its second volume).
    seed
        Number of the specimen, not negative.
    voxel_size_um
        Edge of a voxel; features keep their size in um.

    Raises
    ------
    ValueError
        For a shape, a voxel size, a seed or a name that cannot be grown.
    """
    shape_zyx = check_request(shape_zyx, specimen, seed, voxel_size_um)
    recipe = SPECIMENS[specimen]
    rng = np.random.default_rng([seed, list(SPECIMENS).index(specimen)])
    surfaces, aluminides = growth.draw(shape_zyx, recipe, rng, voxel_size_um)
    silicon, aluminide = surfaces.shares()
    for phase, share in ((Phase.ALUMINIDE, aluminide), (Phase.SILICON, silicon)):
        _remove_specks(labels_of(silicon, aluminide), share, phase)
    return Microstructure(labels_of(silicon, aluminide), silicon, aluminide, aluminides, voxel_size_um)


def check_request(shape_zyx: Shape, specimen: str, seed: int, voxel_size_um: float) -> Shape:
    """Return the shape as three integers, or say in one sentence what is wrong."""
    shape = np.atleast_1d(shape_zyx)
    if shape.shape != (3,) or (shape < MIN_AXIS).any():
        raise ValueError(
            f"a specimen needs a shape of three axes (z, y, x) of at least {MIN_AXIS} voxels, "
            f"got {shape_zyx}; ask for a larger one"
        )
    if (shape != np.floor(shape)).any():
        raise ValueError(f"a shape needs whole numbers of voxels, got {shape_zyx}; round it")
    if specimen not in SPECIMENS:
        raise ValueError(f"specimen must be one of {', '.join(SPECIMENS)}, got {specimen!r}")
    if not (np.isfinite(voxel_size_um) and voxel_size_um > 0):
        raise ValueError(f"voxel_size_um must be a positive length, got {voxel_size_um}; the paper has 1.2")
    if seed < 0 or seed != int(seed):
        raise ValueError(f"seed must be a whole number, zero or a positive one, got {seed}")
    return tuple(int(n) for n in shape)  # type: ignore[return-value]


def _remove_specks(labels_zyx: NDArray[np.uint8], share_zyx: NDArray[np.uint8], phase: Phase) -> None:
    """Take a phase out of the voxels of its small pieces and out of the matrix voxels beside them.

    `share_zyx` is changed in place. Matrix stays matrix and no other label is touched.
    """
    import cc3d

    pieces = cc3d.connected_components((labels_zyx == phase).view(np.uint8), connectivity=26)
    small = np.bincount(pieces.ravel()) < MIN_VOXELS[phase]
    small[0] = False
    specks = small[pieces]
    beside = ndimage.binary_dilation(specks, np.ones((3, 3, 3))) & (labels_zyx == Phase.MATRIX)
    share_zyx[specks | beside] = 0
