"""The network of the paper at width 8, for `peers.py`."""

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peering import Segment, take_part

from alsiseg import devices, prediction, training, unet
from alsiseg.profiles import PROFILES
from alsiseg.runs import Trained
from alsiseg.weightmaps import PixelWeights

IMAGES_PER_EPOCH = 50  # so that the clock is looked at often enough


def train(
    grey_zyx: NDArray, labels_zyx: NDArray[np.uint8], seconds: float, folder: Path, *, three_views: bool = False
) -> tuple[Segment, dict[str, Any]]:
    """Train on every slice that has its neighbours, with nothing kept for a test, until the time is over."""
    config = replace(PROFILES["quick"].config(PixelWeights()), images_per_epoch=IMAGES_PER_EPOCH, crop_px=None)
    task = training.prepare(grey_zyx, labels_zyx, config)
    task = replace(task, split=replace(task.split, train=range(2, len(labels_zyx) - 2)))
    on = devices.choose()
    network = on.place(unet.build(config.unet, seed=config.seed))
    optimiser = training.adam(network, config, on)
    started, epoch = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        epoch += 1
        training.train_epoch(network, optimiser, task, epoch, on)
    spent = time.perf_counter() - started
    trained = Trained(network.cpu().eval(), task.scale, epoch, folder)
    options = prediction.Options(three_views=three_views)
    return lambda unseen_zyx: prediction.segment(unseen_zyx, trained, options=options), {
        "train_s": spent,
        "n_images": epoch * len(task.draws(1)),
    }


if __name__ == "__main__":
    take_part("alsiseg", train, three_views=partial(train, three_views=True))
