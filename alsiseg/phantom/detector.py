"""From the matter along every ray to what the detector counts: propagation, blur, noise, faults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alsiseg.phantom import materials

if TYPE_CHECKING:
    import torch

    from alsiseg.phantom.settings import ScanSettings

SPECIMEN_DIAMETER_UM = 600.0  # paper, section Material
RAYS_PER_COLUMN = 2


def property_tables(settings: ScanSettings) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The two properties of every constituent that make the image, indexed by `Variant`.

    With fringes: refractive decrement, and attenuation in 1/um. Without: absorption at 25 keV and
    scattering in 1/um, from which follows the attenuation at every energy of the spectrum.
    """
    attenuation = materials.attenuation_table_per_um()
    if settings.distance_mm:
        return materials.delta_table(), attenuation
    scattering = materials.scattering_table_per_um()
    return attenuation - scattering, scattering


@dataclass(frozen=True)
class Detector:
    """One slab of slices before a detector; images are (angle, column, slice).

    Attributes
    ----------
    settings
        Beam and detector.
    surroundings
        The two properties of what surrounds the specimen times the length of the ray in um.
    n_margin
        Slices at either end that only lend their fringes and blur.
    gain_cz
        What flat-field correction leaves, of every pixel of the slab.
    noise_zac
        Standard normal numbers (slice, angle, column).
    propagator
        Phase factors of the free space before the detector, see `propagator`.
    """

    settings: ScanSettings
    surroundings: tuple[float, float]
    n_margin: int
    gain_cz: torch.Tensor
    noise_zac: torch.Tensor
    propagator: torch.Tensor

    def absorbed(self, path: torch.Tensor, numbers: range) -> torch.Tensor:
        """-log of the corrected images of the angles `numbers`, less that of the surroundings.

        `path` holds the two properties summed along the rays, beyond the surroundings, side by
        side: (angle, ray, twice the slices with margins). Counting noise is taken as normal,
        of the variance of a Poisson count: at a hundred photons its skewness is 0.1.
        """
        first, second = path.tensor_split(2, dim=2)
        sharp = self._with_fringes(first, second) if self.settings.distance_mm else self._transmitted(first, second)
        blurred = blur(sharp, (RAYS_PER_COLUMN * self.settings.blur_voxel, self.settings.blur_voxel))
        core = blurred[:, :, self.n_margin : first.shape[2] - self.n_margin]
        seen = core.unflatten(1, (-1, RAYS_PER_COLUMN)).mean(2)  # a pixel counts all light that falls on it
        expected = seen * self.gain_cz * self.settings.photons
        spread = (expected + self.settings.readout_photons**2).sqrt()
        counted = expected + spread * self.noise_zac[:, numbers.start : numbers.stop].permute(1, 2, 0)
        return -(counted.clamp(min=1.0) / self.settings.photons).log() + math.log(self._beside_specimen())

    @property
    def surrounding_attenuation_per_um(self) -> float:
        """Attenuation of the surroundings as the whole spectrum sees it."""
        return -math.log(self._beside_specimen()) / SPECIMEN_DIAMETER_UM

    def _with_fringes(self, delta_um: torch.Tensor, attenuation: torch.Tensor) -> torch.Tensor:
        """Intensity of the wave behind the specimen, carried to the detector."""
        import torch

        amplitude = (-(attenuation + self.surroundings[1]) / 2).exp()
        wave = torch.polar(amplitude, delta_um * (-2 * math.pi / materials.WAVELENGTH_UM))
        n_angles, n_rays, n_slices = wave.shape
        start = RAYS_PER_COLUMN * self.n_margin
        here = ..., slice(start, start + n_rays), slice(n_slices)
        padded = wave.new_full((n_angles, *self.propagator.shape), math.sqrt(self._beside_specimen()))
        padded[here] = wave
        carried = propagate(padded, self.propagator)[here]
        return carried.real**2 + carried.imag**2

    def _transmitted(self, absorption: torch.Tensor, scattering: torch.Tensor) -> torch.Tensor:
        """Share of the beam behind the specimen, summed over the spectrum."""
        absorption, scattering = (p + s for p, s in zip((absorption, scattering), self.surroundings, strict=True))
        through = sum(w * (absorption * -f).exp() for w, f in self._spectrum())
        return through * (-scattering).exp()

    def _beside_specimen(self) -> float:
        """Share of the beam that passes the surroundings only."""
        first, second = self.surroundings
        if self.settings.distance_mm:
            return math.exp(-second)
        return sum(w * math.exp(-f * first) for w, f in self._spectrum()) * math.exp(-second)

    def _spectrum(self) -> list[tuple[float, float]]:
        """Weight and absorption relative to 25 keV of every energy."""
        return [(w, materials.absorption_factor(kev)) for w, kev in self.settings.spectrum]


def propagator(shape: Sequence[int], *, distance_mm: float, spacing_um: tuple[float, float]) -> torch.Tensor:
    """Phase factors of free space over `distance_mm` for the waves of a field (Fresnel).

    `shape` and `spacing_um` are the number and the distance of its samples along both axes.

    Exact in the paraxial limit, also where the transport-of-intensity form is not.
    """
    import torch

    rows, columns = (torch.fft.fftfreq(n, d=d, dtype=torch.float64) for n, d in zip(shape, spacing_um, strict=True))
    turn = -math.pi * materials.WAVELENGTH_UM * 1e3 * distance_mm * (rows[:, None] ** 2 + columns**2)
    return torch.polar(torch.ones_like(turn), turn).to(torch.complex64)


def propagate(wave: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Carry complex waves (..., rows, columns) through free space.

    The field is periodic: pad it first. The factors only turn phases, so that the total intensity
    is kept.
    """
    import torch

    return torch.fft.ifft2(torch.fft.fft2(wave) * factors)


def margin_voxel(settings: ScanSettings, voxel_size_um: float) -> int:
    """How far an edge is felt: fringes and blur; a longer margin moves no grey value by a per cent of their spread."""
    fringe_um = math.sqrt(materials.WAVELENGTH_UM * 1e3 * settings.distance_mm)
    return math.ceil(5 * fringe_um / voxel_size_um + 4 * settings.blur_voxel)


def blur(images: torch.Tensor, sigmas: tuple[float, float]) -> torch.Tensor:
    """Gaussian blur of the last two axes by so many samples each, edges continued."""
    for axis, sigma in zip((-2, -1), sigmas, strict=True):
        images = _blur_axis(images, sigma, axis) if sigma else images
    return images


def _blur_axis(images: torch.Tensor, sigma: float, axis: int) -> torch.Tensor:
    import torch

    reach = math.ceil(4 * sigma)
    weights = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    weights /= weights.sum()
    ends = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
    padded = torch.nn.functional.pad(images, ends, mode="replicate")
    n = images.shape[axis]
    blurred = padded.narrow(axis, 0, n) * weights[0]
    for start, weight in enumerate(weights[1:], 1):
        blurred.add_(padded.narrow(axis, start, n), alpha=weight)
    return blurred


def gain(settings: ScanSettings, n_columns: int, n_z: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gain of every detector pixel left after flat-field correction; (column, slice)."""
    gain_cz = 1 + settings.flat_field_error * rng.standard_normal((n_columns, n_z), dtype=np.float32)
    inner = np.arange(n_columns // 6, n_columns - n_columns // 6)
    bad = rng.choice(inner, min(settings.n_bad_columns, len(inner)), replace=False)
    error = rng.uniform(*settings.bad_column_error, (len(bad), 1)) * rng.choice([-1, 1], (len(bad), 1))
    gain_cz[bad] *= 1 + error.astype(np.float32)
    return gain_cz


def noise(slices: Sequence[int], n_angles: int, n_columns: int, key: Sequence[int]) -> NDArray[np.float32]:
    """Standard normal numbers (slice, angle, column), the same for a slice wherever a scan is cut."""
    drawn_zac = np.empty((len(slices), n_angles, n_columns), dtype=np.float32)
    for numbers_ac, z in zip(drawn_zac, slices, strict=True):
        np.random.default_rng([*key, z]).standard_normal(out=numbers_ac, dtype=np.float32)
    return drawn_zac
