"""How much of a voxel lies inside a shape that is finer than the voxel.

The shapes are cuts of smooth fields known at voxel centres. Between the centres the fields are
interpolated, so the cut is known at any point: here at the middle of every eighth of a voxel
(halved along z, y and x), and of each eighth the covered part is taken, not merely whether its
middle is covered. The shares of a plate half a voxel thick so add up to half a voxel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alsiseg.phantom.fields import Field

EIGHTH_EDGE = np.float32(0.5)  # of a voxel


@dataclass(frozen=True)
class Sheets:
    """Thin sheets: material wherever the distance to their middle is below the half-thickness.

    Attributes
    ----------
    offset_zyx
        Signed distance to the nearest middle, in voxels; it changes sign across a sheet, which
        keeps a sheet in place that lies between two voxel centres.
    reach_zyx
        Half-thickness in voxels; negative where a sheet is missing.
    """

    offset_zyx: Field
    reach_zyx: Field

    def level(self) -> Field:
        """Voxels to the surface, negative inside."""
        return np.abs(self.offset_zyx) - self.reach_zyx

    def thickened(self, voxels: float) -> "Sheets":
        """Move the surface outwards by `voxels`."""
        return Sheets(self.offset_zyx, self.reach_zyx + np.float32(voxels))


def covered_by_sheets(offset: Field, reach: Field, edge: np.float32 = EIGHTH_EDGE) -> Field:
    """Part (0..1) of a cell of `edge` voxels that lies between the two surfaces of a sheet."""
    part = reach - np.abs(offset)
    part += edge / 2
    np.minimum(part, 2 * reach, out=part)
    part /= edge
    return np.clip(part, 0, 1, out=part)


def covered_by_solid(level: Field, edge: np.float32 = EIGHTH_EDGE) -> Field:
    """Part (0..1) of a cell of `edge` voxels where `level`, a distance in voxels, is negative."""
    return np.clip(np.float32(0.5) - level / edge, 0, 1)


def eighths(fields_zyx: list[Field], z: slice) -> Iterator[list[Field]]:
    """Give the fields at the middle of each eighth of the voxels of the slices `z`.

    Eight lists of arrays (slices, Y, X), interpolated linearly along each axis; fields go on
    evenly beyond the faces of the volume.
    """
    padded = [_with_margin(field, z) for field in fields_zyx]
    for side_z in (-1, 1):
        at_z = [_toward(field, 0, side_z) for field in padded]
        for side_y in (-1, 1):
            at_y = [_toward(field, 1, side_y) for field in at_z]
            for side_x in (-1, 1):
                yield [_toward(field, 2, side_x) for field in at_y]


def _with_margin(field_zyx: Field, z: slice) -> Field:
    """Cut out the slices `z` with one more voxel on every side."""
    n_z = field_zyx.shape[0]
    slices = np.clip(np.arange(z.start - 1, min(z.stop, n_z) + 1), 0, n_z - 1)
    return np.pad(field_zyx[slices], ((0, 0), (1, 1), (1, 1)), mode="edge")


def _toward(padded: Field, axis: int, side: int) -> Field:
    """Interpolate a quarter of a voxel towards one side; the margin along `axis` is used up."""
    n = padded.shape[axis] - 2
    centre = padded[_along(axis, 1, n)]
    neighbour = padded[_along(axis, 1 + side, n)]
    return np.float32(0.75) * centre + np.float32(0.25) * neighbour


def _along(axis: int, start: int, n: int) -> tuple[slice, ...]:
    """Index of `n` voxels from `start` along one axis, everything along the others."""
    return (slice(None),) * axis + (slice(start, start + n),)
