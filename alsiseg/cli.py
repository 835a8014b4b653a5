"""The command `alsiseg`: thin doors to the rooms.

Exit status 0 on success; 2 with one line on standard error for what the user can mend; 130 after Ctrl-C.
"""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from alsiseg.training import TrainingConfig

AXES_HELP = "Order of the axes in files that do not state it, e.g. ZYX."


def main() -> None:
    """Run the command line; turn what the user can mend into one line and exit status 2."""
    try:
        commands.main(standalone_mode=False)
    except click.ClickException as error:
        sys.exit(_fail(error.format_message()))
    except (click.Abort, KeyboardInterrupt):
        print("alsiseg: stopped; what was finished is kept", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        from alsiseg.story import mendable

        if os.environ.get("ALSISEG_DEBUG") or not mendable(error):
            raise
        sys.exit(_fail(str(error)))


def _fail(sentence: str) -> int:
    print(f"alsiseg: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


class _Numbers(click.ParamType):
    """Comma-separated numbers, e.g. 160,160,192."""

    def __init__(self, kind: type, count: int, name: str) -> None:
        self.kind, self.count, self.name = kind, count, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != self.count:
            self.fail(f"needs {self.count} numbers separated by commas, got {value!r}", param, ctx)
        return numbers


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="alsiseg")
def commands() -> None:
    """Segment synchrotron tomographs of Al-Si cast alloys and measure their networks."""


@commands.command()
@click.argument("out_dir", type=click.Path(path_type=Path))
@click.option("--specimen", type=click.Choice(["slow", "fast"]), default="slow", show_default=True)
@click.option("--shape", type=_Numbers(int, 3, "Z,Y,X"), default=(160, 160, 192), help="Voxels. [default: 160,160,192]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--difficulty", type=click.Choice(["clean", "hard"]), default="clean", show_default=True)
@click.option("--angles", type=int, default=None, help="Projections of each scan. [default: 900, lab_ct 600]")
@click.option("--voxel-size", type=float, default=1.2, show_default=True, help="Edge of a voxel in micrometres.")
@click.option("--processes", type=int, default=None, help="Slabs scanned at a time. [default: all cores; 1 on a GPU]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, ...; auto takes a GPU if there is one.")
def phantom(
    out_dir: Path,
    specimen: str,
    shape: tuple,
    seed: int,
    difficulty: str,
    angles: int | None,
    voxel_size: float,
    processes: int | None,
    device: str,
) -> None:
    """Make a synthetic specimen: three scans and the truth, as TIFF stacks in OUT_DIR.

    What an interrupted call has finished is kept; the same call again continues there.
    """
    from alsiseg import devices
    from alsiseg.phantom import make

    paths = make(
        out_dir,
        specimen=specimen,
        shape_zyx=shape,
        seed=seed,
        difficulty=difficulty,
        n_angles=angles,
        voxel_size_um=voxel_size,
        n_processes=processes,
        device=devices.choose(device).name,
    )
    for path in paths.values():
        click.echo(path)


@commands.command()
@click.argument("lab", type=click.Path(path_type=Path))
@click.argument("synchrotron", type=click.Path(path_type=Path))
@click.argument("etched", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--axes", default=None, help=AXES_HELP)
@click.option("--confidence", type=click.Path(path_type=Path), default=None, help="Write the confidence map here.")
@click.option(
    "--thresholds", type=_Numbers(float, 3, "LAB,SYNC,ETCHED"), default=None, help="Grey values. [default: automatic]"
)
@click.option("--overwrite", is_flag=True, help="Replace the files when they exist.")
def label(
    lab: Path,
    synchrotron: Path,
    etched: Path,
    out: Path,
    axes: str | None,
    confidence: Path | None,
    thresholds: tuple | None,
    overwrite: bool,
) -> None:
    """Label a specimen from its three scans (laboratory CT, synchrotron, synchrotron after etching)."""
    from alsiseg import ground_truth, volumes

    given = None if thresholds is None else ground_truth.Thresholds(*thresholds)
    if confidence is not None and confidence.absolute() == out.absolute():
        raise ValueError(f"labels and confidence need two files, got {out} for both; choose another name")
    for path in (out, confidence):
        if path is not None:
            _check_free(path, overwrite)
    scans = [volumes.open(path, axes=axes) for path in (lab, synchrotron, etched)]
    size_um = _one_voxel_size({scan.voxel_size_um for scan in scans}, None)
    truth = ground_truth.label_scans(*[scan[:] for scan in scans], thresholds=given)
    click.echo(ground_truth.as_text(truth, voxel_size_um=size_um))
    for path, image_zyx in ((confidence, truth.confidence_zyx), (out, truth.labels_zyx)):
        if path is not None:
            click.echo(volumes.write(path, image_zyx, voxel_size_um=size_um))


@commands.command()
@click.argument("grey", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--weights", type=_Numbers(float, 3, "W0,WSI,WINT"), default=(1.0, 1.25, 1.5), help="[default: 1,1.25,1.5]"
)
@click.option("--epochs", type=click.IntRange(1), default=100, show_default=True)
@click.option("--width", type=click.IntRange(1), default=64, show_default=True, help="Stem channels; 8 suits a CPU.")
@click.option("--batch", type=click.IntRange(1), default=25, show_default=True, help="Images per step.")
@click.option("--images-per-epoch", type=click.IntRange(1), default=None, help="[default: all, slices x 48]")
@click.option("--class-balance", is_flag=True, help="Weigh each phase by its inverse frequency too.")
@click.option("--soft-dice", type=float, default=0.0, metavar="FACTOR", help="Add a soft Dice loss. [default: 0, none]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--deterministic", is_flag=True, help="The same bytes every time on a GPU too; slower.")
@click.option("--tensorboard", is_flag=True, help="Log for TensorBoard too, in RUN_DIR/tensorboard.")
@click.option("--resume", is_flag=True, help="Continue the run in RUN_DIR.")
@click.option("--axes", default=None, help=AXES_HELP)
def train(
    grey: Path,
    labels: Path,
    run_dir: Path,
    axes: str | None,
    device: str,
    resume: bool,
    tensorboard: bool,
    **sizes: Any,
) -> None:
    """Train the network on a grey volume and its labels; everything goes to RUN_DIR.

    Several GPUs or machines: torchrun --nproc-per-node N -m alsiseg train ... shares every batch among N processes.
    """
    from alsiseg import training, volumes

    config = _training_config(**sizes)
    is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts; the others keep silent
    scan, truth = volumes.open(grey, axes=axes), volumes.open(labels, axes=axes)
    try:
        training.train(
            scan,
            truth,
            run_dir,
            config,
            voxel_size_um=scan.voxel_size_um,
            resume=resume,
            device=device,
            tensorboard=tensorboard,
        )
    except training.ConnectionLost as error:
        sys.exit(_fail(f"{error}, go on with --resume") if is_first else 2)
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


@commands.command()
@click.argument("grey", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--run", "run_dir", type=click.Path(path_type=Path), required=True, help="A run folder.")
@click.option("--epoch", type=int, default=None, help="A kept epoch. [default: the last]")
@click.option("--device", default="auto", show_default=True)
@click.option("--axes", default=None, help=AXES_HELP)
@click.option("--uncertainty", type=click.Path(path_type=Path), default=None, help="Write the uncertainty map here.")
@click.option("--three-views", is_flag=True, help="Average over slices along z, y and x.")
@click.option("--symmetries", is_flag=True, help="Average over the eight turns and reflections of every slice.")
@click.option(
    "--dropout-passes", type=click.IntRange(0), default=0, help="Average over passes with dropout. [default: 0]"
)
@click.option(
    "--spread",
    "spread_json",
    type=click.Path(path_type=Path),
    default=None,
    metavar="JSON",
    help="Write how far the measures differ between views or passes.",
)
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True)
@click.option("--tile", "tile_px", type=click.IntRange(1), default=None, help="Pixels. [default: by free memory]")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it exists.")
def segment(
    grey: Path,
    out: Path,
    run_dir: Path,
    epoch: int | None,
    device: str,
    axes: str | None,
    uncertainty: Path | None,
    spread_json: Path | None,
    overwrite: bool,
    **passes: Any,
) -> None:
    """Segment a grey volume of any size with a trained network into a volume of labels.

    A call that was stopped, or killed, is continued by the same call.
    """
    from alsiseg import prediction, runs, volumes

    options = prediction.Options(members=spread_json is not None, **passes)
    trained = runs.load_network(run_dir, epoch)
    prediction.segment_to_file(
        volumes.open(grey, axes=axes),
        trained,
        out,
        device=device,
        options=options,
        uncertainty=uncertainty,
        spread_json=spread_json,
        overwrite=overwrite,
        say=lambda sentence: click.echo(f"alsiseg: {sentence}", err=True),
    )
    for path in (out, uncertainty, spread_json):
        if path is not None:
            click.echo(path)


@commands.command()
@click.argument("labels", type=click.Path(path_type=Path))
@click.option("--truth", type=click.Path(path_type=Path), default=None, help="Labels to compare with.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=None, help="Write the numbers here.")
@click.option("--connectivity", type=click.Choice(["6", "18", "26"]), default="26", show_default=True)
@click.option(
    "--min-voxels", type=click.IntRange(1), default=1, help="Remove smaller particles, from both. [default: none]"
)
@click.option("--intervals/--no-intervals", default=True, show_default=True, help="Block bootstrap intervals.")
@click.option("--blocks", type=int, default=27, show_default=True, help="Blocks that are resampled, about.")
@click.option("--level", type=float, default=0.95, show_default=True, help="Level of the intervals.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the resampling.")
@click.option("--thickness", is_flag=True, help="Local thickness and chord lengths too; takes minutes.")
@click.option("--voxel-size", type=float, default=None, help="Micrometres, for files that do not state it.")
@click.option("--axes", default=None, help=AXES_HELP)
def measure(
    labels: Path,
    truth: Path | None,
    json_path: Path | None,
    connectivity: str,
    min_voxels: int,
    intervals: bool,
    blocks: int,
    level: float,
    seed: int,
    thickness: bool,
    voxel_size: float | None,
    axes: str | None,
) -> None:
    """Measure the networks of a label volume, with intervals, and compare them with a truth."""
    from alsiseg import metrics, volumes

    if json_path is not None:
        volumes.check_place(json_path)
    options = metrics.Options(
        connectivity=int(connectivity),  # type: ignore[arg-type]  # click has checked it
        min_voxels=min_voxels,
        bootstrap=metrics.Bootstrap(n_blocks=blocks, level=level, seed=seed) if intervals else None,
        thickness=thickness,
    )
    paths = [path for path in (labels, truth) if path is not None]
    opened = [volumes.open(path, axes=axes) for path in paths]
    size_um = _one_voxel_size({volume.voxel_size_um for volume in opened}, voxel_size)
    report = metrics.measure(*opened, voxel_size_um=size_um, options=options)
    click.echo(metrics.as_text(report))
    if json_path is not None:
        numbers = {"labels": str(labels), **metrics.as_json(report)}
        with volumes.written_whole(json_path) as partial:
            partial.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n")


def _one_voxel_size(stated: set[float | None], given_um: float | None) -> float | None:
    """Choose the voxel size that files and command line agree on; None when none says one."""
    sizes = {size for size in stated | {given_um} if size is not None}
    if len(sizes) > 1:
        found = " and ".join(f"{size:g}" for size in sorted(sizes))
        raise ValueError(f"needs one voxel size, got {found} um; measure volumes of one resolution")
    return next(iter(sizes), None)


@commands.command()
@click.argument("grey", type=click.Path(path_type=Path))
@click.argument("labels", nargs=-1, type=click.Path(path_type=Path))
@click.option("--axes", default=None, help=AXES_HELP)
def view(grey: Path, labels: tuple[Path, ...], axes: str | None) -> None:
    """Look at a grey volume, with labels over it, in napari."""
    from alsiseg import viewer, volumes

    scan = volumes.open(grey, axes=axes)
    layers = {path.stem: volumes.open(path, axes=axes)[:] for path in labels}
    viewer.show_napari(scan[:], layers, voxel_size_um=scan.voxel_size_um)


@commands.command()
@click.option("--profile", default=None, help="tiny, quick, standard or paper. [default: quick]")
@click.option("--home", type=click.Path(path_type=Path), default=Path(), help="Folder of notebooks, data, figures.")
@click.option("--timings", is_flag=True, help="Keep how long each notebook took in figures/timings.json.")
def figures(profile: str | None, home: Path, timings: bool) -> None:
    """Run the notebooks in order: every figure of the paper, in HOME/figures."""
    from alsiseg import claims, profiles, story, volumes

    size = profiles.chosen(profile)
    try:
        ran = story.tell(home / "notebooks", home, size)
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    table = claims.summary(home / "figures", profile=size.name)
    with volumes.written_whole(home / "figures" / "claims.md") as partial:
        partial.write_text(table, encoding="utf-8")
    if timings:
        story.write_timings(home, size)
    click.echo(f"{len(ran)} notebooks run, the others were up to date; see {(home / 'figures').resolve()}")


def _check_free(out: Path, overwrite: bool) -> None:
    """Refuse to replace a file that was not meant."""
    from alsiseg import volumes

    volumes.check_output(out)
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists already; choose another name or say --overwrite")
