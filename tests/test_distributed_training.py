"""Two processes on one machine, started by torchrun, beside one process.

The file is also what the processes run: ``torchrun tests/test_distributed_training.py WHAT OUT``.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from test_training import specimen

from alsiseg import runs, training, unet, volumes
from alsiseg.devices import Device
from alsiseg.training import TrainingConfig
from alsiseg.training.loop import backward
from alsiseg.unet import UNetConfig

# 21 images in batches of 5: the last batch is one image, of which one process gets none.
CONFIG = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=2, images_per_epoch=21, batch=5)
OPTIONS = ["--width", "2", "--epochs", "2", "--images-per-epoch", "21", "--batch", "5", "--device", "cpu"]
FLOAT32 = Device("cpu", bfloat16=False)
pytestmark = pytest.mark.slow
LIMIT_S = 200


def trained(processes: training.Processes, dtype: torch.dtype) -> dict[str, NDArray]:
    """First gradient, losses of two epochs and what the network is then."""
    task = training.prepare(*specimen(), CONFIG)
    network = unet.build(CONFIG.unet, seed=0).to(dtype).train()
    network.register_forward_pre_hook(lambda _, given: (given[0].to(dtype), *given[1:]))
    training.share_statistics(network, processes)
    first = next(task.draws(1).batches(CONFIG.batch))
    batch_loss, _ = backward(network, task, first, FLOAT32, processes, 1)
    gradients = [parameter.grad for parameter in network.parameters()]
    processes.add_up([batch_loss, *gradients])
    running = [tensor.reshape(-1) for name, tensor in network.state_dict().items() if "running" in name]
    found = {"gradient": torch.cat([gradient.reshape(-1) for gradient in gradients]), "running": torch.cat(running)}
    optimiser = training.adam(network, CONFIG, FLOAT32)
    losses = []
    for epoch in (1, 2):
        training.train_epoch(network, optimiser, task, epoch, FLOAT32, processes=processes)
        row, *_ = training.evaluate(network, task, FLOAT32)
        losses.append([row["train_loss"], row["test_loss"]])
    found["weights"] = torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])
    return {name: tensor.numpy() for name, tensor in found.items()} | {"losses": np.array(losses)}


def leave(processes: training.Processes) -> None:
    """Let the second process go in the middle of an epoch."""
    task = training.prepare(*specimen(), CONFIG)
    network = unet.build(CONFIG.unet, seed=0)
    training.share_statistics(network, processes)
    if not processes.is_first:
        network.decoder[1].register_forward_hook(lambda *_: sys.exit("the second process goes"))
    training.train_epoch(network, training.adam(network, CONFIG, FLOAT32), task, 1, FLOAT32, processes=processes)


def disagree(processes: training.Processes) -> None:
    """Let the second process fail where all must agree to go on."""
    with processes.agreed():
        if not processes.is_first:
            raise ValueError("the second process finds no file")


def main(what: str, out: str) -> None:
    """Be one of the processes."""
    processes, _ = training.join("cpu")
    if what == "trained":
        for dtype in (torch.float32, torch.float64):
            np.savez(f"{out}_{dtype}_{processes.rank}.npz", **trained(processes, dtype))
        return
    try:
        {"leave": leave, "disagree": disagree}[what](processes)
    except (training.StoppedElsewhere, ValueError) as error:
        sys.exit(f"{type(error).__name__} in process {processes.rank}: {error}")


def torchrun(*arguments: object) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launcher, *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(torchrun(*arguments), capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.fixture(scope="module")
def found_by_two(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("two") / "found"
    ended = run(__file__, "trained", out)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return out


# In float32 rounding moves the biases before batch norms, whose true gradient is 0: Adam makes whole steps of it.
@pytest.mark.parametrize(("dtype", "limit", "curve_limit"), [(torch.float32, 1e-5, 0.01), (torch.float64, 1e-12, 1e-9)])
def test_two_processes_train_the_network_of_one(found_by_two, dtype, limit, curve_limit):
    first, second = (np.load(f"{found_by_two}_{dtype}_{rank}.npz") for rank in (0, 1))
    alone = trained(training.ALONE, dtype)
    for name in ("gradient", "losses", "weights", "running"):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    differences = {
        name: np.linalg.norm(first[name] - alone[name]) / np.linalg.norm(alone[name])
        for name in ("running", "gradient", "losses", "weights")
    }
    print(dtype, "relative differences", differences, "losses", alone["losses"], first["losses"])
    assert differences["running"] < limit
    assert differences["gradient"] < limit
    assert differences["losses"] < curve_limit


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("scans")
    pairs = zip(("grey", "labels"), specimen(), strict=True)
    return [volumes.write(folder / f"{name}.tif", volume_zyx, voxel_size_um=1.2) for name, volume_zyx in pairs]


@pytest.fixture(scope="module")
def shared_run(scans, tmp_path_factory) -> tuple[Path, str]:
    run_dir = tmp_path_factory.mktemp("shared") / "run"
    ended = run("-m", "alsiseg", "train", *scans, run_dir, *OPTIONS)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return run_dir, ended.stdout


def test_the_command_under_torchrun_gives_the_curve_of_one_process(scans, shared_run, tmp_path):
    run_dir, said = shared_run
    alone = training.train(*specimen(), tmp_path / "run", CONFIG, device="cpu")
    assert said.count("epoch   1/2") == said.count(f"{run_dir}\n") == 1
    assert runs.differences(run_dir, runs.read_settings(alone)) == []
    for column in ("train_loss", "test_loss"):  # bfloat16 on some CPUs: rounding of 1 in 256
        one, two = runs.read_history(alone)[column], runs.read_history(run_dir)[column]
        np.testing.assert_allclose(two, one, rtol=0.02)
        assert two[0] == one[0]


def test_one_process_goes_on_with_the_run_of_two(shared_run, tmp_path):
    run_dir, _ = shared_run
    task = training.prepare(*specimen(), CONFIG)
    network = unet.build(CONFIG.unet, seed=1)
    assert runs.load_state(run_dir, network, training.adam(network, CONFIG, FLOAT32)) == 2
    row, *_ = training.evaluate(network, task, Device("cpu", training.devices.choose("cpu").bfloat16))
    assert row["test_loss"] == pytest.approx(runs.read_history(run_dir)["test_loss"][2], rel=1e-6)


def test_an_error_of_the_writing_process_ends_both_with_one_sentence(scans, shared_run):
    ended = run("-m", "alsiseg", "train", *scans, shared_run[0], *OPTIONS)
    assert ended.returncode != 0
    assert ended.stderr.count("already holds a run") == ended.stderr.count("alsiseg: ") == 1
    assert "rank0]: Traceback" not in ended.stderr
    assert "rank1]: Traceback" not in ended.stderr


def test_a_process_that_fails_alone_says_why_and_takes_the_other_along(tmp_path):
    ended = run(__file__, "disagree", tmp_path)
    assert ended.returncode != 0
    assert "ValueError in process 1: the second process finds no file" in ended.stderr
    assert "StoppedElsewhere in process 0: process 1 of this training stopped (ValueError: " in ended.stderr


def test_a_process_that_goes_in_the_middle_of_a_batch_leaves_no_other_waiting(tmp_path):
    ended = run(__file__, "leave", tmp_path)
    assert ended.returncode != 0
    assert "the second process goes" in ended.stderr
    assert "ConnectionLost in process 0: another process of this training stopped" in ended.stderr


def test_ctrl_c_ends_both_processes_and_keeps_the_finished_epochs(scans, tmp_path):
    many = [
        option if option != "2" or before != "--epochs" else "500"
        for before, option in zip(["", *OPTIONS], OPTIONS, strict=False)
    ]
    command = torchrun("-m", "alsiseg", "train", *scans, tmp_path / "run", *many)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while not child.stdout.readline().startswith("epoch   1/"):
            assert child.poll() is None, child.stderr.read()
        os.killpg(child.pid, signal.SIGINT)
        _, said = child.communicate(timeout=LIMIT_S)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode != 0
    assert said.count("alsiseg: ") == 1, said
    network = unet.build(CONFIG.unet, seed=0)
    assert runs.load_state(tmp_path / "run", network, training.adam(network, CONFIG, FLOAT32)) >= 1


if __name__ == "__main__":
    main(*sys.argv[1:])
