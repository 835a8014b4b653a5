"""Commands that make specimens: synthetic ones, and the ground truth of real ones."""

from pathlib import Path

import click

from alsiseg.cli.options import PATH, Numbers, Opening, check_free, one_voxel_size, volume_options


@click.command(short_help="Make a synthetic specimen: three scans and the truth.")
@click.argument("out_dir", type=PATH)
@click.option(
    "--specimen", type=click.Choice(["slow", "fast"]), default="slow", show_default=True, help="Cooled slowly or fast."
)
@click.option("--shape", type=Numbers(int, 3, "Z,Y,X"), default=(160, 160, 192), help="Voxels. [default: 160,160,192]")
@click.option("--seed", type=int, default=0, metavar="N", help="Another seed, another specimen. [default: 0]")
@click.option(
    "--difficulty", type=click.Choice(["clean", "hard"]), default="clean", show_default=True, help="Of the scans."
)
@click.option(
    "--angles", type=int, metavar="N", default=None, help="Projections of each scan. [default: 900, lab_ct 600]"
)
@click.option(
    "--voxel-size", type=float, metavar="UM", default=1.2, show_default=True, help="Edge of a voxel in micrometres."
)
@click.option(
    "--processes", type=int, metavar="N", default=None, help="Slabs scanned at a time. [default: all cores; 1 on a GPU]"
)
@click.option(
    "--device",
    default="cpu",
    metavar="NAME",
    show_default=True,
    help="cpu, cuda, ...; auto takes a GPU if there is one.",
)
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


@click.command(short_help="Label a specimen from its three scans.")
@click.argument("lab", type=PATH)
@click.argument("synchrotron", type=PATH)
@click.argument("etched", type=PATH)
@click.argument("out", type=PATH)
@click.option("--confidence", type=PATH, default=None, help="Write the confidence map here.")
@click.option(
    "--thresholds", type=Numbers(float, 3, "LAB,SYNC,ETCHED"), default=None, help="Grey values. [default: automatic]"
)
@click.option("--overwrite", is_flag=True, help="Replace the files when they exist.")
@volume_options(alike=True)
def label(
    lab: Path,
    synchrotron: Path,
    etched: Path,
    out: Path,
    confidence: Path | None,
    thresholds: tuple | None,
    overwrite: bool,
    opening: Opening,
) -> None:
    """Label a specimen from its three scans (laboratory CT, synchrotron, synchrotron after etching).

    An option that says how a file is read holds for all three scans; said three times, for one after the other.
    """
    from alsiseg import ground_truth, volumes

    given = None if thresholds is None else ground_truth.Thresholds(*thresholds)
    if confidence is not None and confidence.absolute() == out.absolute():
        raise ValueError(f"labels and confidence need two files, got {out} for both; choose another name")
    for path in (out, confidence):
        if path is not None:
            check_free(path, overwrite)
    scans = opening.all_of(lab, synchrotron, etched)
    size_um = one_voxel_size(scans)
    truth = ground_truth.label_scans(*[scan[:] for scan in scans], thresholds=given)
    click.echo(ground_truth.as_text(truth, voxel_size_um=size_um))
    for path, image_zyx in ((confidence, truth.confidence_zyx), (out, truth.labels_zyx)):
        if path is not None:
            click.echo(volumes.write(path, image_zyx, voxel_size_um=size_um))
