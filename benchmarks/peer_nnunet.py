"""nnU-Net's 2-D configuration with its own plans, for `peers.py`; run by an environment that holds nnunetv2.

Its trainer counts epochs: how many fit into the minutes is told by a trial epoch, which is not counted.
"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from peering import Segment, take_part

DATASET = "Dataset001_AlSi"
ITERATIONS_PER_EPOCH, TRIAL_ITERATIONS = 20, 5


def train(
    grey_zyx: NDArray, labels_zyx: NDArray[np.uint8], seconds: float, folder: Path
) -> tuple[Segment, dict[str, Any]]:
    """Plan, preprocess and train as its documentation says, on one case, fold "all"."""
    home = folder / "nnunet"
    shutil.rmtree(home, ignore_errors=True)
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str((home / name).resolve())
        (home / name).mkdir(parents=True)
    os.environ.setdefault("nnUNet_n_proc_DA", "1")
    write_case(home / "raw" / DATASET, grey_zyx, labels_zyx)
    plan()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trial = trained(device, n_epochs=1, n_iterations=TRIAL_ITERATIONS)
    per_iteration = trial["train_s"] / TRIAL_ITERATIONS
    n_epochs = max(1, round(seconds / (per_iteration * ITERATIONS_PER_EPOCH)))
    said = trained(device, n_epochs=n_epochs, n_iterations=ITERATIONS_PER_EPOCH)
    return segmenter(said.pop("folder"), device), said


def write_case(raw: Path, grey_zyx: NDArray, labels_zyx: NDArray[np.uint8]) -> None:
    """Write the training slices in nnU-Net's layout."""
    for name, volume_zyx in (("imagesTr/alloy_0000", grey_zyx), ("labelsTr/alloy", labels_zyx)):
        path = raw / f"{name}.tif"
        path.parent.mkdir(parents=True)
        tifffile.imwrite(path, volume_zyx)
        (path.parent / "alloy.json").write_text(json.dumps({"spacing": [1.2, 1.2, 1.2]}))
    about = {
        "channel_names": {"0": "synchrotron"},
        "labels": {"background": 0, "silicon": 1, "aluminides": 2},
        "numTraining": 1,
        "file_ending": ".tif",
        "overwrite_image_reader_writer": "Tiff3DIO",
    }
    (raw / "dataset.json").write_text(json.dumps(about))


def plan() -> None:
    """Let nnU-Net look at the data and choose its network."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    extract_fingerprints([1], num_processes=1)
    plan_experiments([1])
    preprocess([1], configurations=("2d",), num_processes=[1])


def trained(device: torch.device, *, n_epochs: int, n_iterations: int) -> dict[str, Any]:
    """Train so many epochs and say how long it took, without validation in between."""
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - what its augmentation draws from
    trainer = get_trainer_from_args("1", "2d", "all", device=device)
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = (
        n_epochs,
        n_iterations,
        1,
    )
    trainer.initialize()
    trainer.on_train_start()
    started = time.perf_counter()
    for _ in range(n_epochs):
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train)) for _ in range(n_iterations)])
        trainer.on_validation_epoch_start()
        with torch.no_grad():
            trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val))])
        trainer.on_epoch_end()
    spent = time.perf_counter() - started
    trainer.on_train_end()
    n_images = n_epochs * n_iterations * trainer.batch_size
    return {"train_s": spent, "n_images": n_images, "folder": Path(trainer.output_folder).parent}


def segmenter(trained_folder: Path, device: torch.device) -> Segment:
    """Make nnU-Net's own predictor, mirroring included, as it does by default."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=device, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trained_folder), ("all",), "checkpoint_final.pth")

    def segment(unseen_zyx: NDArray) -> NDArray[np.uint8]:
        image = np.asarray(unseen_zyx, np.float32)[None]
        return predictor.predict_single_npy_array(image, {"spacing": [1.2, 1.2, 1.2]}).astype(np.uint8)

    return segment


if __name__ == "__main__":
    take_part("nnunet", train)
