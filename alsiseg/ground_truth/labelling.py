"""Choose thresholds for three registered, cleaned scans and combine them into labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg.ground_truth import cleaning
from alsiseg.ground_truth.order import check_order
from alsiseg.ground_truth.registration import Registration, Volume, check_scans, register
from alsiseg.phases import Phase
from alsiseg.progress import steps

MIN_FRACTION = 1e-3
BEYOND_DOUBT_SPREADS = 4
# Found on specimens of known truth (seeds 100 and 101). Thresholds, as shares of the grey value that
# Otsu's method finds, above that of the background:
LAB_LEVEL = 0.1
SYNCHROTRON_LEVEL = 0.08
ETCHED_LEVEL = 0.7
# and the share of the brightest neighbour's grey at which an edge lies, where that is more.
SYNCHROTRON_EDGE = 0.2
ETCHED_EDGE = 0.38
LAB_REACH_VOXELS = 3  # its voxels are coarser than those of the labels
FACE_NEIGHBOURS = ndimage.generate_binary_structure(3, 1)


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
        Etched scan without fringes: silicon and aluminides are brighter than air.
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
        uint8: 0 where a scan lies on its threshold or does not reach, 255 where all lie far from theirs.
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
    min_particle_voxels: int = 12,
) -> GroundTruth:
    """Register three scans of one specimen and combine them into labels.

    The same scans give the same bytes. Takes about 50 bytes of memory per voxel beside the scans.

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
        are not in this order (looked at unless thresholds are given; a finely grown specimen hides some
        exchanges), or a phase is missing.
    """
    check_scans({"laboratory scan": lab_zyx, "synchrotron scan": synchrotron_zyx, "etched scan": etched_zyx})
    with steps(None, "ground truth", total=5) as bar:
        synchrotron = cleaning.without_rings(synchrotron_zyx)
        bar.update()
        lab, lab_move = _laid_on(synchrotron, lab_zyx, "laboratory scan")
        bar.update()
        etched, etched_move = _laid_on(synchrotron, etched_zyx, "etched scan")
        bar.update()
        if thresholds is None:
            check_order(lab, synchrotron, etched)
        aligned = cleaning.denoise(lab, synchrotron, etched)
        del lab, synchrotron, etched
        bar.update()
        chosen = thresholds or choose_thresholds(*aligned)
        labels_zyx, confidence_zyx = combine(*aligned, thresholds=chosen, min_particle_voxels=min_particle_voxels)
        if thresholds is None:
            _check_phases(labels_zyx)
        for move in (lab_move, etched_move):
            confidence_zyx[~move.covers(labels_zyx.shape)] = 0
        bar.update()
    return GroundTruth(labels_zyx, confidence_zyx, chosen, lab_move, etched_move)


def as_text(truth: GroundTruth, *, voxel_size_um: float | None = None) -> str:
    """Say in three lines which thresholds were used and how the scans were moved."""
    t = truth.thresholds
    lines = [
        f"thresholds: laboratory {t.aluminide_lab:.0f}, synchrotron {t.aluminide_synchrotron:.0f}, "
        f"etched without fringes {t.rigid_etched:.0f}"
    ]
    for name, move in (("laboratory", truth.lab), ("etched", truth.etched)):
        shift = ", ".join(f"{s:+.2f}" for s in move.shift_zyx_voxel)
        if voxel_size_um is not None:
            shift += " voxels = " + ", ".join(f"{s * voxel_size_um:+.2f}" for s in move.shift_zyx_voxel) + " um"
        else:
            shift += " voxels"
        turn = ", ".join(f"{r:+.3f}" for r in move.rotation_zyx_deg)
        lines.append(
            f"{name} scan moved along z, y, x by {shift}, turned by {turn} degrees; agreement {move.agreement:.2f}"
        )
    return "\n".join(lines)


def _laid_on(synchrotron_zyx: Volume, scan_zyx: NDArray, what: str) -> tuple[Volume, Registration]:
    """Take the rings from a scan and lay it on the synchrotron scan."""
    clean = cleaning.without_rings(scan_zyx)
    move = register(clean, synchrotron_zyx, what=what)
    return move.align(clean), move


def choose_thresholds(lab_zyx: Volume, synchrotron_zyx: Volume, etched_zyx: Volume) -> Thresholds:
    """Choose a threshold for every aligned scan from `cleaning.denoise`.

    Otsu's method parts aluminides from the rest in both scans with matrix, and silicon from air in
    the etched one, away from aluminides. Thin features are blurred, and most voxels of a phase lie
    near its edge: the thresholds lie nearer to the background than Otsu's, by fixed shares.

    Raises
    ------
    ValueError
        When no aluminides stand out in the laboratory scan.
    """
    matrix, spread = cleaning.middle_and_spread(lab_zyx)
    if not (lab_zyx > matrix + BEYOND_DOUBT_SPREADS * spread).mean() > MIN_FRACTION:
        raise ValueError(
            "the laboratory scan needs aluminides brighter than the matrix, found none; check the order of the scans"
        )
    air, silicon = cleaning.air_and_silicon(lab_zyx, etched_zyx)
    return Thresholds(
        _part_of_the_way(lab_zyx, LAB_LEVEL),
        _part_of_the_way(synchrotron_zyx, SYNCHROTRON_LEVEL),
        air + ETCHED_LEVEL * (silicon - air),
    )


def _check_phases(labels_zyx: NDArray[np.uint8]) -> None:
    """Refuse labels without one of the phases: scans in another order, or thresholds beside the grey values."""
    shares = np.bincount(labels_zyx.ravel(), minlength=len(Phase)) / labels_zyx.size
    missing = [phase.name.lower() for phase in Phase if shares[phase] < MIN_FRACTION]
    if missing:
        raise ValueError(
            f"the three scans must show every phase, found no {' and no '.join(missing)} at these thresholds; "
            "give the scans in the order laboratory, synchrotron, etched, or choose the thresholds yourself"
        )


def _part_of_the_way(grey_zyx: Volume, share: float) -> float:
    """Grey value so far from the matrix, the commonest, towards the threshold of Otsu's method."""
    matrix, level = cleaning.matrix_and_aluminides(grey_zyx)
    return matrix + share * (level - matrix)


def combine(
    lab_zyx: Volume,
    synchrotron_zyx: Volume,
    etched_zyx: Volume,
    *,
    thresholds: Thresholds,
    min_particle_voxels: int = 12,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Combine three aligned scans from `cleaning.denoise` into labels and their confidence (both uint8).

    Rigid is what stayed when the matrix was dissolved. Of that, aluminide is what is bright in the
    synchrotron scan, with its sharp edges, on or beside what is bright in laboratory CT; the rest is
    silicon. Specks of aluminide become silicon, and specks of silicon aluminide where they touch it,
    matrix elsewhere.
    """
    level_etched = _edge_level(etched_zyx, thresholds.rigid_etched, ETCHED_EDGE)
    level_synchrotron = _edge_level(synchrotron_zyx, thresholds.aluminide_synchrotron, SYNCHROTRON_EDGE)
    rigid = etched_zyx > level_etched
    near_bright = ndimage.maximum_filter(lab_zyx, 2 * LAB_REACH_VOXELS + 1) > thresholds.aluminide_lab
    aluminide = rigid & near_bright & (synchrotron_zyx > level_synchrotron)
    labels_zyx = _without_specks(rigid, aluminide, min_particle_voxels)
    margin = _margin(etched_zyx, level_etched, thresholds.rigid_etched)
    of_aluminide = _margin(synchrotron_zyx, level_synchrotron, thresholds.aluminide_synchrotron)
    np.minimum(margin, of_aluminide, out=margin, where=rigid)
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


def _edge_level(grey_zyx: Volume, threshold: float, share: float) -> Volume:
    """Raise the threshold beside bright voxels, whose blurred edge would be taken for more of them."""
    background = np.float32(np.median(grey_zyx))
    level = ndimage.maximum_filter(grey_zyx, footprint=FACE_NEIGHBOURS)
    level -= background
    level *= np.float32(share)
    level += background
    return np.maximum(level, np.float32(threshold), out=level)


def _without_specks(
    rigid: NDArray[np.bool_], aluminide: NDArray[np.bool_], min_particle_voxels: int
) -> NDArray[np.uint8]:
    """Labels without particles of fewer than `min_particle_voxels` voxels."""
    labels_zyx = (rigid & ~_specks(rigid, min_particle_voxels)).astype(np.uint8) * np.uint8(Phase.SILICON)
    aluminide = aluminide & (labels_zyx == Phase.SILICON)
    aluminide &= ~_specks(aluminide, min_particle_voxels)
    labels_zyx[aluminide] = Phase.ALUMINIDE
    specks = _specks(labels_zyx == Phase.SILICON, min_particle_voxels)
    beside = ndimage.binary_dilation(aluminide, FACE_NEIGHBOURS)
    labels_zyx[specks] = np.where(beside[specks], np.uint8(Phase.ALUMINIDE), np.uint8(Phase.MATRIX))
    return labels_zyx


def _specks(mask_zyx: NDArray[np.bool_], min_particle_voxels: int) -> NDArray[np.bool_]:
    """Mark particles of fewer than `min_particle_voxels` voxels (26-neighbourhood)."""
    import cc3d

    particles = cc3d.connected_components(mask_zyx.view(np.uint8), connectivity=26)
    small = np.bincount(particles.ravel()) < min_particle_voxels
    small[0] = False
    return small[particles]


def _margin(grey_zyx: Volume, level_zyx: Volume, threshold: float) -> Volume:
    """Distance to the level, 0..1: 1 is as far as the background lies from the threshold, or farther."""
    contrast = max(threshold - float(np.median(grey_zyx)), 1e-6)
    margin = np.abs(grey_zyx - level_zyx)
    margin /= np.float32(contrast)
    return np.minimum(margin, 1, out=margin)
