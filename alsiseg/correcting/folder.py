"""The run folder of a correction: of the form of every run, with its parent and the corrections in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import runs, volumes
from alsiseg.correcting.material import Labels, Material
from alsiseg.correcting.measuring import Measured, networks
from alsiseg.dataset import Augmentation
from alsiseg.loss import LossConfig
from alsiseg.runs import Trained
from alsiseg.runs.files import contents_of
from alsiseg.runs.networks import remove
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNet, UNetConfig
from alsiseg.weightmaps import PixelWeights

CORRECTIONS = "corrections.tif"
NOT_CORRECTED = 255


def training_config(run_dir: Path) -> TrainingConfig:
    """Read the configuration that a run was trained with."""
    stored = runs.read_settings(run_dir)
    with contents_of(run_dir / "settings.json"):
        values = dict(stored["config"])
        values["weights"] = PixelWeights(**values["weights"])
        values["unet"] = UNetConfig(**values["unet"])
        values["loss"] = LossConfig(**values.get("loss", {}))
        augmentation = dict(values["augmentation"])
        augmentation["quarter_turns"] = tuple(augmentation["quarter_turns"])
        return TrainingConfig(**values | {"augmentation": Augmentation(**augmentation)})


def origin(run_dir: Path) -> dict[str, Any]:
    """Checksums and split of what the first of a line of runs was trained on."""
    stored = runs.read_settings(run_dir)
    with contents_of(run_dir / "settings.json"):
        if "parent" in stored:
            return dict(stored["parent"]["origin"])
        return {**stored["data"], "split": stored["split"]}


class Keeper:
    """Writes the folder: it appears with the first trained epoch, and holds the best network from then on."""

    def __init__(
        self,
        run_dir: Path,
        settings: dict[str, Any],
        corrected: Material,
        labels_zyx: Labels,
        voxel_size_um: float | None,
    ) -> None:
        self.run_dir, self.settings, self.corrected = run_dir, settings, corrected
        self.shape_zyx, self.voxel_size_um = labels_zyx.shape, voxel_size_um
        self.before: Measured | None = None
        self.best, self.best_epoch = -1.0, 0

    def add(self, epoch: int, measured: Measured, images_per_s: float, network: UNet) -> None:
        """Record an epoch, and keep its network if it is the best so far."""
        if epoch == 0:
            self.before = measured
            return
        if epoch == 1 and self.before is not None:
            self._start()
            self._record(0, self.before, 0.0)
        self._record(epoch, measured, images_per_s)
        config = self.settings["config"] | {"epochs": epoch}
        runs.amend(self.run_dir, {"config": config})
        if measured.accuracy > self.best:
            self.best, self.best_epoch = measured.accuracy, epoch
            self._keep(epoch, measured, network)

    def summary(self) -> str:
        """Say in a line what came of it."""
        before = 0.0 if self.before is None else self.before.accuracy
        line = (
            f"as corrected, near the corrections: {100 * before:.1f} % before, {100 * self.best:.1f} % after "
            f"epoch {self.best_epoch}, which is kept in {self.run_dir}"
        )
        better = self.best > before
        return line if better else f"{line}: no better; train for more minutes or correct more slices"

    def _record(self, epoch: int, measured: Measured, images_per_s: float) -> None:
        runs.record(self.run_dir, measured.row(epoch, self.corrected, images_per_s), measured.accuracy_n)

    def _start(self) -> None:
        """Write settings, labels and measures of the corrected slices as the user left them, and the corrections."""
        truth_nyx = self.corrected.labels_nyx.numpy()
        truth = networks(truth_nyx, self.corrected.z_numbers, voxel_size_um=self.voxel_size_um)
        runs.start(self.run_dir, self.settings, truth)
        runs.save_test_truth(self.run_dir, as_stack(truth_nyx), self.voxel_size_um)
        volumes.write(
            self.run_dir / CORRECTIONS,
            corrections(self.corrected, self.shape_zyx),
            shape=self.shape_zyx,
            dtype=np.uint8,
            voxel_size_um=self.voxel_size_um,
        )

    def _keep(self, epoch: int, measured: Measured, network: UNet) -> None:
        """Keep a network in place of the one kept before."""
        before = runs.kept_epochs(self.run_dir)
        runs.save_prediction(self.run_dir, as_stack(measured.labels_nyx), epoch, self.voxel_size_um)
        runs.save_network(self.run_dir, network, self.corrected.scale, epoch, only_while_best=True)
        for old in before:
            remove(self.run_dir / "checkpoints", old)
            (self.run_dir / "test" / f"epoch_{old:04d}.tif").unlink(missing_ok=True)


def as_stack(labels_nyx: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat a slice that is alone: a file that holds one image is no stack, and would not be opened."""
    return labels_nyx if len(labels_nyx) > 1 else np.repeat(labels_nyx, 2, axis=0)


def corrections(corrected: Material, shape_zyx: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
    """Slices of the whole volume that hold the phase of every corrected voxel, and 255 everywhere else."""
    index_of = {z: index for index, z in enumerate(corrected.z_numbers)}
    for z in range(shape_zyx[0]):
        slice_yx = np.full(shape_zyx[1:], NOT_CORRECTED, np.uint8)
        if z in index_of:
            labels_yx = corrected.labels_nyx[index_of[z]].numpy()
            painted = slice(None) if corrected.painted is None else corrected.painted[index_of[z]]
            slice_yx.reshape(-1)[painted] = labels_yx.reshape(-1)[painted]
        yield slice_yx


def parent(trained: Trained, new_run_dir: Path) -> dict[str, Any]:
    """Say which network a run begins with, and what the first of its line was trained on."""
    return runs.parent(trained.run_dir, trained.epoch, new_run_dir) | {"origin": origin(trained.run_dir)}
