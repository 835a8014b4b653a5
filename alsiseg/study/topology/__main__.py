"""Compare ways of segmenting by the topology they give: ``python -m alsiseg.study.topology``."""

import argparse
from pathlib import Path

from alsiseg import phantom, profiles
from alsiseg.study import topology
from alsiseg.study.console import ended_in_one_line
from alsiseg.study.topology import run, variants
from alsiseg.study.topology.comparing import Comparison, Plan
from alsiseg.study.topology.variants import NAMES


def main() -> None:
    """Do a comparison, or what is left of it, and print what it found."""
    chosen = _arguments()
    with ended_in_one_line():
        size, difficulties = profiles.chosen(chosen.profile), tuple(chosen.difficulties.split(","))
        plan = Plan(size, chosen.seeds, difficulties, labels=("truth",), brief=chosen.brief)
        names = tuple(name for name in chosen.variants.split(",") if name)
        variants.check(names)
        path = run(Comparison(plan, chosen.study, chosen.out, names, chosen.device))
        print((path.parent / "topology.md").read_text("utf-8"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m alsiseg.study.topology", description=topology.__doc__)
    parser.add_argument("--profile", help="tiny, quick, standard or paper [default: quick]")
    parser.add_argument(
        "--study", type=Path, default=Path("data/study"), help="of the plain networks [default: %(default)s]"
    )
    parser.add_argument("--out", type=Path, default=Path("data/topology"), help="[default: %(default)s]")
    parser.add_argument("--seeds", type=int, default=3, help="networks of every kind [default: 3]")
    parser.add_argument("--difficulties", default=",".join(phantom.DIFFICULTIES), help="[default: %(default)s]")
    parser.add_argument("--variants", default=",".join(NAMES), help="which to train, or '' [default: %(default)s]")
    parser.add_argument("--brief", action="store_true", help="no symmetries, tuning or filling of holes")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    main()
