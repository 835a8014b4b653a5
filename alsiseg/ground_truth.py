"""Labels from three scans of one specimen, as the paper made its ground truth.

Paper, section "Generation of ground truth data": laboratory CT shows the aluminides, the etched
specimen shows everything that is rigid, and the synchrotron scan, in whose frame the labels are,
shows where the edges run.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from alsiseg.phases import Phase

Volume = NDArray[np.float32]
Triple = tuple[float, float, float]

MIN_AXIS = 16
MAX_ROTATION_DEG = 5.0
MIN_AGREEMENT = 0.3
N_FITTED_VOXELS = 200_000
MIN_ALUMINIDE_FRACTION = 1e-3
# Share of a particle's brightness at which the etched scan puts its edge, where that is more than
# the threshold: found on specimens of known truth.
EDGE_SHARE = 0.2


@dataclass(frozen=True)
class Registration:
    """A rigid move: the aligned volume at x is the moving one at R (x - c) + c + shift.

    Attributes
    ----------
    shift_zyx_voxel, rotation_zyx_deg
        Translation, and rotation about the z, y and x axes through the centre of the volume.
    agreement
        Correlation of the two smoothed volumes once aligned, at most 1.
    """

    shift_zyx_voxel: Triple
    rotation_zyx_deg: Triple
    agreement: float

    def align(self, moving_zyx: NDArray) -> Volume:
        """Resample a volume into the frame of the fixed one (cubic spline, faces continued)."""
        matrix = _rotation(np.deg2rad(self.rotation_zyx_deg))
        centre = (np.array(moving_zyx.shape) - 1) / 2
        offset = centre - matrix @ centre + np.array(self.shift_zyx_voxel)
        return ndimage.affine_transform(
            moving_zyx.astype(np.float32), matrix, offset, order=3, mode="nearest", output=np.float32
        )


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
    _check_scans(scans)
    lab_move = register(lab_zyx, synchrotron_zyx, what="laboratory scan")
    etched_move = register(etched_zyx, synchrotron_zyx, what="etched scan")
    aligned = denoise(lab_move.align(lab_zyx), synchrotron_zyx, etched_move.align(etched_zyx))
    chosen = thresholds or choose_thresholds(*aligned)
    labels_zyx, confidence_zyx = combine(*aligned, thresholds=chosen, min_particle_voxels=min_particle_voxels)
    return GroundTruth(labels_zyx, confidence_zyx, chosen, lab_move, etched_move)


def register(moving_zyx: NDArray, fixed_zyx: NDArray, *, what: str = "moving scan") -> Registration:
    """Find the rigid move that lays `moving_zyx` on `fixed_zyx` to a fraction of a voxel.

    Smoothed over a voxel both show the aluminides bright, whatever made the contrast. Phase
    correlation (scikit-image) finds whole voxels, least squares on the smoothed grey values
    (SciPy) the rest and the rotation.

    Raises
    ------
    ValueError
        When shapes differ, a volume holds NaN or a single grey value, or the fit does not
        converge to a small rotation with the volumes alike.
    """
    from skimage.registration import phase_cross_correlation

    _check_scans({what: moving_zyx, "fixed scan": fixed_zyx})
    moving, fixed = _standardised(moving_zyx), _standardised(fixed_zyx)
    window = np.ix_(*(np.hanning(n + 2)[1:-1].astype(np.float32) for n in fixed.shape))
    taper = window[0] * window[1] * window[2]
    start, _, _ = phase_cross_correlation(taper * moving, taper * fixed, normalization=None)
    pose, converged = _refine(moving, fixed, np.concatenate([start, np.zeros(3)]))
    found = Registration(
        tuple(map(float, pose[:3])),  # type: ignore[arg-type]
        tuple(map(float, np.rad2deg(pose[3:]))),  # type: ignore[arg-type]
        _agreement(moving, fixed, pose),
    )
    _check_registration(found, converged, fixed.shape, what)
    return found


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


def _check_scans(scans: dict[str, NDArray]) -> None:
    """Refuse scans that differ in shape or hold nothing to compare."""
    shapes = {name: scan.shape for name, scan in scans.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"the scans must have one shape, got {listed}; crop them to the same region first")
    for name, scan in scans.items():
        if scan.ndim != 3 or min(scan.shape) < MIN_AXIS:
            raise ValueError(
                f"the {name} must be a volume of at least {MIN_AXIS} voxels along z, y and x, got shape {scan.shape}"
            )
        if np.issubdtype(scan.dtype, np.floating) and not np.isfinite(scan).all():
            raise ValueError(f"the {name} holds NaN or infinite grey values; replace them before registering")
        if scan.min() == scan.max():
            raise ValueError(f"the {name} has the single grey value {scan.min()}; give a scan of the specimen")


def _standardised(volume_zyx: NDArray) -> Volume:
    """Smooth over a voxel, keep what is brighter than the median, scale to mean 0 and variance 1.

    Dark fringes are cut off: only one of the two scans may have them.
    """
    smooth = ndimage.gaussian_filter(volume_zyx.astype(np.float32), 1.0, mode="nearest")
    smooth = np.clip(smooth, *np.percentile(smooth[::2, ::2, ::2], (50, 99.5)))
    return ((smooth - smooth.mean()) / max(float(smooth.std()), 1e-12)).astype(np.float32)


def _refine(moving: Volume, fixed: Volume, start: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Least-squares pose (three voxels, three radians) and whether it converged."""
    points, centre = _sample_points(fixed.shape)
    target = ndimage.map_coordinates(fixed, points + centre, order=1)
    slopes = [np.gradient(moving, axis=axis) for axis in range(3)]

    def residual(pose: NDArray[np.float64]) -> NDArray[np.float64]:
        where = _moved(points, pose) + centre
        return ndimage.map_coordinates(moving, where, order=1, mode="nearest") - target

    def jacobian(pose: NDArray[np.float64]) -> NDArray[np.float64]:
        where = _moved(points, pose) + centre
        slope = np.stack([ndimage.map_coordinates(s, where, order=1, mode="nearest") for s in slopes])
        turns = [(slope * _turn_rate(points, pose, axis)).sum(0) for axis in range(3)]
        return np.stack([*slope, *turns], axis=1).astype(float)

    fit = optimize.least_squares(residual, start, jac=jacobian, x_scale="jac", loss="soft_l1", max_nfev=60)
    return fit.x, bool(fit.success)


def _sample_points(shape: tuple[int, ...]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Evenly spaced voxels, away from the faces, as offsets from the centre, and the centre."""
    step = max(1, int(np.ceil((np.prod(shape) / N_FITTED_VOXELS) ** (1 / 3))))
    centre = ((np.array(shape, dtype=np.float32) - 1) / 2)[:, None]
    axes = [np.arange(n // 12, n - n // 12, step, dtype=np.float32) for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1) - centre, centre


def _rotation(angles_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix that turns (z, y, x) offsets about the z, y and x axes in turn."""
    return Rotation.from_euler("xyz", angles_rad).as_matrix()


def _moved(points: NDArray[np.floating], pose: NDArray[np.float64]) -> NDArray[np.float32]:
    """Offsets `points` after the pose."""
    return (_rotation(pose[3:]) @ points + pose[:3, None]).astype(np.float32)


def _turn_rate(points: NDArray[np.floating], pose: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """How fast every point moves when the angle about `axis` grows."""
    step = np.zeros(3)
    step[axis] = 1e-4
    return ((_rotation(pose[3:] + step) - _rotation(pose[3:] - step)) / 2e-4 @ points).astype(np.float32)


def _agreement(moving: Volume, fixed: Volume, pose: NDArray[np.float64]) -> float:
    """Correlation of the two volumes at the sampled points."""
    points, centre = _sample_points(fixed.shape)
    target = ndimage.map_coordinates(fixed, points + centre, order=1)
    found = ndimage.map_coordinates(moving, _moved(points, pose) + centre, order=1, mode="nearest")
    return float(np.corrcoef(found, target)[0, 1])


def _check_registration(found: Registration, converged: bool, shape: tuple[int, ...], what: str) -> None:
    """Refuse a fit that is not a small move between two images of one specimen."""
    far = max(abs(s) / n for s, n in zip(found.shift_zyx_voxel, shape, strict=True)) > 0.25
    turned = max(map(abs, found.rotation_zyx_deg)) > MAX_ROTATION_DEG
    if not converged or far or turned or not found.agreement > MIN_AGREEMENT:
        shift = ", ".join(f"{s:.1f}" for s in found.shift_zyx_voxel)
        turn = ", ".join(f"{r:.1f}" for r in found.rotation_zyx_deg)
        raise ValueError(
            f"the {what} does not register: a correlation above {MIN_AGREEMENT} after a small move is needed, found "
            f"{found.agreement:.2f} after a shift of ({shift}) voxels and a rotation of ({turn}) degrees; "
            "check that both show the same region of one specimen"
        )
