"""What the network can do after an epoch, measured as the paper does (section "Evaluation of the CNN")."""

import numpy as np
import torch
from numpy.typing import NDArray

from alsiseg import loss, metrics
from alsiseg.devices import Device
from alsiseg.training.task import Section, Task
from alsiseg.unet import UNet


def evaluate(
    network: UNet, task: Task, device: Device
) -> tuple[dict[str, float], NDArray[np.float64], NDArray[np.uint8]]:
    """Measure loss, accuracy and networks on the test section.

    Returns
    -------
    row : dict
        The columns of `history.csv` without epoch and speed.
    accuracy_z : (Z,) float64
        Accuracy of every test slice, 0..1.
    prediction_zyx : uint8 (Z, Y, X)
        Labels that the network gives the test section.
    """
    train_loss, _ = predict_section(network, task, task.train, device)
    test_loss, prediction_zyx = predict_section(network, task, task.test, device)
    truth_zyx = task.test.labels_zyx.cpu().numpy()
    accuracy_z = metrics.accuracy_per_slice(prediction_zyx, truth_zyx)
    row = {
        "train_loss": train_loss,
        "test_loss": test_loss,
        "accuracy": float(accuracy_z.mean()),
        "interface_accuracy": metrics.interface_accuracy(prediction_zyx, truth_zyx),
    }
    for name, measure in metrics.measure_networks(prediction_zyx).items():
        row[f"{name}_volume_fraction_pct"] = measure.volume_fraction_pct
        row[f"{name}_interconnectivity"] = measure.interconnectivity
        row[f"{name}_euler_number"] = measure.euler_number
    return row, accuracy_z, prediction_zyx


def predict_section(
    network: UNet, task: Task, part: Section, device: Device, *, n_images: int | None = None
) -> tuple[float, NDArray[np.uint8]]:
    """Loss per pixel and labels that the network gives for a section, `n_images` at a time (default: the batch).

    A device without the memory for so many gets half as many at a time; the numbers do not depend on it.

    Raises
    ------
    ValueError
        When the memory is too small for a single image.
    """
    n_images = n_images or task.config.batch
    try:
        return _predict(network, task, part, device, n_images)
    except torch.OutOfMemoryError as error:
        if n_images == 1:
            raise ValueError(f"{device.name} has not the memory for one image; use a smaller --width") from error
    return predict_section(network, task, part, device, n_images=n_images // 2)


def _predict(
    network: UNet, task: Task, part: Section, device: Device, n_images: int
) -> tuple[float, NDArray[np.uint8]]:
    network.eval()
    losses, n_each, labels = [], [], []
    parts = zip(*(tensor.split(n_images) for tensor in (part.grey_zcyx, part.labels_zyx, part.weight_zyx)), strict=True)
    with torch.inference_mode():
        for grey, truth, weight in parts:
            with device.autocast():
                logits = network(device.images(grey))
            losses.append(loss.per_pixel(task.loss(logits, truth, weight), truth))
            n_each.append(len(truth))
            labels.append(logits.argmax(dim=1).to(torch.uint8))
    total = sum(value * n for value, n in zip(torch.stack(losses).tolist(), n_each, strict=True))
    return total / sum(n_each), torch.cat(labels).cpu().numpy()
