"""The alloy's constituents: complex refractive index at 25 keV, attenuation at other energies."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

ENERGY_KEV = 25.0
WAVELENGTH_UM = 4.9594e-5
# Mass attenuation by scattering, nearly the same for every element between 20 and 80 keV.
SCATTERING_CM2_G = 0.16


class Variant(IntEnum):
    """What a voxel is made of, finer than its phase."""

    AL = 0
    SI = 1
    AL7CU4NI = 2
    AL2CU = 3
    AL3NI = 4
    AL9FENI = 5
    AL15FEMN3SI2 = 6
    AL4CU2MG8SI7 = 7


@dataclass(frozen=True)
class Index:
    """Refractive index 1 - delta + i beta at 25 keV, and the density."""

    delta: float
    beta: float
    density_g_cm3: float

    @property
    def attenuation_per_um(self) -> float:
        """Linear attenuation coefficient at 25 keV, 4 pi beta / wavelength."""
        return 4 * np.pi * self.beta / WAVELENGTH_UM

    @property
    def scattering_per_um(self) -> float:
        """The part of the attenuation that hardly depends on the energy."""
        return 1e-4 * SCATTERING_CM2_G * self.density_g_cm3


# Tabulated cross sections (xraylib) and handbook densities: shared PAPER.md, section 4.
INDEX: dict[Variant, Index] = {
    Variant.AL: Index(8.666e-7, 1.956e-9, 2.70),
    Variant.SI: Index(7.737e-7, 2.174e-9, 2.33),
    Variant.AL7CU4NI: Index(1.718e-6, 2.582e-8, 5.48),
    Variant.AL2CU: Index(1.359e-6, 1.831e-8, 4.34),
    Variant.AL3NI: Index(1.267e-6, 1.299e-8, 3.95),
    Variant.AL9FENI: Index(1.086e-6, 8.36e-9, 3.40),
    Variant.AL15FEMN3SI2: Index(1.133e-6, 6.84e-9, 3.55),
    Variant.AL4CU2MG8SI7: Index(9.02e-7, 5.73e-9, 2.79),
}


def delta_table() -> NDArray[np.float32]:
    """Refractive decrement of every variant, indexed by its number."""
    return np.array([INDEX[v].delta for v in Variant], dtype=np.float32)


def attenuation_table_per_um() -> NDArray[np.float32]:
    """Attenuation coefficient of every variant at 25 keV in 1/um, indexed by its number."""
    return np.array([INDEX[v].attenuation_per_um for v in Variant], dtype=np.float32)


def scattering_table_per_um() -> NDArray[np.float32]:
    """Attenuation by scattering of every variant in 1/um, indexed by its number."""
    return np.array([INDEX[v].scattering_per_um for v in Variant], dtype=np.float32)


def absorption_factor(energy_kev: float) -> float:
    """Photoelectric absorption relative to 25 keV; it falls with the third power of the energy.

    The attenuation at an energy is this factor times (that at 25 keV less scattering), plus
    scattering. Between 20 and 60 keV this lies within 10 % of the tables of Hubbell and Seltzer
    (NIST 126, doi 10.18434/T4D01F) for Al, Si and Cu.
    """
    return (ENERGY_KEV / energy_kev) ** 3
