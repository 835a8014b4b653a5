"""Reaching a cluster, and what its workers see; with processes of their own in `test_prediction_workers`."""

import socket
import sys

import numpy as np
import pytest

from alsiseg import clusters, volumes

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


def test_without_an_address_there_is_no_client():
    with clusters.connected(None) as client:
        assert client is None


def test_an_address_gives_a_client_that_is_nobodys_default(cluster):
    with clusters.connected(cluster.scheduler_address) as client:
        assert clusters.n_workers(client) == 2
        assert client.submit(sum, [1, 2]).result() == 3
        with pytest.raises(ValueError, match="No client"):
            distributed.default_client()
    assert client.status == "closed"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_an_address_where_nothing_answers_is_said_in_one_sentence(free_port, monkeypatch):
    monkeypatch.setattr(clusters, "SECONDS_TO_ANSWER", 0.5)
    address = f"tcp://127.0.0.1:{free_port}"
    with pytest.raises(OSError, match=f"needs a dask scheduler at {address}, found none") as refused:
        clusters.connected(address).__enter__()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", ["carrier-pigeon://loft:1", "tcp://127.0.0.1:many"])
def test_what_is_no_address_is_said_in_one_sentence(address, monkeypatch):
    monkeypatch.setattr(clusters, "SECONDS_TO_ANSWER", 0.5)
    with pytest.raises((ValueError, OSError), match="dask scheduler") as refused:
        clusters.connected(address).__enter__()
    assert address in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_dask_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r'pip install "alsiseg\[distributed\]"'):
        clusters.connected("tcp://127.0.0.1:1").__enter__()


def test_workers_are_asked_and_one_that_fails_answers_with_its_error(cluster):
    with clusters.connected(cluster.scheduler_address) as client:
        assert set(clusters.asked(client, len, "abc").values()) == {3}
        assert {type(answer) for answer in clusters.asked(client, int, "three").values()} == {ValueError}
        clusters.check_installed(client)


def test_another_version_on_a_worker_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(clusters, "asked", lambda *_: {"tcp://a:1": clusters.alsiseg.__version__, "tcp://b:2": "0.0"})
    with pytest.raises(ValueError, match=r"found alsiseg 0\.0 on tcp://b:2; install the same version"):
        clusters.check_installed(None)


def test_a_volume_is_known_by_its_shape_type_and_middle_slice(tmp_path, cluster):
    grey_zyx = np.random.default_rng(0).integers(0, 99, (7, 4, 5)).astype(np.uint8)
    volume = volumes.open(volumes.write(tmp_path / "grey.tif", grey_zyx))
    expected = clusters.fingerprint(volume)
    assert expected == clusters.fingerprint(grey_zyx)
    assert expected != clusters.fingerprint(grey_zyx[:-1])
    assert expected != clusters.fingerprint(grey_zyx.astype(np.uint16))
    assert expected != clusters.fingerprint(grey_zyx + (np.arange(7) == 3).astype(np.uint8)[:, None, None])
    with clusters.connected(cluster.scheduler_address) as client:
        assert clusters.blind_workers(client, volume.opening_again(), expected) == {}
        blind = clusters.blind_workers(client, volume.opening_again(), "another")
        assert set(blind.values()) == {"another volume stands there under this path"}
        volume.source.unlink()
        gone = clusters.blind_workers(client, volume.opening_again(), expected)
        assert len(gone) == 2
        assert all("found nothing at" in why for why in gone.values())
