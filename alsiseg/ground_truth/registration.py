"""Lay scans of one specimen on each other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

Volume = NDArray[np.float32]
Triple = tuple[float, float, float]

MIN_AXIS = 16
MAX_ROTATION_DEG = 5.0
MIN_AGREEMENT = 0.3
N_FITTED_VOXELS = 200_000


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
        matrix = rotation_matrix(np.deg2rad(self.rotation_zyx_deg))
        centre = (np.array(moving_zyx.shape) - 1) / 2
        offset = centre - matrix @ centre + np.array(self.shift_zyx_voxel)
        return ndimage.affine_transform(
            moving_zyx.astype(np.float32), matrix, offset, order=3, mode="nearest", output=np.float32
        )


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

    check_scans({what: moving_zyx, "fixed scan": fixed_zyx})
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


def check_scans(scans: dict[str, NDArray]) -> None:
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


def rotation_matrix(angles_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix that turns (z, y, x) offsets about the z, y and x axes in turn."""
    return Rotation.from_euler("xyz", angles_rad).as_matrix()


def _moved(points: NDArray[np.floating], pose: NDArray[np.float64]) -> NDArray[np.float32]:
    """Offsets `points` after the pose."""
    return (rotation_matrix(pose[3:]) @ points + pose[:3, None]).astype(np.float32)


def _turn_rate(points: NDArray[np.floating], pose: NDArray[np.float64], axis: int) -> NDArray[np.float32]:
    """How fast every point moves when the angle about `axis` grows."""
    step = np.zeros(3)
    step[axis] = 1e-4
    return ((rotation_matrix(pose[3:] + step) - rotation_matrix(pose[3:] - step)) / 2e-4 @ points).astype(np.float32)


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
