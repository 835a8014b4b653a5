"""The command that tells the whole story."""

from pathlib import Path

import click

from alsiseg.cli.options import PATH


@click.command(short_help="Run the notebooks: every figure of the paper.")
@click.option("--profile", default=None, metavar="NAME", help="tiny, quick, standard or paper. [default: quick]")
@click.option("--home", type=PATH, default=Path(), help="Folder of notebooks, data, figures. [default: this one]")
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
