"""Commands for scans: segment them, measure their labels, look at them."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alsiseg.cli.options import (
    PATH,
    Opening,
    device_option,
    epoch_option,
    one_voxel_size,
    scheduler_option,
    volume_options,
)

if TYPE_CHECKING:
    from alsiseg.calibration import Calibration
    from alsiseg.metrics import Options, Report
    from alsiseg.volumes import Volume


@click.command(short_help="Segment a scan with a trained network.")
@click.argument("grey", type=PATH)
@click.argument("out", type=PATH)
@click.option(
    "--run",
    "run_dir",
    type=PATH,
    required=True,
    metavar="RUN",
    help="The network: a run folder, an exported .safetensors file, or a name among those of `alsiseg networks`.",
)
@epoch_option
@device_option
@click.option("--uncertainty", type=PATH, default=None, help="Write the uncertainty map here.")
@click.option("--three-views", is_flag=True, help="Average over slices along z, y and x.")
@click.option("--symmetries", is_flag=True, help="Average over the eight turns and reflections of every slice.")
@click.option(
    "--dropout-passes",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Average over passes with dropout. [default: 0]",
)
@click.option(
    "--spread",
    "spread_json",
    type=PATH,
    default=None,
    metavar="JSON",
    help="Write how far the measures differ between views or passes.",
)
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True)
@click.option(
    "--tile",
    "tile_px",
    type=click.IntRange(1),
    default=None,
    metavar="PX",
    help="Largest tile, in pixels. [default: by free memory]",
)
@click.option("--overwrite", is_flag=True, help="Replace the files when they exist.")
@scheduler_option
@volume_options()
def segment(
    grey: Path,
    out: Path,
    run_dir: Path,
    epoch: int | None,
    device: str,
    uncertainty: Path | None,
    spread_json: Path | None,
    overwrite: bool,
    scheduler: str | None,
    opening: Opening,
    **passes: Any,
) -> None:
    """Segment a grey volume of any size with a trained network into a volume of labels.

    GREY is a TIFF, a folder of TIFF slices, OME-Zarr, HDF5, NeXus or a file of bare voxels; OUT ends in .tif, .zarr,
    .h5 or .nxs. A call that was stopped, or killed, is continued by the same call.
    """
    from alsiseg import clusters, prediction, runs

    options = prediction.Options(members=spread_json is not None, **passes)
    trained = runs.load_network(run_dir, epoch)
    (scan,) = opening.all_of(grey)
    with clusters.connected(scheduler) as client:
        prediction.segment_to_file(
            scan,
            trained,
            out,
            device=device,
            options=options,
            uncertainty=uncertainty,
            spread_json=spread_json,
            overwrite=overwrite,
            say=_say_with_warnings(scan, trained.run_dir),
            client=client,
        )
    for path in (out, uncertainty, spread_json):
        if path is not None:
            click.echo(path)


def _say_with_warnings(scan: "Volume", run_dir: Path) -> Callable[[str], None]:
    """Print sentences; after the first, with which the work begins, how the scan differs from those learned from."""
    from alsiseg import likeness

    unsaid = [likeness.warnings]

    def say(sentence: str) -> None:
        click.echo(f"alsiseg: {sentence}", err=True)
        while unsaid:
            try:
                found = unsaid.pop()(scan, run_dir, voxel_size_um=scan.voxel_size_um)
            except ValueError as error:  # a scan too odd to be compared can still be segmented
                found = [f"the scan cannot be compared with the one learned from ({error})"]
            for warning in found:
                click.echo(f"alsiseg: warning: {warning}", err=True)

    return say


@click.command(short_help="Measure the networks of labels, and compare them with a truth.")
@click.argument("labels", type=PATH)
@click.option("--truth", type=PATH, default=None, help="Labels to compare with.")
@click.option("--json", "json_path", type=PATH, default=None, help="Write the numbers here.")
@click.option(
    "--connectivity", type=click.Choice(["6", "18", "26"]), default="26", show_default=True, help="Neighbours."
)
@click.option(
    "--min-voxels",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Remove particles of fewer voxels, from both. [default: none]",
)
@click.option("--intervals/--no-intervals", default=True, show_default=True, help="Block bootstrap intervals.")
@click.option(
    "--blocks", type=int, metavar="N", default=27, show_default=True, help="Blocks that are resampled, about."
)
@click.option(
    "--level", type=float, metavar="P", default=0.95, show_default=True, help="Level of the intervals, 0 to 1."
)
@click.option("--seed", type=int, metavar="N", default=0, show_default=True, help="Of the resampling.")
@click.option("--thickness", is_flag=True, help="Local thickness and chord lengths too; takes minutes.")
@click.option(
    "--calibration",
    "calibrated_run",
    type=PATH,
    default=None,
    metavar="RUN",
    help="Correct the known error of the network that made the labels, with intervals.",
)
@scheduler_option
@volume_options()
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
    calibrated_run: Path | None,
    scheduler: str | None,
    opening: Opening,
) -> None:
    """Measure the networks of a label volume, with intervals, and compare them with a truth.

    An option that says how a file is read holds for LABELS; said a second time, for the truth. A truth that does not
    state its axes has those of LABELS.
    """
    from alsiseg import calibration, clusters, metrics, volumes

    if json_path is not None:
        volumes.check_place(json_path)
    options = metrics.Options(
        connectivity=int(connectivity),  # type: ignore[arg-type]  # click has checked it
        min_voxels=min_voxels,
        bootstrap=metrics.Bootstrap(n_blocks=blocks, level=level, seed=seed) if intervals else None,
        thickness=thickness,
    )
    known = None if calibrated_run is None else calibration.required(calibrated_run)
    opened = opening.all_of(*[path for path in (labels, truth) if path is not None])
    size_um = one_voxel_size(opened)
    with clusters.connected(scheduler) as client:
        report = metrics.measure(*opened, voxel_size_um=size_um, options=options, client=client)
    click.echo(metrics.as_text(report))
    numbers = {"labels": str(labels), **metrics.as_json(report)}
    if known is not None:
        numbers |= _corrected(known, report, options, voxel_size_um=size_um, n_voxels=math.prod(opened[0].shape))
    if json_path is not None:
        with volumes.written_whole(json_path) as partial:
            partial.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n")


def _corrected(
    known: "Calibration", report: "Report", options: "Options", *, voxel_size_um: float | None, n_voxels: int
) -> dict[str, Any]:
    """Print the measures that the calibration corrects, and return them for JSON."""
    from alsiseg import calibration, metrics

    unlike = known.unlike(
        connectivity=options.connectivity,
        min_voxels=options.min_voxels,
        voxel_size_um=voxel_size_um,
        n_voxels=n_voxels,
    )
    for warning in unlike:
        click.echo(f"alsiseg: warning: {warning}", err=True)
    level = options.bootstrap.level if options.bootstrap else metrics.Bootstrap().level
    corrected = known.corrected(metrics.as_dict(report.labels.networks), level=level)
    click.echo(f"\n{calibration.as_text(corrected, known, level=level)}")
    return {"calibrated": calibration.as_json(corrected, known)}


@click.command(short_help="Look at a scan, with labels over it, in napari.")
@click.argument("grey", type=PATH)
@click.argument("labels", nargs=-1, type=PATH)
@volume_options()
def view(grey: Path, labels: tuple[Path, ...], opening: Opening) -> None:
    """Look at a grey volume, with labels over it, in napari; volumes of any size are read as they are looked at.

    An option that says how a file is read holds for GREY; said again, for the LABELS one after the other. LABELS that
    do not state their axes have those of GREY.
    """
    from alsiseg import viewer
    from alsiseg.viewer.lazily import LARGE_VOXELS

    scan, *others = opening.all_of(grey, *labels)
    painted = [volume[:] if math.prod(volume.shape) <= LARGE_VOXELS else volume for volume in others]  # on, if small
    layers = dict(zip(_names(labels), painted, strict=True))
    viewer.show_napari(scan, layers, voxel_size_um=one_voxel_size([scan, *others]))


def _names(paths: tuple[Path, ...]) -> list[str]:
    """Name layers after their files; files of one name get a number too."""
    stems = [path.stem for path in paths]
    return [f"{stem} {n}" if stems.count(stem) > 1 else stem for n, stem in enumerate(stems, start=1)]
