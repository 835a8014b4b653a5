"""Slabs spread over workers: the bytes of one process, whoever is lost on the way."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from alsiseg import clusters, metrics, prediction, runs, unet, volumes
from alsiseg.dataset import GreyScale
from alsiseg.prediction import planning, tasks, workers
from alsiseg.prediction.journal import Journal, folder_of
from alsiseg.prediction.options import Options, Plan
from alsiseg.prediction.slabs import slabs_of
from alsiseg.prediction.tiles import aligned
from alsiseg.unet import UNetConfig

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

SHAPE_ZYX = (250, 16, 20)
N_SLABS = 8  # of 32 slices, a chunk of the zarr; the last of 26


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a scan and a run."""
    place, random = tmp_path_factory.mktemp("scan"), np.random.default_rng(0)
    volumes.write(place / "grey.tif", random.integers(0, 60_000, SHAPE_ZYX).astype(np.uint16), voxel_size_um=1.2)
    runs.start(place / "run", {}, {})
    runs.save_network(place / "run", unet.build(UNetConfig(stem_channels=2), seed=3), GreyScale(0.0, 1.0, 1.0), 1)
    return place


@pytest.fixture(scope="module")
def client():
    """Two workers in threads of this process: quick to start, and what tests change holds for them too."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        clusters.connected(cluster.scheduler_address) as client,
    ):
        yield client


def segment(place: Path, out: Path, **options) -> Path:
    return prediction.segment_to_file(volumes.open(place / "grey.tif"), place / "run", out, device="cpu", **options)


@pytest.fixture
def patched():
    """Changes that end with `stopped`."""
    with pytest.MonkeyPatch.context() as patched:
        yield patched


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory) -> dict[str, bytes]:
    """What one process writes."""
    return contents(segment(place, tmp_path_factory.mktemp("whole") / "labels.zarr"))


def contents(path: Path) -> dict[str, bytes]:
    """Read every file of a folder, or the one file."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def finished_slabs(out: Path) -> list[int]:
    text = (folder_of(out) / "journal.jsonl").read_text()
    return [json.loads(line)["slab"] for line in text.splitlines()]


def noted(monkeypatch, after: int = -1, then=None) -> list[int]:
    """Watch which slabs are recorded, and do something when so many are."""
    seen: list[int] = []
    note = Journal.note

    def watched(journal, number, sha256):
        note(journal, number, sha256)
        seen.append(number)
        if len(seen) == after:
            then()

    monkeypatch.setattr(Journal, "note", watched)
    return seen


def interrupt(*_) -> None:
    raise KeyboardInterrupt


def stopped(place: Path, out: Path, patched, **options) -> None:
    with pytest.raises(KeyboardInterrupt):
        segment(place, out, **options)
    patched.undo()


@pytest.mark.parametrize("name", ["labels.zarr", "labels.tif", "labels.h5"])
def test_workers_write_the_bytes_of_one_process(place, client, tmp_path, name, monkeypatch):
    sentences: list[str] = []
    seen = noted(monkeypatch)
    out = segment(place, tmp_path / name, client=client, say=sentences.append)
    assert sorted(seen) == list(range(N_SLABS))
    assert "on 2 workers with cpu" in sentences[1]
    assert "slabs of 32 slices; each needs about" in sentences[1]
    alone = segment(place, tmp_path / "alone" / name)
    assert contents(out) == contents(alone)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["alone", name])


def test_workers_give_uncertainty_and_spread_of_three_views_too(place, client, tmp_path):
    found = []
    for folder, more in (("workers", {"client": client}), ("alone", {})):
        paths = {
            "uncertainty": tmp_path / folder / "doubt.h5",
            "spread_json": tmp_path / folder / "spread.json",
        }
        options = Options(three_views=True, precision="float32")
        out = segment(place, tmp_path / folder / "labels.zarr", options=options, **paths, **more)
        found.append([contents(path) for path in (out, *paths.values())])
    assert found[0] == found[1]


def test_measures_by_workers_that_open_the_labels_themselves_are_the_same(place, client, tmp_path, monkeypatch):
    labels = volumes.open(segment(place, tmp_path / "labels.zarr", client=client))
    scattered = []
    monkeypatch.setattr(distributed.Client, "scatter", lambda *_, **__: scattered.append(1))
    by_workers = metrics.measure(labels, voxel_size_um=1.2, client=client)
    assert scattered == []
    assert metrics.as_json(by_workers) == metrics.as_json(metrics.measure(labels[:], voxel_size_um=1.2))


def test_labels_that_workers_do_not_see_are_read_here_and_sent(place, client, tmp_path, monkeypatch):
    labels = volumes.open(segment(place, tmp_path / "labels.tif", client=client))
    expected = metrics.as_json(metrics.measure(labels[:]))
    monkeypatch.setattr(clusters, "why_unseen", lambda *_: "not there")
    assert metrics.as_json(metrics.measure(labels, client=client)) == expected


@pytest.mark.parametrize("with_client", [True, False])
def test_ctrl_c_keeps_finished_slabs_and_stops_the_workers(
    place, client, whole, tmp_path, monkeypatch, patched, with_client
):
    out = tmp_path / "labels.zarr"
    stops: dict[str, Event] = {}
    monkeypatch.setattr(workers, "_stops", stops)
    noted(patched, 3, interrupt)
    stopped(place, out, patched, client=client)
    assert [stop.is_set() for stop in stops.values()] == [True]
    assert not out.exists()
    kept = finished_slabs(out)
    assert len(kept) == 3
    seen, sentences = noted(monkeypatch), []
    segment(place, out, say=sentences.append, client=client if with_client else None)
    assert "3 were finished before" in sentences[-1]
    assert sorted(seen) == sorted(set(range(N_SLABS)) - set(kept))
    assert contents(out) == whole
    assert not folder_of(out).exists()


def test_a_stopped_worker_ends_within_its_slab(place, client, tmp_path, monkeypatch):
    """Workers are in this process: the event is set while the network runs."""
    slab = tasks.segmented_slab

    def stopped_now(task, inference, slab_, grey_zyx, stopped, say):
        stopped.set()
        return slab(task, inference, slab_, grey_zyx, stopped, say)

    monkeypatch.setattr(tasks, "segmented_slab", stopped_now)
    with pytest.raises(ChildProcessError, match=r"could not segment slices \d+ to \d+: it was stopped"):
        segment(place, tmp_path / "labels.zarr", client=client)


def test_a_damaged_or_missing_chunk_is_made_again(place, client, whole, tmp_path, monkeypatch, patched):
    out = tmp_path / "labels.zarr"
    noted(patched, 4, interrupt)
    stopped(place, out, patched, client=client)
    kept = finished_slabs(out)
    chunks = [folder_of(out) / "labels.zarr" / "0" / "c" / str(number) / "0" / "0" for number in kept]
    content = bytearray(chunks[1].read_bytes())
    content[20] ^= 1
    chunks[1].write_bytes(content)
    chunks[2].unlink()
    seen = noted(monkeypatch)
    segment(place, out, client=client)
    assert sorted(seen) == sorted({*range(N_SLABS)} - {kept[0], kept[3]})
    assert contents(out) == whole


def test_a_stop_while_the_pyramid_is_made_is_continued(place, client, whole, tmp_path, monkeypatch, patched):
    out = tmp_path / "labels.zarr"
    patched.setattr("alsiseg.volumes.saving.flush_tree", interrupt)
    stopped(place, out, patched, client=client)
    seen = noted(monkeypatch)
    segment(place, out, client=client)
    assert seen == []
    assert contents(out) == whole


def test_what_was_begun_without_workers_is_not_mixed_with_their_work(place, client, tmp_path, patched):
    out = tmp_path / "labels.zarr"
    patched.setattr(planning, "SLAB_VOXELS", {"cpu": 16 * 20 * 20})
    noted(patched, 3, interrupt)
    stopped(place, out, patched)
    with pytest.raises(ValueError, match="without workers -> with workers"):
        segment(place, out, client=client)
    segment(place, out, client=client, overwrite=True)


def test_a_worker_that_fails_is_named_with_its_reason(place, client, tmp_path, monkeypatch):
    def failing(task, inference, slab, grey_zyx, stopped, say):
        raise ValueError("needs more memory on cpu than there is even for the smallest tile; close other programs")

    monkeypatch.setattr(tasks, "segmented_slab", failing)
    with pytest.raises(ChildProcessError, match=r"the worker inproc://.* slices \d+ to \d+: needs more mem") as refused:
        segment(place, tmp_path / "labels.zarr", client=client)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_smaller_tiles_of_a_worker_short_of_memory_are_said_and_change_nothing(
    place, client, whole, tmp_path, monkeypatch, capsys
):
    maps = tasks._SlabWork.maps

    def short(work):
        if work.task.plan.batch_px > 2**18:
            raise MemoryError
        return maps(work)

    monkeypatch.setattr(tasks._SlabWork, "maps", short)
    assert contents(segment(place, tmp_path / "labels.zarr", client=client)) == whole
    assert "inproc://" in (said := capsys.readouterr().err)
    assert "memory ran out; going on with tiles of" in said


def test_every_worker_uses_its_own_number_of_threads(place, client, tmp_path, monkeypatch):
    seen, before = [], torch.get_num_threads()
    slab = tasks.segmented_slab
    monkeypatch.setattr(tasks, "segmented_slab", lambda *a: seen.append(torch.get_num_threads()) or slab(*a))
    segment(place, tmp_path / "labels.zarr", client=client)
    assert seen == [2] * N_SLABS
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("shown", [{"open": 1}, None])
def test_an_array_is_refused_because_workers_cannot_open_it(place, client, tmp_path, shown):
    grey = volumes.open(place / "grey.tif")
    grey = grey[:] if shown is None else volumes.Volume(grey.source, grey.shape, grey.dtype, 1.2, grey.read_slices)
    with pytest.raises(ValueError, match="a volume on disk that they can open themselves"):
        prediction.segment_to_file(grey, place / "run", tmp_path / "labels.zarr", device="cpu", client=client)


def test_workers_of_two_kinds_are_refused(client, monkeypatch):
    power = workers._measured_power("cpu", Options(precision="float32"), None)
    another = workers._measured_power("cpu", Options(precision="bfloat16"), 2**20)
    assert another.host_bytes == 2**19
    monkeypatch.setattr(clusters, "asked", lambda *_: {"tcp://a:1": power, "tcp://b:2": another})
    with pytest.raises(ValueError, match=r"cpu, float32 with torch .* on tcp://a:1, cpu, bfloat16 with torch"):
        workers._powers(client, "cpu", Options())
    monkeypatch.setattr(clusters, "asked", lambda *_: {})
    with pytest.raises(OSError, match="all of them went"):
        workers._powers(client, "cpu", Options())


def test_a_device_that_workers_lack_is_said_by_one_of_them(place, client, tmp_path):
    grey = volumes.open(place / "grey.tif")
    with pytest.raises(ValueError, match=r"inproc://.* says: the device 'meta' is not available"):
        prediction.segment_to_file(grey, place / "run", tmp_path / "labels.zarr", device="meta", client=client)


def test_a_worker_of_another_kind_that_comes_later_is_named(place, client, tmp_path, monkeypatch):
    crew = workers.crew

    def another(*arguments, **options):
        return replace(crew(*arguments, **options), torch_version="1.0")

    monkeypatch.setattr(workers, "crew", another)
    with pytest.raises(ChildProcessError, match=r"inproc://.* needs cpu, .* with torch 1\.0 like the other workers"):
        segment(place, tmp_path / "labels.zarr", client=client)


def test_a_scheduler_that_is_lost_is_said_in_one_sentence(client):
    future = client.submit(len, "slab", pure=False)
    future.cancel()
    with pytest.raises(ConnectionError, match="lost it on the way; start it again") as refused:
        workers._result(future, "slices 1 to 32")
    assert "\n" not in str(refused.value)


def test_without_a_worker_it_waits_for_one_and_says_so(place, tmp_path):
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        clusters.connected(cluster.scheduler_address) as client,
    ):
        sentences: list[str] = []

        def say(sentence):
            sentences.append(sentence)
            if "waiting" in sentence:
                cluster.scale(1)

        segment(place, tmp_path / "labels.zarr", client=client, say=say)
        assert sentences[0] == "no worker has come yet; waiting for one (Ctrl-C ends it)"
        assert "on 1 worker with cpu" in sentences[2]


@pytest.mark.parametrize("three_views", [False, True])
@pytest.mark.parametrize("n_z", [5, 31, 32, 33, 100, 250, 1000, 1833])
@pytest.mark.parametrize("n_workers", [1, 2, 50])
def test_slabs_of_workers_share_no_chunk(n_z, three_views, n_workers):
    network = unet.build(UNetConfig(stem_channels=2), seed=0)
    device = tasks.devices.choose("cpu")
    stack = volumes.Stack((n_z, 300, 200), np.dtype(np.uint8), labels=True)
    options, halo = Options(three_views=three_views), prediction.halo_px(network)
    for n_bytes in (2**30, 2**40):
        crew = planning.Crew(device, n_bytes, n_bytes, aligned(stack.slab_slices), n_workers, "2")
        plan, _ = planning.choose(stack.shape, network, options, device, halo, crew=crew)
        assert Plan(**plan.as_dict()) == plan
        slabs = slabs_of(
            n_z,
            n_slices=5,
            slab_slices=plan.slab_slices,
            halo=plan.slab_halo(halo) if three_views else None,
        )
        assert [slab.core.start for slab in slabs[1:]] == [slab.core.stop for slab in slabs[:-1]]
        assert all(slab.core.start % stack.slab_slices == 0 for slab in slabs)
        assert (slabs[0].core.start, slabs[-1].core.stop) == (0, n_z)
        if n_bytes == 2**40 and not three_views:
            assert len(slabs) >= min(2 * n_workers, n_z // 32)


# With processes of their own.

HIDDEN = "/proc/self/cwd"  # the same path, another folder in every process


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """Two worker processes, started in a folder of their own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path_factory.mktemp("workers"))
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster:
            yield cluster


@pytest.fixture
def far_client(processes):
    with clusters.connected(processes.scheduler_address) as client:
        client.wait_for_workers(2)
        assert len(set(client.run(os.getpid).values()) - {os.getpid()}) == 2
        yield client


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one_and_measure_the_same(place, far_client, whole, tmp_path, monkeypatch):
    seen: list[workers.Found] = []
    result = workers._result
    monkeypatch.setattr(workers, "_result", lambda *a: seen.append(result(*a)) or seen[-1])
    out = segment(place, tmp_path / "labels.zarr", client=far_client)
    assert contents(out) == whole
    assert len({found.worker for found in seen}) == 2
    labels = volumes.open(out)
    by_workers = metrics.measure(labels, voxel_size_um=1.2, client=far_client)
    assert metrics.as_json(by_workers) == metrics.as_json(metrics.measure(labels[:], voxel_size_um=1.2))


@pytest.mark.slow
def test_the_slabs_of_a_killed_worker_are_made_by_others(place, far_client, whole, tmp_path, monkeypatch):
    pids = far_client.run(os.getpid)
    victim = next(iter(pids))
    makers: list[str] = []
    result = workers._result

    def kill():
        os.kill(pids[victim], signal.SIGKILL)
        makers.clear()

    noted(monkeypatch, N_SLABS // 2, kill)
    monkeypatch.setattr(workers, "_result", lambda *a: makers.append((found := result(*a)).worker) or found)
    out = segment(place, tmp_path / "labels.zarr", client=far_client)
    assert len(makers) == N_SLABS // 2
    assert contents(out) == whole
    far_client.wait_for_workers(2)
    assert pids[victim] not in far_client.run(os.getpid).values()
    labels = volumes.open(out)
    by_workers = metrics.measure(labels, voxel_size_um=1.2, client=far_client)
    assert metrics.as_json(by_workers) == metrics.as_json(metrics.measure(labels[:], voxel_size_um=1.2))


KILLED_CALLER = """
import os, signal, sys
from pathlib import Path
from alsiseg import clusters, prediction, volumes
from alsiseg.prediction.journal import Journal
note = Journal.note
def killing(journal, number, sha256):
    note(journal, number, sha256)
    if len(journal.finished) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
Journal.note = killing
place, out, address = sys.argv[1:]
with clusters.connected(address) as client:
    grey = volumes.open(Path(place, "grey.tif"))
    prediction.segment_to_file(grey, Path(place, "run"), out, device="cpu", client=client)
"""


@pytest.mark.slow
def test_a_killed_caller_is_continued_without_making_a_slab_again(place, far_client, whole, tmp_path, monkeypatch):
    out = tmp_path / "labels.zarr"
    line = [sys.executable, "-c", KILLED_CALLER, str(place), str(out), far_client.scheduler.address]
    ended = subprocess.run(line, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    kept = finished_slabs(out)
    assert len(kept) == 4
    seen, sentences = noted(monkeypatch), []
    segment(place, out, client=far_client, say=sentences.append)
    assert "4 were finished before" in sentences[-1]
    assert sorted(seen) == sorted(set(range(N_SLABS)) - set(kept))
    assert contents(out) == whole


@pytest.mark.slow
@pytest.mark.skipif(not Path(HIDDEN).exists(), reason="needs a path that is another one in every process")
def test_a_scan_or_a_folder_that_workers_do_not_see_is_said_in_one_sentence(place, far_client, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    grey = volumes.open(f"{HIDDEN}/grey.tif")
    with pytest.raises(OSError, match=r"on a disk that every worker sees.*tcp://.* says: .*found nothing") as refused:
        prediction.segment_to_file(grey, place / "run", tmp_path / "labels.zarr", device="cpu", client=far_client)
    assert "\n" not in str(refused.value)
    with pytest.raises(ChildProcessError, match=r"the worker tcp://.* write to a disk that all workers") as refused:
        segment(place, Path(HIDDEN, "labels.zarr"), client=far_client)
    assert "\n" not in str(refused.value)
    assert sorted(place.iterdir()) == before


@pytest.mark.slow
def test_a_worker_without_alsiseg_is_named_and_a_slab_that_ends_workers(place, tmp_path):
    (tmp_path / "without.py").write_text("import sys\nsys.modules['alsiseg'] = None\n")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            preload=str(tmp_path / "without.py"),
        ) as cluster,
        clusters.connected(cluster.scheduler_address) as client,
    ):
        with pytest.raises(ValueError, match=r"found no alsiseg .* on tcp://.*; install the same version") as refused:
            segment(place, tmp_path / "labels.zarr", client=client)
        assert "\n" not in str(refused.value)
        with pytest.raises(ChildProcessError, match=r"slices 1 to 32 ended 1 workers, .* tcp://.* memory;") as refused:
            workers._result(client.submit(os._exit, 1), "slices 1 to 32")
        assert "\n" not in str(refused.value)
