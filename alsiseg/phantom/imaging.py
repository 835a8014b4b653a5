"""Three scans of a specimen: complex refractive index, propagation, detector, reconstruction.

Parallel beam at 25 keV. A projection of delta and of the attenuation is one complex wave,
carried over `distance_mm` by the Fresnel propagator (exact in the paraxial limit, also where the
transport-of-intensity form is not), blurred by the detector, counted in photons, corrected by an
imperfect flat field and back-projected without phase retrieval, as in the paper: edges carry
bright and dark fringes. The specimen is cut out of a cylinder of alloy whose other phases are
left out: outside the volume lies alpha-Al (air, once etched). Slices above the first and below
the last are their mirror images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsiseg.phantom import materials, tomography
from alsiseg.phantom.materials import INDEX, Variant
from alsiseg.phantom.microstructure import Microstructure
from alsiseg.phases import Phase
from alsiseg.progress import steps

if TYPE_CHECKING:
    import torch

MODALITIES = ("lab_ct", "synchrotron", "etched")
SPECIMEN_DIAMETER_UM = 600.0  # paper, section Material
PARTIAL_VOLUME_SIGMA_VOXEL = 0.45
SLAB_SLICES = 192
WAVE_MARGIN_VOXEL = 24
N_LOST_VOXELS = 400


@dataclass(frozen=True)
class ScanSettings:
    """How one scan is taken.

    Attributes
    ----------
    n_angles
        Projections over 180 degrees.
    distance_mm
        From specimen to detector; 0 gives no fringes.
    photons
        Expected per detector pixel and projection in the open beam.
    readout_photons
        Standard deviation of the readout noise, in photons.
    blur_voxel
        Standard deviation of the detector's Gaussian point spread.
    flat_field_error
        Relative standard deviation of every pixel's gain left after flat-field correction.
    n_bad_columns
        Detector columns with a gain wrong by some per cent: rings.
    spectrum
        (weight, attenuation relative to 25 keV) of each energy.
    grey_range_per_cm
        Attenuation stored as 0 and as 65535; a fixed scale, the same for every specimen.
    """

    n_angles: int = 360
    distance_mm: float = 60.0
    photons: float = 20_000.0
    readout_photons: float = 20.0
    blur_voxel: float = 0.6
    flat_field_error: float = 0.002
    n_bad_columns: int = 3
    spectrum: tuple[tuple[float, float], ...] = ((1.0, 1.0),)
    grey_range_per_cm: tuple[float, float] = (-250.0, 350.0)

    def __post_init__(self) -> None:
        if self.n_angles < 2:
            raise ValueError(f"n_angles must be 2 or more to reconstruct a slice, got {self.n_angles}")
        if self.photons <= 0 or self.distance_mm < 0 or self.blur_voxel < 0 or self.readout_photons < 0:
            raise ValueError(
                "photons must be positive, distance_mm, blur_voxel and readout_photons zero or more, "
                f"got {self.photons}, {self.distance_mm}, {self.blur_voxel}, {self.readout_photons}"
            )
        low, high = self.grey_range_per_cm
        if not low < high:
            raise ValueError(f"grey_range_per_cm must rise from its first to its second value, got {low}, {high}")


_CLEAN = {
    "synchrotron": ScanSettings(),
    "lab_ct": ScanSettings(
        distance_mm=0.0,
        photons=12_000.0,
        blur_voxel=1.1,
        n_bad_columns=1,
        spectrum=((0.6, 1.0), (0.4, 0.5)),
        grey_range_per_cm=(-50.0, 150.0),
    ),
    "etched": ScanSettings(distance_mm=6.0, photons=60_000.0, n_bad_columns=1, grey_range_per_cm=(-150.0, 250.0)),
}
DIFFICULTIES: dict[str, dict[str, ScanSettings]] = {
    "clean": _CLEAN,
    "hard": {
        "synchrotron": replace(
            _CLEAN["synchrotron"], distance_mm=80.0, photons=3_000.0, blur_voxel=0.9, n_bad_columns=6
        ),
        "lab_ct": replace(_CLEAN["lab_ct"], photons=6_000.0, blur_voxel=1.3, n_bad_columns=3),
        "etched": replace(_CLEAN["etched"], distance_mm=10.0, photons=25_000.0, blur_voxel=0.9, n_bad_columns=3),
    },
}


@dataclass(frozen=True)
class Misalignment:
    """How a specimen sits in a scan: the scan at x shows the specimen at R (x - c) + c + shift."""

    shift_zyx_voxel: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation_zyx_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def move(self, volume_zyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resample `volume_zyx` as the scan sees it; faces are continued outwards."""
        matrix = Rotation.from_euler("xyz", self.rotation_zyx_deg, degrees=True).as_matrix()
        centre = (np.array(volume_zyx.shape) - 1) / 2
        offset = centre - matrix @ centre + np.array(self.shift_zyx_voxel)
        return ndimage.affine_transform(volume_zyx, matrix, offset, order=1, mode="nearest")


def misalignment(modality: str, seed: int) -> Misalignment:
    """Draw the hidden pose of a specimen; the synchrotron scan defines the frame."""
    if modality == "synchrotron":
        return Misalignment()
    rng = _generator(seed, modality, 1)
    shift = rng.uniform(-3, 3, 3)
    rotation = rng.uniform(-0.6, 0.6, 3)
    return Misalignment(tuple(map(float, shift)), tuple(map(float, rotation)))  # type: ignore[arg-type]


def scan(
    microstructure: Microstructure,
    modality: str,
    settings: ScanSettings,
    *,
    seed: int = 0,
    device: str = "cpu",
) -> NDArray[np.uint16]:
    """Take one scan and return its grey values (z, y, x) on the fixed scale of the settings.

    Parameters
    ----------
    microstructure
        The specimen.
    modality
        "synchrotron", "lab_ct" (moved a little, no fringes when the distance is 0) or "etched"
        (moved otherwise, matrix dissolved, small loose fragments lost).
    settings
        Beam, detector and grey scale; see `DIFFICULTIES`.
    seed
        Of noise, detector faults and pose.
    device
        Where torch computes.

    Raises
    ------
    ValueError
        For an unknown modality.
    """
    check_modalities((modality,))
    delta_zyx, attenuation_zyx = _maps_in_beam(microstructure, modality, seed)
    background = 0.0 if modality == "etched" else INDEX[Variant.AL].attenuation_per_um
    grey_zyx = np.empty(microstructure.labels_zyx.shape, dtype=np.uint16)
    for start in range(0, len(grey_zyx), SLAB_SLICES):
        slab = slice(start, min(start + SLAB_SLICES, len(grey_zyx)))
        beamline = _Beamline.of(microstructure, settings, modality, seed, slab, device)
        change_zyx = beamline.reconstruct(delta_zyx, attenuation_zyx)
        grey_zyx[slab] = to_grey(1e4 * (change_zyx + background), settings)
    return grey_zyx


def check_modalities(modalities: tuple[str, ...]) -> None:
    """Refuse names that are not one of the three scans."""
    unknown = [m for m in modalities if m not in MODALITIES]
    if unknown or not modalities:
        raise ValueError(f"modalities must be among {', '.join(MODALITIES)}, got {', '.join(unknown) or 'none'}")


def to_grey(attenuation_per_cm: NDArray[np.float32], settings: ScanSettings) -> NDArray[np.uint16]:
    """Put attenuation in 1/cm on the 16-bit scale of `settings`, cut off at both ends."""
    low, high = settings.grey_range_per_cm
    return np.clip((attenuation_per_cm - low) * (65535 / (high - low)) + 0.5, 0, 65535).astype(np.uint16)


def propagate(wave_zc: torch.Tensor, *, distance_um: float, voxel_size_um: float) -> torch.Tensor:
    """Carry a complex wave (rows, columns) over `distance_um` in free space (Fresnel).

    The field is periodic: pad it first. Zero distance returns the wave, and the propagator
    only turns phases, so the total intensity is kept.
    """
    import torch

    if distance_um == 0:
        return wave_zc
    rows, columns = (torch.fft.fftfreq(n, d=voxel_size_um, device=wave_zc.device) for n in wave_zc.shape)
    turn = -math.pi * materials.WAVELENGTH_UM * distance_um * (rows[:, None] ** 2 + columns**2)
    return torch.fft.ifft2(torch.fft.fft2(wave_zc) * torch.polar(torch.ones_like(turn), turn))


def _generator(seed: int, modality: str, *purpose: int) -> np.random.Generator:
    """Independent random numbers for every purpose, whatever the order of the work."""
    return np.random.default_rng([seed, MODALITIES.index(modality), *purpose])


def _maps_in_beam(
    microstructure: Microstructure, modality: str, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Difference of delta and of the attenuation (1/um) to what surrounds the specimen."""
    variants_zyx = microstructure.variants_zyx
    delta, attenuation = materials.delta_table(), materials.attenuation_table_per_um()
    if modality == "etched":
        variants_zyx = np.where(_loose_fragments(microstructure.labels_zyx), np.uint8(Variant.AL), variants_zyx)
        delta[Variant.AL] = attenuation[Variant.AL] = 0.0
    else:
        delta, attenuation = delta - delta[Variant.AL], attenuation - attenuation[Variant.AL]
    return (
        _sampled(delta[variants_zyx], misalignment(modality, seed)),
        _sampled(attenuation[variants_zyx], misalignment(modality, seed)),
    )


def _sampled(map_zyx: NDArray[np.float32], pose: Misalignment) -> NDArray[np.float32]:
    """Give voxels at edges a value between; moving a specimen between voxels does so by itself."""
    if pose == Misalignment():
        return ndimage.gaussian_filter(map_zyx, PARTIAL_VOLUME_SIGMA_VOXEL)
    return pose.move(map_zyx)


def _loose_fragments(labels_zyx: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Small pieces of the hybrid network that fall off when the matrix is dissolved."""
    import cc3d

    pieces = cc3d.connected_components(labels_zyx != Phase.MATRIX, connectivity=26)
    sizes = np.bincount(pieces.ravel())
    loose = sizes < N_LOST_VOXELS
    loose[0] = False
    return loose[pieces]


@dataclass(frozen=True)
class _Beamline:
    """One slab of slices in the beam, with the faults of the detector rows that see it."""

    settings: ScanSettings
    geometry: tomography.ParallelBeam
    voxel_size_um: float
    z_indices: NDArray[np.int64]
    n_margin: int
    open_beam: NDArray[np.float32]
    surrounding: float
    noise_key: tuple[int, str, int]
    device: str

    @classmethod
    def of(
        cls,
        microstructure: Microstructure,
        settings: ScanSettings,
        modality: str,
        seed: int,
        slab: slice,
        device: str,
    ) -> _Beamline:
        """Set up the beamline for the slices of `slab`."""
        n_z, n_y, n_x = microstructure.labels_zyx.shape
        geometry = tomography.ParallelBeam(n_y, n_x)
        n_margin = WAVE_MARGIN_VOXEL if settings.distance_mm else 4
        z_indices = _mirrored(np.arange(slab.start - n_margin, slab.stop + n_margin), n_z)
        gain = _gain(settings, geometry.n_columns, n_z, _generator(seed, modality, 2))[:, slab]
        surrounding = 0.0 if modality == "etched" else INDEX[Variant.AL].attenuation_per_um
        key = (seed, modality, slab.start)
        voxel_um = microstructure.voxel_size_um
        return cls(
            settings,
            geometry,
            voxel_um,
            z_indices,
            n_margin,
            gain,
            surrounding * SPECIMEN_DIAMETER_UM,
            key,
            device,
        )

    def reconstruct(self, delta_zyx: NDArray[np.float32], attenuation_zyx: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scan the slab and back-project it: attenuation minus that of the surroundings, 1/um."""
        import torch

        n_pixels = self.geometry.n_y * self.geometry.n_x
        maps = [m[self.z_indices].reshape(-1, n_pixels).T for m in (delta_zyx, attenuation_zyx)]
        in_beam = torch.from_numpy(np.ascontiguousarray(np.concatenate(maps, axis=1))).to(self.device)
        n_core = len(self.z_indices) - 2 * self.n_margin
        slab_pz = torch.zeros((n_pixels, n_core), device=self.device)
        angles = tomography.angles_rad(self.settings.n_angles)
        for number, angle in enumerate(steps(angles, f"{self.noise_key[1]} projections")):
            thickness = self.geometry.gather(angle, self.device) @ in_beam
            seen_cz = self._absorption(thickness * self.voxel_size_um, number)
            slab_pz.addmm_(self.geometry.spread(angle, self.device), tomography.ramp_filter(seen_cz))
        slab_pz *= math.pi / self.settings.n_angles / self.voxel_size_um
        return slab_pz.T.reshape(n_core, self.geometry.n_y, self.geometry.n_x).cpu().numpy()

    def _absorption(self, path: torch.Tensor, number: int) -> torch.Tensor:
        """-log of the corrected image, less the surroundings; (column, slice)."""
        import torch

        intensity_cz = self._intensity(path)[:, self.n_margin : path.shape[1] // 2 - self.n_margin]
        rng = _generator(*self.noise_key[:2], 3, self.noise_key[2], number)
        expected = intensity_cz.cpu().numpy() * self.open_beam * self.settings.photons
        counted = rng.poisson(expected) + rng.normal(0, self.settings.readout_photons, expected.shape)
        corrected = np.maximum(counted, 1.0) / self.settings.photons
        absorbed = -np.log(corrected) + math.log(self._beside_specimen())
        return torch.from_numpy(absorbed.astype(np.float32)).to(self.device)

    def _intensity(self, path: torch.Tensor) -> torch.Tensor:
        """Blurred image of the slab in units of the open beam; (column, slice with margin)."""
        import torch

        delta_cz, absorption_cz = path.tensor_split(2, dim=1)
        transmitted_cz = self._through(absorption_cz)
        if self.settings.distance_mm:
            phase = (-2 * math.pi / materials.WAVELENGTH_UM) * delta_cz
            wave_cz = torch.nn.functional.pad(
                torch.polar(transmitted_cz.sqrt(), phase),
                (0, 0, WAVE_MARGIN_VOXEL, WAVE_MARGIN_VOXEL),
                value=math.sqrt(self._beside_specimen()),
            )
            moved = propagate(wave_cz, distance_um=1e3 * self.settings.distance_mm, voxel_size_um=self.voxel_size_um)
            transmitted_cz = (moved.abs() ** 2)[WAVE_MARGIN_VOXEL:-WAVE_MARGIN_VOXEL]
        return _blur(transmitted_cz, self.settings.blur_voxel)

    def _through(self, absorption_cz: torch.Tensor) -> torch.Tensor:
        """Share of the beam behind the specimen and its surroundings, summed over the spectrum."""
        import torch

        parts = [w * torch.exp(-s * (absorption_cz + self.surrounding)) for w, s in self.settings.spectrum]
        return torch.stack(parts).sum(0)

    def _beside_specimen(self) -> float:
        """Share of the beam that passes the surroundings only."""
        return sum(w * math.exp(-s * self.surrounding) for w, s in self.settings.spectrum)


def _mirrored(indices: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Reflect indices beyond 0 and n - 1 back into the volume."""
    folded = np.mod(indices, 2 * n)
    return np.minimum(folded, 2 * n - 1 - folded)


def _gain(settings: ScanSettings, n_columns: int, n_z: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Gain of every detector pixel left after flat-field correction; (column, slice)."""
    gain_cz = 1 + settings.flat_field_error * rng.standard_normal((n_columns, n_z), dtype=np.float32)
    bad = rng.choice(np.arange(n_columns // 6, n_columns - n_columns // 6), settings.n_bad_columns, replace=False)
    gain_cz[bad] *= 1 + rng.uniform(0.02, 0.05, (len(bad), 1)).astype(np.float32) * rng.choice([-1, 1], (len(bad), 1))
    return gain_cz


def _blur(image_cz: torch.Tensor, sigma_voxel: float) -> torch.Tensor:
    """Gaussian blur in both directions, edges continued."""
    import torch

    if sigma_voxel == 0:
        return image_cz
    reach = math.ceil(4 * sigma_voxel)
    offset = torch.arange(-reach, reach + 1, device=image_cz.device)
    kernel = torch.exp(-((offset / sigma_voxel) ** 2) / 2)
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(image_cz[None, None], (reach, reach, reach, reach), mode="replicate")
    along_c = torch.nn.functional.conv2d(padded, kernel.reshape(1, 1, -1, 1))
    return torch.nn.functional.conv2d(along_c, kernel.reshape(1, 1, 1, -1))[0, 0]
