"""Three scans of a specimen: complex refractive index, propagation, detector, reconstruction.

Parallel beam at 25 keV. A projection of the refractive decrement and of the attenuation is one
complex wave, carried over `distance_mm` by the Fresnel propagator, blurred by the detector,
counted in photons, corrected by an imperfect flat field and back-projected without phase
retrieval, as in the paper: edges carry bright and dark fringes. The laboratory scan is
polychromatic, without fringes, of coarser voxels, and interpolated to those of the others. The
specimen is cut out of a cylinder of alloy whose other phases are left out: outside the volume
lies alpha-Al (air, once etched). Slices above the first and below the last are mirror images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from alsiseg.phantom import detector, tomography
from alsiseg.phantom.detector import SPECIMEN_DIAMETER_UM, Detector
from alsiseg.phantom.materials import Variant
from alsiseg.phantom.microstructure import Microstructure
from alsiseg.phantom.poses import Frame, Misalignment, misalignment
from alsiseg.phantom.settings import DIFFICULTIES, MODALITIES, ScanSettings, check_modalities
from alsiseg.phantom.tomography import ParallelBeam
from alsiseg.phases import Phase
from alsiseg.progress import steps

if TYPE_CHECKING:
    import torch

__all__ = [
    "DIFFICULTIES",
    "MODALITIES",
    "Misalignment",
    "ScanSettings",
    "loose_fragments",
    "misalignment",
    "scan",
    "scan_slab",
    "slab_ranges",
    "to_grey",
]

SLAB_SLICES = 64
N_LOST_VOXELS = 400

Mask = NDArray[np.bool_]


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
    loose_zyx = loose_fragments(microstructure.labels_zyx) if modality == "etched" else None
    slabs = slab_ranges(len(microstructure.labels_zyx))
    with steps(None, f"{modality} projections", len(slabs) * settings.n_angles) as bar:
        parts = [
            scan_slab(
                microstructure, modality, settings, z, loose_zyx=loose_zyx, seed=seed, device=device, step=bar.update
            )
            for z in slabs
        ]
    return np.concatenate(parts)


def slab_ranges(n_z: int) -> list[slice]:
    """Cut `n_z` slices evenly into slabs of at most `SLAB_SLICES`; an even number of them, or one.

    The cut depends on nothing else, so that neither do the bytes of a scan.
    """
    n_slabs = 1 if n_z <= SLAB_SLICES else 2 * math.ceil(n_z / (2 * SLAB_SLICES))
    edges = [n_z * i // n_slabs for i in range(n_slabs + 1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def scan_slab(
    microstructure: Microstructure,
    modality: str,
    settings: ScanSettings,
    z: slice,
    *,
    loose_zyx: Mask | None = None,
    seed: int = 0,
    device: str = "cpu",
    step: Callable[[int], object] = lambda n: None,
) -> NDArray[np.uint16]:
    """Take the slices `z` of a scan; see `scan`. Only the slices around them are read.

    `loose_zyx` marks what etching loses; `step` is called with every number of projections done.
    """
    shape_zyx = microstructure.labels_zyx.shape
    frame = Frame(shape_zyx, settings.binning, misalignment(modality, seed))  # type: ignore[arg-type]
    around = frame.slices_around(z)
    with _one_thread(device):
        exposure = _Exposure(microstructure, modality, settings, frame, loose_zyx, seed, device)
        attenuation_zyx = exposure.take(around, step)
        return to_grey(1e4 * frame.refine(attenuation_zyx, around, z), settings)


@dataclass(frozen=True)
class _Exposure:
    """A specimen in its place in a scan; `take` exposes some slices of the scan."""

    specimen: Microstructure
    modality: str
    settings: ScanSettings
    frame: Frame
    loose_zyx: Mask | None
    seed: int
    device: str

    @property
    def etched(self) -> bool:
        return self.modality == "etched"

    def take(self, z: range, step: Callable[[int], object]) -> NDArray[np.float32]:
        """Project, detect and back-project the slices `z` of the scan: attenuation in 1/um."""
        import torch

        _, n_y, n_x = self.frame.shape_zyx
        beam, voxel_um = (
            ParallelBeam(n_y, n_x, detector.RAYS_PER_COLUMN),
            self.specimen.voxel_size_um * self.settings.binning,
        )
        seen_by = self._detector(z, beam.n_columns, voxel_um)
        wide = range(z.start - seen_by.n_margin, z.stop + seen_by.n_margin)
        maps = [self.frame.sample(partial(self._mixed, table), wide) for table in self._tables()]
        specimen_pz = self._pixels_first(np.concatenate(maps))
        slab_pz = torch.zeros((n_y * n_x, len(z)), device=self.device)
        for views in beam.all_views(tomography.angles_rad(self.settings.n_angles), self.device):
            absorbed_acz = seen_by.absorbed(views.project(specimen_pz) * voxel_um, views.numbers)
            slab_pz += views.back_project(tomography.ramp_filter(absorbed_acz))
            step(len(views.numbers))
        slab_pz *= math.pi / self.settings.n_angles / voxel_um
        slab_pz += seen_by.surrounding_attenuation_per_um
        return slab_pz.T.reshape(len(z), n_y, n_x).cpu().numpy()

    def _pixels_first(self, slices_zyx: NDArray[np.float32]) -> torch.Tensor:
        """Lay slices out as `Views` wants them: (pixel, slice)."""
        import torch

        flat_zp = slices_zyx.reshape(len(slices_zyx), -1)
        return torch.from_numpy(np.ascontiguousarray(flat_zp.T)).to(self.device)

    def _tables(self) -> list[NDArray[np.float32]]:
        """Properties of every constituent beyond those of the surroundings; air replaces an etched matrix."""
        tables = detector.property_tables(self.settings)
        if self.etched:
            return [np.where(np.arange(len(t)) == Variant.AL, np.float32(0), t) for t in tables]
        return [t - t[Variant.AL] for t in tables]

    def _mixed(self, table: NDArray[np.float32], z: slice) -> NDArray[np.float32]:
        """Map of a property, without the fragments that etching loses."""
        map_zyx = self.specimen.mixed(table, z)
        if self.loose_zyx is not None:
            map_zyx[_lost(self.specimen.labels_zyx, self.loose_zyx, z)] = 0
        return map_zyx

    def _detector(self, z: range, n_columns: int, voxel_um: float) -> Detector:
        """Detector rows that see the slices `z`, with their faults and their noise."""
        import torch

        s, key = self.settings, (self.seed, MODALITIES.index(self.modality))
        length_um = 0.0 if self.etched else SPECIMEN_DIAMETER_UM
        first, second = (float(t[Variant.AL]) * length_um for t in detector.property_tables(s))
        gain_cz = detector.gain(s, n_columns, self.frame.shape_zyx[0], np.random.default_rng([*key, 2]))
        noise_zac = detector.noise(z, s.n_angles, n_columns, (*key, 3))
        n_margin = detector.margin_voxel(s, voxel_um)
        n_rays = detector.RAYS_PER_COLUMN * (n_columns + 2 * n_margin)
        shape = [fft.next_fast_len(n) for n in (n_rays, len(z) + 2 * n_margin)]
        spacing_um = (voxel_um / detector.RAYS_PER_COLUMN, voxel_um)
        factors = detector.propagator(shape, distance_mm=s.distance_mm, spacing_um=spacing_um).to(self.device)
        gains, noise = (torch.from_numpy(a).to(self.device) for a in (gain_cz[:, z.start : z.stop], noise_zac))
        return Detector(s, (first, second), n_margin, gains, noise, factors)


def loose_fragments(labels_zyx: NDArray[np.uint8]) -> Mask:
    """Small pieces of the hybrid network that fall off when the matrix is dissolved."""
    import cc3d

    pieces = cc3d.connected_components(labels_zyx != Phase.MATRIX, connectivity=26)
    loose = np.bincount(pieces.ravel()) < N_LOST_VOXELS
    loose[0] = False
    return loose[pieces]


def _lost(labels_zyx: NDArray[np.uint8], loose_zyx: Mask, z: slice) -> Mask:
    """Loose fragments in the slices `z` with the voxels around them of which they fill a part."""
    low = max(0, z.start - 1)
    wide = slice(low, z.stop + 1)
    loose, kept = np.asarray(loose_zyx[wide]), labels_zyx[wide] != Phase.MATRIX
    kept &= ~loose
    window = np.ones((3, 3, 3), dtype=bool)
    lost = ndimage.binary_dilation(loose, window) & ~ndimage.binary_dilation(kept, window) | loose
    return lost[z.start - low : z.stop - low]


@contextmanager
def _one_thread(device: str) -> Iterator[None]:
    """Compute on one thread of a CPU: the last bits of some sums depend on how many share the work."""
    import torch

    n_threads = torch.get_num_threads()
    try:
        if device == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(n_threads)


def to_grey(attenuation_per_cm: NDArray[np.float32], settings: ScanSettings) -> NDArray[np.uint16]:
    """Put attenuation in 1/cm on the 16-bit scale of `settings`, cut off at both ends."""
    low, high = settings.grey_range_per_cm
    return np.clip((attenuation_per_cm - low) * (65535 / (high - low)) + 0.5, 0, 65535).astype(np.uint16)
