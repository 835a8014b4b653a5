"""What the paper claims, and how far measured numbers bear it out.

Every criterion stands in the docstring of its function and was fixed before results were seen. A claim that
needs more training or a larger volume than was measured is *not testable at this size*; its numbers are given
all the same.
"""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alsiseg import volumes
from alsiseg.metrics import NetworkMeasure
from alsiseg.phases import NETWORKS

History = Mapping[str, NDArray]
Outcome = Literal["met", "not met", "not testable at this size"]
MET: Outcome = "met"
NOT_MET: Outcome = "not met"
NOT_TESTABLE: Outcome = "not testable at this size"

WITHOUT_WEIGHTS, MILD_WEIGHTS, HIGH_WEIGHTS = "1, 1, 1", "1, 1.15, 1.2", "1, 1.25, 1.5"
PUBLISHED_IMAGES_PER_EPOCH = 28_560
PUBLISHED_EPOCH = 50  # at which the paper compares the settings
PUBLISHED_STEM_CHANNELS = 64
SECOND_VOLUME_VOXELS = 256 * 256 * 1925
SCATTER_EPOCHS = 5  # epochs over which a value is averaged and its scatter taken
# Silicon plates are 40-80 um wide, about 50 voxels: a volume for C8-C10 should hold three in each direction.
SMALLEST_VOLUME = 150**3


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in our words, with the published value."""

    id: str
    text: str
    published: str


@dataclass(frozen=True)
class Verdict:
    """A claim beside what was measured: met, not met, or not testable at this size."""

    claim: Claim
    measured: str
    verdict: Outcome


_ROWS = (
    ("C1", "most of the convergence of the loss happens in the first epoch", "> 80 % after epoch 1"),
    ("C2", "at epoch 50 the loss is flat; with high weights the test loss rises later", "slope near zero"),
    ("C3", "accuracy is lowest without weights, highest with (1, 1.25, 1.5)", "about 93 % and 96 %"),
    ("C4", "silicon-aluminide interfaces are wrong without weights and right with them", "Fig. 4 b"),
    ("C5", "volume fractions agree best with the truth for (1, 1.25, 1.5)", "Fig. 6 a-c, epoch 50"),
    ("C6", "Euler numbers agree best with the truth for (1, 1.25, 1.5)", "Fig. 6 a-c, epoch 50"),
    ("C7", "so does interconnectivity; silicon stays connected only with weights", "Fig. S1, Fig. 6 d, e"),
    ("C8", "volume fractions of the second volume", "Si about 14, aluminides 18, hybrid about 32 vol.%"),
    ("C9", "interconnectivity in the second volume", "aluminides 95 %, hybrid 99 %, Si 15 points lower"),
    ("C10", "all Euler numbers of the second volume are more negative than in training", "Fig. 7"),
    ("C11", "256 x 256 x 1925 voxels are segmented in less than 10 minutes", "< 10 min on one RTX 8000"),
)
CLAIMS: dict[str, Claim] = {row[0]: Claim(*row) for row in _ROWS}


def early_convergence(histories: Mapping[str, History], *, images_per_epoch: int) -> Verdict:
    """Judge C1: (loss 0 - loss 1) / (loss 0 - lowest loss) > 0.8 for the train loss of every setting.

    Testable when an epoch holds at least the published 28,560 images and at least 50 epochs were trained: fewer
    images make the first epoch weaker, fewer epochs leave the lowest loss unknown.
    """
    shares = {label: share_after_first_epoch(history["train_loss"]) for label, history in histories.items()}
    measured = ", ".join(f"({label}): {100 * share:.0f} %" for label, share in shares.items())
    comparable = _last_epoch(histories) >= PUBLISHED_EPOCH and images_per_epoch >= PUBLISHED_IMAGES_PER_EPOCH
    verdict = _outcome(all(share > 0.8 for share in shares.values())) if comparable else NOT_TESTABLE
    return Verdict(CLAIMS["C1"], f"{measured}; {_training_size(histories, images_per_epoch)}", verdict)


def late_slope(histories: Mapping[str, History], *, images_per_epoch: int) -> Verdict:
    """Judge C2: flat train loss at epoch 50, and a test loss that rises later with high weights.

    Flat: a straight line through the train loss of epochs 40 to 50 falls (or rises) by less than 0.2 % of the
    total drop per epoch, in every setting (a tenth of the drop over the 50 epochs that follow). Rises: the mean
    test loss of the last ten epochs is above that of epochs 41 to 50 for (1, 1.25, 1.5).
    Testable with at least 60 epochs of at least 28,560 images.
    """
    n_epochs = _last_epoch(histories)
    size = _training_size(histories, images_per_epoch)
    slopes = {label: relative_slope(history) for label, history in histories.items()}
    measured = ", ".join(
        f"({label}): slope {100 * slope:+.2f} % of the drop per epoch" for label, slope in slopes.items()
    )
    high = histories.get(HIGH_WEIGHTS)
    if high is None or n_epochs < PUBLISHED_EPOCH + 10 or images_per_epoch < PUBLISHED_IMAGES_PER_EPOCH:
        return Verdict(CLAIMS["C2"], f"{measured}; {size}", NOT_TESTABLE)
    rise = late_rise(high)
    met = all(abs(slope) < 0.002 for slope in slopes.values()) and rise > 0
    return Verdict(CLAIMS["C2"], f"{measured}; test loss {100 * rise:+.1f} % after epoch 50; {size}", _outcome(met))


def accuracy_order(accuracy_by_setting: Mapping[str, NDArray]) -> Verdict:
    """Judge C3: mean accuracy lowest for (1, 1, 1), highest for (1, 1.25, 1.5), and near the published values.

    Near: within 2 percentage points of 93 and 96 %. Takes the accuracy (0..1) of every test slice for each
    setting; not testable unless all three settings are there.
    """
    means = {label: 100 * float(np.nanmean(values)) for label, values in accuracy_by_setting.items()}
    measured = ", ".join(f"({label}): {mean:.2f} %" for label, mean in means.items())
    if not _has_all_settings(means):
        return Verdict(CLAIMS["C3"], f"{measured}; needs all three settings", NOT_TESTABLE)
    low, high = means[WITHOUT_WEIGHTS], means[HIGH_WEIGHTS]
    ordered = low < means[MILD_WEIGHTS] < high
    near = abs(low - 93) <= 2 and abs(high - 96) <= 2
    measured += f"; order {'as' if ordered else 'not as'} published, values {'near' if near else 'not near'}"
    return Verdict(CLAIMS["C3"], measured, _outcome(ordered and near))


def interface_accuracy(histories: Mapping[str, History]) -> Verdict:
    """Judge C4: more interface pixels right with both weights, and half of the errors gone with the high ones.

    Accuracy on the interface band of the truth, mean of the last five epochs up to epoch 50.
    Not testable unless all three settings are there, each with at least five epochs.
    """
    if not _has_all_settings(histories) or _last_epoch(histories) < SCATTER_EPOCHS:
        return Verdict(CLAIMS["C4"], _needs_more(histories), NOT_TESTABLE)
    means = {label: float(_late(history, "interface_accuracy").mean()) for label, history in histories.items()}
    measured = ", ".join(f"({label}): {100 * mean:.1f} % of interface pixels right" for label, mean in means.items())
    without = means[WITHOUT_WEIGHTS]
    better = min(means[MILD_WEIGHTS], means[HIGH_WEIGHTS]) > without
    halved = 1 - means[HIGH_WEIGHTS] <= 0.5 * (1 - without)
    measured += f"; better with weights: {_yes(better)}, errors halved: {_yes(halved)}"
    return Verdict(CLAIMS["C4"], measured, _outcome(better and halved))


def volume_fractions(histories: Mapping[str, History], truth: Mapping[str, NetworkMeasure]) -> Verdict:
    """Judge C5: (1, 1.25, 1.5) has the smallest error of the volume fractions of silicon and aluminides.

    The criterion is that of `smallest_error`.
    """
    networks = ("silicon", "aluminides")
    measured, verdict = smallest_error(histories, truth, quantity="volume_fraction_pct", networks=networks)
    return Verdict(CLAIMS["C5"], measured, verdict)


def euler_numbers(histories: Mapping[str, History], truth: Mapping[str, NetworkMeasure]) -> Verdict:
    """Judge C6: (1, 1.25, 1.5) has the smallest error of the Euler numbers of all three networks.

    The criterion is that of `smallest_error`.
    """
    measured, verdict = smallest_error(histories, truth, quantity="euler_number", networks=tuple(NETWORKS))
    return Verdict(CLAIMS["C6"], measured, verdict)


def interconnectivities(histories: Mapping[str, History], truth: Mapping[str, NetworkMeasure]) -> Verdict:
    """Judge C7: smallest error of the interconnectivities, and silicon connected with weights only.

    The first half by `smallest_error`; connected means that the largest particle holds at least 90 % of the
    silicon, with (1, 1.25, 1.5) and not with (1, 1, 1). Not testable when the silicon of the truth is not
    connected in this sense.
    """
    networks = tuple(NETWORKS)
    measured, verdict = smallest_error(histories, truth, quantity="interconnectivity", networks=networks)
    if verdict == NOT_TESTABLE:
        return Verdict(CLAIMS["C7"], measured, verdict)
    silicon = {label: float(_late(h, "silicon_interconnectivity").mean()) for label, h in histories.items()}
    in_truth = truth["silicon"].interconnectivity
    shares = ", ".join(f"({label}) {100 * share:.1f} %" for label, share in silicon.items())
    measured += f"; silicon in one piece: {shares}, truth {100 * in_truth:.1f} %"
    if in_truth < 0.9:
        return Verdict(CLAIMS["C7"], measured, NOT_TESTABLE)
    only_with_weights = silicon[HIGH_WEIGHTS] >= 0.9 > silicon[WITHOUT_WEIGHTS]
    return Verdict(CLAIMS["C7"], measured, _outcome(verdict == MET and only_with_weights))


def smallest_error(
    histories: Mapping[str, History],
    truth: Mapping[str, NetworkMeasure],
    *,
    quantity: str,
    networks: Sequence[str],
) -> tuple[str, Outcome]:
    """Compare the settings by their error against the truth.

    The error is |measured - truth| / |truth|, averaged over the networks and over the last five epochs up to
    epoch 50. Met when it is smallest for (1, 1.25, 1.5). Not testable when settings are missing, fewer than
    five epochs were trained, a true value is zero, or the two best settings differ by less than the larger of
    their standard deviations over those epochs: they cannot be told apart.

    Returns
    -------
    tuple of str and str
        What was measured, in words, and the outcome.
    """
    if not _has_all_settings(histories) or _last_epoch(histories) < SCATTER_EPOCHS:
        return _needs_more(histories), NOT_TESTABLE
    true_values = {network: float(getattr(truth[network], quantity)) for network in networks}
    if not all(true_values.values()):
        return "a true value is zero, so there is no relative error", NOT_TESTABLE
    errors = {
        label: np.mean([abs(_late(h, f"{n}_{quantity}") - v) / abs(v) for n, v in true_values.items()], axis=0)
        for label, h in histories.items()
    }
    means = {label: float(error.mean()) for label, error in errors.items()}
    best, second = sorted(means, key=means.__getitem__)[:2]
    epoch = min(_last_epoch(histories), PUBLISHED_EPOCH)
    measured = ", ".join(f"({label}): {100 * mean:.1f} %" for label, mean in means.items())
    measured = f"mean error up to epoch {epoch} {measured}"
    scatter = max(float(errors[best].std()), float(errors[second].std()))
    if means[second] - means[best] < scatter:
        return f"{measured}; ({best}) and ({second}) differ by less than their scatter", NOT_TESTABLE
    return measured, _outcome(best == HIGH_WEIGHTS)


def second_volume_fractions(second: Mapping[str, NetworkMeasure]) -> Verdict:
    """Judge C8: silicon, aluminides and hybrid within 1 vol.% of 14, 18 and 32.

    Testable on at least 150^3 voxels. The specimen shipped here is calibrated to the published values.
    """
    published = {"silicon": 14, "aluminides": 18, "hybrid": 32}
    measured = ", ".join(f"{n} {second[n].volume_fraction_pct:.1f} vol.%" for n in NETWORKS)
    met = all(abs(second[n].volume_fraction_pct - value) <= 1 for n, value in published.items())
    return _judge_volume("C8", measured, met, second)


def second_volume_interconnectivity(
    first: Mapping[str, NetworkMeasure], second: Mapping[str, NetworkMeasure]
) -> Verdict:
    """Judge C9: aluminides within 2 points of 95 %, hybrid within 1 of 99 %, silicon 10 to 20 below training.

    Testable when both volumes have at least 150^3 voxels: smaller ones cut networks apart at their faces.
    """
    per_cent = {network: 100 * second[network].interconnectivity for network in NETWORKS}
    drop = 100 * first["silicon"].interconnectivity - per_cent["silicon"]
    measured = ", ".join(f"{network} {value:.1f} %" for network, value in per_cent.items())
    measured += f"; silicon {drop:.1f} points below training"
    met = abs(per_cent["aluminides"] - 95) <= 2 and abs(per_cent["hybrid"] - 99) <= 1 and 10 <= drop <= 20
    return _judge_volume("C9", measured, met, first, second)


def second_volume_euler_numbers(first: Mapping[str, NetworkMeasure], second: Mapping[str, NetworkMeasure]) -> Verdict:
    """Judge C10: the Euler number per volume of every network is lower in the second volume.

    Per million voxels, as volumes differ in size. Testable when both have at least 150^3 voxels.
    """
    pairs = {n: (euler_per_million(first[n]), euler_per_million(second[n])) for n in NETWORKS}
    measured = ", ".join(f"{n} {before:.0f} in training, {after:.0f} here" for n, (before, after) in pairs.items())
    met = all(after < before for before, after in pairs.values())
    return _judge_volume("C10", f"per million voxels: {measured}", met, first, second)


def segmentation_time(*, n_voxels: int, seconds: float, device: str, stem_channels: int) -> Verdict:
    """Judge C11: the measured voxels per second give 256 x 256 x 1925 voxels in less than 600 s.

    Testable with the published network (64 channels in the stem); a narrower one has less to compute.

    Raises
    ------
    ValueError
        When no voxel or no time was measured.
    """
    if n_voxels <= 0 or seconds <= 0:
        raise ValueError(
            f"segmentation_time needs voxels segmented and seconds taken, both above 0, got {n_voxels} and "
            f"{seconds}; time a segmentation first"
        )
    expected = SECOND_VOLUME_VOXELS * seconds / n_voxels
    measured = (
        f"{n_voxels / seconds:,.0f} voxels/s on {device} with {stem_channels} stem channels: "
        f"{expected / 60:.1f} min for 256 x 256 x 1925 voxels"
    )
    testable = stem_channels >= PUBLISHED_STEM_CHANNELS
    return Verdict(CLAIMS["C11"], measured, _outcome(expected < 600) if testable else NOT_TESTABLE)


def table(verdicts: Iterable[Verdict], *, width: int = 100) -> str:
    """Write verdicts as text: a paragraph each with claim, published value, measured value and verdict."""
    paragraphs = []
    for verdict in verdicts:
        claim = verdict.claim
        lines = [f"{claim.id:<4} {verdict.verdict.upper()}: {claim.text}"]
        lines += [f"published: {claim.published}", f"measured: {verdict.measured}"]
        indented = (textwrap.fill(line, width, initial_indent="     ", subsequent_indent="       ") for line in lines)
        paragraphs.append("\n".join(indented).strip())
    return "\n".join(paragraphs)


def write(verdicts: Iterable[Verdict], path: str | Path) -> Path:
    """Write verdicts as a JSON list: id, text, published, measured, verdict. The file appears whole."""
    path = Path(path)
    rows = [asdict(v.claim) | {"measured": v.measured, "verdict": v.verdict} for v in verdicts]
    with volumes.written_whole(path) as partial:
        Path(partial).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return path


def summary(figures_dir: str | Path, *, profile: str) -> str:
    """Gather what the notebooks judged (``fig*_claims.json``) into one Markdown table in the order of the claims."""
    rows = [row for path in Path(figures_dir).glob("fig*_claims.json") for row in json.loads(path.read_text("utf-8"))]
    lines = [
        f"Profile `{profile}`; written by `make figures` from `fig*_claims.json`.",
        "",
        "| | claim of the paper | published | measured here | verdict |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: int(row["id"].removeprefix("C"))):
        lines.append("| {id} | {text} | {published} | {measured} | **{verdict}** |".format(**row))
    return "\n".join(lines) + "\n"


def _outcome(met: bool) -> Outcome:
    return MET if met else NOT_MET


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"


def _last_epoch(histories: Mapping[str, History]) -> int:
    """Find the last epoch that all settings have reached."""
    return min((int(np.max(history["epoch"])) for history in histories.values()), default=0)


def _has_all_settings(by_setting: Mapping[str, object]) -> bool:
    return {WITHOUT_WEIGHTS, MILD_WEIGHTS, HIGH_WEIGHTS} <= set(by_setting)


def _needs_more(histories: Mapping[str, History]) -> str:
    """Say what is missing for a comparison of settings."""
    labels = ", ".join(f"({label})" for label in histories) or "none"
    return (
        f"needs the three settings with at least {SCATTER_EPOCHS} epochs each, "
        f"found {labels} with {_last_epoch(histories)} epochs"
    )


def _training_size(histories: Mapping[str, History], images_per_epoch: int) -> str:
    size = f"{_last_epoch(histories)} epochs of {images_per_epoch:,} images"
    smaller = images_per_epoch < PUBLISHED_IMAGES_PER_EPOCH
    return f"{size} (published {PUBLISHED_IMAGES_PER_EPOCH:,})" if smaller else size


def late_rise(history: History) -> float:
    """Rise of the mean test loss from epochs 41-50 to the last ten, as a share; NaN with fewer than 60 epochs."""
    test_loss, epochs = np.asarray(history["test_loss"]), np.asarray(history["epoch"])
    if epochs.max() < PUBLISHED_EPOCH + 10:
        return float("nan")
    at_50 = test_loss[(epochs > PUBLISHED_EPOCH - 10) & (epochs <= PUBLISHED_EPOCH)].mean()
    return float(test_loss[epochs > epochs.max() - 10].mean() / at_50 - 1)


def share_after_first_epoch(loss: NDArray) -> float:
    """Share of the whole drop of a loss that lies between epochs 0 and 1."""
    drop = float(loss[0] - np.min(loss))
    return float(loss[0] - loss[min(1, len(loss) - 1)]) / drop if drop > 0 else 0.0


def relative_slope(history: History) -> float:
    """Slope of the train loss over the ten epochs up to epoch 50 (or the last), over the total drop."""
    epochs, loss = np.asarray(history["epoch"], dtype=float), np.asarray(history["train_loss"], dtype=float)
    end = min(PUBLISHED_EPOCH, epochs.max())
    late = (epochs >= end - 10) & (epochs <= end)
    drop = loss[0] - loss.min()
    if np.count_nonzero(late) < 2 or drop <= 0:
        return 0.0
    return float(np.polyfit(epochs[late], loss[late], 1)[0] / drop)


def _late(history: History, column: str) -> NDArray[np.float64]:
    """Values of the last five epochs up to epoch 50."""
    epochs = np.asarray(history["epoch"])
    end = min(PUBLISHED_EPOCH, int(epochs.max()))
    return np.asarray(history[column], dtype=np.float64)[(epochs > end - SCATTER_EPOCHS) & (epochs <= end)]


def _judge_volume(claim_id: str, measured: str, met: bool, *volumes_measured: Mapping[str, NetworkMeasure]) -> Verdict:
    """Verdict on measured volumes, not testable when one is too small."""
    smallest = min(_n_voxels_of_volume(measures) for measures in volumes_measured)
    if smallest < SMALLEST_VOLUME:
        measured += f"; smallest volume {smallest:,} voxels, needs {SMALLEST_VOLUME:,}"
        return Verdict(CLAIMS[claim_id], measured, NOT_TESTABLE)
    return Verdict(CLAIMS[claim_id], measured, _outcome(met))


def _n_voxels_of_volume(measures: Mapping[str, NetworkMeasure]) -> int:
    """Voxels of the measured volume, from the share that the hybrid network takes."""
    hybrid = measures["hybrid"]
    return round(100 * hybrid.n_voxels / hybrid.volume_fraction_pct) if hybrid.volume_fraction_pct > 0 else 0


def euler_per_million(measure: NetworkMeasure) -> float:
    """Euler number per million voxels of the volume; 0 for an empty network."""
    if measure.n_voxels == 0:
        return 0.0
    return measure.euler_number * 1e4 * measure.volume_fraction_pct / measure.n_voxels
