"""Faceted particles: primary silicon, flat plates and polyhedra of aluminides."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsiseg.phantom.fields import Field, Shape

FAR_VOXEL = 99.0
Outline = Callable[[Sequence[Field], float], Field]


def no_particles(shape_zyx: Shape) -> Field:
    """Level of a volume without particles: far outside of any, in voxels."""
    return np.full(shape_zyx, FAR_VOXEL, dtype=np.float32)


def stamp(
    level_zyx: Field,
    rng: np.random.Generator,
    *,
    allowed: NDArray[np.bool_],
    n_voxels: int,
    radius_voxel: tuple[float, float],
    outline: Outline,
) -> None:
    """Lower `level_zyx` in place around randomly turned particles until they cover `n_voxels`.

    `outline(offsets, radius)` gives the distance in voxels to a particle's faces in its own frame,
    negative inside; `offsets` are three arrays. Centres lie where `allowed` is true. In a volume
    so small that one particle would be too much, particles are smaller.
    """
    covered = 0
    smallest, largest = radius_voxel
    while covered < n_voxels and allowed.any():
        centre = _home(allowed, rng)
        radius = rng.uniform(min(smallest, largest), largest)
        reach = 1.2 * radius + 3
        box = tuple(
            slice(max(0, int(c - reach)), min(n, int(c + reach) + 2))
            for c, n in zip(centre, level_zyx.shape, strict=True)
        )
        z, y, x = (np.float32(axis - c) for axis, c in zip(np.ogrid[box], centre, strict=True))
        turn = Rotation.random(None, rng).as_matrix().astype(np.float32)
        distance = outline([a * z + b * y + c * x for a, b, c in turn], radius)
        added = int(np.count_nonzero((distance < 0) & (level_zyx[box] >= 0)))
        if covered + added > 1.2 * n_voxels and radius > 1:
            largest *= 0.8
            continue
        covered += added
        np.minimum(level_zyx[box], distance, out=level_zyx[box])


def _home(allowed: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw voxels until one is allowed."""
    while True:
        centre = rng.integers(0, allowed.shape)
        if allowed[tuple(centre)]:
            return centre


def octahedron(offsets: Sequence[Field], radius: float) -> Field:
    """Distance to a truncated octahedron, the habit of primary silicon."""
    u, v, w = _mirrored(offsets)
    return np.maximum((u + v + w) / np.float32(np.sqrt(3)) - 0.66 * radius, _largest(u, v, w) - 0.85 * radius)


def cuboid(offsets: Sequence[Field], radius: float) -> Field:
    """Distance to a somewhat long box, the habit of blocky aluminides."""
    u, v, w = _mirrored(offsets)
    return _largest(u - radius, v - 0.75 * radius, w - 0.6 * radius)


def plate(thinnest_voxel: float) -> Outline:
    """Return the outline of a flat six-sided plate, at least `thinnest_voxel` thick, thicker when wider."""

    def outline(offsets: Sequence[Field], radius: float) -> Field:
        u, v, w = _mirrored(offsets)
        half_thickness = 0.5 * thinnest_voxel + 0.03 * radius
        slanted = np.float32(0.5) * v + np.float32(np.sqrt(0.75)) * u
        side = np.maximum(v, slanted) - np.float32(0.8 * radius)
        return _largest(w - np.float32(half_thickness), side, u - np.float32(0.6 * radius))

    return outline


def _mirrored(offsets: Sequence[Field]) -> list[Field]:
    """Fold all eight octants into one."""
    return [np.abs(offset) for offset in offsets]


def _largest(u: Field, v: Field, w: Field) -> Field:
    """Largest of three distances: that to the nearest face of a convex body."""
    return np.maximum(np.maximum(u, v), w)
