"""Run a study from the command line: ``python -m alsiseg.study --profile quick --out data/study``."""

import argparse

from alsiseg import profiles, study
from alsiseg.profiles import TRAINED_ON
from alsiseg.study import curves, drawing
from alsiseg.study.console import add_common_options, ended_in_one_line
from alsiseg.study.running import TABLE


def main() -> None:
    """Do a study, or what is left of it, and write and print what it found."""
    chosen = _arguments()
    with ended_in_one_line():
        size = profiles.chosen(chosen.profile)
        plan = study.Study(size, chosen.seeds, tuple(chosen.difficulties.split(",")), tuple(chosen.labels.split(",")))
        path = chosen.out / TABLE
        if not chosen.report_only:
            study.run(plan, chosen.out, device=chosen.device)
        if path.is_file():
            curves.collect(plan, chosen.out)
        study.write_report(path, n_seeds=chosen.seeds)
        print(study.summary(path))
        drawing.copied(drawing.save(path), chosen.figures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m alsiseg.study", description=study.__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every condition [default: 3]")
    parser.add_argument("--difficulties", default="clean,hard", help="[default: clean,hard]")
    parser.add_argument("--labels", default=",".join(TRAINED_ON), help="[default: truth,procedure]")
    add_common_options(parser, out="data/study")
    return parser.parse_args()


if __name__ == "__main__":
    main()
