"""Smooth random fields, the shapes that sheets and regions of the microstructure are cut from."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Field = NDArray[np.float32]
Shape = tuple[int, int, int]

POINTS_PER_LENGTH = 6  # of a smooth field; straight lines between them are then within 1 % of it


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
    """Draw a Gaussian random field that changes over `length_voxel` (Gaussian correlation).

    Zero mean, unit variance. It is drawn on a grid as coarse as the length allows.
    """
    step = max(1, int(length_voxel / POINTS_PER_LENGTH))
    coarse_shape = [-(-n // step) + 1 for n in shape_zyx]
    length = length_voxel / step
    grown = tuple(fft.next_fast_len(n + int(length), real=True) for n in coarse_shape)
    spectrum = fft.rfftn(rng.standard_normal(grown, dtype=np.float32))
    for frequency in _frequencies(grown):
        spectrum *= np.exp(-((np.pi * length * frequency) ** 2) / 2)
    field = fft.irfftn(spectrum, s=grown)[tuple(slice(n) for n in coarse_shape)]
    field = ((field - field.mean()) / field.std()).astype(np.float32)
    for axis in (2, 1, 0):
        field = _refined(field, axis, step, shape_zyx[axis])
    return field


def _refined(field: Field, axis: int, step: int, n: int) -> Field:
    """Interpolate linearly along one axis: `n` points, `step` of them for one of the field."""
    if step == 1:
        return field[(slice(None),) * axis + (slice(n),)]
    place = np.arange(n)
    part = ((place % step) / np.float32(step)).reshape([-1 if a == axis else 1 for a in range(3)])
    refined = field.take(place // step, axis)
    refined += part * (field.take(place // step + 1, axis) - refined)
    return refined


def sheet_offset(field: Field) -> Field:
    """Signed distance in voxels to the zero level set of `field`, to first order (f / |grad f|).

    The set within a number of voxels of it is a sheet of even thickness.
    """
    steepness = np.zeros_like(field)
    for axis in range(3):
        slope = np.gradient(field, axis=axis)
        steepness += np.square(slope, out=slope)
    steepness += np.float32(0.05) * steepness.mean()
    return np.divide(field, np.sqrt(steepness, out=steepness), out=steepness)


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
