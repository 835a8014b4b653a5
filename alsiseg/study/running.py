"""Do what of a study is not done yet: specimens, labels, trainings, segmentations, measures."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alsiseg import dataset, ground_truth, metrics, phantom, prediction, runs, training, volumes
from alsiseg.study import rows as tidy
from alsiseg.study.plan import UNSEEN_SEED, Condition, Study
from alsiseg.study.rows import TEST_SECTION, Counted, Row
from alsiseg.study.settings import check_same

TABLE = "study.csv"
GROWING = ("n_seeds", "difficulties", "labels")  # a folder may get more of them


@dataclass(frozen=True)
class Pair:
    """A synchrotron scan and its truth."""

    grey_zyx: volumes.Volume
    truth_zyx: volumes.Volume
    folder: Path


def run(study: Study, home: str | Path, *, device: str = "auto", say: Callable[[str], object] = print) -> Path:
    """Do a study, or what is left of it, and write its tidy table.

    Parameters
    ----------
    study
    home
        Folder of specimens, run folders and table. What lies there is used again: a study that was stopped goes on
        from the last finished epoch, and may get more seeds or conditions. Several processes may work there at once:
        each does what no other is at.
    device
        "auto", "cpu", "cuda", ...
    say
        Called with a line before each training: which one, and the time that is left.

    Returns
    -------
    Path
        `study.csv`, written anew after every condition (see `rows.Row`), with what earlier calls measured under other
        ones.

    Raises
    ------
    ValueError
        When the folder holds a study with other settings.
    """
    home = Path(home)
    check_same(replace(study, recipes=dict(study.recipes)), home, may_differ=GROWING)
    every = study.whole.conditions
    return carry_out(study, study.conditions, home, TABLE, of_table=every, device=device, say=say)


def carry_out(
    study: Study,
    conditions: Sequence[Condition],
    home: Path,
    table: str,
    *,
    of_table: Sequence[Condition] = (),
    device: str = "auto",
    say: Callable[[str], object] = print,
) -> Path:
    """Train and measure what is missing of `conditions`, and keep the rows of all of them in one table.

    Parameters
    ----------
    study, conditions, home, device, say
        As for `run`.
    table
        Its name in `home`.
    of_table
        What the table is to hold where it has been measured; none for `conditions`.

    Returns
    -------
    Path
        The table in `home`, written anew after every condition; what was measured before is in it from the start.
        What another process is at is left to it.
    """
    missing = [condition for condition in conditions if not measured_path(home, condition).exists()]
    started, elsewhere = time.perf_counter(), 0
    for condition in missing:
        with runs.claimed(measured_path(home, condition)) as ours:
            elsewhere += not ours
            if not ours or measured_path(home, condition).exists():
                continue
            n_left = sum(not measured_path(home, each).exists() for each in missing)
            done_share = 1 - n_left / len(missing)
            left = (time.perf_counter() - started) * (1 / done_share - 1) if done_share else None
            when = "starting" if left is None else f"about {_clock(left)} left"
            say(f"[{conditions.index(condition) + 1}/{len(conditions)}] {condition} ({when})")
            measured(study, condition, home, device)
        _collect(of_table or conditions, home, table)
    if elsewhere:
        say(f"{elsewhere} of {len(conditions)} are in work elsewhere; who does them adds them to the table")
    return _collect(of_table or conditions, home, table)


def _collect(conditions: Sequence[Condition], home: Path, table: str) -> Path:
    """Write the rows of all conditions measured so far into one table."""
    paths = [path for condition in conditions if (path := measured_path(home, condition)).exists()]
    return tidy.write([row for path in paths for row in tidy.read(path)], home / table)


def _clock(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{max(1, round(seconds / 60))} min"


def measured(study: Study, condition: Condition, home: Path, device: str) -> list[Row]:
    """Train a condition and measure it, unless that has been done."""
    path = measured_path(home, condition)
    if not path.exists():
        run_dir = train(study, condition, home, device)
        tidy.write(_rows(study, condition, home, run_dir, device), path)
    return tidy.read(path)


def measured_path(home: Path, condition: Condition) -> Path:
    """Return where the rows of a condition are kept."""
    return home / "measured" / f"{condition.name}.csv"


def train(study: Study, condition: Condition, home: Path, device: str) -> Path:
    """Train one condition to its end; return its run folder."""
    profile = study.profile
    pair = specimen(
        study, home, "slow", condition.difficulty, profile.specimen_seed, all_scans=condition.labels != "truth"
    )
    labels_zyx = pair.truth_zyx if condition.labels == "truth" else procedure_labels(pair.folder)
    config = replace(profile.config(condition.weights), seed=condition.seed)
    size_um, run_dir = pair.grey_zyx.voxel_size_um, run_dir_of(home, condition)
    return training.train(pair.grey_zyx, labels_zyx, run_dir, config, voxel_size_um=size_um, resume=True, device=device)


def run_dir_of(home: Path, condition: Condition) -> Path:
    """Return the run folder of a condition."""
    return home / "runs" / condition.name


def specimen(study: Study, home: Path, casting: str, difficulty: str, seed: int, *, all_scans: bool = False) -> Pair:
    """Make a specimen, or find it, and open its synchrotron scan."""
    folder = home / "specimens" / f"{casting}_{seed}_{difficulty}"
    with runs.claimed(folder, wait=True):
        paths = phantom.make(
            folder,
            specimen=casting,
            shape_zyx=study.unseen[casting],
            seed=seed,
            difficulty=difficulty,
            modalities=phantom.MODALITIES if all_scans else ("synchrotron",),
            n_angles=study.profile.n_angles,
            voxel_size_um=study.profile.voxel_size_um,
        )
    return Pair(volumes.open(paths["synchrotron"]), volumes.open(paths["truth"]), folder)


def procedure_labels(folder: Path) -> volumes.Volume:
    """Label a specimen by its three scans, as the paper did, unless that has been done."""
    path = folder / "labels.tif"
    with runs.claimed(path, wait=True):
        if not path.exists():
            scans = [volumes.open(folder / f"{name}.tif") for name in ("lab_ct", "synchrotron", "etched")]
            made = ground_truth.label_scans(*(scan[:] for scan in scans))
            volumes.write(path, made.labels_zyx, voxel_size_um=scans[1].voxel_size_um)
    return volumes.open(path)


def _rows(study: Study, condition: Condition, home: Path, run_dir: Path, device: str) -> Iterator[Row]:
    """Measure a trained network on its own test section and on unseen specimens."""
    yield from _of_test_section(study, condition, home, run_dir)
    trained = runs.load_network(run_dir, study.profile.reported_epoch)
    for casting in study.unseen:
        pair = specimen(study, home, casting, condition.difficulty, UNSEEN_SEED)
        truth = _truth(study, pair.truth_zyx[:])
        for recipe, options in study.recipes.items():
            started = time.perf_counter()
            labels_zyx = prediction.segment(pair.grey_zyx, trained, device=device, options=options)
            speed = labels_zyx.size / (time.perf_counter() - started)
            yield from _of_volume(study, condition, casting, recipe, labels_zyx, truth)
            yield _row(condition, casting, recipe, False, (tidy.WHOLE, "voxels_per_s", speed, float("nan")))


def _of_test_section(study: Study, condition: Condition, home: Path, run_dir: Path) -> Iterator[Row]:
    """Measure the labels of the test section against the truth, whatever the network learned from."""
    _, labels_zyx = runs.read_test(run_dir, study.profile.reported_epoch)
    pair = specimen(study, home, "slow", condition.difficulty, study.profile.specimen_seed)
    truth = _truth(study, dataset.test_section(pair.truth_zyx, labels_zyx.shape[1]))
    yield from _of_volume(study, condition, TEST_SECTION, "slices", labels_zyx, truth)


def _truth(study: Study, truth_zyx: tidy.Labels) -> tuple[Counted, Counted]:
    """A truth as it is, and without specks; counted once for all that is compared with it."""
    return Counted(truth_zyx), Counted(metrics.without_specks(truth_zyx, study.min_voxels))


def _of_volume(
    study: Study,
    condition: Condition,
    name: str,
    recipe: str,
    labels_zyx: tidy.Labels,
    truth: tuple[Counted, Counted],
) -> Iterator[Row]:
    as_it_is, cleaned = truth
    for value in tidy.values_of(labels_zyx, as_it_is):
        yield _row(condition, name, recipe, False, value)
    for value in tidy.topology_of(metrics.without_specks(labels_zyx, study.min_voxels), cleaned):
        yield _row(condition, name, recipe, True, value)


def _row(condition: Condition, name: str, recipe: str, cleaned: bool, value: tidy.Value) -> Row:
    key: dict[str, Any] = {"difficulty": condition.difficulty, "labels": condition.labels, "seed": condition.seed}
    of, quantity, measured, truth = value
    return Row(
        **key,
        weights=str(condition.weights),
        specimen=name,
        recipe=recipe,
        cleaned=cleaned,
        of=of,
        quantity=quantity,
        value=measured,
        truth=truth,
    )
