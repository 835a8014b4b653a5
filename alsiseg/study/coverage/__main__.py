"""Count how often intervals hold the truth: ``python -m alsiseg.study.coverage --run RUN_DIR``."""

import argparse
from pathlib import Path

from alsiseg import profiles
from alsiseg.study import console, coverage
from alsiseg.study.coverage import Plan, run


def main() -> None:
    """Do all of it, or what is left of it, and print the report."""
    chosen = _arguments()
    with console.ended_in_one_line():
        profile = profiles.chosen(chosen.profile)
        plan = Plan(
            shape_zyx=chosen.shape,
            n_angles=profile.n_angles,
            voxel_size_um=profile.voxel_size_um,
            difficulty=chosen.difficulty,
            n_specimens=chosen.specimens,
            n_validation=chosen.validation,
            castings=tuple(chosen.castings.split(",")),
            calibration_castings=tuple(chosen.calibrate_on.split(",")),
            min_voxels=chosen.min_voxels,
        )
        run(plan, chosen.run, chosen.out, epoch=chosen.epoch, device=chosen.device)
    print((chosen.out / "coverage.md").read_text("utf-8"))


def _shape(text: str) -> tuple[int, int, int]:
    z, y, x = (int(part) for part in text.split(","))
    return z, y, x


def _arguments() -> argparse.Namespace:
    about = (coverage.__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m alsiseg.study.coverage", description=about)
    parser.add_argument("--run", required=True, help="run folder, or name of a network; gets calibration.json")
    parser.add_argument("--out", type=Path, default=Path("data/coverage"), help="[default: data/coverage]")
    parser.add_argument("--specimens", type=int, default=10, help="reported ones of each casting [default: 10]")
    parser.add_argument("--validation", type=int, default=10, help="of each casting to calibrate on [default: 10]")
    parser.add_argument("--calibrate-on", default="slow", metavar="CASTINGS", help="as in training [default: slow]")
    parser.add_argument("--castings", default="slow,fast", help="[default: slow,fast]")
    parser.add_argument("--shape", type=_shape, default=(64, 128, 128), metavar="Z,Y,X", help="[default: 64,128,128]")
    parser.add_argument("--difficulty", default="clean", help="as in training [default: clean]")
    parser.add_argument("--profile", help="gives projections and voxel size, as in training [default: quick]")
    parser.add_argument("--min-voxels", type=int, default=1, metavar="N", help="remove smaller particles")
    parser.add_argument("--epoch", type=int, help="[default: the last kept]")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    main()
