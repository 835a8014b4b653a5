"""The claims that are judged training by training: convergence, the second volume, speed.

Each is judged by `claims`, seed by seed, for the weights (1, 1.25, 1.5) where it is about one network.
"""

from collections.abc import Sequence
from pathlib import Path

from alsiseg import claims, runs
from alsiseg.claims import HIGH_WEIGHTS, Verdict
from alsiseg.metrics import NetworkMeasure
from alsiseg.phases import NETWORKS
from alsiseg.study.answers import value_of
from alsiseg.study.plan import Study
from alsiseg.study.rows import Row
from alsiseg.study.running import run_dir_of


def verdicts(study: Study, home: str | Path, rows: Sequence[Row]) -> dict[tuple[str, str, int], list[Verdict]]:
    """Judge C1, C2 and C8 to C11 by every seed.

    Returns
    -------
    dict
        Verdicts by difficulty, labels and seed.
    """
    keys = dict.fromkeys((c.difficulty, c.labels, c.seed) for c in study.conditions)
    return {key: [*_convergence(study, Path(home), key), *_second_volume(study, rows, key)] for key in keys}


def _convergence(study: Study, home: Path, key: tuple[str, str, int]) -> list[Verdict]:
    chosen = [c for c in study.conditions if (c.difficulty, c.labels, c.seed) == key]
    histories = {str(c.weights): runs.read_history(run_dir_of(home, c)) for c in chosen}
    n_images = study.profile.n_images_per_epoch
    return [judge(histories, images_per_epoch=n_images) for judge in (claims.early_convergence, claims.late_slope)]


def _second_volume(study: Study, rows: Sequence[Row], key: tuple[str, str, int]) -> list[Verdict]:
    """Judge the unseen castings as they were segmented slice by slice."""
    chosen = [r for r in rows if (r.difficulty, r.labels, r.seed) == key and r.weights == HIGH_WEIGHTS]
    castings = {name: [r for r in chosen if (r.specimen, r.recipe) == (name, "slices")] for name in ("slow", "fast")}
    first, second = (_networks(castings[name]) for name in ("slow", "fast"))
    speed = round(value_of("voxels_per_s")(castings["fast"]))
    width = study.profile.training.unet.stem_channels
    return [
        claims.second_volume_fractions(second),
        claims.second_volume_interconnectivity(first, second),
        claims.second_volume_euler_numbers(first, second),
        claims.segmentation_time(n_voxels=speed, seconds=1, device="the device of the study", stem_channels=width),
    ]


def _networks(rows: Sequence[Row]) -> dict[str, NetworkMeasure]:
    """Bring rows back into the form that `claims` judges."""
    as_found = [row for row in rows if not row.cleaned]

    def measure(network: str) -> NetworkMeasure:
        found = {row.quantity: row.value for row in as_found if row.of == network}
        return NetworkMeasure(
            n_voxels=int(found["n_voxels"]),
            volume_fraction_pct=found["volume_fraction_pct"],
            interconnectivity=found["interconnectivity_26"],
            euler_number=int(found["euler_26"]),
            n_components=int(found["b0_26"]),
        )

    return {network: measure(network) for network in NETWORKS}


def verdict_table(judged: dict[tuple[str, str, int], list[Verdict]]) -> str:
    """Write the verdicts as Markdown, a line for every claim, condition and seed."""
    head = "| | difficulty | labels | seed | measured | verdict |\n|---|---|---|---|---|---|\n"
    lines = [
        f"| {v.claim.id} | {difficulty} | {labels} | {seed} | {v.measured} | **{v.verdict}** |\n"
        for (difficulty, labels, seed), found in judged.items()
        for v in found
    ]
    return head + "".join(sorted(lines, key=lambda line: int(line.split()[1].removeprefix("C"))))
