"""The chain on a real scan: that it runs, not that it is right (there are no labels to tell)."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from alsiseg import ground_truth, metrics, prediction, runs, training, viewer, volumes
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNetConfig

CEMENT = Path(__file__).parent.parent / "data" / "cement_128x128x128.tif"
SHORT = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=1, batch=8, crop_px=64, images_per_epoch=16)


@pytest.fixture(scope="module")
def cement() -> volumes.Volume:
    return volumes.open(CEMENT)


@pytest.fixture(scope="module")
def labels_zyx(cement) -> np.ndarray:
    return ground_truth.threshold_labels(cement[:])


def test_the_cement_scan_is_read_without_being_told_anything(cement):
    assert cement.shape == (128, 128, 128)
    assert cement.dtype == np.uint8
    assert cement.voxel_size_um is None
    np.testing.assert_array_equal(cement[:], tifffile.imread(CEMENT))


def test_thresholds_part_it_into_three_phases_by_grey_value(cement, labels_zyx):
    assert labels_zyx.shape == cement.shape
    assert labels_zyx.dtype == np.uint8
    assert set(np.unique(labels_zyx)) == {0, 1, 2}
    means = [cement[:][labels_zyx == phase].mean() for phase in (0, 1, 2)]
    assert means == sorted(means)


def test_it_is_trained_on_segmented_measured_and_shown(cement, labels_zyx, tmp_path):
    labels = volumes.open(volumes.write(tmp_path / "labels.tif", labels_zyx))
    run_dir = training.train(cement, labels, tmp_path / "run", SHORT, device="cpu")
    history = runs.read_history(run_dir)
    assert history["epoch"].tolist() == [0, 1]
    assert np.isfinite(history["test_loss"]).all()
    segmented = volumes.open(prediction.segment_to_file(cement, run_dir, tmp_path / "out.tif", device="cpu"))
    assert segmented.shape == cement.shape
    measures = metrics.measure_networks(segmented[:])
    total = measures["silicon"].n_voxels + measures["aluminides"].n_voxels
    assert measures["hybrid"].n_voxels == total
    figure = viewer.still(cement, truth=labels, prediction=segmented)
    figure.savefig(tmp_path / "still.png")
    assert (tmp_path / "still.png").stat().st_size > 10_000


def test_the_same_scan_as_plain_pages_is_asked_about_not_guessed(cement, tmp_path):
    with tifffile.TiffWriter(tmp_path / "plain.tif") as tiff:
        for slice_yx in cement[:]:
            tiff.write(slice_yx, contiguous=False, metadata=None)
    with pytest.raises(ValueError, match="does not state which of its axes"):
        volumes.open(tmp_path / "plain.tif")
    plain = volumes.open(tmp_path / "plain.tif", axes="ZYX")
    np.testing.assert_array_equal(plain[:], cement[:])
    np.testing.assert_array_equal(ground_truth.threshold_labels(plain[:]), ground_truth.threshold_labels(cement[:]))


@pytest.mark.parametrize("name", ["scan.ome.zarr", "scan.h5", "scan.nxs", "float.tif", "float.zarr", "folder"])
def test_the_same_scan_in_another_format_is_the_same_scan(cement, labels_zyx, tmp_path, name):
    if name == "folder":
        (tmp_path / name).mkdir()
        for z, slice_yx in enumerate(cement):
            tifffile.imwrite(tmp_path / name / f"slice_{z}.tif", slice_yx, compression="zlib")
    else:
        grey_zyx = cement[:].astype(np.float32) if "float" in name else cement
        volumes.write(tmp_path / name, grey_zyx, voxel_size_um=0.5)
    scan = volumes.open(tmp_path / name)
    assert scan.voxel_size_um == (None if name == "folder" else 0.5)
    np.testing.assert_array_equal(scan[:], cement[:])
    np.testing.assert_array_equal(ground_truth.threshold_labels(scan[:]), labels_zyx)


def test_a_reconstruction_as_beamlines_write_it_is_segmented(cement, labels_zyx, tmp_path):
    """32-bit floats in NeXus, beside projections: the default signal is taken."""
    run_dir = training.train(cement, labels_zyx, tmp_path / "run", SHORT, device="cpu")
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs["default"] = "reconstruction"
        data = entry.create_group("reconstruction")
        data.attrs.update({"NX_class": "NXdata", "signal": "volume", "axes": ["z", "y", "x"]})
        data["volume"] = cement[:].astype(np.float32) / 255
        entry["projections"] = np.zeros((4, 9, 128), np.uint16)
    scan = volumes.open(tmp_path / "scan.nxs")
    out = prediction.segment_to_file(scan, run_dir, tmp_path / "out.ome.zarr", device="cpu")
    assert volumes.open(out).shape == cement.shape
    assert volumes.open(out).dtype == np.uint8
