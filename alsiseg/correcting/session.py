"""A correction under way: what is trained, on what, for how long; and one epoch of it."""

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer
from tqdm import tqdm

from alsiseg import dataset, devices, loss, runs, training, unet
from alsiseg.correcting import folder
from alsiseg.correcting.material import Corrected, Grey, Labels, Material, corrected_slices, gather
from alsiseg.correcting.measuring import Measured, measure
from alsiseg.correcting.patches import cut, draw_patches
from alsiseg.correcting.settings import LARGEST_BATCH, CorrectingConfig
from alsiseg.dataset import LabelledVolume, Split, Statistics
from alsiseg.devices import Device
from alsiseg.runs import Trained
from alsiseg.training import Section, Task, TrainingConfig
from alsiseg.unet import UNet

N_WATCHED = 16  # test slices of the first training that are measured after every epoch
N_PATCHES = 96  # cut at a time; every step takes its images from them
FEWEST_STEPS = 20  # of an epoch


class Clock:
    """How much of the time is left, and whether somebody asked to stop."""

    def __init__(self, minutes: float, stop: Event | None) -> None:
        if not (np.isfinite(minutes) and minutes > 0):
            raise ValueError(f"needs a time above 0 minutes, got {minutes}; a few are enough for a small scan")
        self.seconds, self.stop = 60 * minutes, stop
        self.started = time.monotonic()

    @property
    def seconds_left(self) -> float:
        """Seconds until the time is over, 0 afterwards."""
        return max(0.0, self.seconds - self.seconds_gone)

    @property
    def is_stopped(self) -> bool:
        """Whether somebody asked to stop."""
        return self.stop is not None and self.stop.is_set()

    @property
    def seconds_gone(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def is_over(self, reserved_s: float) -> bool:
        """Whether to train no longer: stopped, or no more time left than is reserved."""
        return self.is_stopped or self.seconds_left <= reserved_s


@dataclass(frozen=True)
class Session:
    """What is trained, on what, and how.

    Attributes
    ----------
    task : Task
        Settings and scales; its volume is replaced by the patches of each epoch.
    corrected : Material
    original, watched : Material or None
        Training slices of the first training, and some of its test slices.
    """

    network: UNet
    optimiser: Optimizer
    task: Task
    config: CorrectingConfig
    corrected: Material
    original: Material | None
    watched: Material | None
    on: Device

    @property
    def n_steps(self) -> int:
        """Steps of an epoch: so many that measuring after it takes a fourth of the time at most."""
        n_measured = self.corrected.labels_nyx.numel() + (self.watched.labels_nyx.numel() if self.watched else 0)
        return max(FEWEST_STEPS, round(n_measured / (self.task.config.batch * self.task.crop_px**2)))

    def measure(self) -> Measured:
        """Measure the network as it is."""
        return measure(self.network, self.task, self.corrected, self.watched, self.on)

    def train(self, epoch: int, clock: Clock, bar: tqdm, *, reserved_s: float) -> int:
        """Train for an epoch, or as long as the clock allows; give the number of steps made.

        The first step of all is made in any case.
        """
        task, n_parts = self._task_of(epoch), 1
        for step in range(self.n_steps):
            number = (epoch - 1) * self.n_steps + step
            if number and clock.is_over(reserved_s):
                return step
            try:
                n_parts = training.train_epoch(self.network, self.optimiser, task, number, self.on, n_parts=n_parts)
            except FloatingPointError as error:
                raise FloatingPointError(
                    f"needs a finite loss, found none in step {step + 1} of epoch {epoch} of the correction; "
                    "use a smaller learning rate"
                ) from error
            bar.update(round(min(clock.seconds_gone, clock.seconds)) - bar.n)
        return self.n_steps

    def _task_of(self, epoch: int) -> Task:
        """Draw and cut the patches of an epoch; `train_epoch` sees one batch of them a step, drawn anew."""
        config, n_slices = self.task.config, self.task.config.unet.n_slices
        materials, numbers = [self.corrected], [N_PATCHES]
        if self.original is not None:
            n_original = round(N_PATCHES * self.config.original_share)
            materials, numbers = [self.corrected, self.original], [N_PATCHES - n_original, n_original]
        patches = draw_patches(materials, numbers, self.task.crop_px, seed=config.seed, epoch=epoch)
        volume, middle = cut(materials, patches, self.task.crop_px, n_slices, config.weights)
        return replace(self.task, volume=volume, split=Split(train=middle, test=range(0))).to(self.on.name)


def prepare(
    trained: Trained,
    grey_zyx: Grey,
    labels_zyx: Labels,
    corrected_zyx: Corrected,
    original: tuple[Grey, Labels] | None,
    config: CorrectingConfig,
    *,
    seed: int,
    device: str,
    voxel_size_um: float | None,
) -> Session:
    """Check everything, read the slices that count, and put the network of the run on its device."""
    n_slices = trained.network.config.n_slices
    dataset.check_pair(grey_zyx, labels_zyx)
    if grey_zyx.shape[0] < n_slices:
        raise ValueError(
            f"needs a scan of at least {n_slices} slices, which the network sees at once, got {grey_zyx.shape[0]}; "
            "give a taller scan"
        )
    before = folder.training_config(trained.run_dir)
    crop_px = unet.fitting_crop(grey_zyx.shape, largest=before.crop_px or 256)
    z_numbers, painted = corrected_slices(tuple(grey_zyx.shape), corrected_zyx)
    corrected = gather(grey_zyx, labels_zyx, z_numbers, n_slices=n_slices, painted=painted, reach_px=config.reach_px)
    first, watched = (None, None) if original is None else _of_first_training(trained.run_dir, *original, n_slices)
    on = devices.choose(device)
    batch = config.batch or min(before.batch, LARGEST_BATCH)
    new = replace(
        before,
        learning_rate=config.learning_rate,
        batch=batch,
        images_per_epoch=batch,
        crop_px=crop_px,
        seed=seed,
        directions=("z",),
    )
    network = on.place(trained.network)
    statistics = dataset.grey_statistics(grey_zyx, voxel_size_um=voxel_size_um)
    task = _task(corrected, new, crop_px, statistics)
    return Session(network, training.adam(network, new, on), task, config, corrected, first, watched, on)


def _task(corrected: Material, config: TrainingConfig, crop_px: int, statistics: Statistics) -> Task:
    """Settings and scales of the correction, as yet without patches."""
    nothing = torch.empty(0)
    none = Section(nothing, nothing, nothing)
    return Task(
        config=config,
        volume=LabelledVolume(nothing, nothing, nothing, nothing),
        split=Split(train=range(0), test=range(0)),
        crop_px=crop_px,
        scale=corrected.scale,
        train=none,
        test=none,
        class_weight=loss.class_weights(corrected.labels_nyx) if config.loss.class_balance else None,
        checksums=corrected.checksums,
        statistics=statistics,
    )


def _of_first_training(run_dir: Path, grey_zyx: Grey, labels_zyx: Labels, n_slices: int) -> tuple[Material, Material]:
    """Training slices, and some test slices, of what the first of a line of runs was trained on."""
    dataset.check_pair(grey_zyx, labels_zyx)
    grey_zyx, labels_zyx = np.asarray(grey_zyx), np.asarray(labels_zyx)
    origin = folder.origin(run_dir)
    found = {"grey_sha256": runs.checksum(grey_zyx), "labels_sha256": runs.checksum(labels_zyx)}
    if other := [name.split("_")[0] for name, value in found.items() if origin[name] != value]:
        raise ValueError(
            f"needs the data that {run_dir} was trained on, the {' and '.join(other)} given are others "
            "(their checksum differs); give those data or leave original out"
        )
    train, test = (range(*origin["split"][name]) for name in ("train", "test"))
    watched = np.unique(np.linspace(test.start, test.stop - 1, N_WATCHED).round().astype(int)).tolist()
    in_training, in_test = (gather(grey_zyx, labels_zyx, list(z), n_slices=n_slices) for z in (train, watched))
    return in_training, in_test


def settings(
    session: Session, trained: Trained, new_run_dir: Path, shape_zyx: tuple[int, ...], minutes: float
) -> dict[str, Any]:
    """Everything that repeats the correction, for `settings.json`; slices are numbered from 0, as in every run."""
    z_numbers, painted = session.corrected.z_numbers, session.corrected.painted
    whole = [z_numbers[0], z_numbers[-1] + 1]
    n_voxels = session.corrected.labels_nyx.numel() if painted is None else sum(len(pixels) for pixels in painted)
    entries = session.task.settings()
    entries["config"] |= {"images_per_epoch": session.n_steps * session.task.config.batch}
    return {
        **entries,
        "data": {"shape_zyx": list(shape_zyx), **session.corrected.checksums},
        "split": {"train": whole, "test": whole},
        "parent": folder.parent(trained, new_run_dir),
        "correction": {
            **asdict(session.config),
            "minutes": minutes,
            "slices": z_numbers,
            "n_corrected_voxels": n_voxels,
            "original_data": session.original is not None,
        },
    }
