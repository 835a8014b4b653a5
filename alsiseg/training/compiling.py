"""torch.compile, where it pays."""

import copy
import time

import torch
from tqdm import tqdm

from alsiseg.dataset import Draws
from alsiseg.devices import Device
from alsiseg.training.loop import forward
from alsiseg.training.processes import Processes
from alsiseg.training.task import Task
from alsiseg.unet import UNet

COMPILING_S = 120.0  # about what compiling and trying cost; a training must be long enough to earn it back
N_TRIED = 10


def compile_where_it_pays(network: UNet, task: Task, device: Device, processes: Processes, *, n_images: int) -> None:
    """Compile `network` in place when a short measurement says that `n_images` are trained on sooner with it.

    On a GPU alone: on a CPU compiling takes minutes, and a C++ compiler that is not everywhere. With several
    processes it is left out, because one that falls back where the others do not would keep them waiting.
    """
    if device.type == "cuda" and processes.n == 1:
        draws = next(task.draws(epoch=1).batches(task.config.batch))
        compile_if_faster(network, task, draws, device, n_steps=n_images // len(draws))


def compile_if_faster(network: UNet, task: Task, draws: Draws, device: Device, *, n_steps: int) -> None:
    """Time steps with and without compiling, on copies, if `n_steps` may earn it back; say what came of it."""
    try:
        plain_s = seconds_per_step(copy.deepcopy(network), task, draws, device)
        if plain_s * n_steps < 10 * COMPILING_S:
            return
        trial = copy.deepcopy(network)
        trial.compile()
        compiled_s = seconds_per_step(trial, task, draws, device)
    except Exception as error:  # whatever a compiler may raise, or too little memory; plain training needs none of it
        tqdm.write(f"torch.compile is not used: {type(error).__name__}, {' '.join(str(error).split())[:100]}")
        return
    if compiled_s < plain_s:
        network.compile()
    used = "is used" if compiled_s < plain_s else "is not used"
    tqdm.write(f"torch.compile {used}: {1000 * compiled_s:.0f} ms a step with it, {1000 * plain_s:.0f} ms without")


def seconds_per_step(network: UNet, task: Task, draws: Draws, device: Device) -> float:
    """Time forward and backward pass of a batch, after passes that warm up (and compile)."""
    network.train()
    for n_passes in (3, N_TRIED):
        _wait(device)
        started = time.perf_counter()
        for _ in range(n_passes):
            forward(network, task, draws, device).backward()
        _wait(device)
    return (time.perf_counter() - started) / N_TRIED


def _wait(device: Device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device.name)
