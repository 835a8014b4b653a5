"""How often intervals hold the truth: what is counted, drawn and said, and the whole command on tiny specimens."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from alsiseg import calibration, figures, phantom, prediction, training, volumes
from alsiseg.calibration import Calibration, Errors
from alsiseg.phases import NETWORKS
from alsiseg.study import coverage
from alsiseg.study.coverage import Plan, counting
from alsiseg.study.coverage.counting import Measured, Row
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNetConfig

FRACTION = "volume_fraction_pct"
TINY = Plan(shape_zyx=(24, 32, 32), n_angles=30, n_specimens=2, n_validation=3, castings=("slow",), min_voxels=4)


def of_all(value: float) -> dict[str, dict[str, float]]:
    return {network: {FRACTION: value} for network in NETWORKS}


def found(truth: float, *, views: tuple[float, ...] = (19.0, 20.0, 21.0)) -> Measured:
    """A specimen whose networks were all measured at 20 %, bootstrapped to 20 -+ 4 at every level."""
    ends = {network: {FRACTION: [(16.0, 24.0)] * 4} for network in NETWORKS}
    return Measured(of_all(20.0), of_all(truth), [of_all(view) for view in views], ends, 90.0, [])


def half_seen() -> Calibration:
    """The errors of a network that sees two thirds of what there is, more or less."""
    errors = {network: {FRACTION: Errors("ratio", tuple(np.log([1.4, 1.5, 1.6]).tolist()))} for network in NETWORKS}
    options = calibration.decisive(prediction.Options(three_views=True))
    return Calibration("abc", 1, options, 26, 1, 1.2, 1000, "made up", errors)


def row(seed: int, holds: bool, *, kind: str = "spread", level: float = 0.95, network: str = "silicon") -> Row:
    return Row("slow", seed, network, FRACTION, kind, level, 20.0, 20.0, 19.0, 21.0, 20.0 if holds else 30.0, holds)


def test_every_kind_of_interval_is_made_at_every_level():
    rows = list(counting.rows_of("slow", 1001, found(30.0), half_seen()))
    assert len(rows) == 4 * 3 * 4
    ends = {(r.kind, r.level): (r.low, r.high, r.holds) for r in rows if r.network == "silicon"}
    low, high, holds = ends["spread", 0.95]
    assert (low, high) == pytest.approx((20 - 4.303, 20 + 4.303), abs=1e-3)  # t of two degrees of freedom, from a table
    assert not holds
    assert ends["bootstrap", 0.5] == (16.0, 24.0, False)
    both = np.hypot(4.303, 4)
    assert ends["both", 0.95][:2] == pytest.approx((20 - both, 20 + both), abs=1e-3)
    assert ends["calibrated", 0.5][2]
    assert ends["calibrated", 0.95][0] < ends["calibrated", 0.5][0]


def test_a_calibrated_value_is_corrected_and_the_measured_one_stays_beside_it():
    rows = [r for r in counting.rows_of("slow", 1, found(30.0), half_seen()) if r.kind == "calibrated"]
    assert rows[0].measured == 20.0
    assert rows[0].value == pytest.approx(20 * (1.4 * 1.5 * 1.6) ** (1 / 3))


def test_shares_count_networks_and_seeds_of_a_kind_and_level():
    rows = [row(seed, seed < 7, network=network) for seed in range(10) for network in ("silicon", "hybrid")]
    (counted,) = counting.shares(rows)
    assert (counted.n, counted.n_held, counted.share) == (20, 14, 0.7)
    assert counted.width == pytest.approx(2 / 20)  # the median: seven in ten have the truth 20


def test_the_band_is_that_of_as_many_tries_as_there_are_specimens():
    # of ten tries at one half, 2 to 8 succeed in 97.9 % of repetitions, 3 to 7 in 89 %: from a table of the binomial
    (counted,) = counting.shares([row(seed, True, level=0.5, network=n) for seed in range(10) for n in NETWORKS])
    assert (counted.low, counted.high) == (0.2, 0.8)


def test_truths_between_the_views_are_counted():
    assert counting.within_views([found(20.5), found(25.0)]).endswith("3 of 6 truths")


def test_the_table_has_a_line_for_each_measure_and_kind():
    counted = counting.shares(counting.rows_of("slow", 1001, found(30.0), half_seen()))
    lines = counting.table(counted, "slow").splitlines()
    assert lines[2].startswith("| volume fraction | spread | 3 | 0 | 0 | 0 | 0 |")
    assert len(lines) == 2 + 4
    assert "truth / measured | 1.498" in counting.error_table(half_seen())


def test_a_sentence_counts_specimens_not_intervals_for_its_error():
    one = [row(1, True, network=network) for network in NETWORKS]
    said = "spread: 3 of 3 intervals of 95 % hold the truth (100 %)"
    assert counting.sentence(one, "slow", "spread") == said
    other = [row(2, False, network=network) for network in NETWORKS]
    said = "spread: 3 of 6 intervals of 95 % hold the truth (50 -+ 50 %)"  # 0.707 / sqrt(2)
    assert counting.sentence(one + other, "slow", "spread") == said


def test_the_figure_draws_a_line_for_each_kind_in_a_panel_for_each_casting():
    rows = [
        row
        for casting, truth in (("slow", 30.0), ("fast", 21.0))
        for row in counting.rows_of(casting, 1001, found(truth), half_seen())
    ]
    figure = figures.coverage(counting.columns(counting.shares(rows)))
    assert [axes.get_ylabel().split(":")[0] for axes in figure.axes] == ["slow", "fast"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["calibrated"].get_ydata(), 100)
    np.testing.assert_allclose(lines["block bootstrap"].get_ydata(), 0)
    np.testing.assert_allclose(lines["calibrated"].get_xdata(), [50, 80, 90, 95])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"castings": ("quick",)}, "among slow, fast, got quick"),
        ({"calibration_castings": ()}, "among slow, fast, got none"),
        ({"n_specimens": 0}, "got 0 and 10"),
        ({"n_validation": 2}, "3 to 100 to calibrate on, got 10 and 2"),
    ],
)
def test_an_impossible_plan_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        Plan(**changes)


def test_reported_specimens_are_none_of_the_validation():
    plan = Plan(n_specimens=50, n_validation=100)
    assert {seed for _, seed in plan.validation} == set(range(500, 600))
    assert min(seed for _, seed in plan.unseen) == 1001
    both = Plan(calibration_castings=("slow", "fast"))
    assert [casting for casting, _ in both.validation] == ["slow"] * 10 + ["fast"] * 10


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, Path, list[Row]]:
    """A run folder, the folder of its coverage, and the rows."""
    home = tmp_path_factory.mktemp("coverage")
    options = {"shape_zyx": (32, 32, 32), "modalities": ("synchrotron",), "n_angles": 30, "n_processes": 1}
    paths = phantom.make(home / "specimen", **options)
    scan, truth = (volumes.open(paths[name]) for name in ("synchrotron", "truth"))
    config = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=1, batch=8, images_per_epoch=8, crop_px=32)
    run_dir = training.train(scan, truth, home / "run", config, voxel_size_um=1.2, device="cpu")
    return run_dir, home / "out", coverage.run(TINY, run_dir, home / "out", device="cpu")


def test_a_coverage_stores_the_calibration_and_writes_table_report_and_figure(done):
    run_dir, out, rows = done
    stored = calibration.read(run_dir)
    assert stored.n_specimens == 3
    assert stored.min_voxels == 4
    with (out / "coverage.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(rows)
    assert {int(line["seed"]) for line in table} == {1001, 1002}
    for line in table:
        assert line["holds"] == str(float(line["low"]) <= float(line["truth"]) <= float(line["high"]))
    assert "## `slow`" in (out / "coverage.md").read_text("utf-8")
    assert {path.suffix for path in (out / "figures").iterdir()} == {".png", ".pdf", ".csv"}


def test_a_measured_specimen_is_not_measured_again_and_another_network_does_not_take_it(done, monkeypatch):
    run_dir, out, rows = done
    monkeypatch.setattr(phantom, "make", lambda *_, **__: pytest.fail("nothing is left to make"))
    assert coverage.run(TINY, run_dir, out, device="cpu") == rows
    path = out / "measured" / "slow_1001_clean.json"
    known = json.loads(path.read_text("utf-8"))
    known["made_by"]["network"] = "another"
    path.write_text(json.dumps(known), "utf-8")
    with pytest.raises(pytest.fail.Exception, match="nothing is left"):
        coverage.run(TINY, run_dir, out, device="cpu")
