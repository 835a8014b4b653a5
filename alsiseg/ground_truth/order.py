"""Tell from the scans themselves when they were given in the wrong order."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg.ground_truth.cleaning import matrix_and_aluminides, middle_and_spread
from alsiseg.ground_truth.registration import Volume

N_SLICES = 64  # looked at, in the middle of the scan
# Smallest differences that count. Both specimens, both difficulties: the rims of laboratory CT lie 0.35 to 2.6
# above those of the synchrotron scan; the split of the etched scan lies 0.07 below to 0.3 above the others'.
RIM_MARGIN = 0.3
SPLIT_MARGIN = 0.1
ADVICE = "give the scans in the order laboratory, synchrotron, etched, or choose the thresholds yourself"


def check_order(lab_zyx: NDArray, synchrotron_zyx: NDArray, etched_zyx: NDArray) -> None:
    """Refuse scans that have changed places.

    Fringes make the rims of aluminides darkest in the synchrotron scan, and silicon stands out from its
    surroundings most in the etched one.

    Raises
    ------
    ValueError
        With what was seen and which order is needed.
    """
    lab_rim, rim = rim_of_aluminides(lab_zyx), rim_of_aluminides(synchrotron_zyx)
    if lab_rim < rim - RIM_MARGIN:
        raise ValueError(
            "the synchrotron scan must show the darker rims round aluminides, found them in the laboratory scan "
            f"({lab_rim:.1f} noise levels beside the matrix's grey, synchrotron {rim:.1f}); {ADVICE}"
        )
    split = split_away_from_aluminides(etched_zyx)
    other = max(split_away_from_aluminides(lab_zyx), split_away_from_aluminides(synchrotron_zyx))
    if split < other - SPLIT_MARGIN:
        raise ValueError(
            "the etched scan must part silicon from its surroundings best of the three, found that two grey levels "
            f"explain {100 * split:.0f} % of its variance and {100 * other:.0f} % of another scan's; {ADVICE}"
        )


def rim_of_aluminides(scan_zyx: NDArray) -> float:
    """Grey value three and four voxels away from the brightest phase, less the matrix, in spreads of the matrix.

    Fringes make it negative, the blur of laboratory CT positive.
    """
    smooth_zyx = _middle(scan_zyx)
    bright = smooth_zyx > matrix_and_aluminides(smooth_zyx)[1]
    rim = ndimage.binary_dilation(bright, iterations=4) & ~ndimage.binary_dilation(bright, iterations=2)
    matrix, spread = middle_and_spread(smooth_zyx)
    return (float(smooth_zyx[rim].mean()) - matrix) / max(spread, 1e-12) if rim.any() else 0.0


def split_away_from_aluminides(scan_zyx: NDArray) -> float:
    """Share of the variance that two grey levels explain away from the brightest phase (Otsu's criterion), 0..1."""
    smooth_zyx = _middle(scan_zyx)
    bright = smooth_zyx > matrix_and_aluminides(smooth_zyx)[1]
    away = smooth_zyx[~ndimage.binary_dilation(bright, iterations=5)]
    if not away.size or not np.ptp(away):
        return 0.0
    level = matrix_and_aluminides(away)[1]
    below = away <= level
    share = float(below.mean())
    apart = float(away[below].mean() - away[~below].mean())
    return share * (1 - share) * apart**2 / float(away.var())


def _middle(scan_zyx: NDArray) -> Volume:
    """Slices from the middle of a scan, smoothed over a voxel."""
    first = max(0, (len(scan_zyx) - N_SLICES) // 2)
    return ndimage.gaussian_filter(np.asarray(scan_zyx[first : first + N_SLICES], dtype=np.float32), 1.0)
