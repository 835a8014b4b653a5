"""Train the network as published, evaluate it after every epoch, keep everything in a run folder."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from alsiseg import dataset, devices, loss, metrics, runs, unet
from alsiseg.dataset import Augmentation, GreyScale, LabelledVolume, Split
from alsiseg.devices import Device
from alsiseg.metrics import NetworkMeasure
from alsiseg.progress import steps
from alsiseg.unet import UNet, UNetConfig
from alsiseg.volumes import Volume
from alsiseg.weightmaps import PixelWeights


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training; the defaults are the published values.

    Attributes
    ----------
    weights : PixelWeights
        Weights of matrix, silicon and interface in the loss.
    unet : UNetConfig
    augmentation : Augmentation
    epochs : int
        The paper trains 100 and reports epoch 50.
    batch : int
        Images per step.
    learning_rate, weight_decay : float
        Of Adam with amsgrad; the weight decay is coupled, as in torch's Adam.
    crop_px : int or None
        Edge of the training crops and of the central test section; None takes the largest multiple of 16
        that fits, up to the published 256.
    images_per_epoch : int or None
        Use only so many of the epoch's images, drawn anew each epoch; None uses all (28,560 as published).
    kept_every : int
        A checkpoint is kept every so many epochs, and after the last.
    seed : int
        Decides the initial weights, the draws and the dropout.
    """

    weights: PixelWeights = field(default_factory=PixelWeights)
    unet: UNetConfig = field(default_factory=UNetConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    epochs: int = 100
    batch: int = 25
    learning_rate: float = 0.003
    weight_decay: float = 1e-4
    crop_px: int | None = None
    images_per_epoch: int | None = None
    kept_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "kept_every", "images_per_epoch"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"the seed must be a whole number from 0 to 4294967295, got {self.seed}")


def train(
    grey_zyx: NDArray | Volume,
    labels_zyx: NDArray[np.uint8] | Volume,
    run_dir: str | Path,
    config: TrainingConfig | None = None,
    *,
    voxel_size_um: float | None = None,
    resume: bool = False,
    set_aside_changed: bool = False,
    device: str = "auto",
) -> Path:
    """Train on the upper slices of a labelled volume, testing on the lower ones after every epoch.

    Parameters
    ----------
    grey_zyx, labels_zyx
        (Z, Y, X) grey and phases of the same specimen; anything with `shape` that can be sliced.
    run_dir
        The run folder (see `runs`). A finished epoch is never lost: Ctrl-C, a crash or a power cut costs
        the epoch under way, and ``resume=True`` continues as if nothing had happened.
    resume
        Continue the run in `run_dir` if there is one; a finished run returns at once.
    set_aside_changed
        With `resume`: rename a run that was made with other settings or data, and start anew, instead of
        refusing.

    Raises
    ------
    ValueError
        When shapes or labels do not fit, or a run in `run_dir` was made with other settings or data.
    FloatingPointError
        When the loss is not finite; the last complete epoch is kept.
    """
    config = config or TrainingConfig()
    run_dir = Path(run_dir)
    on = devices.choose(device)
    task = prepare(grey_zyx, labels_zyx, config)
    truth = metrics.measure_networks(task.test.labels_zyx.numpy(), voxel_size_um=voxel_size_um)
    if set_aside_changed and runs.exists(run_dir) and runs.differences(run_dir, task.settings()):
        runs.set_aside(run_dir)
    _open_run(run_dir, task.settings(), truth, resume=resume)
    runs.save_test_truth(run_dir, task.test.labels_zyx.numpy(), voxel_size_um)

    train_epochs(run_dir, task, on, voxel_size_um=voxel_size_um)
    return run_dir


def train_epochs(run_dir: Path, task: "Task", on: Device, *, voxel_size_um: float | None = None) -> None:
    """Train from the last complete epoch to the last one asked for, keeping every epoch's state."""
    config = task.config
    network = on.place(unet.build(config.unet, seed=config.seed))
    optimiser = torch.optim.Adam(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, amsgrad=True
    )
    done = runs.load_state(run_dir, network, optimiser)
    n_images = len(task.draws(epoch=1))
    with steps(None, f"training {config.weights}", (config.epochs - max(done, 0)) * n_images) as bar:
        for epoch in range(done + 1, config.epochs + 1):
            started = time.perf_counter()
            if epoch > 0:  # epoch 0 is the untrained network
                train_epoch(network, optimiser, task, epoch, on, bar)
            seconds = time.perf_counter() - started
            row, accuracy_z, prediction_zyx = evaluate(network, task, on)
            row = {"epoch": epoch, **row, "images_per_s": n_images / seconds if epoch > 0 else 0.0}
            runs.record(run_dir, row, accuracy_z)
            if epoch > 0 and (epoch % config.kept_every == 0 or epoch == config.epochs):
                runs.save_network(run_dir, network, task.scale, epoch)
                runs.save_prediction(run_dir, prediction_zyx, epoch, voxel_size_um)
            runs.save_state(run_dir, network, optimiser, epoch)
            bar.write(_epoch_line(row, config.epochs))


def train_epoch(
    network: UNet, optimiser: torch.optim.Optimizer, task: "Task", epoch: int, device: Device, bar: tqdm
) -> None:
    """Pass once over the images of an epoch: forward, weighted loss, backward, step."""
    config = task.config
    network.train()
    torch.manual_seed(config.seed + 1_000_003 * epoch)  # dropout: the same after a restart
    for draws in task.draws(epoch).batches(config.batch):
        grey_bcyx, labels_byx, weight_byx = dataset.training_batch(
            task.volume,
            draws,
            crop=task.crop_px,
            n_slices=config.unet.n_slices,
            normalised_range=task.scale.normalised_range,
        )
        with device.autocast():
            logits_bcyx = network(device.images(grey_bcyx))
        batch_loss = loss.weighted_nll(logits_bcyx, labels_byx.to(device.name), weight_byx.to(device.name))
        _check_finite(batch_loss, draws)
        optimiser.zero_grad()
        batch_loss.backward()
        optimiser.step()
        bar.set_postfix_str(f"epoch {epoch}, loss {batch_loss.item() / task.crop_px**2:.3f}", refresh=False)
        bar.update(len(draws))


@dataclass(frozen=True)
class Task:
    """What is trained on and tested on: the data of one run, in memory and checked.

    Attributes
    ----------
    config : TrainingConfig
    volume : LabelledVolume
    split : Split
    crop_px : int
    scale : GreyScale
    train, test : Section
        Central sections evaluated after every epoch: all test slices, and as many training slices.
    checksums : dict
        SHA-256 of grey and labels.
    """

    config: TrainingConfig
    volume: LabelledVolume
    split: Split
    crop_px: int
    scale: GreyScale
    train: "Section"
    test: "Section"
    checksums: dict[str, str]

    def draws(self, epoch: int) -> dataset.Draws:
        """Draw the images of `epoch`."""
        config = self.config
        return dataset.draw_epoch(
            self.split.train, config.augmentation, seed=config.seed, epoch=epoch, n_images=config.images_per_epoch
        )

    def settings(self) -> dict[str, Any]:
        """Everything that decides the numbers, for `settings.json`."""
        return {
            "config": asdict(self.config),
            "data": {"shape_zyx": list(self.volume.labels_zyx.shape), **self.checksums},
            "split": {name: [part.start, part.stop] for name, part in vars(self.split).items()},
            "crop_px": self.crop_px,
            "grey_scale": asdict(self.scale),
        }


def prepare(grey_zyx: NDArray | Volume, labels_zyx: NDArray[np.uint8] | Volume, config: TrainingConfig) -> Task:
    """Check the data, split them, measure their grey scale and make the weights."""
    n_slices = config.unet.n_slices
    dataset.check_pair(grey_zyx, labels_zyx)
    split = dataset.split(grey_zyx.shape[0], n_context=n_slices // 2)
    crop_px = unet.fitting_crop(grey_zyx.shape, largest=config.crop_px or 256)
    if config.crop_px not in (None, crop_px):
        raise ValueError(f"crops of {config.crop_px} pixels do not fit slices of {grey_zyx.shape[1:]}; use {crop_px}")
    grey_zyx, labels_zyx = np.asarray(grey_zyx), np.asarray(labels_zyx)
    scale = dataset.grey_scale(grey_zyx)
    volume = dataset.labelled_volume(grey_zyx, labels_zyx, config.weights, scale)
    tested = np.linspace(split.train.start, split.train.stop - 1, min(len(split.test), len(split.train)))
    return Task(
        config=config,
        volume=volume,
        split=split,
        crop_px=crop_px,
        scale=scale,
        train=section(volume, tested.round().astype(int), crop_px, n_slices),
        test=section(volume, np.array(split.test), crop_px, n_slices),
        checksums={"grey_sha256": runs.checksum(grey_zyx), "labels_sha256": runs.checksum(labels_zyx)},
    )


def _open_run(run_dir: Path, settings: dict[str, Any], truth: dict[str, NetworkMeasure], *, resume: bool) -> None:
    """Start a run folder, or check that the run in it is the one to continue."""
    if not runs.exists(run_dir):
        runs.start(run_dir, settings, truth)
    elif not resume:
        raise ValueError(f"{run_dir} already holds a run; continue it (--resume) or choose another folder")
    elif changed := runs.differences(run_dir, settings):
        raise ValueError(
            f"the run in {run_dir} was made with other settings or data ({'; '.join(changed[:3])}); "
            "restore them or choose another folder"
        )
    else:
        runs.extend(run_dir, settings)


def _check_finite(batch_loss: Tensor, draws: dataset.Draws) -> None:
    """Stop before the step that would spoil the network."""
    if not torch.isfinite(batch_loss):
        slices = ", ".join(str(z + 1) for z in sorted(set(draws.z)))
        raise FloatingPointError(f"the loss is {batch_loss.item()} on a batch from the slices {slices}; look at them")


def _epoch_line(row: dict[str, float], n_epochs: int) -> str:
    return (
        f"epoch {row['epoch']:3d}/{n_epochs}  loss {row['train_loss']:.3f} train {row['test_loss']:.3f} test  "
        f"accuracy {100 * row['accuracy']:.1f} %  Euler numbers silicon {row['silicon_euler_number']}, "
        f"aluminides {row['aluminides_euler_number']}  {row['images_per_s']:.0f} images/s"
    )


@dataclass(frozen=True)
class Section:
    """The central section of some slices, with its context, as the network is tested on it.

    Attributes
    ----------
    grey_zcyx : float32 tensor
        Five-slice windows (a view of the volume wherever there is one).
    labels_zyx, weight_zyx : tensor
    """

    grey_zcyx: Tensor
    labels_zyx: Tensor
    weight_zyx: Tensor


def section(volume: LabelledVolume, z_indices: NDArray[np.int64], crop_px: int, n_slices: int) -> Section:
    """Cut the central crop of the given slices."""
    rows, columns = dataset.centre_window(tuple(volume.labels_zyx.shape[1:]), crop_px)
    n_total = len(volume.labels_zyx)
    windows = [volume.grey_zyx[dataset.context_slices(z, n_total, n_slices), rows, columns] for z in z_indices]
    labels_zyx, weight_zyx = volume.labels_zyx[z_indices], volume.weight_zyx[z_indices]
    return Section(torch.stack(windows), labels_zyx[:, rows, columns], weight_zyx[:, rows, columns])


def predict_section(network: UNet, part: Section, batch: int, device: Device) -> tuple[float, NDArray[np.uint8]]:
    """Loss per pixel and labels that the network gives for a section."""
    network.eval()
    total, labels = 0.0, []
    with torch.inference_mode():
        for grey, truth, weight in zip(
            part.grey_zcyx.split(batch), part.labels_zyx.split(batch), part.weight_zyx.split(batch), strict=True
        ):
            with device.autocast():
                logits = network(device.images(grey))
            image_loss = loss.weighted_nll(logits, truth.to(device.name), weight.to(device.name))
            total += loss.per_pixel(image_loss, truth).item() * len(truth)
            labels.append(logits.argmax(dim=1).to(torch.uint8).cpu())
    return total / len(part.labels_zyx), torch.cat(labels).numpy()


def evaluate(
    network: UNet, task: Task, device: Device
) -> tuple[dict[str, float], NDArray[np.float64], NDArray[np.uint8]]:
    """Measure loss, accuracy and networks as the paper does (section "Evaluation of the CNN").

    Returns
    -------
    row : dict
        The columns of `history.csv` without epoch and speed.
    accuracy_z : (Z,) float64
        Accuracy of every test slice, 0..1.
    prediction_zyx : uint8 (Z, Y, X)
        Labels that the network gives the test section.
    """
    train_loss, _ = predict_section(network, task.train, task.config.batch, device)
    test_loss, prediction_zyx = predict_section(network, task.test, task.config.batch, device)
    truth_zyx = task.test.labels_zyx.numpy()
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
