"""Measures of volumes that are not arrays in memory, and of slabs counted by other processes."""

from pathlib import Path

import numpy as np
import pytest

from alsiseg import metrics, volumes
from alsiseg.metrics.workers import active_client

SHAPE_ZYX = (23, 12, 17)


@pytest.fixture
def labels_zyx() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, SHAPE_ZYX, dtype=np.uint8)


def as_memory_map(labels_zyx, folder: Path):
    np.save(folder / "labels.npy", labels_zyx)
    return np.load(folder / "labels.npy", mmap_mode="r")


def as_tiff(labels_zyx, folder: Path):
    return volumes.open(volumes.write(folder / "labels.tif", labels_zyx))


def as_dask_array(labels_zyx, folder: Path):
    return pytest.importorskip("dask.array").from_array(labels_zyx, chunks=(5, 7, 17))


def as_zarr_array(labels_zyx, folder: Path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(str(folder / "labels.zarr"), shape=SHAPE_ZYX, chunks=(4, 12, 9), dtype="uint8")
    array[:] = labels_zyx
    return array


def as_hdf5_data_set(labels_zyx, folder: Path):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(folder / "labels.h5", "w")
    return file.create_dataset("labels", data=labels_zyx, chunks=(4, 12, 9))


KINDS = [as_memory_map, as_tiff, as_dask_array, as_zarr_array, as_hdf5_data_set]


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_that_is_no_array_has_the_same_measures(labels_zyx, kind, tmp_path, monkeypatch):
    monkeypatch.setattr("alsiseg.metrics.checks.VOXELS_AT_ONCE", 1000)
    monkeypatch.setattr("alsiseg.topology.reading.VOXELS_AT_ONCE", 1000)
    volume = kind(labels_zyx, tmp_path)
    truth_zyx = labels_zyx[::-1].copy()
    bootstrap = metrics.Bootstrap(n_blocks=8)
    for measured in (
        metrics.measure_networks,
        lambda labels: metrics.interface_areas_per_mm(labels, voxel_size_um=1.2),
        lambda labels: metrics.network_intervals(labels, voxel_size_um=1.2, bootstrap=bootstrap),
        lambda labels: metrics.compare(labels, truth_zyx),
    ):
        assert measured(volume) == measured(labels_zyx)


class Lazy:
    """A volume of one repeated slice that counts how many slices were asked for at once."""

    dtype = np.dtype(np.uint8)

    def __init__(self, slice_yx: np.ndarray, n_z: int) -> None:
        self.slice_yx, self.shape, self.most = slice_yx, (n_z, *slice_yx.shape), 0

    def __getitem__(self, z: slice) -> np.ndarray:
        z = range(*z.indices(self.shape[0]))
        self.most = max(self.most, len(z))
        return np.repeat(self.slice_yx[None], len(z), axis=0)


def test_no_more_than_a_slab_is_ever_read(monkeypatch):
    monkeypatch.setattr("alsiseg.metrics.checks.VOXELS_AT_ONCE", 20 * 30 * 30)
    monkeypatch.setattr("alsiseg.topology.reading.VOXELS_AT_ONCE", 20 * 30 * 30)
    slice_yx = np.random.default_rng(0).integers(0, 3, (30, 30), dtype=np.uint8)
    lazy = Lazy(slice_yx, 3000)
    bootstrap = metrics.Bootstrap(n_blocks=100)
    measures = metrics.measure_networks(lazy, voxel_size_um=1.0)
    found = metrics.network_intervals(lazy, voxel_size_um=1.0, bootstrap=bootstrap)["silicon"]
    areas = metrics.interface_areas_per_mm(lazy, voxel_size_um=1.0)
    agreement = metrics.compare(lazy, Lazy(slice_yx, 3000))
    assert lazy.most <= 20
    assert measures["silicon"].volume_fraction_pct == pytest.approx(100 * (slice_yx == 1).mean())
    assert found["volume_fraction_pct"].value == pytest.approx(100 * (slice_yx == 1).mean())
    assert agreement.accuracy == 1
    assert min(areas.values()) > 0


def test_labels_that_are_wrong_in_a_later_slab_are_refused(labels_zyx, monkeypatch):
    monkeypatch.setattr("alsiseg.metrics.checks.VOXELS_AT_ONCE", 1000)
    wrong_zyx = labels_zyx.copy()
    wrong_zyx[20, 3, 4] = 7
    for measured in (
        metrics.measure_networks,
        metrics.network_intervals,
        lambda labels: metrics.interface_areas_per_mm(labels, voxel_size_um=1.2),
        lambda labels: metrics.compare(labels_zyx, labels),
    ):
        with pytest.raises(ValueError, match=r"found 0, 1, 2, 7"):
            measured(wrong_zyx)


def test_without_a_cluster_there_is_no_client():
    assert active_client() is None


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("kind", [*KINDS, lambda labels_zyx, _: labels_zyx])
@pytest.mark.parametrize("connectivity", [6, 26])
def test_workers_count_the_same_numbers(client, labels_zyx, kind, connectivity, tmp_path, monkeypatch):
    volume = kind(labels_zyx, tmp_path)
    by_workers = metrics.measure_networks(volume, connectivity=connectivity, client=client)
    monkeypatch.setattr(metrics.networks, "active_client", lambda: None)
    assert by_workers == metrics.measure_networks(labels_zyx, connectivity=connectivity)


def test_an_active_client_is_found_and_its_workers_see_the_slabs(client, labels_zyx, monkeypatch):
    seen = []
    count_on_workers = metrics.networks.count_on_workers
    monkeypatch.setattr(metrics.networks, "count_on_workers", lambda *a: seen.append(a) or count_on_workers(*a))
    assert metrics.measure_networks(labels_zyx)["hybrid"].n_voxels == np.count_nonzero(labels_zyx)
    assert seen[0][2] is client


def test_labels_that_a_worker_finds_wrong_are_refused_here(client, labels_zyx):
    labels_zyx[20, 3, 4] = 7
    with pytest.raises(ValueError, match="found 0, 1, 2, 7"):
        metrics.measure_networks(labels_zyx, client=client)
