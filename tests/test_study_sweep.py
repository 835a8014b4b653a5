import json
from dataclasses import replace

import numpy as np
import pytest

from alsiseg import figures
from alsiseg.claims import HIGH_WEIGHTS, MILD_WEIGHTS, WITHOUT_WEIGHTS
from alsiseg.prediction import Options
from alsiseg.profiles import PROFILES
from alsiseg.study import Place, Row, Study, rows, running, scores, sweep
from alsiseg.study.sweep import Sweep, choosing, maps
from alsiseg.study.sweep import __main__ as command
from alsiseg.study.sweep import report as sweep_report

TINY = replace(PROFILES["tiny"], slow_shape_zyx=(36, 64, 64), n_angles=30)
PLACE = Place("clean", "truth", "slow")
SILICON, INTERFACE = (1.0, 1.25, 1.5), (1.0, 1.5)
RECIPES = {"slices": Options()}


def trained(
    weights: str, seed: int, accuracy: float, *, difficulty: str = "clean", specimen: str = "slow"
) -> list[Row]:
    """Rows of a training with this accuracy; a better one has better interfaces and Euler numbers too."""
    key = (difficulty, "truth", weights, seed, specimen, "slices")
    return [
        Row(*key, False, rows.WHOLE, "accuracy_pct", accuracy, float("nan")),
        Row(*key, False, rows.WHOLE, "interface_accuracy_pct", accuracy - 10, float("nan")),
        Row(*key, True, "silicon", "euler_26", -accuracy, -100.0),
    ]


def swept(accuracy, n_seeds: int = 1, specimens=("slow",)) -> list[Row]:
    """Rows of a sweep whose accuracy is a function of weights and seed."""
    return [
        row
        for seed in range(n_seeds)
        for si in SILICON
        for both in INTERFACE
        for name in specimens
        for row in trained(f"1, {si:g}, {both:g}", seed, accuracy(si, both, seed), specimen=name)
    ]


def test_a_map_has_the_mean_over_seeds_in_every_cell_and_knows_its_optimum():
    found = maps.weight_map(
        swept(lambda si, both, seed: 90 - 8 * (si - 1.25) ** 2 + both + seed, 2), scores.ACCURACY, PLACE
    )
    assert found.mean.tolist() == [[91, 91.5], [91.5, 92], [91, 91.5]]
    assert found.best_weights == (1.25, 1.5)
    assert found.at(1, 1) == 91
    assert np.isnan(found.at(2, 2))
    assert found.n_seeds == 2
    assert found.apart == pytest.approx(0)  # seeds differ by the same everywhere
    assert found.like_best.sum() == 1


def test_of_errors_the_smallest_is_the_optimum():
    found = maps.weight_map(swept(lambda si, both, _: 90 + si + both), scores.CLEANED_EULER, PLACE)
    assert found.best_weights == (1.5, 1.5)
    assert found.mean[found.best] == pytest.approx(7)
    assert found.loss.min() == 0


def test_cells_that_differ_by_less_than_trainings_scatter_are_like_the_best():
    def accuracy(si, both, seed):
        return 90 + 2 * (si == 1.5) + (both - 1) * 0.01 + 0.1 * (-1) ** (seed + round(4 * si) + round(2 * both))

    found = maps.weight_map(swept(accuracy, 4), scores.ACCURACY, PLACE)
    assert 0.1 < found.apart < 1
    assert found.like_best.tolist() == [[False, False], [False, False], [True, True]]


def test_with_one_seed_the_study_says_how_much_trainings_scatter():
    one = swept(lambda si, both, _: 90 + si + both)
    alone = maps.weight_map(one, scores.ACCURACY, PLACE)
    assert np.isnan(alone.apart)
    assert alone.like_best.sum() == 1
    study_rows = [
        row
        for setting, sign in ((WITHOUT_WEIGHTS, 1), (MILD_WEIGHTS, -1), (HIGH_WEIGHTS, 0))
        for seed in range(2)
        for row in trained(setting, seed, 90 + sign * seed)
    ]
    # by hand: residuals of a half in four of six trainings, two degrees of freedom: deviation sqrt(0.5);
    # the studentized range of 6 means with 2 degrees of freedom is 11.74 in printed tables
    beside = maps.weight_map(one, scores.ACCURACY, PLACE, study_rows=study_rows)
    assert beside.apart == pytest.approx(11.74 * 0.5**0.5, abs=0.01)
    assert beside.like_best.all()


def test_the_slopes_are_those_of_a_plane():
    found = maps.weight_map(swept(lambda si, both, _: 90 + 2 * si - 3 * both), scores.ACCURACY, PLACE)
    assert found.slopes is not None
    assert [slope.mean for slope in found.slopes] == pytest.approx([0.2, -0.3])  # for 0.1 more weight
    assert [slope.side for slope in found.slopes] == [1, -1]


def test_a_map_of_nothing_is_refused():
    with pytest.raises(ValueError, match="found none"):
        maps.weight_map([], scores.ACCURACY, PLACE)


def test_the_default_grid_holds_the_settings_of_the_paper():
    conditions = Sweep(TINY, "clean", "truth").conditions
    assert len(conditions) == 16
    assert {WITHOUT_WEIGHTS, MILD_WEIGHTS, HIGH_WEIGHTS} <= {str(condition.weights) for condition in conditions}
    with pytest.raises(ValueError, match="clean, hard, got easy"):
        Sweep(TINY, "easy", "truth")
    with pytest.raises(ValueError, match="at least one weight"):
        Sweep(TINY, "clean", "truth", silicon=())


def test_the_condition_is_chosen_by_the_test_section_alone(tmp_path):
    # on the unseen specimen the weights help most when clean, on the test section when hard
    found = [
        row
        for difficulty, gains in (("clean", {"test section": 0.5, "slow": 9}), ("hard", {"test section": 1, "slow": 0}))
        for name, gain in gains.items()
        for setting, more in ((WITHOUT_WEIGHTS, 0), (HIGH_WEIGHTS, gain))
        for row in trained(setting, 0, 80 + more, difficulty=difficulty, specimen=name)
    ]
    choice = choosing.where_weights_help_most(found)
    assert (choice.difficulty, choice.labels) == ("hard", "truth")
    assert "| clean | truth | 1 | 0.50 | 0.50 | 0.50 |" in choice.why
    assert choosing.kept_before(tmp_path) is None
    choosing.kept(choice, tmp_path)
    assert choosing.kept_before(tmp_path) == choice
    with pytest.raises(ValueError, match="found none; let it train more"):
        choosing.where_weights_help_most([row for row in found if row.weights == WITHOUT_WEIGHTS])


def test_the_report_says_when_the_optimum_may_be_chance(tmp_path):
    small = Sweep(TINY, "clean", "truth", SILICON, INTERFACE)
    places = ("test section", "slow", "fast")
    rising = swept(lambda si, both, _: 90 + si + both, specimens=places)
    text = sweep_report.write_report(small, tmp_path, rising, why="Because.", figures_dir=tmp_path / "figures")
    assert text == (tmp_path / "sweep.md").read_text("utf-8")
    assert "**Accuracy** is best with (1, 1.5, 1.5): 93.00 % of the voxels right, 1.00 points better than" in text
    assert "so this may be chance" in text
    assert "The heaviest weight of silicon and interface tried is the best" in text
    for folder in (tmp_path, tmp_path / "figures"):
        assert {path.suffix for path in folder.glob("fig_sweep.*")} == {".png", ".pdf", ".csv"}
    assert len((tmp_path / "fig_sweep.csv").read_text("utf-8").splitlines()) == 7


def test_no_weights_may_be_best_and_cells_may_be_missing():
    small = Sweep(TINY, "clean", "truth", SILICON, INTERFACE)
    falling = swept(lambda si, both, seed: 90 - si - both + 0.001 * seed * si, 2, ("test section", "slow", "fast"))
    falling = [row for row in falling if row.weights != HIGH_WEIGHTS]
    text = sweep_report.full_text(small, sweep_report.every_map(small, falling), "Because.")
    assert "no weights at all are best" in text
    assert "5 of 6 pairs of weights trained, 2 seeds each" in text


def test_every_cell_of_a_map_shows_its_value():
    values = np.array([[1.0, 2.0], [3.0, np.nan]])
    panel = figures.MapPanel("accuracy", "%", (1, 1.25), (1, 1.5), values, (1, 0), values > 2.5)
    axes = figures.weight_maps([panel], published=[(1, 1), (9, 9)]).axes[0]
    assert sorted(text.get_text() for text in axes.texts if text.get_text() != "a") == ["1.00", "2.00", "3.00"]
    assert len(axes.lines) == 1  # one of the published settings is on the map


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """The folder of a study with one training."""
    home = tmp_path_factory.mktemp("study")
    study = Study(TINY, n_seeds=1, difficulties=("clean",), labels=("truth",), recipes=RECIPES)
    running.check_same(study, home)
    running.carry_out(study, study.conditions[:1], home, running.TABLE, device="cpu", say=lambda _: None)
    return home


@pytest.mark.slow
def test_a_sweep_trains_only_what_the_study_has_not(studied, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in studied.rglob("*")}
    small = Sweep(TINY, "clean", "truth", (1.0,), (1.0, 1.5), recipes=RECIPES)
    said: list[str] = []
    path = sweep.run(small, tmp_path, study_home=studied, device="cpu", say=said.append)
    assert said[0] == f"1 of 2 trainings are those of {studied}"
    assert [folder.name for folder in (tmp_path / "runs").iterdir()] == ["clean_truth_1_1_1.5_seed0"]
    assert {row.weights for row in rows.read(path)} == {"1, 1, 1", "1, 1, 1.5"}
    assert {path: path.stat().st_mtime_ns for path in studied.rglob("*")} == before
    with pytest.raises(ValueError, match=r"other ones \(min_voxels\)"):
        sweep.run(replace(small, min_voxels=9), tmp_path / "other", study_home=studied, device="cpu")
    assert not (tmp_path / "other").exists()
    with pytest.raises(ValueError, match="needs the folder of a study"):
        sweep.run(small, tmp_path, study_home=tmp_path / "nothing", device="cpu")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "needs a condition, got none"),
        (["--condition", "auto"], "needs the folder of a study, got none"),
    ],
)
def test_the_command_refuses_in_one_line(options, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sweep", "--profile", "tiny", "--out", str(tmp_path / "out"), *options])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_writes_its_report_again_without_training(tmp_path, monkeypatch, capsys):
    study_home, out = tmp_path / "study", tmp_path / "sweep"
    places = ("test section", "slow", "fast")
    gained = [
        row
        for setting, more in ((WITHOUT_WEIGHTS, 0), (HIGH_WEIGHTS, 1))
        for seed in range(2)
        for name in places
        for row in trained(setting, seed, 80 + more * (seed + 1), specimen=name)
    ]
    rows.write(gained, study_home / running.TABLE)
    rows.write(swept(lambda si, both, _: 90 + si + both, specimens=places), out / sweep.TABLE)
    options = ["--profile", "tiny", "--condition", "auto", "--study", str(study_home), "--report-only"]
    monkeypatch.setattr("sys.argv", ["sweep", *options, "--out", str(out)])
    command.main()
    assert "Chosen: clean scans, labels from the truth." in capsys.readouterr().out
    assert json.loads((out / "choice.json").read_text("utf-8"))["difficulty"] == "clean"
