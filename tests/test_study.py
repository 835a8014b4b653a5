import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from alsiseg import runs, study
from alsiseg.claims import HIGH_WEIGHTS, MILD_WEIGHTS, WITHOUT_WEIGHTS
from alsiseg.prediction import Options
from alsiseg.profiles import PROFILES
from alsiseg.study import Row, Study, curves, drawing, rows, running, settings
from alsiseg.study import __main__ as command
from alsiseg.study.plan import UNSEEN_SEED

TINY = replace(PROFILES["tiny"], slow_shape_zyx=(36, 64, 64), n_angles=30)
SMALL = Study(TINY, n_seeds=1, difficulties=("clean",), labels=("truth",), recipes={"slices": Options()}, min_voxels=8)


def test_every_condition_is_trained_with_every_seed_and_seeds_come_last():
    conditions = Study(TINY, n_seeds=2).conditions
    assert len(conditions) == 2 * 2 * 2 * 3
    assert len({condition.name for condition in conditions}) == len(conditions)
    assert [condition.seed for condition in conditions] == [0] * 12 + [1] * 12


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"difficulties": ("easy",)}, "clean, hard, got easy"),
        ({"labels": ()}, "got none"),
        ({"n_seeds": 0}, "1 seed and 1 voxel at least, got 0 and 40"),
    ],
)
def test_an_impossible_study_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Study(TINY, **changes)


def test_values_of_labels_that_are_the_truth():
    truth_zyx = np.zeros((6, 8, 8), np.uint8)
    truth_zyx[1:5, 1:4, 1:7], truth_zyx[2:4, 5:7, 2:4] = 1, 2
    found = {(of, quantity): (value, truth) for of, quantity, value, truth in rows.values_of(truth_zyx, truth_zyx)}
    assert found[rows.WHOLE, "accuracy_pct"][0] == 100
    assert found["silicon", "dice"][0] == 1
    assert found["silicon", "euler_26"] == found["silicon", "b0_6"] == (1, 1)
    assert found["hybrid", "b0_26"] == (2, 2)
    assert found["aluminides", "volume_fraction_pct"][0] == pytest.approx(100 * 8 / 384)


def test_a_table_comes_back_as_it_was_written(tmp_path):
    written = [Row("clean", "truth", "1, 1, 1", 0, "slow", "slices", True, "silicon", "euler_26", 90.5, -3.25)]
    assert study.read(rows.write(written, tmp_path / "study.csv")) == written
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileNotFoundError, match="let the study train first"):
        study.read(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="needs the columns"):
        study.read(tmp_path / "other.csv")


@dataclass(frozen=True)
class Before:
    name: str
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Now(Before):
    added: float = 0.5


def test_a_folder_made_before_a_setting_was_added_counts_as_made_with_its_default(tmp_path):
    settings.check_same(Before("a"), tmp_path)
    settings.check_same(Now("a"), tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(added\)"):
        settings.check_same(Now("a", added=0.7), tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(sizes\)"):
        settings.check_same(Now("a", sizes=(1, 3)), tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(added\)"):  # a setting that is gone is a change too
        settings.check_same(Before("a"), tmp_path)


def test_a_folder_may_grow_where_that_is_said(tmp_path):
    settings.check_same(Now("a"), tmp_path)
    settings.check_same(Now("a", sizes=(1, 3)), tmp_path, may_differ=("sizes",))
    with pytest.raises(ValueError, match=r"other settings \(name\)"):
        settings.check_same(Now("b", sizes=(1, 4)), tmp_path, may_differ=("sizes",))


def test_a_folder_that_grew_says_all_that_it_was_asked_for(tmp_path):
    settings.check_same(Now("a", sizes=(2,), added=3), tmp_path)
    settings.check_same(Now("a", sizes=(1, 2), added=2), tmp_path, may_differ=("sizes", "added"))
    written = json.loads((tmp_path / settings.NAME).read_text("utf-8"))
    assert (written["sizes"], written["added"]) == ([2, 1], 3)


def test_two_processes_share_a_study(tmp_path, monkeypatch):
    """What another process has claimed is left to it, and what it finished meanwhile is in the table."""
    said, done_here, conditions = [], [], SMALL.conditions

    def measured(_, condition, home, __):
        done_here.append(condition)
        _write_a_row(home, condition)
        if len(done_here) == 1:
            _write_a_row(home, conditions[2])  # as another process would

    monkeypatch.setattr(running, "measured", measured)
    with runs.claimed(running.measured_path(tmp_path, conditions[0])) as ours:
        assert ours
        path = study.run(SMALL, tmp_path, say=said.append)
        assert done_here == [conditions[1]]
        assert {row.weights for row in study.read(path)} == {MILD_WEIGHTS, HIGH_WEIGHTS}
        assert said[-1] == "1 of 3 are in work elsewhere; who does them adds them to the table"
    assert {row.weights for row in study.read(study.run(SMALL, tmp_path, say=said.append))} == {
        WITHOUT_WEIGHTS,
        MILD_WEIGHTS,
        HIGH_WEIGHTS,
    }
    assert done_here == [conditions[1], conditions[0]]
    more = study.run(replace(SMALL, difficulties=("hard",)), tmp_path, say=said.append)
    assert {row.difficulty for row in study.read(more)} == {"clean", "hard"}


def _write_a_row(home, condition):
    row = Row(
        condition.difficulty, "truth", str(condition.weights), 0, "slow", "slices", True, "silicon", "euler_26", 1, 2
    )
    rows.write([row], running.measured_path(home, condition))


@dataclass(frozen=True)
class Done:
    """A study that was stopped and continued."""

    home: Path
    said: list[str]
    n_measured_when_stopped: int
    trained_again: bool


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Done:
    home, said, segmented = tmp_path_factory.mktemp("study"), [], []
    segment = running.prediction.segment

    def stopping(*arguments, **options):
        if len(segmented) == 3:  # two of the first condition, one of the second
            raise KeyboardInterrupt
        segmented.append(arguments)
        return segment(*arguments, **options)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(running.prediction, "segment", stopping)
        with pytest.raises(KeyboardInterrupt):
            study.run(SMALL, home, device="cpu", say=said.append)
    n_measured = len(list((home / "measured").iterdir()))
    trained = home / "runs" / SMALL.conditions[0].name / "history.csv"
    before = trained.stat().st_mtime_ns
    study.run(SMALL, home, device="cpu", say=said.append)
    return Done(home, said, n_measured, trained.stat().st_mtime_ns != before)


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_stopped(done):
    assert done.n_measured_when_stopped == 1
    assert not done.trained_again
    found = study.read(done.home / running.TABLE)
    assert {row.weights for row in found} == {WITHOUT_WEIGHTS, MILD_WEIGHTS, HIGH_WEIGHTS}
    assert {row.specimen for row in found} == {"test section", "slow", "fast"}
    assert {folder.name for folder in (done.home / "specimens").iterdir()} == {
        f"slow_{TINY.specimen_seed}_clean",
        f"slow_{UNSEEN_SEED}_clean",
        f"fast_{UNSEEN_SEED}_clean",
    }
    assert done.said[0] == "[1/3] clean, labels from the truth, weights (1, 1, 1), seed 0 (starting)"
    assert done.said[2] == "[2/3] clean, labels from the truth, weights (1, 1.15, 1.2), seed 0 (starting)"
    with pytest.raises(ValueError, match=r"other settings \(min_voxels\)"):
        study.run(replace(SMALL, min_voxels=9), done.home, device="cpu")


@pytest.mark.slow
def test_the_command_keeps_its_answers_and_the_curves_outlive_the_runs(done, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PROFILES, "tiny", TINY)
    monkeypatch.setattr(drawing, "COLUMNS", ("slow",))  # a third of the panels, drawn sooner
    options = ["--profile", "tiny", "--seeds", "1", "--out", str(done.home), "--figures", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["study", *options, "--report-only"])
    command.main()
    text = (done.home / "study.md").read_text("utf-8")
    assert "### C1: " in text
    assert "After the first of 2 epochs of 16 images" in text
    assert "| C3 | accuracy" in capsys.readouterr().out
    assert (done.home / "fig_study.png").is_file()
    assert (tmp_path / "fig_study.pdf").is_file()

    shipped = tmp_path / "shipped"
    shipped.mkdir()
    for name in (running.TABLE, curves.TABLE, settings.NAME):
        (shipped / name).write_bytes((done.home / name).read_bytes())
    curves.collect(SMALL, shipped)  # without the run folders
    assert study.write_report(shipped / running.TABLE, n_seeds=1) == text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--labels", "guesses"], "labels must be among truth, procedure, got guesses"),
        (["--report-only"], "needs the table that a study writes, found none at {}; let the study train first"),
    ],
)
def test_the_command_refuses_in_one_line_and_writes_nothing(options, sentence, tmp_path, monkeypatch, capsys):
    home = tmp_path / "study"
    monkeypatch.setattr("sys.argv", ["study", "--profile", "tiny", "--out", str(home), *options])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"alsiseg: {sentence.format(home / running.TABLE)}\n"
    assert not home.exists()
