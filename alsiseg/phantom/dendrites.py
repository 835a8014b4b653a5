"""Dendrite arms of alpha-Al: trunks with rows of rounded side arms, each grain turned its own way."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsiseg.phantom import fields
from alsiseg.phantom.fields import Field, Shape

SLICES_AT_ONCE = 4
# In arm spacings: distance of trunks, radius of necks.
CELL = 2.4
ROUNDING = 0.18
# Radius an arm loses per length.
TAPER = 0.05


def arm_depth(shape_zyx: Shape, rng: np.random.Generator, *, spacing_voxel: float, arms: float) -> Field:
    """Depth inside the dendrite arms in voxels, negative in the eutectic between them.

    `spacing_voxel` is the secondary arm spacing, `arms` the share of the volume they take.
    """
    warp = [
        fields.smooth_field(shape_zyx, rng, length_voxel=1.5 * spacing_voxel) * np.float32(0.12 * spacing_voxel)
        for _ in range(3)
    ]
    grains = _Grains.drawn(shape_zyx, rng, spacing_voxel)
    distance = np.empty(shape_zyx, dtype=np.float32)
    for z in range(0, shape_zyx[0], SLICES_AT_ONCE):
        slab = slice(z, z + SLICES_AT_ONCE)
        distance[slab] = grains.distance(_positions([w[slab] for w in warp], z))
    del warp
    rough = fields.smooth_field(shape_zyx, rng, length_voxel=0.45 * spacing_voxel)
    rough *= np.float32(0.05 * spacing_voxel)
    distance += rough
    return np.subtract(np.quantile(distance, arms).astype(np.float32), distance, out=distance)


def _positions(warp: list[Field], first_slice: int) -> list[Field]:
    """Warped positions of the voxels of a slab, in voxels."""
    starts = (first_slice, 0, 0)
    return [
        w + np.arange(start, start + n, dtype=np.float32).reshape([-1 if a == i else 1 for a in range(3)])
        for i, (start, n, w) in enumerate(zip(starts, warp[0].shape, warp, strict=True))
    ]


class _Grains:
    """Dendrites of random places and directions; a voxel belongs to the nearest."""

    def __init__(self, centres: Field, turns: Field, origins: Field, spacing: float) -> None:
        self.centres, self.turns, self.origins, self.spacing = centres, turns, origins, spacing

    @classmethod
    def drawn(cls, shape_zyx: Shape, rng: np.random.Generator, spacing: float) -> "_Grains":
        """Draw a dendrite for every cube of 4.5 arm spacings."""
        n = int(np.clip(np.prod(np.array(shape_zyx) / (4.5 * spacing)), 1, 200)) + 1
        centres = (rng.uniform(0, 1, (n, 3)) * shape_zyx).astype(np.float32)
        turns = Rotation.random(n, rng).as_matrix().astype(np.float32)
        return cls(centres, turns, rng.uniform(0, 4 * spacing, (n, 3)).astype(np.float32), spacing)

    def distance(self, position: list[Field]) -> Field:
        """Distance in voxels to the axes of trunks and side arms."""
        nearest = self._nearest(position)
        distance = np.empty(nearest.shape, dtype=np.float32)
        for number in np.unique(nearest):
            inside = nearest == number
            z, y, x = (p[inside] for p in position)
            along, v, w = (
                a * z + b * y + c * x + o for (a, b, c), o in zip(self.turns[number], self.origins[number], strict=True)
            )
            distance[inside] = _trunk_and_arms(along, v, w, self.spacing)
        return distance

    def _nearest(self, position: list[Field]) -> NDArray[np.uint8]:
        """Number of the nearest centre of every voxel."""
        nearest = np.full(position[0].shape, np.inf, dtype=np.float32)
        grain = np.zeros(nearest.shape, dtype=np.uint8)
        for number, centre in enumerate(self.centres):
            offset_z, offset_y, offset_x = (p - c for p, c in zip(position, centre, strict=True))
            distance = offset_z**2 + offset_y**2 + offset_x**2
            closer = distance < nearest
            grain[closer] = number
            np.minimum(nearest, distance, out=nearest)
        return grain


def _trunk_and_arms(along: Field, v: Field, w: Field, spacing: float) -> Field:
    """Distance to one trunk per cell and to the four side arms of every arm spacing along it."""
    cell = np.float32(CELL * spacing)
    cell_v, cell_w = np.floor(v / cell), np.floor(w / cell)
    dv, dw = v - (cell_v + np.float32(0.5)) * cell, w - (cell_w + np.float32(0.5)) * cell
    shifted = along / np.float32(spacing) + np.float32(0.37) * (cell_v + cell_w)
    du = (shifted - np.floor(shifted) - np.float32(0.5)) * np.float32(spacing)
    trunk = np.sqrt(dv**2 + dw**2)
    arm_v = np.sqrt(du**2 + dw**2) + np.float32(TAPER) * np.abs(dv)
    arm_w = np.sqrt(du**2 + dv**2) + np.float32(TAPER) * np.abs(dw)
    round_off = np.float32(ROUNDING * spacing)
    return _rounded_minimum(trunk, _rounded_minimum(arm_v, arm_w, round_off), round_off)


def _rounded_minimum(a: Field, b: Field, width: np.float32) -> Field:
    """Minimum of two distances whose common surface has no sharp corner."""
    close = np.maximum(width - np.abs(a - b), 0)
    return np.minimum(a, b) - close**2 / (4 * width)
