"""Inference on a GPU, and the three published weight settings trained side by side for the time that is left."""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from gpu_specimen import Scanned, Size
from measuring import GIGA, TERA, forward_flops, timed
from numpy.typing import NDArray
from random_phases import network_of
from torch import Tensor

from alsiseg import dataset, devices, metrics, training, unet
from alsiseg.devices import Device
from alsiseg.phases import NETWORKS
from alsiseg.runs import Trained
from alsiseg.topology import tensors
from alsiseg.training import Task, TrainingConfig
from alsiseg.unet import ALIGNMENT, UNet, UNetConfig
from alsiseg.weightmaps import PUBLISHED_SETTINGS, PixelWeights

FOR_WRITING_S = 15.0
SECOND_VOLUME_SLICES = 1925  # of the paper, 256 x 256: "less than 10 minutes" (RTX 8000)


def config(size: Size, weights: PixelWeights, network: UNetConfig, seed: int) -> TrainingConfig:
    """Training settings of the paper at the size of the specimen, in short epochs."""
    return TrainingConfig(
        weights=weights,
        unet=network,
        crop_px=size.crop_px,
        batch=size.batch,
        images_per_epoch=size.images_per_epoch,
        seed=seed,
    )


def task(scanned: Scanned, size: Size, weights: PixelWeights, width: int, seed: int) -> Task:
    """Prepare the specimen for training with some weights at a width."""
    return training.prepare(
        scanned.grey_zyx, scanned.labels_zyx, config(size, weights, UNetConfig(stem_channels=width), seed)
    )


def inference(
    scanned: Scanned, on: Device, widths: tuple[int, ...], utilisation: Callable[[float], dict[str, Any]], *, n: int
) -> list[dict[str, Any]]:
    """Time the forward pass with argmax, on central sections and on whole slices, and a whole segmentation."""
    found = []
    scale = dataset.grey_scale(scanned.grey_zyx)
    for width in widths:
        network = on.place(unet.build(UNetConfig(stem_channels=width), seed=0)).eval()
        n_y, n_x = scanned.grey_zyx.shape[1:]
        edge = min(256, n_y, n_x) // ALIGNMENT * ALIGNMENT
        for what, batch, shape in (("sections", 25, (edge, edge)), ("whole slices", 8, (n_y, n_x))):
            windows = windows_of(scanned, scale, batch, shape).to(on.name, memory_format=torch.channels_last)
            with devices.kernels(deterministic=False):
                rate = batch / timed(partial(labels_of, network, windows, on), on.name, n=n).median_s
            flops = forward_flops(network, windows[0])
            found.append(
                {"width": width, "what": what, "batch": batch, "pixels": list(windows.shape[2:]), "slices_per_s": rate}
                | {"model_gflop_per_slice": flops / GIGA}
                | utilisation(rate * flops / TERA)
            )
        found.append({"width": width, "what": "prediction.segment"} | segmented(scanned, network, scale, on, n=n))
    return found


def windows_of(scanned: Scanned, scale: dataset.GreyScale, batch: int, shape_yx: tuple[int, int]) -> Tensor:
    """Five-slice windows of real grey values (zeros would run faster), padded to what the network takes."""
    n_slices = UNetConfig().n_slices
    rows, columns = dataset.centre_window(scanned.grey_zyx.shape[1:], min(shape_yx))
    if shape_yx == scanned.grey_zyx.shape[1:]:
        rows, columns = slice(None), slice(None)
    grey_zyx = scale.normalise(scanned.grey_zyx[: batch + n_slices - 1, rows, columns])
    windows = torch.from_numpy(grey_zyx).unfold(0, n_slices, 1).permute(0, 3, 1, 2)
    missing = [-size % ALIGNMENT for size in windows.shape[2:]]
    return torch.nn.functional.pad(windows, (0, missing[1], 0, missing[0]), mode="replicate")


def labels_of(network: UNet, windows_bcyx: Tensor, on: Device) -> Tensor:
    """Label the middle slices, on the device."""
    with torch.inference_mode(), on.autocast():
        return network(windows_bcyx).argmax(dim=1).to(torch.uint8)


def segmented(scanned: Scanned, network: UNet, scale: dataset.GreyScale, on: Device, *, n: int) -> dict[str, Any]:
    """Segment as many slices as the paper's second volume has, read from memory, labels back in memory."""
    try:
        from alsiseg import prediction
    except ModuleNotFoundError as error:  # it needs more than this benchmark does
        return {"left_out": str(error)}
    rows, columns = dataset.centre_window(scanned.grey_zyx.shape[1:], min(256, *scanned.grey_zyx.shape[1:]))
    n_slices = SECOND_VOLUME_SLICES if on.name != "cpu" else n
    numbers = np.resize(np.arange(len(scanned.grey_zyx)), n_slices)
    volume_zyx = scanned.grey_zyx[numbers, rows, columns]
    trained = Trained(network, scale, epoch=0, run_dir=Path())
    began = time.perf_counter()
    labels_zyx = prediction.segment(volume_zyx, trained, device=on.name)
    seconds = time.perf_counter() - began
    return {"shape_zyx": list(labels_zyx.shape), "seconds": seconds, "slices_per_s": n_slices / seconds}


@dataclass
class Learner:
    """One weight setting in training: its network, its history, its last prediction."""

    weights: PixelWeights
    task: Task
    on: Device
    network: UNet
    optimiser: torch.optim.Adam
    history: list[dict[str, Any]] = field(default_factory=list)
    prediction_zyx: NDArray[np.uint8] | None = None

    @classmethod
    def new(cls, task: Task, on: Device) -> "Learner":
        """Start with the untrained network of the task's seed."""
        network = on.place(unet.build(task.config.unet, seed=task.config.seed))
        return cls(task.config.weights, task.to(on.name), on, network, training.adam(network, task.config, on))

    def epoch(self) -> None:
        """Train one epoch as the library does (the first call only looks at the untrained network), and measure."""
        epoch, n_images = len(self.history), len(self.task.draws(1))
        began = time.perf_counter()
        if epoch > 0:  # ends by reading the loss, so the clock has waited for the device
            training.train_epoch(self.network, self.optimiser, self.task, epoch, self.on)
        trained_s = time.perf_counter() - began
        train_loss, _ = training.predict_section(self.network, self.task, self.task.train, self.on)
        test_loss, labels_zyx = training.predict_section(self.network, self.task, self.task.test, self.on)
        self.prediction_zyx = labels_zyx
        row = {"weights": str(self.weights), "epoch": epoch, "images": epoch * n_images}
        row |= {"train_loss": train_loss, "test_loss": test_loss} | agreement(labels_zyx, self.task, self.on)
        row |= {"images_per_s": n_images / trained_s if epoch else 0.0, "trained_s": trained_s if epoch else 0.0}
        self.history.append(row | {"measured_s": time.perf_counter() - began - trained_s})


def agreement(labels_zyx: NDArray[np.uint8], task: Task, on: Device) -> dict[str, float]:
    """Accuracy, volume fractions and Euler numbers of a prediction of the test section."""
    truth_zyx = task.test.labels_zyx.cpu().numpy()
    row: dict[str, float] = {
        "accuracy": float(metrics.accuracy_per_slice(labels_zyx, truth_zyx).mean()),
        "interface_accuracy": metrics.interface_accuracy(labels_zyx, truth_zyx),
    }
    return row | network_measures(torch.from_numpy(labels_zyx).to(on.name))


def network_measures(labels_zyx: Tensor) -> dict[str, float]:
    """Volume fraction and Euler number (26) of the three networks, counted where the labels are."""
    row: dict[str, float] = {}
    for name in NETWORKS:
        mask_zyx = network_of(labels_zyx, name)
        row[f"{name}_volume_fraction_pct"] = 100 * float(mask_zyx.double().mean())
        row[f"{name}_euler_number"] = tensors.euler_number_on_device(mask_zyx, 26)
    return row


def learn(
    scanned: Scanned, size: Size, on: Device, *, width: int, seed: int, left_s: Callable[[], float], out_dir: Path
) -> dict[str, Any]:
    """Train the three settings in turn, epoch by epoch, until the time is over; every round is kept."""
    learners = [Learner.new(task(scanned, size, weights, width, seed), on) for weights in PUBLISHED_SETTINGS]
    truth_zyx = learners[0].task.test.labels_zyx
    write_labels(out_dir / "truth.tif", truth_zyx.cpu().numpy())
    longest_s = 0.0
    while left_s() > 1.2 * longest_s + FOR_WRITING_S or not longest_s:
        began = time.perf_counter()
        with devices.kernels(deterministic=False):
            for learner in learners:
                learner.epoch()
        longest_s = max(longest_s, time.perf_counter() - began)
        write_histories(out_dir / "histories.csv", learners)
        print(f"          {last_rows(learners)}", flush=True)
        if on.name == "cpu" and len(learners[0].history) > 1:
            break
    for learner in learners:
        assert learner.prediction_zyx is not None
        name = str(learner.weights).replace(", ", "_")
        write_labels(out_dir / f"predicted_{name}.tif", learner.prediction_zyx)
    return {
        "width": width,
        "truth": network_measures(truth_zyx.to(on.name)),
        "epochs": len(learners[0].history) - 1,
        "images_per_epoch": len(learners[0].task.draws(1)),
        "last": {str(learner.weights): learner.history[-1] for learner in learners},
    }


def last_rows(learners: list[Learner]) -> str:
    """One line of what the three reached."""
    epoch = learners[0].history[-1]["epoch"]
    reached = ", ".join(
        f"({one.weights}) {100 * one.history[-1]['accuracy']:.1f} % Si {one.history[-1]['silicon_euler_number']}"
        for one in learners
    )
    return f"epoch {epoch}: {reached}, {learners[-1].history[-1]['images_per_s']:.0f} images/s"


def write_histories(path: Path, learners: list[Learner]) -> None:
    """Write all rows so far, whole."""
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(learners[0].history[0]))
        writer.writeheader()
        for learner in learners:
            writer.writerows(learner.history)
    partial.replace(path)


def write_labels(path: Path, labels_zyx: NDArray[np.uint8]) -> None:
    """Write labels as a compressed TIFF stack, a few megabytes."""
    tifffile.imwrite(path, labels_zyx, compression="zlib", predictor=False, metadata={"axes": "ZYX"})
