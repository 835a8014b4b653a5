"""Take rings and noise from the scans, choose thresholds, combine them into labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg.ground_truth.registration import Registration, Volume, check_scans, register
from alsiseg.phases import Phase

MIN_ALUMINIDE_FRACTION = 1e-3
# Share of a particle's brightness at which the etched scan puts its edge, where that is more than
# the threshold: found on specimens of known truth.
EDGE_SHARE = 0.2
N_RING_SECTORS = 8
RING_SLAB_SLICES = 16
SHORTEST_ARC_VOXELS = 6  # shorter ones, near the axis, are no different from particles


@dataclass(frozen=True)
class Thresholds:
    """Grey values that part the phases, each on the scale of its own scan.

    Attributes
    ----------
    aluminide_lab
        Laboratory CT: aluminides are brighter.
    aluminide_synchrotron
        Synchrotron scan: aluminides are brighter.
    rigid_etched
        Etched scan: silicon and aluminides are brighter than air.
    """

    aluminide_lab: float
    aluminide_synchrotron: float
    rigid_etched: float

    def __post_init__(self) -> None:
        values = (self.aluminide_lab, self.aluminide_synchrotron, self.rigid_etched)
        if not np.isfinite(values).all():
            raise ValueError(f"thresholds must be finite grey values, got {values}; give one number per scan")


@dataclass(frozen=True)
class GroundTruth:
    """What `label_scans` returns.

    Attributes
    ----------
    labels_zyx
        uint8, values of `Phase`.
    confidence_zyx
        uint8: 0 where a scan lies on its threshold, 255 where all lie far from theirs.
    thresholds
        Those used.
    lab, etched
        How these scans were moved onto the synchrotron scan.
    """

    labels_zyx: NDArray[np.uint8]
    confidence_zyx: NDArray[np.uint8]
    thresholds: Thresholds
    lab: Registration
    etched: Registration


def label_scans(
    lab_zyx: NDArray,
    synchrotron_zyx: NDArray,
    etched_zyx: NDArray,
    *,
    thresholds: Thresholds | None = None,
    min_particle_voxels: int = 8,
) -> GroundTruth:
    """Register three scans of one specimen and combine them into labels.

    Parameters
    ----------
    lab_zyx, synchrotron_zyx, etched_zyx
        Grey volumes (z, y, x) of equal shape and voxel size.
    thresholds
        Grey values that part the phases; None chooses them, see `choose_thresholds`.
    min_particle_voxels
        Smaller particles are taken for noise.

    Raises
    ------
    ValueError
        When shapes differ, a scan holds NaN or one grey value only, the scans do not register,
        or no aluminides are found.
    """
    scans = {"laboratory": lab_zyx, "synchrotron": synchrotron_zyx, "etched": etched_zyx}
    check_scans(scans)
    lab_zyx, synchrotron_zyx, etched_zyx = (without_rings(scan) for scan in scans.values())
    lab_move = register(lab_zyx, synchrotron_zyx, what="laboratory scan")
    etched_move = register(etched_zyx, synchrotron_zyx, what="etched scan")
    aligned = denoise(lab_move.align(lab_zyx), synchrotron_zyx, etched_move.align(etched_zyx))
    chosen = thresholds or choose_thresholds(*aligned)
    labels_zyx, confidence_zyx = combine(*aligned, thresholds=chosen, min_particle_voxels=min_particle_voxels)
    return GroundTruth(labels_zyx, confidence_zyx, chosen, lab_move, etched_move)


def without_rings(scan_zyx: NDArray) -> Volume:
    """Take away the rings that bad detector columns leave round the axis of rotation.

    On circles one voxel wide, in sectors, the median of what stands out from the smooth surroundings is
    subtracted (after Sijbers and Postnov, Phys. Med. Biol. 49, N247, 2004). Sectors, because a scan over half
    a turn leaves half rings; slabs of slices, because a fault of the detector reaches over several rows. A
    ring that lies between two circles is only about halved.

    Parameters
    ----------
    scan_zyx : array (Z, Y, X)
        A scan as reconstructed: the axis is the centre of the slices.
    """
    n_y, n_x = scan_zyx.shape[1:]
    y, x = np.ogrid[:n_y, :n_x]
    y, x = y - (n_y - 1) / 2, x - (n_x - 1) / 2
    sector_yx = ((np.arctan2(y, x) / np.pi + 1) * N_RING_SECTORS / 2).astype(int) % N_RING_SECTORS
    circle_yx = np.hypot(y, x).round().astype(int) * N_RING_SECTORS + sector_yx
    short = np.bincount(circle_yx.ravel()) < SHORTEST_ARC_VOXELS
    clean_zyx = scan_zyx.astype(np.float32)
    for start in range(0, len(clean_zyx), RING_SLAB_SLICES):
        slab = clean_zyx[start : start + RING_SLAB_SLICES]
        detail = slab - ndimage.gaussian_filter(slab, (0, 3, 3))
        circles = np.broadcast_to(circle_yx, slab.shape)
        ring = np.asarray(ndimage.median(detail, circles, np.arange(len(short))), dtype=np.float32)
        ring[short] = 0
        slab -= ring[circle_yx]
    return clean_zyx


def denoise(lab_zyx: NDArray, synchrotron_zyx: NDArray, etched_zyx: NDArray) -> tuple[Volume, Volume, Volume]:
    """Smooth three aligned scans by as much as their noise needs (Gaussian filter)."""
    from skimage.filters import gaussian

    scans = zip((lab_zyx, synchrotron_zyx, etched_zyx), (0.8, 0.3, 0.4), strict=True)
    lab, synchrotron, etched = (gaussian(scan.astype(np.float32), sigma, preserve_range=True) for scan, sigma in scans)
    return lab, synchrotron, etched


def choose_thresholds(lab_zyx: Volume, synchrotron_zyx: Volume, etched_zyx: Volume) -> Thresholds:
    """Choose a threshold for every aligned, smoothed scan.

    Aluminides are brighter than the matrix, the commonest phase, in both scans with matrix:
    the median plus half the robust spread. Silicon is darker than it in the synchrotron scan.
    Well away from aluminides the etched scan holds only silicon and air: Otsu's method.

    Raises
    ------
    ValueError
        When no aluminides stand out in the laboratory scan.
    """
    from skimage.filters import threshold_otsu

    matrix_lab, spread_lab = _middle_and_spread(lab_zyx)
    matrix_synchrotron, spread_synchrotron = _middle_and_spread(synchrotron_zyx)
    certain = lab_zyx > matrix_lab + 4 * spread_lab
    if not certain.mean() > MIN_ALUMINIDE_FRACTION:
        raise ValueError(
            "the laboratory scan needs aluminides brighter than the matrix, found none; check the order of the scans"
        )
    away_zyx = etched_zyx[~ndimage.binary_dilation(certain, iterations=4)]
    return Thresholds(
        matrix_lab + 0.5 * spread_lab,
        matrix_synchrotron + 0.5 * spread_synchrotron,
        float(threshold_otsu(away_zyx if len(away_zyx) and np.ptp(away_zyx) else etched_zyx)),
    )


def _middle_and_spread(grey_zyx: Volume) -> tuple[float, float]:
    """Median, and the standard deviation of a normal distribution of the same median deviation."""
    middle = float(np.median(grey_zyx))
    return middle, 1.4826 * float(np.median(np.abs(grey_zyx - middle)))


def combine(
    lab_zyx: Volume,
    synchrotron_zyx: Volume,
    etched_zyx: Volume,
    *,
    thresholds: Thresholds,
    min_particle_voxels: int = 8,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Combine three aligned, smoothed scans into labels and their confidence (both uint8).

    Rigid is what stayed when the matrix was dissolved. Of that, aluminide is what is bright in
    laboratory CT and, with its sharper edges, in the synchrotron scan; the rest is silicon.
    """
    rigid_level = _rigid_level(etched_zyx, thresholds.rigid_etched)
    rigid = _without_specks(etched_zyx > rigid_level, min_particle_voxels)
    bright = (lab_zyx > thresholds.aluminide_lab) & (synchrotron_zyx > thresholds.aluminide_synchrotron)
    aluminide = _without_specks(rigid & bright, min_particle_voxels)
    labels_zyx = np.full(rigid.shape, Phase.MATRIX, dtype=np.uint8)
    labels_zyx[rigid] = Phase.SILICON
    labels_zyx[aluminide] = Phase.ALUMINIDE
    doubt_rigid = _margin(etched_zyx, rigid_level)
    doubt_aluminide = _margin(synchrotron_zyx, np.float32(thresholds.aluminide_synchrotron))
    margin = np.where(rigid, np.minimum(doubt_rigid, doubt_aluminide), doubt_rigid)
    return labels_zyx, np.round(255 * margin).astype(np.uint8)


def threshold_labels(grey_zyx: NDArray, *, smoothing_voxel: float = 1.0) -> NDArray[np.uint8]:
    """Label a single scan by its grey values alone: three classes by multi-Otsu after Gaussian smoothing.

    A start for labels of one's own, not a segmentation of Al-Si: silicon is as grey as the matrix (paper,
    section Introduction). The darkest class becomes matrix, the middle one silicon, the brightest aluminide.

    Raises
    ------
    ValueError
        When the scan has fewer than three grey values.
    """
    from skimage.filters import gaussian, threshold_multiotsu

    if grey_zyx.ndim != 3:
        raise ValueError(f"needs a scan with three axes (z, y, x), got shape {grey_zyx.shape}; give the whole stack")
    smooth_zyx = gaussian(grey_zyx.astype(np.float32), smoothing_voxel, preserve_range=True)
    if len(np.unique(grey_zyx)) < len(Phase):
        raise ValueError(f"needs at least {len(Phase)} grey values to part three classes; give a grey scan, not a mask")
    thresholds = threshold_multiotsu(smooth_zyx, classes=len(Phase))
    return np.digitize(smooth_zyx, thresholds).astype(np.uint8)


def _rigid_level(etched_zyx: Volume, threshold: float) -> Volume:
    """Raise the threshold beside bright aluminides, whose blurred edge would be taken for more."""
    air = np.median(etched_zyx)
    brightest = ndimage.gaussian_filter(ndimage.maximum_filter(etched_zyx, 3), 0.7)
    return np.maximum(np.float32(threshold), air + EDGE_SHARE * (brightest - air))


def _without_specks(mask_zyx: NDArray[np.bool_], min_particle_voxels: int) -> NDArray[np.bool_]:
    """Drop particles of fewer than `min_particle_voxels` voxels (26-neighbourhood)."""
    import cc3d

    particles = cc3d.connected_components(mask_zyx, connectivity=26)
    large = np.bincount(particles.ravel()) >= min_particle_voxels
    large[0] = False
    return large[particles]


def _margin(grey_zyx: Volume, level: Volume | np.float32) -> Volume:
    """Distance to a threshold, 0..1, in units of the robust spread of the volume."""
    _, spread = _middle_and_spread(grey_zyx)
    return np.minimum(np.abs(grey_zyx - level) / np.float32(max(3 * spread, 1e-6)), 1)
