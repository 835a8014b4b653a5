"""The claims that are not about which setting is better: convergence, the second volume, speed.

Convergence (C1, C2) is judged from the intervals over seeds of numbers that `curves` keeps. The second volume and the
speed (C8 to C11) are judged by `claims`, seed by seed, for the weights (1, 1.25, 1.5): met when every seed meets them,
not met when none does, and not testable here when seeds disagree or `claims` says so of one.
"""

from collections.abc import Callable, Mapping, Sequence

from alsiseg import claims
from alsiseg.claims import HIGH_WEIGHTS, MET, NOT_MET, NOT_TESTABLE, Outcome, Verdict
from alsiseg.metrics import NetworkMeasure
from alsiseg.phases import NETWORKS
from alsiseg.study import curves
from alsiseg.study.answers import Answer, Estimate, by_setting, estimate, number
from alsiseg.study.rows import Row
from alsiseg.study.scores import Place, by_training, reading

Measures = Mapping[str, NetworkMeasure]
FLAT_PCT_PER_EPOCH = 0.2


def convergence(rows: Sequence[Row], difficulty: str, labels: str) -> list[Answer]:
    """Answer C1 and C2 under one condition.

    C1 is met when the interval of every setting lies above 80 % of the fall of the train loss, not met when one lies
    below; C2 when every slope lies within 0.2 % of the fall an epoch and the test loss of (1, 1.25, 1.5) rises, not met
    when one of them lies outside. What needs longer trainings or larger epochs is as in `claims.early_convergence`
    and `claims.late_slope`.

    Parameters
    ----------
    rows
        Of `curves.read`.
    """
    found = {
        q: by_setting(curves.of_training(rows, difficulty, labels, q))
        for q in (curves.SHARE, curves.SLOPE, curves.RISE)
    }
    if not found[curves.SHARE]:
        return []
    n_epochs, n_images = (_smallest(rows, difficulty, labels, q) for q in (curves.N_EPOCHS, curves.N_IMAGES))
    place = Place(difficulty, labels, curves.TRAINING, "")
    large = n_images >= claims.PUBLISHED_IMAGES_PER_EPOCH
    size = f"{n_epochs:.0f} epochs of {n_images:,.0f} images" + ("" if large else " (28,560 in the paper)")
    shares, slopes, rises = found.values()
    return [
        Answer(
            "C1",
            place,
            "fall of the train loss reached after epoch 1, %",
            shares,
            {},
            _early(shares) if large and n_epochs >= claims.PUBLISHED_EPOCH else NOT_TESTABLE,
            f"After the first of {size}, {_span(shares)} % of the fall of the train loss are reached.",
            "" if large and n_epochs >= claims.PUBLISHED_EPOCH else "trained too little",
        ),
        Answer(
            "C2",
            place,
            "slope of the train loss at the end, % of its fall an epoch",
            slopes,
            {},
            _late(slopes, rises) if large and n_epochs >= claims.PUBLISHED_EPOCH + 10 else NOT_TESTABLE,
            f"After {size} the train loss still changes by {_span(slopes)} % of its fall an epoch{_rise(rises)}.",
            "" if large and n_epochs >= claims.PUBLISHED_EPOCH + 10 else "trained too little",
        ),
    ]


def _smallest(rows: Sequence[Row], difficulty: str, labels: str, quantity: str) -> float:
    found = curves.of_training(rows, difficulty, labels, quantity)
    return min(value for by_seed in found.values() for value in by_seed.values())


def _early(shares: Mapping[str, Estimate]) -> Outcome:
    if any(share.high < 80 for share in shares.values()):
        return NOT_MET
    return MET if all(share.low > 80 for share in shares.values()) else NOT_TESTABLE


def _late(slopes: Mapping[str, Estimate], rises: Mapping[str, Estimate]) -> Outcome:
    rise = rises.get(HIGH_WEIGHTS)
    outside = any(s.low > FLAT_PCT_PER_EPOCH or s.high < -FLAT_PCT_PER_EPOCH for s in slopes.values())
    if outside or (rise is not None and rise.high < 0):
        return NOT_MET
    inside = all(s.low > -FLAT_PCT_PER_EPOCH and s.high < FLAT_PCT_PER_EPOCH for s in slopes.values())
    return MET if inside and rise is not None and rise.low > 0 else NOT_TESTABLE


def _span(values: Mapping[str, Estimate]) -> str:
    """Write the smallest and the largest mean."""
    means = [value.mean for value in values.values()]
    return f"{number(min(means))} to {number(max(means))}"


def _rise(rises: Mapping[str, Estimate]) -> str:
    rise = rises.get(HIGH_WEIGHTS)
    if rise is None or rise.mean != rise.mean:  # NaN: fewer than 60 epochs
        return ""
    return f"; after epoch 50 the test loss with (1, 1.25, 1.5) changes by {rise.signed} %"


def second_volume(rows: Sequence[Row], difficulty: str, labels: str) -> list[Answer]:
    """Answer C8 to C10 under one condition: the unseen specimens as (1, 1.25, 1.5) segments them, slice by slice.

    "Training" of the claims is the unseen slowly cooled specimen here, of the size of the one trained on.
    """
    found = {name: _measures(rows, Place(difficulty, labels, name)) for name in ("slow", "fast")}
    seeds = sorted(found["slow"].keys() & found["fast"].keys())
    if not seeds:
        return []
    judges: dict[str, Callable[[Measures, Measures], Verdict]] = {
        "C8": lambda _, second: claims.second_volume_fractions(second),
        "C9": claims.second_volume_interconnectivity,
        "C10": claims.second_volume_euler_numbers,
    }
    place = Place(difficulty, labels, "fast")
    answers = []
    for claim, judge in judges.items():
        verdicts = [judge(found["slow"][seed], found["fast"][seed]) for seed in seeds]
        what, sentence = _WORDS[claim](rows, difficulty, labels)
        answers.append(Answer(claim, place, what, {}, {}, _together(verdicts), sentence, _disagreement(verdicts)))
    return answers


def _together(verdicts: Sequence[Verdict]) -> Outcome:
    """Judge all seeds together."""
    outcomes = {verdict.verdict for verdict in verdicts}
    return outcomes.pop() if len(outcomes) == 1 else NOT_TESTABLE


def _disagreement(verdicts: Sequence[Verdict]) -> str:
    """Give the reason why a second volume is not testable."""
    outcomes = {verdict.verdict for verdict in verdicts}
    return "too few voxels" if outcomes == {NOT_TESTABLE} else "seeds disagree" if len(outcomes) > 1 else ""


def _estimates(
    rows: Sequence[Row], difficulty: str, labels: str, casting: str, quantity: str, factor: float = 1.0
) -> dict[str, tuple[Estimate, float]]:
    """Estimate a quantity of every network over seeds, beside its true value."""
    place = Place(difficulty, labels, casting)
    found = {}
    for network in NETWORKS:
        score = reading(quantity, network, factor=factor)
        true = next(row.truth for row in place.rows_of(rows) if (row.quantity, row.of) == (quantity, network))
        by_seed = by_training(rows, score, place)[HIGH_WEIGHTS]
        found[network] = estimate(list(by_seed.values())), factor * true
    return found


def _listed(found: Mapping[str, tuple[Estimate, float]], unit: str) -> str:
    return ", ".join(f"{network} {value}{unit} (truth {number(true)})" for network, (value, true) in found.items())


def _fractions(rows: Sequence[Row], difficulty: str, labels: str) -> tuple[str, str]:
    found = _estimates(rows, difficulty, labels, "fast", "volume_fraction_pct")
    return "volume fractions, vol.%", f"{_listed(found, ' vol.%')}; published 14, 18 and 32."


def _interconnectivities(rows: Sequence[Row], difficulty: str, labels: str) -> tuple[str, str]:
    fast = _estimates(rows, difficulty, labels, "fast", "interconnectivity_26", 100)
    slow = _estimates(rows, difficulty, labels, "slow", "interconnectivity_26", 100)
    drop = slow["silicon"][0].mean - fast["silicon"][0].mean
    below = f"silicon {abs(drop):.1f} points {'below' if drop >= 0 else 'above'} the slowly cooled specimen"
    return (
        "interconnectivity, %",
        f"{_listed(fast, ' %')}; {below}; published aluminides 95, hybrid 99, silicon 15 below.",
    )


def _euler_numbers(rows: Sequence[Row], difficulty: str, labels: str) -> tuple[str, str]:
    slow, fast = (_per_million(rows, Place(difficulty, labels, name)) for name in ("slow", "fast"))
    said = ", ".join(f"{network} {fast[network].mean:,.0f} after {slow[network].mean:,.0f}" for network in NETWORKS)
    return (
        "Euler numbers per million voxels",
        f"Euler numbers per million voxels of the second volume, after those of the slowly cooled specimen: {said}.",
    )


_WORDS: dict[str, Callable[[Sequence[Row], str, str], tuple[str, str]]] = {
    "C8": _fractions,
    "C9": _interconnectivities,
    "C10": _euler_numbers,
}


def _per_million(rows: Sequence[Row], place: Place) -> dict[str, Estimate]:
    """Estimate the Euler numbers per million voxels over seeds."""
    found = _measures(rows, place)
    return {n: estimate([claims.euler_per_million(of_seed[n]) for of_seed in found.values()]) for n in NETWORKS}


def _measures(rows: Sequence[Row], place: Place) -> dict[int, dict[str, NetworkMeasure]]:
    """Bring rows back into the form that `claims` judges, by seed."""
    chosen: dict[int, list[Row]] = {}
    for row in place.rows_of(rows):
        if row.weights == HIGH_WEIGHTS:
            chosen.setdefault(row.seed, []).append(row)
    return {seed: {network: _measure(of_seed, network) for network in NETWORKS} for seed, of_seed in chosen.items()}


def _measure(rows: Sequence[Row], network: str) -> NetworkMeasure:
    found = {row.quantity: row.value for row in rows if row.of == network}
    return NetworkMeasure(
        n_voxels=int(found["n_voxels"]),
        volume_fraction_pct=found["volume_fraction_pct"],
        interconnectivity=found["interconnectivity_26"],
        euler_number=int(found["euler_26"]),
        n_components=int(found["b0_26"]),
    )


def speed(rows: Sequence[Row], curve_rows: Sequence[Row], difficulty: str, labels: str) -> list[Answer]:
    """Answer C11 under one condition, from the time that the second volume took, slice by slice."""
    place = Place(difficulty, labels, "fast")
    found = by_training(rows, reading("voxels_per_s"), place).get(HIGH_WEIGHTS, {})
    if not found:
        return []
    widths = curves.of_training(curve_rows, difficulty, labels, curves.WIDTH)
    width = int(next(iter(next(iter(widths.values())).values()))) if widths else 0
    verdicts = [
        claims.segmentation_time(n_voxels=round(v), seconds=1, device="the device of the study", stem_channels=width)
        for v in found.values()
    ]
    minutes = estimate([claims.SECOND_VOLUME_VOXELS / v / 60 for v in found.values()])
    network = f"a network of {width} stem channels (published 64)" if width else "a network of unknown width"
    sentence = f"{minutes} minutes for 256 x 256 x 1925 voxels by {network} on the machine of the study, busy or not."
    what, outcome = "minutes for 256 x 256 x 1925 voxels", _together(verdicts)
    reason = "narrow network" if outcome == NOT_TESTABLE else ""
    return [Answer("C11", place, what, {HIGH_WEIGHTS: minutes}, {}, outcome, sentence, reason)]
