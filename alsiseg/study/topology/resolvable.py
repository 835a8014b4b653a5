"""The truth as a scan could show it, free of noise and fringes: what no segmentation of the scan can be blamed for.

Silicon sheets thinner than the scan's point spread, and bridges and gaps one voxel wide, are in the truth of a
specimen but not in what the scan shows of it. Defined once, here, for every comparison.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg.phantom import ScanSettings
from alsiseg.phases import Phase, check_labels

# Variance, in square voxels, of what spreads a point within a slice beside the blur of the detector: a voxel is
# projected as a cone two columns wide (1/6), a pixel counts all light on one column (1/12), and the back-projection
# interpolates between columns (1/6). See `phantom.tomography`; a test projects a point and finds it.
TOMOGRAPHY_VARIANCE = 1 / 6 + 1 / 12 + 1 / 6


def point_spread(settings: ScanSettings) -> tuple[float, float, float]:
    """Standard deviation of the point spread of a scan along z, y and x, in voxels of the specimen.

    Along z only the detector blurs: a slice is one row of detector pixels. Fringes are not blur, and noise is not
    in it either.

    Parameters
    ----------
    settings
        Of a scan without binning, as in ``phantom.DIFFICULTIES["clean"]["synchrotron"]``.

    Raises
    ------
    ValueError
        For a scan with voxels larger than those of the specimen, whose interpolation blurs too.
    """
    if settings.binning != 1:
        raise ValueError(
            f"the point spread is known for scans with the voxels of the specimen, got a binning of {settings.binning}"
        )
    within = math.sqrt(settings.blur_voxel**2 + TOMOGRAPHY_VARIANCE)
    return settings.blur_voxel, within, within


def resolvable_truth(truth_zyx: NDArray[np.uint8], settings: ScanSettings) -> NDArray[np.uint8]:
    """Give every voxel the phase that fills most of what the scan sees at its place.

    The indicator of each phase is convolved with the Gaussian of `point_spread`; the largest wins. Outside the
    volume lies matrix, and mirror images of the slices above and below, as in the scans. Memory: 13 bytes a voxel.

    Parameters
    ----------
    truth_zyx
        Labels (Z, Y, X) of the specimen.
    settings
        Of the scan, see `point_spread`.

    Returns
    -------
    labels_zyx : uint8 (Z, Y, X)
    """
    check_labels(truth_zyx)
    sigmas = point_spread(settings)
    most_zyx = np.full(truth_zyx.shape, -1, np.float32)
    labels_zyx = np.empty(truth_zyx.shape, np.uint8)
    for phase in Phase:
        share_zyx = (truth_zyx == phase).astype(np.float32)
        for axis, sigma in enumerate(sigmas):
            outside = {"mode": "reflect"} if axis == 0 else {"mode": "constant", "cval": float(phase == Phase.MATRIX)}
            share_zyx = ndimage.gaussian_filter1d(share_zyx, sigma, axis=axis, **outside)
        wins_zyx = share_zyx > most_zyx
        labels_zyx[wins_zyx] = phase
        most_zyx[wins_zyx] = share_zyx[wins_zyx]
    return labels_zyx
