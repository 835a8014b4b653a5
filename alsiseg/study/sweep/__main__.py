"""Map scores over the two weights: ``python -m alsiseg.study.sweep``."""

import argparse
from pathlib import Path

from alsiseg import profiles
from alsiseg.phantom import DIFFICULTIES
from alsiseg.profiles import TRAINED_ON
from alsiseg.study import rows, running, sweep
from alsiseg.study.console import add_common_options, ended_in_one_line
from alsiseg.study.sweep import INTERFACE, SILICON, TABLE, Sweep, choosing, run
from alsiseg.study.sweep.choosing import Choice
from alsiseg.study.sweep.report import write_report


def main() -> None:
    """Do a sweep, or what is left of it, and print what it says."""
    chosen = _arguments()
    with ended_in_one_line():
        choice = _choice(chosen)
        sweep = Sweep(
            profiles.chosen(chosen.profile),
            choice.difficulty,
            choice.labels,
            chosen.silicon,
            chosen.interface,
            n_seeds=chosen.seeds,
        )
        if not chosen.report_only:
            run(sweep, chosen.out, study_home=chosen.study, device=chosen.device)
        study_rows = rows.read(chosen.study / running.TABLE) if chosen.study else []
        found = rows.read(chosen.out / TABLE)
        print(write_report(sweep, chosen.out, found, study_rows, why=choice.why, figures_dir=chosen.figures))


def _choice(chosen: argparse.Namespace) -> Choice:
    """Take the condition that is asked for, the one the folder was made with, or the one a study speaks for."""
    if chosen.condition is None:
        if chosen.difficulty and chosen.labels:
            return Choice(chosen.difficulty, chosen.labels, "The condition was given, not chosen by a result.")
        raise ValueError("needs a condition, got none; give --difficulty and --labels, or --condition auto and --study")
    if chosen.study is None:
        raise ValueError("--condition auto needs the folder of a study, got none; give --study")
    before = choosing.kept_before(chosen.out)
    return before or choosing.kept(
        choosing.where_weights_help_most(rows.read(chosen.study / running.TABLE)), chosen.out
    )


def _weights(text: str) -> tuple[float, ...]:
    return tuple(float(weight) for weight in text.split(","))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m alsiseg.study.sweep", description=sweep.__doc__.splitlines()[0])
    parser.add_argument("--difficulty", choices=tuple(DIFFICULTIES))
    parser.add_argument("--labels", choices=tuple(TRAINED_ON), help="what the networks learn from")
    parser.add_argument(
        "--condition", choices=("auto",), help="in place of the two: where weights helped most in --study"
    )
    parser.add_argument("--study", type=Path, help="folder of a study, whose specimens and trainings are used again")
    parser.add_argument("--silicon", type=_weights, default=SILICON, help="[default: 1,1.15,1.25,1.5]")
    parser.add_argument("--interface", type=_weights, default=INTERFACE, help="[default: 1,1.2,1.5,2]")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of every cell [default: 1]")
    add_common_options(parser, out="data/sweep")
    return parser.parse_args()


if __name__ == "__main__":
    main()
