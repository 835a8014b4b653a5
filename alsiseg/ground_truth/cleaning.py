"""Take rings, fringes and noise from the scans before they are cut at thresholds."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from alsiseg.ground_truth.registration import Volume

N_RING_SECTORS = 8
RING_SLAB_SLICES = 16
SHORTEST_ARC_VOXELS = 6  # shorter ones, near the axis, are no different from particles
REACH_OF_ALUMINIDES_VOXELS = 3
# Found on specimens of known truth (seeds 100 and 101): how much to sharpen and to smooth, and how
# far beyond a scan's contrast its brightest and darkest fringes still count.
LAB_SMOOTHING_VOXELS = 0.8
SHARPENING = 1.0
ETCHED_SMOOTHING = 1.2
ETCHED_RANGE = (-5.6, 14.0)
SYNCHROTRON_SMOOTHING = 0.15
SYNCHROTRON_RANGE = (-4.0, 4.0)
N_SMOOTHING_STEPS = 20
SMOOTHING_SLAB_SLICES = 32
SMOOTHING_MARGIN_SLICES = 8


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


def without_fringes(etched_zyx: Volume, synchrotron_zyx: Volume) -> Volume:
    """Subtract from the etched scan as much of the aligned synchrotron scan as flattens the air.

    The aluminides have fringes in both, stronger in the synchrotron scan, taken farther from the
    specimen. What is left has the fringes of the matrix that was dissolved: along the edge of
    everything rigid, and equally strong whatever it is made of. The share is the one that leaves the
    least spread among the darker half of the voxels.

    Parameters
    ----------
    etched_zyx, synchrotron_zyx
        Grey volumes (z, y, x) that lie on each other.

    Returns
    -------
    float32 array (Z, Y, X)
        On the scale of the etched scan.
    """
    matrix = float(np.median(synchrotron_zyx))
    few = (slice(None, None, 2),) * 3
    etched, fringes = etched_zyx[few], synchrotron_zyx[few] - matrix

    def spread_of_air(share: float) -> float:
        left = etched - np.float32(share) * fringes
        darker = left[left < np.median(left)]
        return float(darker.std())

    most = 2 * float(etched.std()) / max(float(fringes.std()), 1e-12)
    share = optimize.minimize_scalar(spread_of_air, bounds=(0, most), method="bounded", options={"xatol": most / 200}).x
    return etched_zyx - np.float32(share) * (synchrotron_zyx - np.float32(matrix))


def denoise(lab_zyx: NDArray, synchrotron_zyx: NDArray, etched_zyx: NDArray) -> tuple[Volume, Volume, Volume]:
    """Smooth three aligned scans, keeping edges, and take the fringes from the etched one.

    Laboratory CT by a Gaussian; the others by total variation (Chambolle, J. Math. Imaging Vis. 20, 89, 2004;
    scikit-image), which leaves thin plates bright. The etched scan is sharpened within the slices first, where
    projecting and back-projecting blurred it.

    Returns
    -------
    three float32 arrays (Z, Y, X)
        Laboratory, synchrotron, and etched scan without fringes, each on its own grey scale.
    """
    lab = ndimage.gaussian_filter(lab_zyx.astype(np.float32, copy=False), LAB_SMOOTHING_VOXELS)
    synchrotron = synchrotron_zyx.astype(np.float32, copy=False)
    etched = without_fringes(etched_zyx.astype(np.float32, copy=False), synchrotron)
    air, silicon = air_and_silicon(lab, ndimage.gaussian_filter(etched, 0.5))
    etched += np.float32(SHARPENING) * (etched - ndimage.gaussian_filter(etched, (0, 1, 1)))
    etched = _edges_kept(etched, air, silicon - air, ETCHED_RANGE, ETCHED_SMOOTHING)
    matrix, aluminides = matrix_and_aluminides(synchrotron)
    return lab, _edges_kept(synchrotron, matrix, aluminides - matrix, SYNCHROTRON_RANGE, SYNCHROTRON_SMOOTHING), etched


def air_and_silicon(lab_zyx: Volume, etched_zyx: Volume) -> tuple[float, float]:
    """Grey value of air in the etched scan, and the one that parts it from silicon.

    Air is the commonest. Away from aluminides, which laboratory CT shows, the etched scan holds
    only silicon and air, and Otsu's method finds the grey value between them.
    """
    from skimage.filters import threshold_otsu

    certain = lab_zyx > matrix_and_aluminides(lab_zyx)[1]
    away_zyx = etched_zyx[~ndimage.binary_dilation(certain, iterations=REACH_OF_ALUMINIDES_VOXELS)]
    level = threshold_otsu(away_zyx if len(away_zyx) and np.ptp(away_zyx) else etched_zyx)
    return float(np.median(etched_zyx)), float(level)


def matrix_and_aluminides(grey_zyx: Volume) -> tuple[float, float]:
    """Grey value of the matrix, the commonest, and the one that parts it from aluminides (Otsu's method)."""
    from skimage.filters import threshold_otsu

    return float(np.median(grey_zyx)), float(threshold_otsu(grey_zyx))


def middle_and_spread(grey_zyx: Volume) -> tuple[float, float]:
    """Median, and the standard deviation of a normal distribution of the same median deviation."""
    middle = float(np.median(grey_zyx))
    return middle, 1.4826 * float(np.median(np.abs(grey_zyx - middle)))


def _edges_kept(grey_zyx: Volume, base: float, contrast: float, reach: tuple[float, float], strength: float) -> Volume:
    """Smooth by total variation in units of the contrast; cut off what lies beyond `reach` contrasts of the base.

    Slab by slab with slices to spare, because the filter holds a dozen copies of what it smooths.
    """
    from skimage.restoration import denoise_tv_chambolle

    unit = np.float32(max(contrast, 1e-12))
    smooth = np.empty_like(grey_zyx)
    for start in range(0, len(grey_zyx), SMOOTHING_SLAB_SLICES):
        first, stop = max(0, start - SMOOTHING_MARGIN_SLICES), start + SMOOTHING_SLAB_SLICES
        slab = np.clip((grey_zyx[first : stop + SMOOTHING_MARGIN_SLICES] - np.float32(base)) / unit, *reach)
        slab = denoise_tv_chambolle(slab, weight=strength, eps=0, max_num_iter=N_SMOOTHING_STEPS)
        smooth[start:stop] = slab[start - first :][: stop - start]
    smooth *= unit
    smooth += np.float32(base)
    return smooth
