"""How long a training takes without a GPU, said before it begins."""

import time

import torch

from alsiseg.devices import Device
from alsiseg.training.task import Task
from alsiseg.unet import UNet

LONG_S = 600.0
PASSES_PER_FORWARD = 3  # backward takes about twice as long as forward


def without_gpu(network: UNet, task: Task, device: Device, *, n_images: int) -> str:
    """Say what `n_images` will take on a CPU; empty on a GPU, and below ten minutes.

    Estimated from one image, forward; the bar of the training measures it.
    """
    if device.type != "cpu":
        return ""
    seconds = n_images * PASSES_PER_FORWARD * _seconds_forward(network, task, device)
    if seconds < LONG_S:
        return ""
    took = f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"
    return (
        f"no GPU was found: on this CPU the training will take about {took}; "
        "fewer images, fewer epochs or a smaller width take less"
    )


@torch.inference_mode()
def _seconds_forward(network: UNet, task: Task, device: Device) -> float:
    """Time one image after one that warms up; the network's state is left as it is."""
    was_training = network.training
    network.eval()
    image_bcyx = device.images(task.test.grey_zcyx[:1])
    with device.autocast():
        network(image_bcyx)
        started = time.perf_counter()
        network(image_bcyx)
    network.train(was_training)
    return time.perf_counter() - started
