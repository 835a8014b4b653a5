"""The same training by MONAI: its transforms, its cached data set, its threaded loader and its supervised trainer."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset, ThreadDataLoader
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
)
from torch import Tensor

from alsiseg import dataset, loss, unet
from alsiseg.training import Task

MOMENTS = {
    Events.GET_BATCH_COMPLETED: "data",
    IterationEvents.FORWARD_COMPLETED: "forward",
    IterationEvents.LOSS_COMPLETED: "loss",
    IterationEvents.BACKWARD_COMPLETED: "backward",
    IterationEvents.MODEL_COMPLETED: "optimiser",
}


def images_of(task: Task) -> Iterator[dict[str, Tensor]]:
    """Five-slice windows of the training slices, with labels and weights as two channels of what is to be met."""
    volume, n_slices = task.volume, task.config.unet.n_slices
    weight_zyx = volume.weight_zyx
    for z in task.split.train:
        window = volume.grey_zyx[dataset.context_slices(z, len(volume.grey_zyx), n_slices)]
        yield {"image": window, "target": torch.stack([volume.labels_zyx[z].float(), weight_zyx[z]])}


def transforms(task: Task) -> Compose:
    """The changes of `dataset.Augmentation` as MONAI has them; crops lie anywhere, not in the four corners only."""
    change, grey_range = task.config.augmentation, task.scale.normalised_range
    return Compose(
        [
            EnsureTyped(keys=("image", "target"), track_meta=False),
            RandSpatialCropd(keys=("image", "target"), roi_size=(task.crop_px, task.crop_px), random_size=False),
            RandRotate90d(keys=("image", "target"), prob=2 / 3, max_k=3),
            RandGaussianSmoothd(
                keys="image",
                prob=change.probability,
                sigma_x=(0.0, change.blur_sigma_px),
                sigma_y=(0.0, change.blur_sigma_px),
            ),
            RandScaleIntensityd(keys="image", factors=change.contrast, prob=1.0),
            RandShiftIntensityd(keys="image", offsets=change.brightness * grey_range, prob=1.0),
            RandGaussianNoised(keys="image", prob=change.probability, std=change.noise * grey_range),
        ]
    )


def trainer(task: Task, n_steps: int) -> SupervisedTrainer:
    """The trainer with the same network, optimiser and loss, for so many steps."""
    torch.manual_seed(task.config.seed)
    np.random.seed(task.config.seed)  # noqa: NPY002 - what MONAI's transforms draw from
    config = task.config
    cached = CacheDataset(list(images_of(task)), transforms(task), cache_rate=1.0, num_workers=None, progress=False)
    n_images = n_steps * config.batch
    sampler = torch.utils.data.RandomSampler(cached, replacement=True, num_samples=n_images)
    loader = ThreadDataLoader(cached, batch_size=config.batch, sampler=sampler, num_workers=0)
    network = unet.build(config.unet, seed=config.seed)
    optimiser = torch.optim.Adam(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, amsgrad=True
    )

    def weighted(logits_bcyx: Tensor, target_bcyx: Tensor) -> Tensor:
        return loss.weighted_nll(logits_bcyx, target_bcyx[:, 0].long(), target_bcyx[:, 1])

    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=loader,
        network=network,
        optimizer=optimiser,
        loss_function=weighted,
        prepare_batch=lambda batch, *_, **__: (batch["image"], batch["target"]),
        decollate=False,
    )


def measured_steps(task: Task, n_steps: int) -> tuple[list[dict[str, float]], list[float], float]:
    """Seconds of each part of every step, the loss of every step, processor time of a step after the first."""
    one = trainer(task, n_steps)
    steps: list[dict[str, float]] = []
    losses: list[float] = []
    clock = [time.perf_counter()]
    processors: list[float] = []

    def note(engine: Engine, name: str) -> None:
        now = time.perf_counter()
        if name == "data":
            steps.append({})
        steps[-1][name] = now - clock[0]
        clock[0] = now
        if name == "optimiser":
            losses.append(_loss_of(engine.state.output))
            processors.append(time.process_time())

    for event, name in MOMENTS.items():
        one.add_event_handler(event, note, name)
    one.run()
    return steps, losses, (processors[-1] - processors[0]) / (n_steps - 1)


def _loss_of(output: Any) -> float:
    first = output[0] if isinstance(output, list) else output
    return float(first["loss"])
