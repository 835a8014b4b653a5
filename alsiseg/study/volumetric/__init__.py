"""A small true 3-D U-Net, to hold the network of the paper against at equal training time.

The network is MONAI's `BasicUNet` (Falk et al., Nature Methods 16, 67-70, 2019) with batch norms, by default with as
many weights as the quick 2.5-D network (0.9 million). It learns from the same slices, normalised in the same way, with
the same optimiser and the same loss, but from cubes, in all 48 orientations of a cube. Nothing of it is tuned.

The folder of a training::

    settings.json          what repeats it: configuration, checksums of the data, versions
    resume/                the last states of network and optimiser, until the training is finished
    network.safetensors    the network, with network.json beside it: the training is finished
"""

import math
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alsiseg import dataset, devices, loss, runs, training
from alsiseg.dataset import Augmentation, GreyScale, LabelledVolume
from alsiseg.devices import Device, clock
from alsiseg.progress import steps
from alsiseg.runs.files import write_json
from alsiseg.study.volumetric.cubes import batch_of, draw
from alsiseg.study.volumetric.network import (
    MULTIPLE_PX,
    NETWORK,
    Spent,
    Volumetric,
    autocast,
    build,
    keep,
    load,
    monai,
    placed,
    spent,
)
from alsiseg.training import TrainingConfig
from alsiseg.training.task import Grey, Labels
from alsiseg.weightmaps import PixelWeights

__all__ = ["Spent", "VolumetricConfig", "probabilities", "seconds_per_cube", "spent", "train"]

STEPS_PER_STATE = 50
WINDOW_PX, OVERLAP = 96, 0.5  # of the cubes that a volume is segmented in


@dataclass(frozen=True)
class VolumetricConfig:
    """Everything that decides a training in 3-D.

    Attributes
    ----------
    features : tuple of int
        Channels of the five levels, and of the last one on the way back up.
    weights : PixelWeights
        Weights of matrix, silicon and interface in the loss; the same for every voxel unless given.
    augmentation : Augmentation
        Its contrast, brightness and noise; a cube is not blurred.
    cube_px : int
        Edge of the training cubes, a multiple of 16; smaller ones are taken where they do not fit.
    batch : int
        Cubes per step, two or more.
    n_cubes : int
        Cubes that are trained on, up to the next whole batch, or, with `seconds`, the most that are.
    seconds : float or None
        Stop at the first step after so many seconds of training: of the processor, all threads together, or of
        the clock on a GPU. Where it stops depends on the machine; `n_cubes` from `seconds_per_cube` does not.
    seed : int
    """

    features: tuple[int, ...] = (16, 16, 32, 64, 64, 16)
    weights: PixelWeights = field(default_factory=lambda: PixelWeights(1.0, 1.0, 1.0))
    augmentation: Augmentation = field(default_factory=Augmentation)
    cube_px: int = 48
    batch: int = 2
    n_cubes: int = 1000
    seconds: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.features) != 6 or min(self.features) < 1:
            raise ValueError(f"features must be six numbers from 1 up, got {self.features}; see MONAI's BasicUNet")
        if self.cube_px < MULTIPLE_PX or self.cube_px % MULTIPLE_PX:
            raise ValueError(f"cube_px must be a multiple of {MULTIPLE_PX}, got {self.cube_px}; 48 is usual here")
        if self.batch < 2:
            raise ValueError(f"batch must be at least 2, for the batch norms, got {self.batch}; 2 is usual here")
        if self.n_cubes < 1:
            raise ValueError(f"n_cubes must be at least 1, got {self.n_cubes}; give the number of cubes to train on")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds must be above 0, got {self.seconds}; None sets no limit of time")


def train(
    grey_zyx: Grey,
    labels_zyx: Labels,
    run_dir: str | Path,
    config: VolumetricConfig | None = None,
    *,
    device: str = "auto",
) -> Path:
    """Train on the upper slices of a labelled volume, those that `training.train` trains on.

    What was trained before in `run_dir` is continued; a finished training returns at once.

    Parameters
    ----------
    grey_zyx, labels_zyx
        (Z, Y, X) grey and phases of the same specimen.
    run_dir
        Folder of this training alone.
    config
        `VolumetricConfig()` unless given.
    device
        "auto", "cpu", "cuda", ...

    Returns
    -------
    Path
        `run_dir`; `spent` says what the training took.

    Raises
    ------
    ValueError
        When shapes or labels do not fit, the volume is too small for a cube of 16 voxels, or the folder holds a
        training with other settings or data.
    ImportError
        When MONAI is not installed.
    FloatingPointError
        When the loss is not finite; the last state is kept.
    """
    config, run_dir = config or VolumetricConfig(), Path(run_dir)
    on = devices.choose(device)
    network = build(config.features, seed=config.seed)
    material, settings = _prepare(grey_zyx, labels_zyx, config)
    _open(run_dir, settings)
    if not (run_dir / NETWORK).is_file():
        _train_on(run_dir, network, material.to(on.name), config, on)
        keep(run_dir, network, config.features)
        shutil.rmtree(run_dir / "resume", ignore_errors=True)
    return run_dir


def probabilities(grey_zyx: Grey, run_dir: str | Path, *, device: str = "auto") -> NDArray[np.float32]:
    """Give the probability of every phase at every voxel.

    The volume is normalised by its own grey scale and passed in cubes of at most 96 voxels that overlap by half; where
    they do, the middle of a cube counts more than its rim (MONAI's `sliding_window_inference`). Memory: about 50
    bytes a voxel, and a cube at a time in the network.

    Parameters
    ----------
    grey_zyx
        A scan (Z, Y, X).
    run_dir
        Of a finished training.
    device
        "auto", "cpu", "cuda", ...

    Returns
    -------
    float32 (phases, Z, Y, X)
        From 0 to 1; the three add up to 1.

    Raises
    ------
    FileNotFoundError
        When there is no finished training.
    ValueError
        When the files are damaged, or the volume is none.
    """
    if len(grey_zyx.shape) != 3:
        raise ValueError(f"needs a volume with three axes (z, y, x), got the shape {tuple(grey_zyx.shape)}")
    on = devices.choose(device)
    network = placed(load(Path(run_dir)), on).eval()
    window_zyx = [min(WINDOW_PX, _multiple(n)) for n in grey_zyx.shape]
    grey = torch.from_numpy(dataset.grey_scale(grey_zyx).normalise(np.asarray(grey_zyx)))
    n_windows = math.prod(_n_windows(n, edge) for n, edge in zip(grey.shape, window_zyx, strict=True))
    bar = steps(None, "segmenting in 3-D", n_windows, unit=" cubes")

    def passed(grey_b1zyx: Tensor) -> Tensor:
        with autocast(on, window_zyx):
            logits = network(grey_b1zyx.to(on.name, memory_format=torch.channels_last_3d))
        bar.update(len(grey_b1zyx))
        return logits.float().softmax(dim=1).cpu()

    with bar, torch.inference_mode():
        blended = monai("inferers").sliding_window_inference(
            grey[None, None], window_zyx, 1, passed, overlap=OVERLAP, mode="gaussian", padding_mode="replicate"
        )
    return blended[0].contiguous().numpy()


def seconds_per_cube(grey_zyx: Grey, labels_zyx: Labels, config: VolumetricConfig, *, device: str = "auto") -> float:
    """Time what a training takes for one cube: the quickest of some steps, after a first that warms up."""
    on = devices.choose(device)
    material, _ = _prepare(grey_zyx, labels_zyx, config)
    material, network = material.to(on.name), placed(build(config.features, seed=config.seed), on)
    _, optimiser = _optimised(network, on)
    seconds = []
    for step in range(4):
        started = clock(on.name)
        _step(network, optimiser, material, config, on, first=step * config.batch)
        seconds.append(clock(on.name) - started)
    return min(seconds[1:]) / config.batch


@dataclass(frozen=True)
class _Material:
    """The slices that are trained on, where the network is."""

    volume: LabelledVolume
    scale: GreyScale
    edge_px: int

    def to(self, device: str) -> "_Material":
        return _Material(self.volume.to(device), self.scale, self.edge_px)


def _prepare(grey: Grey, labels: Labels, config: VolumetricConfig) -> tuple[_Material, dict[str, Any]]:
    """Take the slices that are trained on, normalised as the whole volume, and the settings of the training."""
    dataset.check_pair(grey, labels)
    grey_zyx, labels_zyx = np.asarray(grey), np.asarray(labels)
    train = dataset.split(len(grey_zyx), n_context=0).train
    edge_px = min(config.cube_px, min(len(train), *grey_zyx.shape[1:]) // MULTIPLE_PX * MULTIPLE_PX)
    if edge_px < MULTIPLE_PX:
        raise ValueError(
            f"cubes of {MULTIPLE_PX} voxels need as many training slices, rows and columns, found {len(train)} slices "
            f"of {grey_zyx.shape[1:]}; give a larger volume"
        )
    scale, part = dataset.grey_scale(grey_zyx), slice(train.start, train.stop)
    volume = dataset.labelled_volume(grey_zyx[part], labels_zyx[part], config.weights, scale)
    data = {"grey_sha256": runs.checksum(grey_zyx), "labels_sha256": runs.checksum(labels_zyx)}
    settings = {"kind": "3-D", "config": asdict(config), "data": {"shape_zyx": list(grey_zyx.shape), **data}}
    return _Material(volume, scale, edge_px), settings


def _open(run_dir: Path, settings: dict[str, Any]) -> None:
    """Start a folder, or check that what is in it may be continued."""
    if not runs.exists(run_dir):
        write_json(run_dir / "settings.json", {"format": runs.FORMAT, **settings, "versions": runs.versions()})
    elif changed := runs.differences(run_dir, settings):
        raise ValueError(
            f"the training in {run_dir} was made with other settings or data ({'; '.join(changed[:3])}); "
            "restore them or choose another folder"
        )


def _train_on(run_dir: Path, network: Volumetric, material: _Material, config: VolumetricConfig, on: Device) -> None:
    """Train from the last state to the end of the budget."""
    module, optimiser = _optimised(placed(network, on).train(), on)
    runs.load_state(run_dir, module, optimiser)
    limit, unit = (config.n_cubes, " cubes") if config.seconds is None else (math.ceil(config.seconds), " s")
    with steps(None, "training in 3-D", limit, unit=unit) as bar:
        while network.n_cubes < config.n_cubes and (config.seconds is None or network.seconds < config.seconds):
            started, n_before = clock(on.name), int(network.n_cubes)
            batch_loss = _step(network, optimiser, material, config, on, first=n_before)
            network.note(config.batch, clock(on.name) - started, batch_loss)
            bar.update(min(int(network.n_cubes if config.seconds is None else network.seconds), limit) - bar.n)
            if (n_steps := int(network.n_steps)) % STEPS_PER_STATE == 0:
                runs.save_state(run_dir, module, optimiser, n_steps // STEPS_PER_STATE)


def _step(
    network: Volumetric,
    optimiser: torch.optim.Optimizer,
    material: _Material,
    config: VolumetricConfig,
    on: Device,
    *,
    first: int,
) -> float:
    """Forward, weighted loss, backward, step, with a batch of cubes from that number on; return the loss per voxel."""
    volume, edge_px, seed = material.volume, material.edge_px, config.seed
    numbers = range(first, first + config.batch)
    cubes = [draw(volume.labels_zyx.shape, edge_px, config.augmentation, seed=seed, number=n) for n in numbers]
    grey, labels, weight = batch_of(volume, cubes, edge_px=edge_px, normalised_range=material.scale.normalised_range)
    optimiser.zero_grad()
    with autocast(on, [edge_px]):
        logits = network(grey.to(memory_format=torch.channels_last_3d))
    # A cube counts as an image whose rows are those of all its slices.
    cube_loss = loss.weighted_nll(logits.flatten(2, 3), labels.flatten(1, 2), weight.flatten(1, 2))
    cube_loss.backward()
    per_voxel = float(cube_loss.detach()) / labels[0].numel()
    if not math.isfinite(per_voxel):
        raise FloatingPointError(
            f"needs a finite loss, found {per_voxel} at cubes {first} to {numbers[-1]}; check the grey values"
        )
    optimiser.step()
    return per_voxel


def _optimised(network: Volumetric, on: Device) -> tuple[Any, torch.optim.Adam]:
    """Give the network, as one of any kind to the type checker, and the published optimiser of it."""
    module: Any = network
    return module, training.adam(module, TrainingConfig(), on)


def _multiple(n: int) -> int:
    """Edge of the smallest window that holds so many voxels."""
    return -(-n // MULTIPLE_PX) * MULTIPLE_PX


def _n_windows(n: int, edge_px: int) -> int:
    """How many windows MONAI lays along an axis."""
    return 1 + max(0, -(-(n - edge_px) // int(edge_px * (1 - OVERLAP))))
