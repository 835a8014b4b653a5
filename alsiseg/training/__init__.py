"""Train the network as published, evaluate it after every epoch, keep everything in a run folder.

The loop itself stands in `loop`; `specimens` reads the data, `task` holds them, `evaluation` is what is measured
after an epoch, `processes` what several processes exchange. ``torchrun --nproc-per-node N -m alsiseg train ...``
trains with N processes.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from alsiseg import devices, loss, metrics, runs, unet
from alsiseg.devices import Device
from alsiseg.progress import steps
from alsiseg.training.compiling import compile_where_it_pays
from alsiseg.training.evaluation import evaluate, predict_section
from alsiseg.training.loop import adam, train_epoch
from alsiseg.training.outlook import without_gpu
from alsiseg.training.processes import ALONE, ConnectionLost, Processes, StoppedElsewhere, join, share_statistics
from alsiseg.training.scalars import Scalars
from alsiseg.training.settings import TrainingConfig
from alsiseg.training.specimens import Grey, Labels
from alsiseg.training.task import Section, Task, prepare, section
from alsiseg.unet import UNet

__all__ = [
    "ALONE",
    "ConnectionLost",
    "Processes",
    "Section",
    "StoppedElsewhere",
    "Task",
    "TrainingConfig",
    "adam",
    "devices",
    "evaluate",
    "join",
    "loss",
    "predict_section",
    "prepare",
    "runs",
    "section",
    "train",
    "train_epoch",
    "train_epochs",
    "unet",
]


def train(
    grey_zyx: Grey | Sequence[Grey],
    labels_zyx: Labels | Sequence[Labels],
    run_dir: str | Path,
    config: TrainingConfig | None = None,
    *,
    voxel_size_um: float | None = None,
    resume: bool = False,
    set_aside_changed: bool = False,
    device: str = "auto",
    tensorboard: bool = False,
) -> Path:
    """Train on the upper slices of a labelled volume, testing on the lower ones after every epoch.

    Several volumes (specimens, difficulties) may be trained on together. Each is divided and normalised by itself, no
    window spans two, and every epoch takes the same number of images from each; tested is the first one.

    Under torchrun all its processes train together: each batch is shared among them, and the numbers are those
    of one process but for rounding. Every process reads the volumes; the first one writes `run_dir`.

    Parameters
    ----------
    grey_zyx, labels_zyx
        (Z, Y, X) grey and phases of the same specimen; anything with `shape` that can be sliced. Lists of them
        for several specimens, in the same order.
    run_dir
        The run folder (see `runs`). A finished epoch is never lost: Ctrl-C, a crash or a power cut costs
        the epoch under way, and ``resume=True`` continues as if nothing had happened.
    resume
        Continue the run in `run_dir` if there is one; a finished run returns at once.
    set_aside_changed
        With `resume`: rename a run that was made with other settings or data, and start anew, instead of
        refusing.
    device
        "auto", "cpu", "cuda", ...; with several processes "auto", "cpu" or "cuda".
    tensorboard
        Write the history for TensorBoard too, in ``run_dir/tensorboard``.

    Raises
    ------
    ValueError
        When shapes or labels do not fit, a run in `run_dir` was made with other settings or data, or the
        device has not the memory for one image.
    ImportError
        When an option needs a package that is not installed.
    FloatingPointError
        When the loss is not finite; the last complete epoch is kept.
    StoppedElsewhere
        When another process stopped; that one says why.
    """
    config = config or TrainingConfig()
    run_dir = Path(run_dir)
    processes, on = join(device)
    try:
        with processes.agreed():
            Scalars.check(tensorboard)
            task = prepare(grey_zyx, labels_zyx, config, voxel_size_um=voxel_size_um)
        with ExitStack() as held:
            with processes.agreed():
                if processes.is_first:
                    held.enter_context(runs.locked(run_dir))
                    _open_run(run_dir, task, voxel_size_um, resume=resume, set_aside_changed=set_aside_changed)
            held.enter_context(devices.kernels(deterministic=config.deterministic))
            train_epochs(run_dir, task, on, voxel_size_um=voxel_size_um, processes=processes, tensorboard=tensorboard)
    finally:
        processes.leave()
    return run_dir


def train_epochs(
    run_dir: Path,
    task: Task,
    on: Device,
    *,
    voxel_size_um: float | None = None,
    processes: Processes = ALONE,
    tensorboard: bool = False,
) -> None:
    """Train from the last complete epoch to the last one asked for, keeping every epoch's state."""
    config, n_parts = task.config, 1
    task = task.to(on.name)
    network = on.place(unet.build(config.unet, seed=config.seed))
    share_statistics(network, processes)
    optimiser = adam(network, config, on)
    with processes.agreed():
        done = runs.load_state(run_dir, network, optimiser)
    found = processes.gather(done)
    with processes.agreed():
        if len(set(found)) > 1:
            raise ValueError(f"needs one run folder for all processes, {run_dir} holds {found} epochs; share it")
    n_images = len(task.draws(epoch=1))
    n_left = (config.epochs - max(done, 0)) * n_images
    compile_where_it_pays(network, task, on, processes, n_images=n_left)
    if processes.is_first and (outlook := without_gpu(network, task, on, n_images=n_left // processes.n)):
        print(outlook, flush=True)
    bar = steps(None, f"training {config.weights}", n_left, unit=" images", hidden=not processes.is_first)
    with bar, Scalars(run_dir, after=done, wanted=tensorboard and processes.is_first) as scalars:
        for epoch in range(done + 1, config.epochs + 1):
            started = time.perf_counter()
            if epoch > 0:  # epoch 0 is the untrained network
                n_parts = train_epoch(network, optimiser, task, epoch, on, bar, processes=processes, n_parts=n_parts)
            speed = n_images / (time.perf_counter() - started) if epoch > 0 else 0.0
            with processes.agreed():
                if processes.is_first:
                    row = _record_epoch(run_dir, network, optimiser, task, on, epoch, speed, voxel_size_um)
                    scalars.write(row)
                    bar.clear()  # and no `bar.write`, which would draw the bar of a training that ends at once
                    print(_epoch_line(row, config.epochs), flush=True)


def _record_epoch(
    run_dir: Path,
    network: UNet,
    optimiser: Optimizer,
    task: Task,
    on: Device,
    epoch: int,
    images_per_s: float,
    voxel_size_um: float | None,
) -> dict[str, Any]:
    """Evaluate the network and keep what is asked for; with the state, written last but one, the epoch is complete."""
    row, accuracy_z, prediction_zyx = evaluate(network, task, on)
    row = {"epoch": epoch, **row, "images_per_s": images_per_s}
    runs.record(run_dir, row, accuracy_z)
    if epoch > 0 and (epoch % task.config.kept_every == 0 or epoch == task.config.epochs):
        runs.save_network(run_dir, network, task.scale, epoch)
        runs.save_prediction(run_dir, prediction_zyx, epoch, voxel_size_um)
    runs.save_state(run_dir, network, optimiser, epoch)
    runs.record_best(run_dir)
    return row


def _open_run(run_dir: Path, task: Task, voxel_size_um: float | None, *, resume: bool, set_aside_changed: bool) -> None:
    """Start a run folder, or check that the run in it is the one to continue."""
    settings, truth_zyx = task.settings(), task.test.labels_zyx.numpy()
    if set_aside_changed and runs.exists(run_dir) and runs.differences(run_dir, settings):
        runs.set_aside(run_dir)
    if not runs.exists(run_dir):
        runs.start(run_dir, settings, metrics.measure_networks(truth_zyx, voxel_size_um=voxel_size_um))
    elif not resume:
        raise ValueError(f"{run_dir} already holds a run; continue it (--resume) or choose another folder")
    elif changed := runs.differences(run_dir, settings):
        raise ValueError(
            f"the run in {run_dir} was made with other settings or data ({'; '.join(changed[:3])}); "
            "restore them or choose another folder"
        )
    else:
        runs.extend(run_dir, settings)
    runs.save_test_truth(run_dir, truth_zyx, voxel_size_um)


def _epoch_line(row: dict[str, Any], n_epochs: int) -> str:
    return (
        f"epoch {row['epoch']:3d}/{n_epochs}  loss {row['train_loss']:.3f} train {row['test_loss']:.3f} test  "
        f"accuracy {100 * row['accuracy']:.1f} %  Euler numbers silicon {row['silicon_euler_number']}, "
        f"aluminides {row['aluminides_euler_number']}  {row['images_per_s']:.0f} images/s"
    )
