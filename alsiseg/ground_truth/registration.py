"""Lay scans of one specimen on each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    import SimpleITK as sitk

Volume = NDArray[np.float32]
Triple = tuple[float, float, float]

MIN_AXIS = 16
MAX_SHIFT_SHARE = 0.25  # of the volume's length along an axis
MAX_ROTATION_DEG = 5.0
MIN_AGREEMENT = 0.3
N_GREY_BINS = 32
N_COMPARED_VOXELS = 200_000
N_STEPS = 100
EVERY_SECOND = (slice(None, None, 2),) * 3


@dataclass(frozen=True)
class Registration:
    """A rigid move: the aligned volume at x is the moving one at R (x - c) + c + shift.

    Attributes
    ----------
    shift_zyx_voxel, rotation_zyx_deg
        Translation, and rotation about the z, y and x axes in turn through the centre of the volume.
    agreement
        Correlation of the two smoothed volumes once aligned, at most 1.
    """

    shift_zyx_voxel: Triple
    rotation_zyx_deg: Triple
    agreement: float

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The rotation R, for offsets (z, y, x)."""
        return Rotation.from_euler("xyz", self.rotation_zyx_deg, degrees=True).as_matrix()

    def align(self, moving_zyx: NDArray) -> Volume:
        """Resample a volume into the frame of the fixed one (cubic spline, faces continued)."""
        centre = (np.array(moving_zyx.shape) - 1) / 2
        offset = centre - self.matrix @ centre + np.array(self.shift_zyx_voxel)
        moving = moving_zyx.astype(np.float32, copy=False)
        return ndimage.affine_transform(moving, self.matrix, offset, order=3, mode="nearest", output=np.float32)

    def covers(self, shape_zyx: tuple[int, ...]) -> NDArray[np.bool_]:
        """Mark the voxels of the fixed volume that the moving one, of the same shape, reaches."""
        centre = (np.array(shape_zyx) - 1) / 2
        offsets_zyx = np.ogrid[tuple(slice(0, n) for n in shape_zyx)]
        covered = np.ones(shape_zyx, dtype=bool)
        for row, shift, middle in zip(self.matrix, self.shift_zyx_voxel, centre, strict=True):
            offset = sum(r * (x - c) for r, x, c in zip(row, offsets_zyx, centre, strict=True)) + shift
            covered &= np.abs(offset) <= middle + 0.5
        return covered


def register(moving_zyx: NDArray, fixed_zyx: NDArray, *, what: str = "moving scan") -> Registration:
    """Find the rigid move that lays `moving_zyx` on `fixed_zyx` to a fraction of a voxel.

    Smoothed over a voxel both show the aluminides bright, whatever made the contrast. Phase
    correlation (scikit-image) finds the shift to two voxels; Mattes' mutual information, first of every second
    voxel and then of all (SimpleITK), finds the rest and the rotation. One thread and an even choice
    of voxels to compare: the same scans give the same bytes.

    Parameters
    ----------
    moving_zyx, fixed_zyx
        Grey volumes (z, y, x) of one shape and voxel size.
    what
        What messages call the moving one.

    Raises
    ------
    ValueError
        When shapes differ, a volume holds NaN or a single grey value, or the search does not end at
        a small move with the volumes alike.
    """
    check_scans({what: moving_zyx, "fixed scan": fixed_zyx})
    moving, fixed = _standardised(moving_zyx), _standardised(fixed_zyx)
    move, converged = _search(moving, fixed, _whole_voxels(moving, fixed))
    shift, rotation = _in_array_order(move)
    agreement = _correlation(Registration(shift, rotation, 0.0).align(moving), fixed)
    found = Registration(shift, rotation, agreement)
    _check_registration(found, converged, fixed.shape, what)
    return found


def check_scans(scans: dict[str, NDArray]) -> None:
    """Refuse scans that differ in shape or hold nothing to compare."""
    for name, scan in scans.items():
        if scan.ndim != 3 or min(scan.shape) < MIN_AXIS:
            raise ValueError(
                f"the {name} must be a volume of at least {MIN_AXIS} voxels along z, y and x, got shape {scan.shape}; "
                "give the whole stack"
            )
        if not (np.issubdtype(scan.dtype, np.integer) or np.issubdtype(scan.dtype, np.floating)):
            raise ValueError(f"the {name} must hold grey values, got {scan.dtype}; give a scan, not a mask or colours")
        if np.issubdtype(scan.dtype, np.floating) and not np.isfinite(scan).all():
            raise ValueError(f"the {name} must hold finite grey values, found NaN or infinite ones; replace them first")
        if scan.min() == scan.max():
            raise ValueError(f"the {name} must show a specimen, found only the grey value {scan.min()}; give a scan")
    shapes = {name: scan.shape for name, scan in scans.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"the scans must have one shape, got {listed}; crop them to the same region first")


def _standardised(volume_zyx: NDArray) -> Volume:
    """Smooth over a voxel, keep what is brighter than the median, scale to mean 0 and variance 1.

    Dark fringes are cut off: only one of the two scans may have them.
    """
    smooth = ndimage.gaussian_filter(volume_zyx.astype(np.float32), 1.0, mode="nearest")
    np.clip(smooth, *np.percentile(smooth[EVERY_SECOND], (50, 99.5)), out=smooth)
    smooth -= smooth.mean()
    smooth /= max(float(smooth.std()), 1e-12)
    return smooth


def _whole_voxels(moving: Volume, fixed: Volume) -> NDArray[np.float64]:
    """Shift along z, y and x found by phase correlation of every second voxel."""
    from skimage.registration import phase_cross_correlation

    moving, fixed = moving[EVERY_SECOND], fixed[EVERY_SECOND]
    window = np.ix_(*(np.hanning(n + 2)[1:-1].astype(np.float32) for n in fixed.shape))
    taper = window[0] * window[1] * window[2]
    shift, _, _ = phase_cross_correlation(taper * moving, taper * fixed, normalization=None)
    return 2 * np.asarray(shift, dtype=float)


def _search(moving: Volume, fixed: Volume, start_zyx: NDArray[np.float64]) -> tuple[sitk.Euler3DTransform, bool]:
    """Climb to the largest mutual information from a shift; the move, and whether the climb ended at a top."""
    import SimpleITK as sitk

    move = sitk.Euler3DTransform()
    move.SetCenter([(n - 1) / 2 for n in reversed(fixed.shape)])
    move.SetTranslation(start_zyx[::-1].tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(N_GREY_BINS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(min(1.0, N_COMPARED_VOXELS / fixed.size), seed=1)  # 0 means the time of day
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=0.5, minStep=1e-3, numberOfIterations=N_STEPS, gradientMagnitudeTolerance=1e-8
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.MetricUseFixedImageGradientFilterOff()  # slopes only where voxels are compared: half the memory and time
    method.MetricUseMovingImageGradientFilterOff()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1.0, 0.0])
    method.SetInitialTransform(move, inPlace=True)
    try:
        with _one_thread():
            method.Execute(sitk.GetImageFromArray(fixed), sitk.GetImageFromArray(moving))
    except RuntimeError:  # the volumes no longer overlap
        return move, False
    return move, method.GetOptimizerIteration() < N_STEPS


@contextmanager
def _one_thread() -> Iterator[None]:
    """Search on one thread: the last bits of the sums depend on how many share them."""
    import SimpleITK as sitk

    n_threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(n_threads)


def _in_array_order(move: sitk.Euler3DTransform) -> tuple[Triple, Triple]:
    """Shift in voxels and rotation in degrees, both z, y, x, of a move given in x, y, z."""
    matrix = np.array(move.GetMatrix()).reshape(3, 3)[::-1, ::-1]
    shift = np.array(move.GetTranslation())[::-1]
    rotation = Rotation.from_matrix(matrix).as_euler("xyz", degrees=True)
    return tuple(map(float, shift)), tuple(map(float, rotation))  # type: ignore[return-value]


def _correlation(aligned: Volume, fixed: Volume) -> float:
    """Correlation of two volumes away from their faces, where one may have been continued."""
    inner = tuple(slice(n // 12, n - n // 12) for n in fixed.shape)
    return float(np.corrcoef(aligned[inner].ravel(), fixed[inner].ravel())[0, 1])


def _check_registration(found: Registration, converged: bool, shape: tuple[int, ...], what: str) -> None:
    """Refuse a search that did not end at a small move between two images of one specimen."""
    far = max(abs(s) / n for s, n in zip(found.shift_zyx_voxel, shape, strict=True)) > MAX_SHIFT_SHARE
    turned = max(map(abs, found.rotation_zyx_deg)) > MAX_ROTATION_DEG
    if not converged or far or turned or not found.agreement > MIN_AGREEMENT:
        shift = ", ".join(f"{s:.1f}" for s in found.shift_zyx_voxel)
        turn = ", ".join(f"{r:.1f}" for r in found.rotation_zyx_deg)
        raise ValueError(
            f"the {what} does not register: a correlation above {MIN_AGREEMENT} after a small move is needed, found "
            f"{found.agreement:.2f} after a shift of ({shift}) voxels and a rotation of ({turn}) degrees; "
            "check that both show the same region of one specimen"
        )
