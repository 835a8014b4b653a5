import json

import numpy as np
import pytest

from alsiseg import figures, study
from alsiseg.claims import CLAIMS, HIGH_WEIGHTS, MET, MILD_WEIGHTS, NOT_MET, NOT_TESTABLE, WITHOUT_WEIGHTS
from alsiseg.phases import NETWORKS
from alsiseg.study import Place, Row, answers, curves, drawing, judging, rows, scores

SLOW = Place("clean", "truth", "slow")
SETTINGS = (WITHOUT_WEIGHTS, MILD_WEIGHTS, HIGH_WEIGHTS)


def scored(
    values: dict[str, list[float]],
    quantity: str = "accuracy_pct",
    truth: float = float("nan"),
    of: str = "silicon",
    labels: str = "truth",
) -> list[Row]:
    """Rows of trainings whose only value is given, by setting and seed."""
    key = ("slow", "slices", False, rows.WHOLE if np.isnan(truth) else of, quantity)
    return [
        Row("clean", labels, setting, seed, *key, value, truth)
        for setting, found in values.items()
        for seed, value in enumerate(found)
    ]


def answered(values: dict[str, list[float]], score: study.Score = scores.ACCURACY, **options) -> study.Answer:
    return study.answer(scored(values, **options), score, SLOW)


def whole_study(*, n_seeds: int = 3, gain: float = 5.0, size: int = 200) -> list[Row]:
    """Rows of a study whose values are made up: weights gain accuracy, the procedure's labels lose a point."""
    values = {"n_voxels": size**3 * 0.14, "volume_fraction_pct": 14.0, "b0_26": 3.0}
    values |= {"interconnectivity_26": 0.95, "euler_26": -100.0}
    every = [("all phases", "accuracy_pct", 90.0, float("nan")), ("all phases", "voxels_per_s", 1e5, float("nan"))]
    every += [("all phases", "interface_accuracy_pct", 80.0, float("nan"))]
    every += [(network, quantity, value, 1.1 * value) for network in NETWORKS for quantity, value in values.items()]
    found = []
    for labels, (position, setting), seed in (
        (labels, setting, seed)
        for labels in ("truth", "procedure")
        for setting in enumerate(SETTINGS)
        for seed in range(n_seeds)
    ):
        shift = gain * position / 2 - (labels == "procedure") + 0.01 * seed * position
        for place in (("test section", "slices"), ("slow", "slices"), ("fast", "slices"), ("fast", "three views")):
            for cleaned in (False, True):
                for of, quantity, value, truth in every:
                    moved = value + shift if quantity.endswith("accuracy_pct") else value
                    if quantity == "euler_26":
                        moved = (1 + (place[0] == "fast")) * (value - shift)
                    found.append(Row("clean", labels, setting, seed, *place, cleaned, of, quantity, moved, truth))
    return found


def test_an_estimate_is_students_interval():
    found = study.estimate([1.0, 2.0, 3.0])  # 2 +- 4.303 * 1 / sqrt(3), from a printed table of t
    assert (found.mean, found.n_seeds) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.303 / 3**0.5, abs=1e-3)
    assert found.high == pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3)
    assert np.isnan(study.estimate([1.0]).low)
    with pytest.raises(ValueError, match="at least one value"):
        study.estimate([])


@pytest.mark.parametrize(
    ("value", "text"), [(-0.001, "0.00"), (12.345, "12.35"), (-1234.5, "-1,234"), (float("nan"), "?")]
)
def test_numbers_are_short(value, text):
    assert answers.number(value) == text


def test_settings_are_compared_seed_by_seed():
    # Seeds differ by points, settings by tenths of a point: only the paired difference shows it.
    seeds = np.array([50.0, 53.0, 56.0])
    by_seed = {WITHOUT_WEIGHTS: seeds, MILD_WEIGHTS: seeds + 3, HIGH_WEIGHTS: seeds + np.array([3.29, 3.30, 3.31])}
    found = answered({setting: list(values) for setting, values in by_seed.items()})
    assert found.outcome == MET
    assert {pair: gain.mean for pair, gain in found.gains.items()} == {
        (HIGH_WEIGHTS, WITHOUT_WEIGHTS): pytest.approx(3.3),
        (HIGH_WEIGHTS, MILD_WEIGHTS): pytest.approx(0.3),
        (MILD_WEIGHTS, WITHOUT_WEIGHTS): pytest.approx(3.0),
    }
    assert "raise the accuracy by 3.30 [3.28, 3.32] points; they are better than (1, 1.15, 1.2)" in found.sentence
    assert "The paper's gain of 3 points is reached." in found.sentence


def test_a_difference_within_the_scatter_is_not_testable_here():
    found = answered({WITHOUT_WEIGHTS: [90, 92, 91], MILD_WEIGHTS: [91, 91, 91], HIGH_WEIGHTS: [92, 90, 91.2]})
    assert (found.outcome, found.reason) == (NOT_TESTABLE, "within scatter")
    assert "by no more than trainings scatter" in found.sentence
    assert "gain of 3 points lies within this interval" in found.sentence


@pytest.mark.parametrize(
    ("high", "reason"), [([90.1, 90.0, 90.1], "no gain"), ([91.0, 91.01, 91.02], "gain too small")]
)
def test_a_gain_far_smaller_than_the_papers_is_not_met(high, reason):
    found = answered({WITHOUT_WEIGHTS: [90, 90.1, 90.05], MILD_WEIGHTS: [90, 90.1, 90.1], HIGH_WEIGHTS: high})
    assert (found.outcome, found.reason) == (NOT_MET, reason)
    assert "gain of 3 points lies above this interval" in found.sentence


def test_better_interfaces_must_have_half_of_the_errors_to_be_right():
    options = {"score": scores.INTERFACE, "quantity": "interface_accuracy_pct"}
    few = answered({WITHOUT_WEIGHTS: [60, 61], MILD_WEIGHTS: [61, 62], HIGH_WEIGHTS: [65, 66.1]}, **options)
    assert (few.outcome, few.reason) == (NOT_MET, "gain too small")
    assert "half of the wrong interface voxels right, 19.75 points, lies above" in few.sentence
    half = answered({WITHOUT_WEIGHTS: [60, 61], MILD_WEIGHTS: [61, 62], HIGH_WEIGHTS: [81, 82.1]}, **options)
    assert half.outcome == MET


def test_weights_that_harm_are_said_to():
    found = answered({WITHOUT_WEIGHTS: [95, 96, 97], MILD_WEIGHTS: [94, 95, 96], HIGH_WEIGHTS: [90, 91, 92.1]})
    assert (found.outcome, found.reason) == (NOT_MET, "worse than without")
    assert "lower the accuracy by 4.97" in found.sentence


def test_of_errors_less_is_better():
    values = {WITHOUT_WEIGHTS: [-50.0, -52.0], MILD_WEIGHTS: [-60.0, -62.0], HIGH_WEIGHTS: [-90.0, -92.0]}
    found = answered(values, scores.EULER, quantity="euler_26", truth=-100.0)
    assert found.values[HIGH_WEIGHTS].mean == pytest.approx(9.0)
    assert found.outcome == MET
    assert "lower the Euler number error by 40.00" in found.sentence


def test_a_true_value_of_zero_has_no_relative_error():
    found = answered({s: [1.0, 2.0] for s in SETTINGS}, scores.EULER, quantity="euler_26", truth=0.0)
    assert (found.outcome, found.reason) == (NOT_TESTABLE, "no true value")
    assert "a true value is zero" in found.sentence


def test_one_seed_tells_nothing():
    found = answered({WITHOUT_WEIGHTS: [90], MILD_WEIGHTS: [91], HIGH_WEIGHTS: [95]})
    assert (found.outcome, found.reason) == (NOT_TESTABLE, "one seed")
    assert "One seed cannot tell" in found.sentence


def test_a_missing_setting_is_said():
    assert answered({WITHOUT_WEIGHTS: [90, 91]}).sentence == "Not all three settings are trained yet."


@pytest.mark.parametrize(
    ("without", "high", "truth", "outcome"),
    [
        ([0.5, 0.52], [0.97, 0.971], 0.95, MET),
        ([0.97, 0.971], [0.97, 0.971], 0.95, NOT_MET),
        ([0.5, 0.52], [0.6, 0.601], 0.95, NOT_MET),
        ([0.5, 0.9], [0.8, 0.99], 0.95, NOT_TESTABLE),
        ([0.5, 0.52], [0.97, 0.971], 0.6, NOT_TESTABLE),
        ([0.5], [0.97], 0.95, NOT_TESTABLE),
    ],
)
def test_silicon_must_be_connected_with_weights_alone(without, high, truth, outcome):
    found = scored({WITHOUT_WEIGHTS: without, HIGH_WEIGHTS: high}, "interconnectivity_26", truth)
    assert answers.silicon_connected(found, SLOW).outcome == outcome


def test_scatter_leaves_out_what_settings_and_seeds_have_in_common():
    common = {"a": {0: 1.0, 1: 5.0, 2: 2.0}, "b": {0: 11.0, 1: 15.0, 2: 12.0}}
    assert scores.scatter(common) == (pytest.approx(0), 2)
    # by hand: residuals +-0.5 in two seeds of two settings, one degree of freedom
    assert scores.scatter({"a": {0: 1.0, 1: 2.0}, "b": {0: 2.0, 1: 1.0}}) == (pytest.approx(1.0), 1)
    assert scores.scatter({"a": {0: 1.0}, "b": {0: 2.0}})[1] == 0
    assert np.isnan(scores.scatter({})[0])


def test_labels_are_held_beside_weights():
    by_weights = {WITHOUT_WEIGHTS: [90.0, 91.0], MILD_WEIGHTS: [90.1, 91.2], HIGH_WEIGHTS: [90.3, 91.4]}
    worse = {setting: [value - 4 for value in found] for setting, found in by_weights.items()}
    found = study.effects(scored(by_weights) + scored(worse, labels="procedure"), scores.ACCURACY, "clean", "slow")
    assert found is not None
    assert found.labels.mean == pytest.approx(4)
    assert found.weights.mean == pytest.approx(0.35)
    assert found.larger.mean == pytest.approx(3.65)
    assert found.sentence.endswith("the labels matter more.")
    assert study.effects(scored(by_weights), scores.ACCURACY, "clean", "slow") is None


def curve_rows(share: float, slope: float, rise: float, n_epochs: int = 100, n_images: int = 28_560) -> list[Row]:
    values = {curves.SHARE: share, curves.SLOPE: slope, curves.RISE: rise}
    values |= {curves.N_EPOCHS: n_epochs, curves.N_IMAGES: n_images, curves.WIDTH: 64}
    key = (curves.TRAINING, "", False, rows.WHOLE)
    return [
        Row("clean", "truth", setting, seed, *key, quantity, value + 0.001 * seed, float("nan"))
        for setting in SETTINGS
        for seed in range(2)
        for quantity, value in values.items()
    ]


@pytest.mark.parametrize(
    ("values", "outcomes"),
    [
        ((85.0, -0.1, 2.0), [MET, MET]),
        ((70.0, -0.5, 2.0), [NOT_MET, NOT_MET]),
        ((85.0, -0.1, -2.0), [MET, NOT_MET]),
        ((85.0, -0.1, 2.0, 50), [MET, NOT_TESTABLE]),
        ((85.0, -0.1, 2.0, 100, 300), [NOT_TESTABLE, NOT_TESTABLE]),
    ],
)
def test_convergence_is_judged_over_seeds(values, outcomes):
    assert [a.outcome for a in judging.convergence(curve_rows(*values), "clean", "truth")] == outcomes
    assert judging.convergence([], "clean", "truth") == []


def test_the_second_volume_is_judged_by_every_seed():
    found = {a.claim: a for a in judging.second_volume(whole_study(), "clean", "truth")}
    assert found["C8"].outcome == NOT_MET  # 14 vol.% of everything
    assert found["C10"].outcome == MET
    assert "silicon 14.00 [14.00, 14.00] vol.% (truth 15.40)" in found["C8"].sentence
    small = judging.second_volume(whole_study(size=100), "clean", "truth")
    assert {(a.outcome, a.reason) for a in small} == {(NOT_TESTABLE, "too few voxels")}


def test_speed_counts_with_the_published_width_alone():
    (wide,) = judging.speed(whole_study(), curve_rows(85, 0, 0), "clean", "truth")
    assert wide.outcome == NOT_MET  # 100,000 voxels a second: 21 minutes
    assert wide.values[HIGH_WEIGHTS].mean == pytest.approx(256 * 256 * 1925 / 1e5 / 60)
    (unknown,) = judging.speed(whole_study(), [], "clean", "truth")
    assert (unknown.outcome, unknown.reason) == (NOT_TESTABLE, "narrow network")


def test_a_report_answers_every_claim_and_says_what_is_missing(tmp_path):
    path = rows.write(whole_study(), tmp_path / "study.csv")
    rows.write(curve_rows(85.0, -0.1, 2.0), tmp_path / curves.TABLE)
    text = study.write_report(path)
    assert (tmp_path / "study.md").read_text("utf-8") == text
    for claim in CLAIMS:
        assert f"### {claim}: " in text
    assert "12 trainings" not in text  # 3 settings x 3 seeds x 2 kinds of labels
    assert "18 trainings, 3 seeds. 18 trainings of the whole study are missing." in text
    assert "* hard scans, labels from the procedure, seed 2: (1, 1, 1), (1, 1.15, 1.2), (1, 1.25, 1.5)" in text
    assert "| C3 | accuracy, % of the voxels right | unseen, slow | met | met |" in text
    assert "the weights matter more." in text  # by 5 points against 1


def test_a_summary_holds_the_claims_that_are_asked_for(tmp_path):
    path = rows.write(whole_study(n_seeds=1), tmp_path / "study.csv")
    text = study.summary(path, ("C5", "C6", "C7"))
    assert "**C6**" in text
    assert "C3" not in text
    assert "one seed" in text
    assert "nothing measured yet" in study.summary(path, ("C1",))
    assert study.summary(tmp_path / "none.csv").startswith("No study lies at")


def test_studies_of_all_sizes_are_told_one_after_the_other(tmp_path):
    assert study.summaries(tmp_path).startswith("No study lies at")
    for name in ("standard", "quick"):
        path = rows.write(whole_study(n_seeds=1), tmp_path / name / "study" / "study.csv")
        (path.parent / "settings.json").write_text(json.dumps({"profile": {"name": name}}))
    text = study.summaries(tmp_path, ("C3",))
    assert text.index("Profile `quick`") < text.index("Profile `standard`")
    assert text.count("*Met* and *not met* go by") == 1


def test_the_figure_shows_every_training_once():
    found = whole_study(n_seeds=2)
    panel = drawing.panel(found, scores.ACCURACY, "slow")
    assert len(drawing.columns([[panel]])["value"]) == 12
    figure = figures.seed_scores([[panel]], SETTINGS)
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    assert sorted(len(line.get_xdata()) for line in dots) == [2] * 6


def test_the_figure_of_gains_shows_weights_and_labels():
    panel = drawing.gain_panel(whole_study(n_seeds=2), scores.ACCURACY, "slow")
    gains = {(group.condition, group.setting): list(group.values.values()) for group in panel.groups}
    assert gains["clean\ntruth", drawing.WEIGHT_GAINS[HIGH_WEIGHTS]] == pytest.approx([5.0, 5.02])
    assert gains["clean\nlabels", drawing.LABELS_GAIN] == pytest.approx([1.0, 1.0])
    axes = figures.seed_gains([[panel]], [drawing.LABELS_GAIN, *drawing.WEIGHT_GAINS.values()]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "clean\ntruth",
        "clean\nprocedure",
        "clean\nlabels",
    ]
