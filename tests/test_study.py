from dataclasses import replace

import numpy as np
import pytest

from alsiseg import study
from alsiseg.claims import HIGH_WEIGHTS, MET, MILD_WEIGHTS, NOT_MET, NOT_TESTABLE, WITHOUT_WEIGHTS
from alsiseg.prediction import Options
from alsiseg.profiles import PROFILES
from alsiseg.study import Row, Study, rows, running
from alsiseg.study import __main__ as command
from alsiseg.study.plan import UNSEEN_SEED

TINY = replace(PROFILES["tiny"], slow_shape_zyx=(36, 64, 64), n_angles=30)
SMALL = Study(TINY, n_seeds=1, difficulties=("clean",), labels=("truth",), recipes={"slices": Options()}, min_voxels=8)


def scored(values: dict[str, list[float]], quantity: str = "accuracy_pct", truth: float = float("nan")) -> list[Row]:
    """Rows of trainings whose only value is given, by setting and seed."""
    of = rows.WHOLE if np.isnan(truth) else "silicon"
    key = ("slow", "slices", False, of, quantity)
    return [
        Row("clean", "truth", setting, seed, *key, value, truth)
        for setting, found in values.items()
        for seed, value in enumerate(found)
    ]


def answered(values: dict[str, list[float]], claim: str = "C3", **options) -> study.Answer:
    return study.answer(scored(values, **options), claim, "clean", "truth", specimen="slow", recipe="slices")


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


def test_an_estimate_is_students_interval():
    found = study.estimate([1.0, 2.0, 3.0])  # 2 +- 4.303 * 1 / sqrt(3), from a printed table of t
    assert (found.mean, found.n_seeds) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.303 / 3**0.5, abs=1e-3)
    assert found.high == pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3)
    assert np.isnan(study.estimate([1.0]).low)
    with pytest.raises(ValueError, match="at least one value"):
        study.estimate([])


def test_settings_are_compared_seed_by_seed():
    # Seeds differ by points, settings by tenths of a point: only the paired difference shows it.
    seeds = np.array([90.0, 93.0, 96.0])
    by_seed = {WITHOUT_WEIGHTS: seeds, MILD_WEIGHTS: seeds + 0.1, HIGH_WEIGHTS: seeds + np.array([0.29, 0.30, 0.31])}
    found = answered({setting: list(values) for setting, values in by_seed.items()})
    assert found.outcome == MET
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(0.3)
    assert "improve the % of the pixels right: 0.30 [" in found.sentence


def test_a_difference_within_the_scatter_is_not_testable_here():
    found = answered({WITHOUT_WEIGHTS: [90, 92, 91], MILD_WEIGHTS: [91, 91, 91], HIGH_WEIGHTS: [92, 90, 91.2]})
    assert found.outcome == NOT_TESTABLE
    assert "by less than trainings scatter" in found.sentence


def test_weights_that_harm_are_said_to():
    found = answered({WITHOUT_WEIGHTS: [95, 96, 97], MILD_WEIGHTS: [94, 95, 96], HIGH_WEIGHTS: [90, 91, 92.1]})
    assert found.outcome == NOT_MET
    assert "worsen the" in found.sentence


def test_of_errors_less_is_better():
    values = {WITHOUT_WEIGHTS: [-50.0, -52.0], MILD_WEIGHTS: [-60.0, -62.0], HIGH_WEIGHTS: [-90.0, -92.0]}
    found = answered(values, "C6", quantity="euler_26", truth=-100.0)
    assert found.values[HIGH_WEIGHTS].mean == pytest.approx(9.0)
    assert found.outcome == MET


def test_one_seed_tells_nothing():
    found = answered({WITHOUT_WEIGHTS: [90], MILD_WEIGHTS: [91], HIGH_WEIGHTS: [95]})
    assert found.outcome == NOT_TESTABLE
    assert "one seed cannot tell" in found.sentence


def test_a_missing_setting_is_said():
    assert answered({WITHOUT_WEIGHTS: [90, 91]}).sentence == "needs all three settings"


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
    written = scored({WITHOUT_WEIGHTS: [90.5]}, quantity="euler_26", truth=-3.25)
    assert study.read(rows.write(written, tmp_path / "study.csv")) == written
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="needs the columns"):
        study.read(tmp_path / "other.csv")


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    said: list[str] = []
    segmented = []
    segment = running.prediction.segment

    def stopping(*arguments, **options):
        if len(segmented) == 3:  # two of the first condition, one of the second
            raise KeyboardInterrupt
        segmented.append(arguments)
        return segment(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(running.prediction, "segment", stopping)
        with pytest.raises(KeyboardInterrupt):
            study.run(SMALL, tmp_path, device="cpu", say=said.append)
    assert len(list((tmp_path / "measured").iterdir())) == 1
    trained = tmp_path / "runs" / SMALL.conditions[0].name / "history.csv"
    before = trained.stat().st_mtime_ns

    path = study.run(SMALL, tmp_path, device="cpu", say=said.append)
    assert trained.stat().st_mtime_ns == before
    found = study.read(path)
    assert {row.weights for row in found} == {WITHOUT_WEIGHTS, MILD_WEIGHTS, HIGH_WEIGHTS}
    assert {row.specimen for row in found} == {"test section", "slow", "fast"}
    assert {folder.name for folder in (tmp_path / "specimens").iterdir()} == {
        f"slow_{TINY.specimen_seed}_clean",
        f"slow_{UNSEEN_SEED}_clean",
        f"fast_{UNSEEN_SEED}_clean",
    }
    assert said[0] == "[1/3] clean, labels from the truth, weights (1, 1, 1), seed 0 (starting)"
    assert "| C3 |" in study.table(found, specimen="slow", recipe="slices")
    judged = study.verdicts(SMALL, tmp_path, found)
    assert [v.claim.id for v in judged["clean", "truth", 0]] == ["C1", "C2", "C8", "C9", "C10", "C11"]
    assert {v.verdict for found in judged.values() for v in found} == {NOT_TESTABLE}  # at this size

    with pytest.raises(ValueError, match=r"other settings \(min_voxels\)"):
        study.run(replace(SMALL, min_voxels=9), tmp_path, device="cpu", say=said.append)


@pytest.mark.slow
def test_the_command_prints_and_keeps_its_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PROFILES, "tiny", TINY)
    options = ["--profile", "tiny", "--seeds", "1", "--difficulties", "clean", "--labels", "truth"]
    monkeypatch.setattr("sys.argv", ["study", *options, "--out", str(tmp_path), "--device", "cpu"])
    command.main()
    text = (tmp_path / "study.md").read_text()
    assert text in capsys.readouterr().out
    assert "### clean, labels from the truth, fast, three views" in text
    assert text.count("**not testable at this size**") == 5 * 5 + 6  # 5 claims at 5 places, 6 of single trainings
    monkeypatch.setattr("sys.argv", ["study", *options, "--out", str(tmp_path), "--labels", "guesses"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "alsiseg: labels must be among truth, procedure, got guesses\n"
