"""What the commands of a study have in common: their options, and how they end."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alsiseg import story


@contextmanager
def ended_in_one_line() -> Iterator[None]:
    """Leave the program with status 130 after Ctrl-C, and with 2 after an error that is meant for the user."""
    try:
        yield
    except KeyboardInterrupt:
        print("alsiseg: stopped; what is finished is kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not story.mendable(error):
            raise
        print(f"alsiseg: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def add_common_options(parser: argparse.ArgumentParser, *, out: str) -> None:
    """Add what every command takes; its results go to `out` unless said otherwise."""
    parser.add_argument("--profile", help="tiny, quick, standard or paper [default: quick]")
    parser.add_argument("--out", type=Path, default=Path(out), help=f"[default: {out}]")
    parser.add_argument("--figures", type=Path, help="a second folder for the figures, e.g. figures")
    parser.add_argument("--report-only", action="store_true", help="train nothing, write text and figures again")
    parser.add_argument("--device", default="auto")
