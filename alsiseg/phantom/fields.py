"""Smooth random fields and faceted particles: the shapes the microstructure is drawn from."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.spatial.transform import Rotation

Field = NDArray[np.float32]
Shape = tuple[int, int, int]


def wave_field(
    shape_zyx: Shape,
    rng: np.random.Generator,
    *,
    wavelength_voxel: float,
    bandwidth: float = 0.25,
    normal_zyx: NDArray[np.float64] | None = None,
    alignment: float = 0.0,
) -> Field:
    """Draw a Gaussian random field of zero mean and unit variance with one dominant wavelength.

    Its zero level set is a curved sheet through the whole volume. With `normal_zyx` the waves
    gather around that direction, the more the larger `alignment` is, and the sheets become
    nearly parallel plates with branches, as eutectic silicon grows in one colony.
    `bandwidth` is the relative width of the band of wavelengths.
    """
    grown = tuple(fft.next_fast_len(n + int(wavelength_voxel), real=True) for n in shape_zyx)
    spectrum = fft.rfftn(rng.standard_normal(grown, dtype=np.float32))
    spectrum *= _amplitude(grown, wavelength_voxel, bandwidth, normal_zyx, alignment)
    field = fft.irfftn(spectrum, s=grown)[tuple(slice(n) for n in shape_zyx)]
    return ((field - field.mean()) / field.std()).astype(np.float32)


def smooth_field(shape_zyx: Shape, rng: np.random.Generator, *, length_voxel: float) -> Field:
    """Draw a Gaussian random field that changes over `length_voxel` (Gaussian correlation)."""
    grown = tuple(fft.next_fast_len(n + int(length_voxel), real=True) for n in shape_zyx)
    spectrum = fft.rfftn(rng.standard_normal(grown, dtype=np.float32))
    for frequency in _frequencies(grown):
        spectrum *= np.exp(-((np.pi * length_voxel * frequency) ** 2) / 2)
    field = fft.irfftn(spectrum, s=grown)[tuple(slice(n) for n in shape_zyx)]
    return ((field - field.mean()) / field.std()).astype(np.float32)


def sheet_distance(field: Field) -> Field:
    """Distance in voxels to the zero level set of `field`, to first order (|f| / |grad f|).

    Cutting it at a number of voxels gives plates of even thickness.
    """
    steepness = np.zeros_like(field)
    for axis in range(3):
        steepness += np.gradient(field, axis=axis) ** 2
    floor = 0.05 * float(steepness.mean())
    return np.abs(field) / np.sqrt(steepness + floor)


def stamp_particles(
    level: Field,
    rng: np.random.Generator,
    *,
    allowed: NDArray[np.bool_],
    n_voxels: int,
    radius_voxel: tuple[float, float],
    outline: Callable[[NDArray[np.float32], float], Field],
) -> None:
    """Lower `level` in place around randomly turned particles until they cover `n_voxels`.

    `outline(offsets, radius)` gives the distance to a particle's face in its own frame,
    negative inside; `offsets` are three arrays. Centres lie where `allowed` is true.
    """
    homes = np.flatnonzero(allowed)
    covered = 0
    while covered < n_voxels and len(homes):
        centre = np.array(np.unravel_index(homes[rng.integers(len(homes))], level.shape))
        radius = rng.uniform(*radius_voxel)
        turn = Rotation.random(None, rng).as_matrix().astype(np.float32)
        box = tuple(slice(max(0, int(c - 1.6 * radius)), int(c + 1.6 * radius) + 2) for c in centre)
        axes = np.meshgrid(
            *(np.arange(b.start, min(b.stop, n)) - c for b, n, c in zip(box, level.shape, centre, strict=True)),
            indexing="ij",
        )
        offsets = np.tensordot(turn, np.stack(axes).astype(np.float32), axes=1)
        distance = outline(offsets, radius)
        covered += int(((distance < 0) & (level[box] >= 0)).sum())
        level[box] = np.minimum(level[box], distance)


def octahedron(offsets: NDArray[np.float32], radius: float) -> Field:
    """Distance to a truncated octahedron, the habit of primary silicon."""
    u, v, w = np.abs(offsets)
    return np.maximum((u + v + w) / np.sqrt(3) - 0.66 * radius, np.maximum(np.maximum(u, v), w) - 0.85 * radius)


def flat_plate(offsets: NDArray[np.float32], radius: float) -> Field:
    """Distance to a thin lath: the flat plates of iron-bearing aluminides."""
    u, v, w = np.abs(offsets)
    half_thickness = 1.0 + 0.035 * radius
    side = np.maximum(v, 0.5 * v + 0.866 * u) - radius * 0.8
    return np.maximum(np.maximum(w - half_thickness, side), u - 0.6 * radius)


def _amplitude(
    shape_zyx: tuple[int, ...],
    wavelength_voxel: float,
    bandwidth: float,
    normal_zyx: NDArray[np.float64] | None,
    alignment: float,
) -> NDArray[np.float32]:
    """Square root of the power spectrum on the half-space grid of `rfftn`."""
    kz, ky, kx = _frequencies(shape_zyx)
    k = np.sqrt(kz**2 + ky**2 + kx**2)
    relative = (k * wavelength_voxel - 1) / bandwidth
    amplitude = np.exp(-(relative**2) / 2)
    if normal_zyx is not None:
        nz, ny, nx = (float(n) for n in normal_zyx)
        cosine_2 = (kz * nz + ky * ny + kx * nx) ** 2 / np.maximum(k, 1e-6) ** 2
        amplitude *= np.exp(alignment * (cosine_2 - 1))
    return amplitude.astype(np.float32)


def _frequencies(shape_zyx: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """Cycles per voxel along each axis, ready to broadcast."""
    rows = [fft.fftfreq(n) for n in shape_zyx[:-1]] + [fft.rfftfreq(shape_zyx[-1])]
    return [r.astype(np.float32).reshape([-1 if a == i else 1 for a in range(3)]) for i, r in enumerate(rows)]
