"""What a sweep says, in words, tables and maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from alsiseg.study.answers import number
from alsiseg.study.drawing import copied
from alsiseg.study.rows import TEST_SECTION, Row, markdown_table
from alsiseg.study.scores import Place, Score
from alsiseg.study.sweep.maps import MAPPED, WEIGHT_STEP, WITHOUT, WeightMap, weight_map
from alsiseg.volumes import written_whole
from alsiseg.weightmaps import PUBLISHED_SETTINGS

if TYPE_CHECKING:
    from alsiseg.study.sweep import Sweep

FIGURE = "fig_sweep"
REPORTED = "slow"  # the unseen specimen of the maps
SPECIMENS = {TEST_SECTION: "test section", "slow": "unseen, slowly cooled", "fast": "unseen, cooled faster"}
PUBLISHED = tuple((weights.silicon, weights.interface) for weights in PUBLISHED_SETTINGS)


def write_report(
    sweep: "Sweep",
    home: Path,
    rows: Sequence[Row],
    study_rows: Sequence[Row] = (),
    *,
    why: str,
    figures_dir: Path | None = None,
) -> str:
    """Write `sweep.md` and the figure of the maps; return the text.

    Parameters
    ----------
    sweep
    home
        The folder of the sweep.
    rows
        Of `sweep.csv`.
    study_rows
        Of a study of the same condition: how much its trainings scatter.
    why
        Why this condition, as Markdown.
    figures_dir
        A second folder for the figure.
    """
    maps = every_map(sweep, rows, study_rows)
    text = full_text(sweep, maps, why)
    with written_whole(home / "sweep.md") as partial:
        partial.write_text(text, encoding="utf-8")
    copied(save_figure(maps[REPORTED], home), figures_dir)
    return text


def every_map(sweep: "Sweep", rows: Sequence[Row], study_rows: Sequence[Row] = ()) -> dict[str, list[WeightMap]]:
    """Map every score on every specimen."""
    places = {specimen: Place(sweep.difficulty, sweep.labels, specimen) for specimen in SPECIMENS}
    return {
        specimen: [weight_map(rows, score, place, study_rows=study_rows) for score in MAPPED]
        for specimen, place in places.items()
    }


def save_figure(maps: Sequence[WeightMap], folder: Path) -> list[Path]:
    """Draw the maps side by side; write ``fig_sweep`` as PNG, PDF and CSV."""
    from alsiseg import figures

    panels = [
        figures.MapPanel(
            m.score.name, m.score.unit, m.silicon, m.interface, m.mean, m.best, m.like_best, m.score.more_is_better
        )
        for m in maps
    ]
    return figures.save(figures.weight_maps(panels, published=PUBLISHED), FIGURE, folder, columns(maps))


def columns(maps: Sequence[WeightMap]) -> dict[str, Any]:
    """Return the numbers behind the maps: a cell a row."""
    silicon, interface = np.meshgrid(maps[0].silicon, maps[0].interface, indexing="ij")
    named: dict[str, Any] = {"silicon weight": silicon.ravel(), "interface weight": interface.ravel()}
    for m in maps:
        named[f"{m.score.name} ({m.score.unit})"] = m.mean.ravel()
        named[f"{m.score.name}: cannot be told from the optimum"] = m.like_best.ravel()
    return named


def full_text(sweep: "Sweep", maps: dict[str, list[WeightMap]], why: str) -> str:
    """Write everything as Markdown: the short answer first."""
    first = maps[REPORTED][0]
    n_cells, n_found = first.mean.size, int(np.count_nonzero(~np.isnan(first.mean)))
    seeds = "1 seed" if first.n_seeds == 1 else f"{first.n_seeds} seeds"
    parts = [
        "# When do the weights pay?",
        f"Profile `{sweep.profile.name}`, {sweep.difficulty} scans, labels from the {sweep.labels}; {n_found} of "
        f"{n_cells} pairs of weights trained, {seeds} each. Written by `python -m alsiseg.study.sweep`; the numbers "
        "are in `sweep.csv`.",
        why,
        f"## In short, on a specimen that no network has seen ({SPECIMENS[REPORTED]})",
        "\n".join(f"* {_sentence(m)}" for m in maps[REPORTED]),
        f"![The three maps]({FIGURE}.png)",
        "## Where each measure is best",
        _optima(maps),
        "*Needed*: how far two cells must be apart to be told from the scatter between trainings, at 95 % (Tukey's "
        "honest significant difference, which allows for the best of many cells being picked; the scatter is that "
        "between the seeds of the sweep, or of the study where the sweep has one seed). *Like the best*: cells that "
        "are not so far from the optimum.",
        "## What a little more weight changes over the whole map",
        _slope_table(maps),
        f"Slope of a plane through all cells, for {WEIGHT_STEP:g} more weight, with its interval at 95 %. An interval "
        "that holds 0 shows no effect.",
        "## The maps in numbers",
        *(_map_table(m) for m in maps[REPORTED]),
    ]
    return "\n\n".join(parts) + "\n"


def _sentence(m: WeightMap) -> str:
    """Say where a measure is best, and whether that is more than chance."""
    best, without = float(m.mean[m.best]), m.at(*WITHOUT)
    said = f"**{_capital(m.score.name)}** is best with {_setting(m.best_weights)}: {number(best)} {m.score.unit}"
    if m.best_weights == WITHOUT:
        return f"{said}; no weights at all are best. {_trust(m, alike_is_doubt=False)}{_edge(m)}"
    if np.isnan(without):
        return f"{said}; no weights were not trained, so there is nothing to compare with."
    gain = m.score.sign * (best - without)
    return f"{said}, {number(gain)} points better than without weights ({number(without)}). {_trust(m)}{_edge(m)}"


def _trust(m: WeightMap, *, alike_is_doubt: bool = True) -> str:
    """Say whether the optimum can be told from no weights, and from how many cells it cannot."""
    if np.isnan(m.apart):
        return "How much trainings scatter is not known here (one seed, no study beside it), so this may be chance."
    n_alike, n_others = int(m.like_best.sum()) - 1, int(np.count_nonzero(~np.isnan(m.mean))) - 1
    needed = f"Two cells must differ by {number(m.apart)} points to be told from the scatter between trainings"
    if alike_is_doubt and m.score.sign * (m.mean[m.best] - m.at(*WITHOUT)) <= m.apart:
        return f"{needed}: {n_alike} of the other {n_others}, no weights among them, do not, so this may be chance."
    return f"{needed}: {n_alike} of the other {n_others} do not."


def _edge(m: WeightMap) -> str:
    """Say when the optimum lies where the map ends."""
    heaviest = [
        name
        for name, weight, axis in zip(("silicon", "interface"), m.best_weights, (m.silicon, m.interface), strict=True)
        if weight == axis[-1]
    ]
    return (
        f" The heaviest weight of {' and '.join(heaviest)} tried is the best: the map ends there." if heaviest else ""
    )


def _optima(maps: dict[str, list[WeightMap]]) -> str:
    head = ["measure", "specimen", "best weights", "there", "without weights", "gain", "needed", "like the best"]
    rows = [
        [
            f"{m.score.name}, {m.score.unit}",
            SPECIMENS[specimen],
            _setting(m.best_weights),
            number(float(m.mean[m.best])),
            number(m.at(*WITHOUT)),
            number(m.score.sign * (float(m.mean[m.best]) - m.at(*WITHOUT))),
            number(m.apart),
            f"{int(m.like_best.sum())} of {int(np.count_nonzero(~np.isnan(m.mean)))}" if m.apart == m.apart else "?",
        ]
        for position in range(len(MAPPED))
        for specimen, found in maps.items()
        for m in (found[position],)
    ]
    return markdown_table(head, rows)


def _slope_table(maps: dict[str, list[WeightMap]]) -> str:
    rows = [
        [_with_direction(m.score), SPECIMENS[specimen], *(str(slope) for slope in m.slopes)]
        for position in range(len(MAPPED))
        for specimen, found in maps.items()
        if (m := found[position]).slopes is not None
    ]
    if not rows:
        return "Too few cells yet."
    return markdown_table(["measure", "specimen", "more silicon weight", "more interface weight"], rows)


def _map_table(m: WeightMap) -> str:
    head = [f"{_with_direction(m.score)}: silicon \\ interface", *(f"{weight:g}" for weight in m.interface)]
    rows = [
        [
            f"{weight:g}",
            *(("**{}**" if (i, j) == m.best else "{}").format(number(float(v))) for j, v in enumerate(line)),
        ]
        for i, (weight, line) in enumerate(zip(m.silicon, m.mean, strict=True))
    ]
    return markdown_table(head, rows)


def _with_direction(score: Score) -> str:
    return f"{score.name} ({score.unit}; {'more' if score.more_is_better else 'less'} is better)"


def _setting(weights: tuple[float, float]) -> str:
    return f"(1, {weights[0]:g}, {weights[1]:g})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
