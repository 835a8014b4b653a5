"""Run a study from the command line: ``python -m alsiseg.study --profile quick --out data/study``."""

import argparse
import sys
from pathlib import Path

from alsiseg import profiles, story, study
from alsiseg.profiles import TRAINED_ON
from alsiseg.study.running import TEST_SECTION
from alsiseg.volumes import written_whole


def main() -> None:
    """Do a study, or what is left of it, and print its answers."""
    chosen = _arguments()
    try:
        size = profiles.chosen(chosen.profile)
        plan = study.Study(size, chosen.seeds, tuple(chosen.difficulties.split(",")), tuple(chosen.labels.split(",")))
        path = study.run(plan, chosen.out, device=chosen.device)
    except KeyboardInterrupt:
        print("alsiseg: stopped; every finished epoch is kept, the same command goes on", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not story.mendable(error):
            raise
        print(f"alsiseg: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    rows = study.read(path)
    places = [(TEST_SECTION, "slices"), *((casting, recipe) for casting in plan.unseen for recipe in plan.recipes)]
    parts = [study.table(rows, specimen=specimen, recipe=recipe) for specimen, recipe in places]
    text = "\n".join([*parts, study.verdict_table(study.verdicts(plan, chosen.out, rows))])
    with written_whole(path.with_suffix(".md")) as partial:
        partial.write_text(text, encoding="utf-8")
    print(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m alsiseg.study", description=study.__doc__.splitlines()[0])
    parser.add_argument("--profile", help="tiny, quick, standard or paper [default: quick]")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every condition [default: 3]")
    parser.add_argument("--difficulties", default="clean,hard", help="[default: clean,hard]")
    parser.add_argument("--labels", default=",".join(TRAINED_ON), help="[default: truth,procedure]")
    parser.add_argument("--out", type=Path, default=Path("data/study"), help="[default: data/study]")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    main()
