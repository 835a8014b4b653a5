"""Where runs are found, and that two trainings do not share one folder."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import gethostname

import numpy as np
import pytest
import torch

from alsiseg import exporting, likeness, runs, training
from alsiseg.runs import places
from alsiseg.unet import UNetConfig

SHAPE_ZYX = (36, 40, 52)
CONFIG = training.TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=2, batch=4, images_per_epoch=4, kept_every=1)
HOLD = """
import sys, time
from alsiseg import runs
with runs.locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def scan() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels_zyx = random.integers(0, 3, SHAPE_ZYX).astype(np.uint8)
    return (1000 + 400.0 * labels_zyx + random.normal(0, 50, SHAPE_ZYX)).astype(np.uint16), labels_zyx


@pytest.fixture(scope="module")
def trained_dir(tmp_path_factory) -> Path:
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    return training.train(*scan(), run_dir, CONFIG, voxel_size_um=1.2, device="cpu")


@pytest.fixture
def shipped(trained_dir, tmp_path, monkeypatch) -> Path:
    """A folder of networks that come along, with one in it; the working folder is another one."""
    monkeypatch.setattr(places, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return Path(shutil.copytree(trained_dir, tmp_path / "shipped" / "small-net"))


def weights(trained: runs.Trained) -> torch.Tensor:
    return torch.cat([tensor.float().flatten() for tensor in trained.network.state_dict().values()])


def test_a_name_stands_for_the_folder_wherever_a_run_is_read(shipped):
    assert runs.shipped() == {"small-net": shipped}
    assert runs.located("small-net") == shipped == runs.load_network("small-net").run_dir
    assert runs.read_settings("small-net") == runs.read_settings(shipped)
    assert runs.read_truth("small-net") == runs.read_truth(shipped)
    assert runs.read_history("small-net").keys() == runs.read_history(shipped).keys()
    assert runs.kept_epochs("small-net") == [1, 2]
    assert runs.best_epochs("small-net") == runs.best_epochs(shipped)
    np.testing.assert_array_equal(runs.read_test("small-net", 2), runs.read_test(shipped, 2))
    assert likeness.recorded("small-net") == likeness.recorded(shipped) != None  # noqa: E711
    assert exporting.model_card("small-net")["name"] == "small-net, epoch 2"


def test_a_folder_of_ones_own_hides_a_network_that_comes_along(shipped):
    Path("small-net").mkdir()
    assert runs.located("small-net") == Path("small-net")
    with pytest.raises(FileNotFoundError, match=r"needs a run with settings\.json, found none in small-net; train"):
        runs.load_network("small-net")


@pytest.mark.parametrize("name", ["large-net", "folder/small-net", "../shipped/none"])
def test_what_is_neither_folder_nor_name_is_refused_with_the_names_there_are(shipped, name):
    with pytest.raises(FileNotFoundError, match=rf"\(small-net\), found neither under '{name}'; .*train first"):
        runs.load_network(name)


def test_without_networks_that_come_along_the_message_says_none(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "SHIPPED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"comes with alsiseg \(none\)"):
        runs.located("small-net")


def test_a_correction_of_a_network_that_comes_along_names_it_and_no_path(shipped, tmp_path):
    assert runs.parent(shipped, 2, tmp_path / "new")["run"] == "small-net"
    own = Path(shutil.copytree(shipped, tmp_path / "own"))
    assert runs.parent(own, 2, tmp_path / "new")["run"] == "../own"


def test_an_exported_network_is_read_in_place_of_its_run(trained_dir, tmp_path):
    path = exporting.export(trained_dir, tmp_path / "net.safetensors", epoch=1)
    found, expected = runs.load_network(path), runs.load_network(trained_dir, 1)
    assert (found.epoch, found.grey_scale, found.run_dir) == (1, expected.grey_scale, path)
    assert torch.equal(weights(found), weights(expected))
    assert runs.read_settings(path)["config"] == runs.read_settings(trained_dir)["config"]
    assert likeness.recorded(path) == likeness.recorded(trained_dir) != None  # noqa: E711
    assert runs.parent(path, 1, tmp_path)["sha256"] == runs.parent(trained_dir, 1, tmp_path)["sha256"]
    with pytest.raises(FileNotFoundError, match=r"needs the network of epoch 2, .*net\.safetensors has kept 1"):
        runs.load_network(path, 2)


def test_an_exported_network_is_exported_again_without_a_difference(trained_dir, tmp_path):
    first = exporting.export(trained_dir, tmp_path / "a" / "net.safetensors")
    second = exporting.export(first, tmp_path / "b" / "net.safetensors")
    for suffix in (".safetensors", ".json"):
        assert second.with_suffix(suffix).read_bytes() == first.with_suffix(suffix).read_bytes()


def test_a_network_in_the_folder_of_its_run_belongs_to_that_run(trained_dir):
    found = runs.load_network(trained_dir / "checkpoints" / "epoch_0001.safetensors")
    assert (found.epoch, found.run_dir) == (1, trained_dir)
    assert torch.equal(weights(found), weights(runs.load_network(trained_dir, 1)))


@pytest.mark.parametrize("damage", ["no header", "another network", "cut header"])
def test_a_damaged_exported_network_is_refused(trained_dir, tmp_path, damage):
    path = exporting.export(trained_dir, tmp_path / "net.safetensors")
    header = path.with_suffix(".json")
    if damage == "no header":
        header.unlink()
    elif damage == "cut header":
        header.write_bytes(header.read_bytes()[:-20])
    else:
        path.write_bytes((trained_dir / "checkpoints" / "epoch_0001.safetensors").read_bytes())
    with pytest.raises((FileNotFoundError, ValueError), match=r"net\.(json|safetensors)"):
        runs.load_network(path)


def test_an_onnx_file_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"needs a run folder .*net\.onnx, which is for other programs; export it as"):
        runs.load_network(tmp_path / "net.onnx")


def test_a_run_folder_is_locked_for_one_training_at_a_time(tmp_path):
    with runs.locked(tmp_path / "run"):
        with pytest.raises(ValueError, match=rf"run is being trained by process {os.getpid()} on .*; wait for its end"):
            runs.locked(tmp_path / "run").__enter__()
        with runs.locked(tmp_path / "other"):
            pass
    with runs.locked(str(tmp_path / "run")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_another_has_claimed_is_left_to_it_or_waited_for_with_a_word(tmp_path, capsys):
    ended = threading.Event()

    def wait_for_it() -> bool:
        with runs.claimed(tmp_path / "specimen", wait=True) as ours:
            return ours and ended.is_set()

    with ThreadPoolExecutor(1) as pool:
        with runs.claimed(tmp_path / "specimen") as ours:
            assert ours
            with runs.claimed(tmp_path / "specimen") as again:
                assert not again
            waiting = pool.submit(wait_for_it)
            while not (said := capsys.readouterr().out) and not waiting.done():
                time.sleep(0.01)
            assert said == f"waiting for {tmp_path / 'specimen'}, made by process {os.getpid()} on {gethostname()}\n"
            ended.set()
        assert waiting.result(timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_fails_with_the_training_is_let_go(tmp_path):
    with pytest.raises(KeyboardInterrupt), runs.locked(tmp_path / "run"):
        raise KeyboardInterrupt
    with runs.locked(tmp_path / "run"):
        assert [path.name for path in tmp_path.iterdir()] == [".run.training"]


def test_a_place_where_no_lock_can_lie_is_said(tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="needs a place to write"), runs.locked(tmp_path / "file" / "run"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="kills a process as Linux and macOS do")
def test_a_killed_training_locks_nobody_out(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    with child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            with pytest.raises(ValueError, match=f"being trained by process {child.pid} on "):
                runs.locked(tmp_path / "run").__enter__()
        finally:
            child.send_signal(signal.SIGKILL)
    assert [path.name for path in tmp_path.iterdir()] == [".run.training"]
    with runs.locked(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
