"""Commands about networks: train one, export it."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alsiseg.cli.options import (
    PATH,
    Numbers,
    Opening,
    Words,
    device_option,
    epoch_option,
    one_voxel_size,
    volume_options,
)

if TYPE_CHECKING:
    from alsiseg.training import TrainingConfig

COUNT = click.IntRange(1)


@click.command(short_help="Train a network on a scan and its labels.")
@click.argument("grey", type=PATH)
@click.argument("labels", type=PATH)
@click.argument("run_dir", type=PATH)
@click.option(
    "--weights",
    type=Numbers(float, 3, "W0,WSI,WINT"),
    default=(1.0, 1.25, 1.5),
    help="Weights of matrix, silicon and interface. [default: 1,1.25,1.5]",
)
@click.option("--epochs", type=COUNT, default=100, metavar="N", help="Passes over the images. [default: 100]")
@click.option("--width", type=COUNT, default=64, metavar="N", help="Stem channels; 8 suits a CPU. [default: 64]")
@click.option("--batch", type=COUNT, default=25, metavar="N", help="Images per step. [default: 25]")
@click.option("--images-per-epoch", type=COUNT, default=None, metavar="N", help="[default: all, slices x 48]")
@click.option(
    "--directions",
    type=Words(("z", "y", "x"), "z,y,x"),
    default=("z",),
    help="Axes along which training slices are taken, z first. [default: z]",
)
@click.option("--class-balance", is_flag=True, help="Weigh each phase by its inverse frequency too.")
@click.option("--soft-dice", type=float, default=0.0, metavar="FACTOR", help="Add a soft Dice loss. [default: 0, none]")
@click.option("--seed", type=int, default=0, metavar="N", help="Of initial weights and draws. [default: 0]")
@device_option
@click.option("--deterministic", is_flag=True, help="The same bytes every time on a GPU too; slower.")
@click.option("--tensorboard", is_flag=True, help="Log for TensorBoard too, in RUN_DIR/tensorboard.")
@click.option("--resume", is_flag=True, help="Continue the run in RUN_DIR.")
@volume_options()
def train(
    grey: Path,
    labels: Path,
    run_dir: Path,
    device: str,
    resume: bool,
    tensorboard: bool,
    opening: Opening,
    **sizes: Any,
) -> None:
    """Train the network on a grey volume and its labels; everything goes to RUN_DIR.

    An option that says how a file is read holds for GREY; said a second time, for LABELS. LABELS that do not state
    their axes have those of GREY.

    Several GPUs or machines: torchrun --nproc-per-node N -m alsiseg train ... shares every batch among N processes.
    """
    from alsiseg import training

    config = _training_config(**sizes)
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts; the others keep silent
    scan, truth = opening.all_of(grey, labels)
    size_um = one_voxel_size([scan, truth])
    try:
        training.train(
            scan,
            truth,
            run_dir,
            config,
            voxel_size_um=size_um,
            resume=resume,
            device=device,
            tensorboard=tensorboard,
        )
    except training.ConnectionLost as error:
        if is_first:
            raise click.ClickException(f"{error}, go on with --resume") from error
        sys.exit(2)
    except training.StoppedElsewhere:
        sys.exit(2)  # the process that stopped says why
    except KeyboardInterrupt:
        if is_first:
            again = shlex.join(["alsiseg", *sys.argv[1:], *["--resume"] * (not resume)])
            print(f"alsiseg: stopped; every finished epoch is kept, go on with: {again}", file=sys.stderr)
        sys.exit(130)
    if is_first:
        click.echo(run_dir)


def _training_config(
    *, weights: tuple, width: int, class_balance: bool, soft_dice: float, **same: Any
) -> "TrainingConfig":
    from alsiseg.loss import LossConfig
    from alsiseg.training import TrainingConfig
    from alsiseg.unet import UNetConfig
    from alsiseg.weightmaps import PixelWeights

    return TrainingConfig(
        weights=PixelWeights(*weights),
        unet=UNetConfig(stem_channels=width),
        loss=LossConfig(class_balance=class_balance, soft_dice=soft_dice),
        **same,
    )


@click.command("networks", short_help="List the networks that come with alsiseg.")
def list_networks() -> None:
    """List the networks that come with alsiseg, with their model cards.

    Each can be used by its name: alsiseg segment SCAN LABELS --run NAME.
    """
    from alsiseg import exporting, runs

    for name, folder in runs.shipped().items():
        click.echo(f"{name}: {exporting.summary(name)}; card: {folder / exporting.CARD_MD}")


@click.command(short_help="Write a network as ONNX or safetensors, with its model card.")
@click.argument("run_dir", metavar="RUN", type=PATH)
@click.argument("out", type=PATH)
@epoch_option
@click.option("--check", "scan", type=PATH, default=None, metavar="GREY", help="Check the ONNX file on this scan too.")
@click.option("--overwrite", is_flag=True, help="Replace the files when they exist.")
@volume_options()
def export(run_dir: Path, out: Path, epoch: int | None, scan: Path | None, overwrite: bool, opening: Opening) -> None:
    """Write the network of a run as OUT.onnx or OUT.safetensors, and its model card beside it.

    RUN is a run folder, an exported .safetensors file, or a name among those of `alsiseg networks`.

    The card (OUT.card.json, OUT.card.md) says what the network was trained on, how well it does, and what it cannot
    do. An ONNX file is run in onnxruntime before it gets its name, and must give the labels that alsiseg gives.
    """
    from alsiseg import exporting

    check_with = None if scan is None else opening.all_of(scan)[0]
    exporting.export(run_dir, out, epoch=epoch, check_with=check_with, overwrite=overwrite, say=_say)
    for path in exporting.files_of(out):
        click.echo(path)


def _say(sentence: str) -> None:
    click.echo(f"alsiseg: {sentence}", err=True)
