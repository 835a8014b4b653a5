"""The command `alsiseg`: thin doors to the rooms.

Exit status 0 on success; 2 with one line on standard error for what the user can mend; 130 after Ctrl-C.
`specimens`, `networks`, `scans` and `story` hold the commands, `options` what they share.
"""

import os
import sys

import click

from alsiseg.cli.networks import export, list_networks, train
from alsiseg.cli.scans import measure, segment, view
from alsiseg.cli.specimens import label, phantom
from alsiseg.cli.story import figures


class _InOrderOfWork(click.Group):
    """A group that lists its commands as they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrderOfWork, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="alsiseg")
def commands() -> None:
    """Segment synchrotron tomographs of Al-Si cast alloys and measure their networks.

    `alsiseg COMMAND --help` explains a command.
    """


for command in (phantom, label, train, segment, measure, view, export, list_networks, figures):
    commands.add_command(command)


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
