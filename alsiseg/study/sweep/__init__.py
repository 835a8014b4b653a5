"""When do the weights pay? Every weight of silicon with every weight of the interface, under one condition.

Run it with ``python -m alsiseg.study.sweep --profile quick --condition auto --study data/study --out data/sweep``:
it trains what is missing and writes ``sweep.csv``, ``sweep.md`` and the figure of the maps.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path

from alsiseg.prediction import Options
from alsiseg.profiles import Profile
from alsiseg.study import rows, running
from alsiseg.study.plan import RECIPES, Condition, Study
from alsiseg.study.settings import NAME, check_same, with_defaults
from alsiseg.volumes.whole_folders import written_whole_folder
from alsiseg.weightmaps import PixelWeights

TABLE = "sweep.csv"
SILICON, INTERFACE = (1.0, 1.15, 1.25, 1.5), (1.0, 1.2, 1.5, 2.0)  # the three settings of the paper among them


@dataclass(frozen=True)
class Sweep:
    """All that decides a sweep; the weight of the matrix is 1.

    Attributes
    ----------
    profile : Profile
    difficulty, labels : str
        The condition, as in `Condition`.
    silicon, interface : tuple of float
        Every weight of one is trained with every weight of the other.
    n_seeds : int
        Trainings of every cell.
    recipes, min_voxels
        As in `Study`.
    """

    profile: Profile
    difficulty: str
    labels: str
    silicon: tuple[float, ...] = SILICON
    interface: tuple[float, ...] = INTERFACE
    n_seeds: int = 1
    recipes: Mapping[str, Options] = field(default_factory=lambda: dict(RECIPES))
    min_voxels: int = 40

    def __post_init__(self) -> None:
        _ = self.study  # which checks what both have in common
        if not (self.silicon and self.interface):
            raise ValueError("a sweep needs at least one weight of silicon and one of the interface, got none")

    @property
    def study(self) -> Study:
        """The study that does the same to other weights."""
        return Study(
            self.profile, self.n_seeds, (self.difficulty,), (self.labels,), dict(self.recipes), self.min_voxels
        )

    @property
    def conditions(self) -> list[Condition]:
        """Every training, the seeds outermost: a sweep that is stopped has a whole map by some seeds."""
        every = product(range(self.n_seeds), self.silicon, self.interface)
        return [Condition(self.difficulty, self.labels, PixelWeights(1.0, si, both), seed) for seed, si, both in every]


def run(
    sweep: Sweep,
    home: str | Path,
    *,
    study_home: str | Path | None = None,
    device: str = "auto",
    say: Callable[[str], object] = print,
) -> Path:
    """Do a sweep, or what is left of it, and write its tidy table `sweep.csv` (see `rows.Row`).

    Parameters
    ----------
    sweep
    home
        Folder of specimens, run folders and table; a sweep that was stopped goes on there.
    study_home
        Folder of a study of the same profile: its specimens are copied, and what it measured of the same weights,
        seeds and condition is not trained again. Nothing is written there.
    device, say
        As for `running.run`.

    Raises
    ------
    ValueError
        When the folder holds a sweep with other settings, or the study has another profile.
    """
    home = Path(home)
    if study_home is not None:
        _check_study(sweep, Path(study_home))
    check_same(sweep, home, may_differ=("n_seeds",))
    if study_home is not None:
        reused = reuse(sweep, Path(study_home), home)
        say(f"{len(reused)} of {len(sweep.conditions)} trainings are those of {study_home}")
    return running.carry_out(sweep.study, sweep.conditions, home, TABLE, device=device, say=say)


def reuse(sweep: Sweep, study_home: Path, home: Path) -> list[Condition]:
    """Copy specimens and measures of a study of the same profile; return what need not be trained."""
    for source in (study_home / "specimens").glob(f"*_{sweep.difficulty}"):
        place = home / "specimens" / source.name
        if (source / "specimen.json").is_file() and not place.exists():
            with written_whole_folder(place) as partial:
                shutil.copytree(source, partial, ignore=shutil.ignore_patterns(".*", "*.parts"))
    found = [c for c in sweep.conditions if running.measured_path(study_home, c).is_file()]
    for condition in found:
        if not (path := running.measured_path(home, condition)).exists():
            rows.write(rows.read(running.measured_path(study_home, condition)), path)
    return found


def _check_study(sweep: Sweep, study_home: Path) -> None:
    """Refuse a study whose trainings or measures are not those of the sweep."""
    path = study_home / NAME
    if not path.is_file():
        raise ValueError(f"needs the folder of a study, with {NAME}, got {study_home}; run python -m alsiseg.study")
    theirs = with_defaults(json.loads(path.read_text("utf-8")), sweep.study)
    ours = json.loads(json.dumps(_plain(sweep.study)))
    changed = [name for name in ("profile", "recipes", "min_voxels") if theirs.get(name) != ours[name]]
    if changed:
        raise ValueError(
            f"needs a study with the settings of the sweep, {study_home} has other ones ({', '.join(changed)}); "
            "give its profile or leave --study out"
        )


def _plain(study: Study) -> dict[str, object]:
    return asdict(replace(study, recipes=dict(study.recipes)))
