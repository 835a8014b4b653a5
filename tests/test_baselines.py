import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from alsiseg import baselines, metrics
from alsiseg.phases import Phase

GREY_OF_PHASE = np.array([100.0, 70.0, 160.0], dtype=np.float32)


def specimen(seed=0, shape=(20, 32, 36)):
    """Blobs of three phases, as labels."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.digitize(field, np.quantile(field, [0.7, 0.85])).astype(np.uint8)


def scan(labels_zyx, noise, seed=1):
    grey = GREY_OF_PHASE[labels_zyx] + np.random.default_rng(seed).normal(0, noise, labels_zyx.shape)
    return np.round(100 * grey).astype(np.uint16)


def best_by_trying(grey_zyx, truth_zyx):
    """Every pair of grey values as thresholds, one after the other, without smoothing."""
    values = np.unique(grey_zyx)
    options = [(low, high) for low in values for high in values if low <= high]
    found = [metrics.best_naming(np.digitize(grey_zyx, pair).astype(np.uint8), truth_zyx) for pair in options]
    return max(metrics.accuracy(one, truth_zyx) for one in found)


def test_thresholds_part_phases_of_distinct_grey():
    truth = specimen()
    found = baselines.best_thresholds(scan(truth, noise=1.0), truth)
    assert found.naming == (Phase.SILICON, Phase.MATRIX, Phase.ALUMINIDE)
    assert metrics.accuracy(found.segment(scan(truth, noise=1.0)), truth) > 0.998
    assert metrics.accuracy(baselines.multi_otsu(scan(truth, noise=1.0), truth, smoothing_voxel=0), truth) > 0.998


@pytest.mark.parametrize("seed", range(3))
def test_no_pair_of_thresholds_does_better(monkeypatch, seed):
    monkeypatch.setattr(baselines, "SMOOTHINGS_VOXEL", (0.0,))
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, (4, 4, 8)).astype(np.uint8)
    grey = random.integers(0, 12, (4, 4, 8)).astype(np.uint16)
    found = baselines.best_thresholds(grey, truth)
    assert metrics.accuracy(found.segment(grey), truth) == best_by_trying(grey, truth)


def test_smoothing_is_chosen_where_there_is_noise():
    truth = specimen(shape=(24, 48, 48))
    quiet, noisy = (baselines.best_thresholds(scan(truth, noise), truth) for noise in (0.5, 25.0))
    assert quiet.smoothing_voxel < noisy.smoothing_voxel


def test_a_forest_sees_shape_where_grey_tells_nothing():
    """Two phases of one grey, one smooth and one rough: thresholds fail, local features do not."""
    labels = np.zeros((24, 40, 40), dtype=np.uint8)
    labels[:, :, 20:] = Phase.SILICON
    random = np.random.default_rng(2)
    smooth, rough = random.normal(0, 1, labels.shape), random.normal(0, 30, labels.shape)
    grey = (1000 + np.where(labels == Phase.SILICON, rough, smooth)).astype(np.uint16)
    forest = baselines.train_forest(grey[:12], labels[:12], n_voxels=4000, n_trees=10)
    found = forest.segment(grey[12:])
    thresholds = baselines.best_thresholds(grey[:12], labels[:12])
    assert metrics.accuracy(found, labels[12:]) > 0.93
    assert metrics.accuracy(found, labels[12:]) > metrics.accuracy(thresholds.segment(grey[12:]), labels[12:]) + 0.05


def test_a_forest_repeats_for_a_seed_and_does_not_depend_on_the_slabs(monkeypatch):
    truth = specimen()
    grey = scan(truth, noise=20)
    first, again = (baselines.train_forest(grey, truth, n_voxels=2000, n_trees=5).segment(grey) for _ in range(2))
    assert (first == again).all()
    monkeypatch.setattr(baselines, "SLAB_SLICES", 32)
    whole = baselines.train_forest(grey, truth, n_voxels=2000, n_trees=5).segment(grey)
    assert (whole == first).mean() > 0.99


@pytest.mark.parametrize("method", [baselines.multi_otsu, baselines.best_thresholds, baselines.train_forest])
def test_a_scan_and_labels_of_different_shape_are_refused(method):
    with pytest.raises(ValueError, match="one shape"):
        method(np.zeros((4, 8, 8), dtype=np.uint16), np.zeros((4, 8, 9), dtype=np.uint8))
