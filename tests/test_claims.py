import json

import numpy as np
import pytest

from alsiseg import claims
from alsiseg.metrics import NetworkMeasure

SETTINGS = ("1, 1, 1", "1, 1.15, 1.2", "1, 1.25, 1.5")
TRUE_VALUES = {
    "silicon": (15.0, 0.96, -9000),
    "aluminides": (11.0, 0.95, -4000),
    "hybrid": (26.0, 0.99, -26000),
}


def measures(*, size=200**3, euler_factor=1.0, **volume_fraction_pct):
    """Measures of a volume of `size` voxels with the true values, or other volume fractions."""
    return {
        network: NetworkMeasure(
            n_voxels=round(size * volume_fraction_pct.get(network, fraction) / 100),
            volume_fraction_pct=volume_fraction_pct.get(network, fraction),
            interconnectivity=connected,
            euler_number=round(euler * euler_factor),
            n_components=10,
        )
        for network, (fraction, connected, euler) in TRUE_VALUES.items()
    }


def history(*, relative_error=0.0, n_epochs=50, scatter=0.0, silicon_connected=0.96, interface_accuracy=0.9):
    """A training whose networks are wrong by `relative_error` and scatter from epoch to epoch."""
    epochs = np.arange(n_epochs + 1)
    wobble = 1 + relative_error + scatter * np.where(epochs % 2, 1, -1)
    columns = {"epoch": epochs, "train_loss": 0.1 + 0.9 * np.exp(-4.0 * epochs)}
    columns["test_loss"] = columns["train_loss"] + 0.0005 * np.clip(epochs - 50, 0, None)
    columns["interface_accuracy"] = np.full(n_epochs + 1, interface_accuracy)
    for network, (fraction, connected, euler) in TRUE_VALUES.items():
        columns[f"{network}_volume_fraction_pct"] = fraction * wobble
        columns[f"{network}_euler_number"] = euler * wobble
        columns[f"{network}_interconnectivity"] = connected * np.minimum(wobble, 1.0)
    columns["silicon_interconnectivity"] = np.full(n_epochs + 1, silicon_connected)
    return columns


def trainings(*errors, **options):
    return {label: history(relative_error=error, **options) for label, error in zip(SETTINGS, errors, strict=True)}


def test_the_table_holds_every_claim_of_the_paper_once():
    assert list(claims.CLAIMS) == [f"C{number}" for number in range(1, 12)]


def test_a_loss_that_falls_in_the_first_epoch_meets_the_first_claim():
    verdict = claims.early_convergence(trainings(0, 0, 0), images_per_epoch=28_560)
    assert verdict.verdict == "met"
    assert "98 %" in verdict.measured


def test_one_setting_that_converges_slowly_fails_the_first_claim():
    histories = trainings(0, 0, 0)
    histories["1, 1, 1"]["train_loss"] = np.linspace(1, 0.1, 51)
    assert claims.early_convergence(histories, images_per_epoch=28_560).verdict == "not met"


@pytest.mark.parametrize(("n_epochs", "images"), [(50, 400), (10, 28_560)])
def test_less_training_than_published_cannot_test_the_first_claim(n_epochs, images):
    verdict = claims.early_convergence(trainings(0, 0, 0, n_epochs=n_epochs), images_per_epoch=images)
    assert verdict.verdict == "not testable at this size"
    assert f"{n_epochs} epochs of {images:,} images" in verdict.measured


def test_a_flat_loss_that_rises_late_meets_the_second_claim():
    histories = trainings(0, 0, 0, n_epochs=100)
    assert claims.late_slope(histories, images_per_epoch=28_560).verdict == "met"


def test_a_loss_still_falling_at_epoch_50_fails_the_second_claim():
    histories = trainings(0, 0, 0, n_epochs=100)
    histories["1, 1.15, 1.2"]["train_loss"] = np.linspace(1, 0.1, 101)
    assert claims.late_slope(histories, images_per_epoch=28_560).verdict == "not met"


def test_a_test_loss_that_keeps_falling_fails_the_second_claim():
    histories = trainings(0, 0, 0, n_epochs=100)
    histories["1, 1.25, 1.5"]["test_loss"] = np.linspace(1, 0.9, 101)
    assert claims.late_slope(histories, images_per_epoch=28_560).verdict == "not met"


def test_fifty_epochs_cannot_show_a_rise_after_epoch_fifty():
    histories = trainings(0, 0, 0, n_epochs=50)
    assert claims.late_slope(histories, images_per_epoch=28_560).verdict == "not testable at this size"


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        ((0.93, 0.95, 0.96), "met"),
        ((0.96, 0.95, 0.93), "not met"),  # order
        ((0.70, 0.75, 0.80), "not met"),  # values
    ],
)
def test_accuracies_need_the_published_order_and_values(means, expected):
    by_setting = {label: np.full(7, mean) for label, mean in zip(SETTINGS, means, strict=True)}
    assert claims.accuracy_order(by_setting).verdict == expected


def test_two_settings_cannot_test_the_order_of_three():
    verdict = claims.accuracy_order({"1, 1, 1": np.ones(3), "1, 1.25, 1.5": np.ones(3)})
    assert verdict.verdict == "not testable at this size"


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [((0.80, 0.86, 0.91), "met"), ((0.80, 0.86, 0.88), "not met"), ((0.80, 0.79, 0.95), "not met")],
)
def test_interfaces_count_as_right_when_half_of_their_errors_are_gone(accuracies, expected):
    histories = {
        label: history(interface_accuracy=accuracy) for label, accuracy in zip(SETTINGS, accuracies, strict=True)
    }
    assert claims.interface_accuracy(histories).verdict == expected


@pytest.mark.parametrize("judge", [claims.volume_fractions, claims.euler_numbers])
def test_the_setting_nearest_to_the_truth_decides(judge):
    assert judge(trainings(-0.3, -0.2, -0.1), measures()).verdict == "met"
    assert judge(trainings(-0.1, -0.2, -0.3), measures()).verdict == "not met"
    assert judge(trainings(-0.3, 0.0, 0.1), measures()).verdict == "not met"


def test_settings_within_their_scatter_cannot_be_told_apart():
    verdict = claims.euler_numbers(trainings(-0.30, -0.21, -0.20, scatter=0.05), measures())
    assert verdict.verdict == "not testable at this size"
    assert "scatter" in verdict.measured


def test_silicon_must_be_connected_with_weights_only():
    histories = trainings(-0.3, -0.2, -0.1)
    histories["1, 1, 1"]["silicon_interconnectivity"] = np.full(51, 0.6)
    assert claims.interconnectivities(histories, measures()).verdict == "met"
    histories["1, 1, 1"]["silicon_interconnectivity"] = np.full(51, 0.92)
    assert claims.interconnectivities(histories, measures()).verdict == "not met"


def test_three_epochs_cannot_compare_settings():
    histories = trainings(-0.3, -0.2, -0.1, n_epochs=3)
    for judge in (claims.volume_fractions, claims.euler_numbers, claims.interconnectivities):
        assert judge(histories, measures()).verdict == "not testable at this size"


def test_a_true_value_of_zero_has_no_relative_error():
    truth = measures(euler_factor=0.0)
    assert claims.euler_numbers(trainings(-0.3, -0.2, -0.1), truth).verdict == "not testable at this size"


def test_second_volume_fractions_are_compared_with_the_published_ones():
    assert claims.second_volume_fractions(measures(silicon=14.5, aluminides=17.6, hybrid=32.1)).verdict == "met"
    assert claims.second_volume_fractions(measures()).verdict == "not met"


def test_a_small_second_volume_is_not_judged():
    verdict = claims.second_volume_fractions(measures(size=100**3, silicon=14, aluminides=18, hybrid=32))
    assert verdict.verdict == "not testable at this size"
    assert "1,000,000 voxels" in verdict.measured


def test_silicon_of_the_second_volume_must_be_less_connected():
    first, second = measures(), measures()
    assert claims.second_volume_interconnectivity(first, second).verdict == "not met"
    second["silicon"] = NetworkMeasure(10, 15.0, 0.81, -5, 3)
    assert claims.second_volume_interconnectivity(first, second).verdict == "met"


def test_euler_numbers_are_compared_per_volume():
    small_and_denser = measures(size=160**3, euler_factor=0.8)
    assert claims.second_volume_euler_numbers(measures(), small_and_denser).verdict == "met"
    assert claims.second_volume_euler_numbers(measures(), measures(size=400**3)).verdict == "not met"


def test_time_is_extrapolated_to_the_published_volume():
    fast = claims.segmentation_time(n_voxels=10**6, seconds=1.0, device="RTX 8000", stem_channels=64)
    slow = claims.segmentation_time(n_voxels=10**6, seconds=10.0, device="CPU", stem_channels=64)
    narrow = claims.segmentation_time(n_voxels=10**6, seconds=1.0, device="CPU", stem_channels=8)
    assert [v.verdict for v in (fast, slow, narrow)] == ["met", "not met", "not testable at this size"]
    assert "2.1 min" in fast.measured
    assert "RTX 8000" in fast.measured


def test_time_needs_a_measurement():
    with pytest.raises(ValueError, match="time a segmentation first"):
        claims.segmentation_time(n_voxels=0, seconds=0.0, device="CPU", stem_channels=64)


def test_verdicts_are_printed_and_written_whole(tmp_path):
    verdicts = [claims.volume_fractions(trainings(-0.3, -0.2, -0.1), measures())]
    assert "C5   MET: volume fractions agree best" in claims.table(verdicts)
    rows = json.loads(claims.write(verdicts, tmp_path / "new" / "claims.json").read_text())
    assert [row["id"] for row in rows] == ["C5"]
    assert set(rows[0]) == {"id", "text", "published", "measured", "verdict"}


def test_the_summary_lists_every_written_verdict_in_order(tmp_path):
    late = claims.Verdict(claims.CLAIMS["C10"], "measured ten", "not met")
    early = claims.Verdict(claims.CLAIMS["C8"], "measured eight", "met")
    claims.write([late, early], tmp_path / "fig7_claims.json")
    lines = claims.summary(tmp_path, profile="tiny").splitlines()
    assert "`tiny`" in lines[0]
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| C8", "| C10"]
    assert "measured eight" in lines[-2]
    assert "**not met**" in lines[-1]


def test_the_numbers_of_a_loss_curve_are_those_worked_out_by_hand():
    epochs = np.arange(71)
    loss = np.where(epochs == 0, 10.0, np.where(epochs == 1, 2.0, 1.0))
    curve = {"epoch": epochs, "train_loss": loss, "test_loss": np.where(epochs > 60, 1.5, 1.0)}
    assert claims.share_after_first_epoch(loss) == pytest.approx(8 / 9)
    assert claims.relative_slope(curve) == pytest.approx(0)
    assert claims.late_rise(curve) == pytest.approx(0.5)
    assert np.isnan(claims.late_rise({name: values[:51] for name, values in curve.items()}))
