"""What is tried before a network: grey-value thresholds, and a random forest on local features.

Each is given its best chance, so that what a network is worth shows: classes of thresholds are named as
the truth would name them, smoothed thresholds are even chosen on the truth, and the forest is trained on as
many voxels as it can use.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import ground_truth, metrics
from alsiseg.phases import Phase
from alsiseg.progress import steps

N_GREY_LEVELS = 1000
SMOOTHINGS_VOXEL = (0.0, 0.5, 1.0, 1.5, 2.0)
SLAB_SLICES, MARGIN_SLICES = 16, 17  # segmented at once by a forest, and the context its features see
MAX_TRAINING_SLICES = 96  # of a forest: features take 80 bytes a voxel


@dataclass(frozen=True)
class SmoothedThresholds:
    """The best that smoothing and two thresholds can do; made by `best_thresholds`.

    Attributes
    ----------
    smoothing_voxel
        Standard deviation of the Gaussian filter.
    thresholds
        Two grey values, rising, of the smoothed scan.
    naming
        Phase of the dark, the middle and the bright class.
    """

    smoothing_voxel: float
    thresholds: tuple[float, float]
    naming: tuple[Phase, ...]

    def segment(self, grey_zyx: NDArray) -> NDArray[np.uint8]:
        """Label a scan on the same grey scale."""
        classes = np.digitize(_smoothed(grey_zyx, self.smoothing_voxel), self.thresholds)
        return np.array(self.naming, dtype=np.uint8)[classes]


def multi_otsu(grey_zyx: NDArray, truth_zyx: NDArray[np.uint8], *, smoothing_voxel: float = 1.0) -> NDArray[np.uint8]:
    """Label by three grey classes (`ground_truth.threshold_labels`), named as agrees best with the truth."""
    _check(grey_zyx, truth_zyx)
    classes = ground_truth.threshold_labels(np.asarray(grey_zyx), smoothing_voxel=smoothing_voxel)
    return metrics.best_naming(classes, truth_zyx)


def best_thresholds(grey_zyx: NDArray, truth_zyx: NDArray[np.uint8]) -> SmoothedThresholds:
    """Find the smoothing, the two thresholds and the naming that agree best with the truth.

    Every pair among 1000 grey levels is tried for every smoothing: other thresholds would get at most two
    thousandths of the voxels more right.
    """
    _check(grey_zyx, truth_zyx)
    found = [_best_at(grey_zyx, truth_zyx, smoothing) for smoothing in steps(SMOOTHINGS_VOXEL, "thresholds")]
    return max(found, key=lambda one: one[0])[1]


def _best_at(grey_zyx: NDArray, truth_zyx: NDArray[np.uint8], smoothing: float) -> tuple[int, SmoothedThresholds]:
    """Most voxels that two thresholds get right at one smoothing, and those thresholds."""
    smooth_zyx = _smoothed(grey_zyx, smoothing)
    edges = np.unique(np.quantile(smooth_zyx, np.linspace(0, 1, N_GREY_LEVELS + 1)))
    classes = np.digitize(smooth_zyx, edges)
    # below[p, i]: voxels of phase p under edge i; the last column holds all of them
    below = np.stack([np.bincount(classes[truth_zyx == p], minlength=len(edges) + 1) for p in Phase]).cumsum(1)
    low, high = np.triu_indices(len(edges))
    parts = np.stack([below[:, low], below[:, high] - below[:, low], below[:, -1:] - below[:, high]])
    options = [(parts[[0, 1, 2], naming].sum(0), naming) for naming in permutations(Phase)]
    right, naming = max(options, key=lambda option: option[0].max())
    best = int(right.argmax())
    thresholds = (float(edges[low[best]]), float(edges[high[best]]))
    return int(right[best]), SmoothedThresholds(smoothing, thresholds, naming)


@dataclass(frozen=True)
class PixelForest:
    """A random forest (scikit-learn) on grey, edges and texture at several scales (scikit-image)."""

    forest: Any
    largest_scale_voxel: float

    def segment(self, grey_zyx: NDArray) -> NDArray[np.uint8]:
        """Label a scan on the same grey scale, some slices at a time."""
        labels_zyx = np.empty(grey_zyx.shape, dtype=np.uint8)
        for start in steps(range(0, len(grey_zyx), SLAB_SLICES), "forest, slabs"):
            stop = min(start + SLAB_SLICES, len(grey_zyx))
            first = max(start - MARGIN_SLICES, 0)
            features = _features(grey_zyx[first : stop + MARGIN_SLICES], self.largest_scale_voxel)
            wanted = features[start - first : stop - first]
            labels_zyx[start:stop] = self.forest.predict(wanted.reshape(-1, wanted.shape[-1])).reshape(wanted.shape[:3])
        return labels_zyx


def train_forest(
    grey_zyx: NDArray,
    labels_zyx: NDArray[np.uint8],
    *,
    n_voxels: int = 60_000,
    n_trees: int = 60,
    largest_scale_voxel: float = 4.0,
    seed: int = 0,
) -> PixelForest:
    """Train a forest on `n_voxels` voxels drawn at random from the middle of a labelled scan.

    Features: Gaussian-smoothed grey, gradient magnitude and eigenvalues of the Hessian in 3-D, at scales of
    0.5 voxel doubling up to `largest_scale_voxel`, as in the pixel classifiers of ilastik or Weka.

    Raises
    ------
    ValueError
        When shapes differ.
    """
    from sklearn.ensemble import RandomForestClassifier

    _check(grey_zyx, labels_zyx)
    first = max(len(labels_zyx) - MAX_TRAINING_SLICES, 0) // 2
    grey_zyx, labels_zyx = (volume[first : first + MAX_TRAINING_SLICES] for volume in (grey_zyx, labels_zyx))
    rng = np.random.default_rng(seed)
    chosen = rng.choice(labels_zyx.size, min(n_voxels, labels_zyx.size), replace=False)
    features = _features(grey_zyx, largest_scale_voxel)
    forest = RandomForestClassifier(n_trees, min_samples_leaf=3, n_jobs=-1, random_state=seed)
    forest.fit(features.reshape(-1, features.shape[-1])[chosen], labels_zyx.ravel()[chosen])
    forest.set_params(n_jobs=1)  # threads add up the votes in any order: a tie would fall either way
    return PixelForest(forest, largest_scale_voxel)


def _features(grey_zyx: NDArray, largest_scale_voxel: float) -> NDArray[np.float32]:
    """Multi-scale features of every voxel; (z, y, x, feature)."""
    from skimage.feature import multiscale_basic_features

    return multiscale_basic_features(
        grey_zyx.astype(np.float32), sigma_min=0.5, sigma_max=largest_scale_voxel, workers=1
    )


def _smoothed(grey_zyx: NDArray, smoothing_voxel: float) -> NDArray[np.float32]:
    grey_zyx = np.asarray(grey_zyx).astype(np.float32)
    return ndimage.gaussian_filter(grey_zyx, smoothing_voxel) if smoothing_voxel else grey_zyx


def _check(grey_zyx: NDArray, labels_zyx: NDArray) -> None:
    if grey_zyx.shape != labels_zyx.shape or grey_zyx.ndim != 3:
        raise ValueError(
            f"needs a scan (z, y, x) and labels of one shape, got {grey_zyx.shape} and {labels_zyx.shape}; "
            "give the same slices of both"
        )
