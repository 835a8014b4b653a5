from pathlib import Path

import numpy as np
import pytest
import torch

from alsiseg import dataset, devices, prediction, runs, unet, volumes
from alsiseg.dataset import GreyScale
from alsiseg.devices import Device
from alsiseg.runs import Trained
from alsiseg.unet import UNetConfig

FLOAT32 = Device("cpu", bfloat16=False)


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """Exact comparisons between batches of different size need the same rounding everywhere."""
    monkeypatch.setattr(devices, "choose", lambda name="auto": FLOAT32)


@pytest.fixture
def trained() -> Trained:
    """An untrained network whose batch norms have seen some images, so that its labels vary."""
    network = unet.build(UNetConfig(stem_channels=2), seed=3).train()
    with torch.no_grad():
        for step in range(10):
            network(torch.randn(4, 5, 32, 32, generator=torch.Generator().manual_seed(step)))
    return Trained(network.eval(), GreyScale(0.0, 1.0, 1.0), 1, Path("run"))


def grey(*shape_zyx: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 60_000, shape_zyx).astype(np.uint16)


def slice_by_slice(trained: Trained, grey_zyx: np.ndarray) -> np.ndarray:
    """The obvious way: five slices at a time, mirrored by hand to a multiple of 16."""
    scale = dataset.grey_scale(grey_zyx)
    n_z, n_y, n_x = grey_zyx.shape
    labels = []
    for z in range(n_z):
        window = np.stack([grey_zyx[min(max(z + shift, 0), n_z - 1)] for shift in (-2, -1, 0, 1, 2)])
        padding = ((0, 0), (0, -n_y % 16), (0, -n_x % 16))
        mode = "reflect" if -n_y % 16 < n_y and -n_x % 16 < n_x else "edge"
        image = torch.from_numpy(np.pad(scale.normalise(window), padding, mode=mode))[None]
        with torch.no_grad():
            logits = trained.network(image.to(memory_format=torch.channels_last))[0, :, :n_y, :n_x]
        labels.append(logits.argmax(dim=0).numpy())
    return np.stack(labels).astype(np.uint8)


@pytest.mark.parametrize(
    "shape_zyx", [(7, 32, 48), (6, 33, 47), (5, 20, 100), (4, 9, 70), (4, 3, 5), (1, 40, 40), (2, 40, 40)]
)
def test_a_volume_of_any_size_is_segmented_as_slice_by_slice(trained, shape_zyx):
    grey_zyx = grey(*shape_zyx)
    labels_zyx = prediction.segment(grey_zyx, trained)
    assert labels_zyx.dtype == np.uint8
    assert labels_zyx.shape == shape_zyx
    np.testing.assert_array_equal(labels_zyx, slice_by_slice(trained, grey_zyx))


def test_the_labels_vary(trained):
    assert len(np.unique(prediction.segment(grey(4, 64, 64), trained))) > 1


def test_the_size_of_the_slabs_does_not_matter(trained, monkeypatch):
    grey_zyx = grey(13, 40, 50)
    whole = prediction.segment(grey_zyx, trained)
    for n_slices in (1, 2, 3, 5, 12, 100):
        monkeypatch.setattr(prediction, "PIXELS_PER_BATCH", n_slices * 40 * 50)
        np.testing.assert_array_equal(prediction.segment(grey_zyx, trained), whole)


def test_only_a_slab_and_its_neighbours_are_read_at_a_time(trained, monkeypatch):
    grey_zyx = grey(20, 32, 32)
    n_read = []

    def read(z_indices) -> np.ndarray:
        n_read.append(len(z_indices))
        return grey_zyx[list(z_indices)]

    volume = volumes.Volume(Path("v.tif"), grey_zyx.shape, grey_zyx.dtype, None, read)
    monkeypatch.setattr(prediction, "PIXELS_PER_BATCH", 4 * 32 * 32)
    labels_zyx = np.stack(list(prediction.segmented_slices(volume, trained)))
    assert max(n_read) <= 4 + 4
    np.testing.assert_array_equal(labels_zyx, prediction.segment(grey_zyx, trained))


def test_another_gain_of_the_detector_does_not_matter(trained):
    grey_zyx = grey(5, 32, 32).astype(np.float32)
    other_zyx = prediction.segment(0.5 * grey_zyx + 300, trained)
    assert np.mean(other_zyx == prediction.segment(grey_zyx, trained)) > 0.999


def test_a_file_of_labels_keeps_the_voxel_size(trained, tmp_path):
    volume = volumes.open(volumes.write(tmp_path / "grey.tif", grey(6, 33, 47), voxel_size_um=1.2))
    out = prediction.segment_to_file(volume, trained, tmp_path / "new" / "labels.tif")
    labels = volumes.open(out)
    assert (labels.dtype, labels.voxel_size_um) == (np.uint8, 1.2)
    np.testing.assert_array_equal(labels[:], prediction.segment(grey(6, 33, 47), trained))


def test_a_memory_map_is_segmented(trained, tmp_path):
    np.save(tmp_path / "grey.npy", grey(6, 32, 32))
    mapped_zyx = np.load(tmp_path / "grey.npy", mmap_mode="r")
    np.testing.assert_array_equal(prediction.segment(mapped_zyx, trained), prediction.segment(grey(6, 32, 32), trained))


def test_a_run_folder_stands_for_its_last_network(trained, tmp_path):
    runs.start(tmp_path / "run", {}, {})
    runs.save_network(tmp_path / "run", unet.build(UNetConfig(stem_channels=2), seed=8), trained.grey_scale, 1)
    runs.save_network(tmp_path / "run", trained.network, trained.grey_scale, 2)
    expected = prediction.segment(grey(4, 32, 32), trained)
    np.testing.assert_array_equal(prediction.segment(grey(4, 32, 32), tmp_path / "run"), expected)
    np.testing.assert_array_equal(prediction.segment(grey(4, 32, 32), str(tmp_path / "run")), expected)


def test_a_stopped_segmentation_leaves_no_file(trained, tmp_path):
    grey_zyx = grey(6, 32, 32)

    def read(z_indices) -> np.ndarray:
        if len(z_indices) > 1:  # not the single slices of the grey scale
            raise KeyboardInterrupt
        return grey_zyx[list(z_indices)]

    volume = volumes.Volume(Path("v.tif"), grey_zyx.shape, grey_zyx.dtype, None, read)
    with pytest.raises(KeyboardInterrupt):
        prediction.segment_to_file(volume, trained, tmp_path / "new" / "labels.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("grey_zyx", "sentence"),
    [(np.zeros((8, 8), np.uint8), "three axes"), (np.full((4, 16, 16), 9, np.uint8), "with contrast")],
)
def test_what_is_no_scan_is_refused(trained, grey_zyx, sentence):
    with pytest.raises(ValueError, match=sentence):
        prediction.segment(grey_zyx, trained)
