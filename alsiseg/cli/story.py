"""The command that tells the whole story."""

from pathlib import Path

import click

from alsiseg.cli.options import PATH


@click.command(short_help="Run the notebooks: every figure of the paper.")
@click.option("--profile", default=None, metavar="NAME", help="tiny, quick, standard or paper. [default: quick]")
@click.option("--home", type=PATH, default=Path(), help="Folder of notebooks, data, figures. [default: this one]")
@click.option("--timings", is_flag=True, help="Keep how long each notebook took in figures/timings.json.")
@click.option("--records", is_flag=True, help="Keep what Figs. 4-7 are drawn from in data/reference.")
@click.option("--redraw", is_flag=True, help="Train nothing: draw Figs. 4-7 from data/reference where no run is there.")
def figures(profile: str | None, home: Path, timings: bool, records: bool, redraw: bool) -> None:
    """Run the notebooks in order: every figure of the paper, in HOME/figures."""
    from alsiseg import claims, profiles, story, volumes

    size = profiles.chosen(profile)
    try:
        ran = story.tell(home / "notebooks", home, size, only=story.REDRAWN if redraw else None)
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    table = claims.summary(home / "figures", profile=size.name)
    with volumes.written_whole(home / "figures" / "claims.md") as partial:
        partial.write_text(table, encoding="utf-8")
    if timings:
        story.write_timings(home, size)
    if records:
        story.keep_records(home, size)
    click.echo(f"{len(ran)} notebooks run, the others were up to date; see {(home / 'figures').resolve()}")
