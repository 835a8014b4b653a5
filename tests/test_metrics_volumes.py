"""Measures of volumes that are not arrays in memory, and of slabs counted by other processes."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alsiseg import metrics, volumes
from alsiseg.metrics.slabs import n_slices_at_once
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


def as_zarr_array_in_memory(labels_zyx, folder: Path):
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(zarr.storage.MemoryStore(), shape=SHAPE_ZYX, chunks=(4, 12, 9), dtype="uint8")
    array[:] = labels_zyx
    return array


def as_hdf5_data_set(labels_zyx, folder: Path):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(folder / "labels.h5", "w")
    return file.create_dataset("labels", data=labels_zyx, chunks=(4, 12, 9))


def as_array(labels_zyx, folder: Path):
    return labels_zyx


KINDS = [as_memory_map, as_tiff, as_dask_array, as_zarr_array, as_zarr_array_in_memory, as_hdf5_data_set]
SMALL_BLOCKS = metrics.Bootstrap(n_blocks=8)


def same(found, expected) -> bool:
    """Tell whether two results are equal to the last bit, arrays within them too."""
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, metrics.SizeCurve):
        return same(vars(found), vars(expected))
    return np.array_equal(found, expected)


# What is measured of labels and a truth; each takes a client too.
MEASURES = {
    "networks": lambda labels, truth, **client: metrics.measure_networks(labels, voxel_size_um=1.2, **client),
    "networks by 6": lambda labels, truth, **client: metrics.measure_networks(labels, connectivity=6, **client),
    "fractions": lambda labels, truth, **client: metrics.volume_fractions_pct(labels, **client),
    "areas": lambda labels, truth, **client: metrics.interface_areas_per_mm(labels, voxel_size_um=1.2, **client),
    "intervals": lambda labels, truth, **client: metrics.network_intervals(
        labels, truth_zyx=truth, voxel_size_um=1.2, bootstrap=SMALL_BLOCKS, **client
    ),
    "sizes": lambda labels, truth, **client: metrics.representative_volumes(
        labels, voxel_size_um=1.2, smallest_voxels=4, **client
    ),
    "accuracy": metrics.accuracy,
    "accuracy per slice": metrics.accuracy_per_slice,
    "confusion": metrics.confusion,
    "dice": metrics.dice_per_phase,
    "iou": metrics.iou_per_phase,
    "interface accuracy": metrics.interface_accuracy,
    "comparison": metrics.compare,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_volume_that_is_no_array_has_the_same_measures(labels_zyx, kind, measure, tmp_path, monkeypatch):
    truth_zyx = labels_zyx[::-1].copy()
    expected = measure(labels_zyx, truth_zyx)
    monkeypatch.setattr("alsiseg.metrics.slabs.VOXELS_AT_ONCE", 1000)
    monkeypatch.setattr("alsiseg.topology.reading.VOXELS_AT_ONCE", 1000)
    volume = kind(labels_zyx, tmp_path)
    assert same(measure(volume, truth_zyx), expected)
    assert same(measure(truth_zyx, volume), measure(truth_zyx, labels_zyx))


@pytest.mark.parametrize(
    ("shape", "chunks", "n_slices"),
    [
        ((100, 10, 10), None, 20),  # as many slices as hold 2000 voxels
        ((100, 10, 10), (6, 5, 5), 24),  # whole chunks
        ((100, 10, 10), ((64, 36), (10,), (10,)), 64),  # as dask gives them
        ((100, 10, 10), (100, 10, 10), 20),  # a chunk larger than memory should hold
        ((100, 100, 100), None, 1),  # a slice larger than a slab
    ],
)
def test_slabs_are_whole_chunks_where_memory_allows(monkeypatch, shape, chunks, n_slices):
    monkeypatch.setattr("alsiseg.metrics.slabs.VOXELS_AT_ONCE", 2000)
    monkeypatch.setattr("alsiseg.metrics.slabs.MOST_VOXELS_READ", 8000)
    volume = SimpleNamespace(shape=shape, dtype=np.uint8, chunks=chunks)
    plain = SimpleNamespace(shape=shape, dtype=np.uint8)
    assert n_slices_at_once([volume], None) == n_slices_at_once([plain, volume], None) == n_slices


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
    monkeypatch.setattr("alsiseg.metrics.slabs.VOXELS_AT_ONCE", 20 * 30 * 30)
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
    monkeypatch.setattr("alsiseg.metrics.slabs.VOXELS_AT_ONCE", 1000)
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


def in_this_process(measured, *arguments, **options):
    """Measure without the cluster that other tests have started."""
    with pytest.MonkeyPatch.context() as patch:
        for room in ("agreement", "blocks", "geometry", "networks"):
            patch.setattr(getattr(metrics, room), "active_client", lambda: None)
        return measured(*arguments, **options)


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("kind", [as_array, *KINDS])
@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_workers_count_the_same_numbers(client, labels_zyx, kind, measure, tmp_path):
    truth_zyx = labels_zyx[::-1].copy()
    by_workers = measure(kind(labels_zyx, tmp_path), truth_zyx, client=client)
    assert same(by_workers, in_this_process(measure, labels_zyx, truth_zyx))


def test_a_report_by_workers_is_that_of_this_process(client, labels_zyx):
    pair, options = (labels_zyx, labels_zyx[::-1]), metrics.Options(bootstrap=SMALL_BLOCKS)
    by_workers = metrics.measure(*pair, voxel_size_um=1.2, options=options, client=client)
    here = in_this_process(metrics.measure, *pair, voxel_size_um=1.2, options=options)
    assert metrics.as_json(by_workers) == metrics.as_json(here)


def test_an_active_client_is_found_and_its_workers_see_the_slabs(client, labels_zyx, monkeypatch):
    seen = []
    workers_run = metrics.workers.run
    monkeypatch.setattr(metrics.workers, "run", lambda *a: seen.append(a) or workers_run(*a))
    assert metrics.measure_networks(labels_zyx)["hybrid"].n_voxels == np.count_nonzero(labels_zyx)
    assert seen[0][2] is client


def test_labels_that_a_worker_finds_wrong_are_refused_here(client, labels_zyx):
    labels_zyx[20, 3, 4] = 7
    with pytest.raises(ValueError, match="found 0, 1, 2, 7"):
        metrics.measure_networks(labels_zyx, client=client)


@pytest.mark.slow
def test_two_worker_processes_count_the_same_numbers_as_this_one(tmp_path):
    distributed = pytest.importorskip("distributed")
    labels_zyx = np.random.default_rng(1).integers(0, 3, SHAPE_ZYX, dtype=np.uint8)
    truth_zyx = np.where(labels_zyx == 2, labels_zyx, np.roll(labels_zyx, 1, axis=2))
    expected = {name: in_this_process(measure, labels_zyx, truth_zyx) for name, measure in MEASURES.items()}
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert len(set(client.run(os.getpid).values()) - {os.getpid()}) == 2
        for kind in (as_array, *KINDS):
            volume = kind(labels_zyx, tmp_path)
            for name, measure in MEASURES.items():
                assert same(measure(volume, truth_zyx, client=client), expected[name]), (kind.__name__, name)
