"""What a study found, written for a reader: the short answer, then claim by claim, then all that it rests on."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from alsiseg.claims import CLAIMS, MET, NOT_MET, NOT_TESTABLE, SMALLEST_VOLUME, Outcome
from alsiseg.phantom import DIFFICULTIES
from alsiseg.phases import NETWORKS
from alsiseg.profiles import PROFILES, TRAINED_ON
from alsiseg.study import curves, judging, rows
from alsiseg.study.answers import PAIRS, SETTINGS, Answer, answer, by_setting, number, silicon_connected
from alsiseg.study.effects import Effects, effects
from alsiseg.study.rows import TEST_SECTION, Row, markdown_table
from alsiseg.study.scores import ACCURACY, CLEANED_EULER, INTERFACE, SCORES, Place, by_training, reading
from alsiseg.study.settings import NAME
from alsiseg.volumes import written_whole

SHORT: dict[Outcome, str] = {MET: "met", NOT_MET: "not met", NOT_TESTABLE: "not testable here"}
SPECIMENS = {TEST_SECTION: "test section", "slow": "unseen, slow", "fast": "unseen, fast", curves.TRAINING: "training"}


@dataclass(frozen=True)
class Evidence:
    """All that a study found.

    Attributes
    ----------
    rows : list of Row
        Of `study.csv`.
    answers : list of Answer
        Claim by claim, condition by condition, place by place.
    effects : list of Effects
        Labels beside weights.
    missing : dict
        Weights of the trainings that are not there yet, by condition and seed.
    profile : str
        Name of the profile; empty when it is not known.
    """

    rows: list[Row]
    answers: list[Answer]
    effects: list[Effects]
    missing: dict[str, list[str]]
    profile: str

    @property
    def seeds(self) -> list[int]:
        """Seeds that any training has."""
        return sorted({row.seed for row in self.rows})

    @property
    def conditions(self) -> list[tuple[str, str]]:
        """Difficulty and labels of every condition, in the order of the table."""
        return list(dict.fromkeys((row.difficulty, row.labels) for row in self.rows))


def evidence(path: str | Path, *, n_seeds: int | None = None) -> Evidence:
    """Read what a study found.

    Parameters
    ----------
    path
        `study.csv`; `curves.csv` and `settings.json` beside it are read when they are there.
    n_seeds
        Seeds that were planned; None takes those that are found.

    Raises
    ------
    ValueError, OSError
        When there is no such table.
    """
    path = Path(path)
    found, curve_rows = rows.read(path), curves.read(path.parent)
    conditions = list(dict.fromkeys((row.difficulty, row.labels) for row in found))
    places = list(dict.fromkeys((row.specimen, row.recipe) for row in found))
    answers: list[Answer] = []
    for difficulty, labels in conditions:
        answers += judging.convergence(curve_rows, difficulty, labels)
        for specimen, recipe in places:
            place = Place(difficulty, labels, specimen, recipe)
            answers += [answer(found, score, place) for score in SCORES]
            answers.append(silicon_connected(found, place))
        answers += judging.second_volume(found, difficulty, labels)
        answers += judging.speed(found, curve_rows, difficulty, labels)
    return Evidence(found, answers, _effects(found), _missing(found, n_seeds), _profile(path.parent))


def _effects(found: Sequence[Row]) -> list[Effects]:
    difficulties = dict.fromkeys(row.difficulty for row in found)
    every = product((ACCURACY, INTERFACE, CLEANED_EULER), difficulties, (TEST_SECTION, "slow", "fast"))
    return [both for score, difficulty, name in every if (both := effects(found, score, difficulty, name))]


def _missing(found: Sequence[Row], n_seeds: int | None) -> dict[str, list[str]]:
    """Find the trainings of a whole study that have no rows: weights by condition and seed."""
    there = {(row.difficulty, row.labels, row.weights, row.seed) for row in found}
    seeds = range(n_seeds) if n_seeds else sorted({row.seed for row in found})
    missing: dict[str, list[str]] = {}
    for seed, difficulty, labels, weights in product(seeds, DIFFICULTIES, TRAINED_ON, SETTINGS):
        if (difficulty, labels, weights, seed) not in there:
            missing.setdefault(f"{difficulty} scans, labels from the {labels}, seed {seed}", []).append(f"({weights})")
    return missing


def _profile(home: Path) -> str:
    path = home / NAME
    return json.loads(path.read_text("utf-8"))["profile"]["name"] if path.is_file() else ""


def summary(path: str | Path, claims: Collection[str] | None = None) -> str:
    """Write the short answers of a study as Markdown, for a notebook (`IPython.display.Markdown`) or a page.

    Parameters
    ----------
    path
        `study.csv` (see `evidence`).
    claims
        Only these, e.g. ``("C5", "C6", "C7")``; None for all.

    Returns
    -------
    str
        The answers, or a sentence that says how to get them when there is no such file.
    """
    if not Path(path).is_file():
        return f"No study lies at `{path}` yet; `python -m alsiseg.study` makes one, in some hours on two cores."
    return "\n\n".join([*_short(evidence(path), claims or CLAIMS), _LEGEND]) + "\n"


def summaries(folder: str | Path, claims: Collection[str] | None = None) -> str:
    """Write the short answers of the studies of all sizes that are kept, as `summary` does.

    Parameters
    ----------
    folder
        Holds ``<profile>/study/study.csv``.
    claims
        As in `summary`.
    """
    paths = [path for name in PROFILES if (path := Path(folder) / name / "study" / "study.csv").is_file()]
    parts = [part for path in paths for part in _short(evidence(path), claims or CLAIMS)]
    return "\n\n".join([*parts, _LEGEND]) + "\n" if parts else summary(Path(folder) / "study.csv")


def _short(found: Evidence, wanted: Collection[str]) -> list[str]:
    parts = [_scope(found), _verdicts(found, wanted), "\n".join(_in_words(found, wanted))]
    compared = [e for e in found.effects if e.score.claim in wanted and e.specimen == "slow"]
    if compared:
        lines = [f"* {e.difficulty} scans: {e.sentence}" for e in compared]
        parts.append("Labels or weights, on an unseen slowly cooled specimen:\n\n" + "\n".join(lines))
    return [part for part in parts if part]


_LEGEND = (
    "*Met* and *not met* go by the 95 % intervals, over seeds, of differences between trainings with the same seed. "
    "*Gain too small*: the weights do better, but by less than the claim says (3 points of accuracy; half of the wrong "
    "interface voxels). *No gain*: none beyond the scatter between trainings, and as much as the claim says is ruled "
    "out. *Within scatter*: no difference beyond that scatter, a null result. *Too few voxels*: fewer than the "
    f"{SMALLEST_VOLUME:,} that show how plates hang together."
)


def _scope(found: Evidence) -> str:
    """Say what was trained."""
    n_there = len({(row.difficulty, row.labels, row.weights, row.seed) for row in found.rows})
    profile = f"Profile `{found.profile}`: " if found.profile else ""
    n_seeds = len(found.seeds)
    text = f"{profile}{n_there} trainings, {n_seeds} seed{'s' if n_seeds > 1 else ''}."
    n_missing = sum(map(len, found.missing.values()))
    text += f" {n_missing} trainings of the whole study are missing." if n_missing else ""
    return (
        f"{text} Columns: how hard the scans are, and what the networks learned from, the truth or the labels of the "
        "three-scan procedure; all are measured against the truth. *Test section*: of the specimen trained on. "
        "*Unseen*: other specimens, cooled as slowly or faster, that no choice was made on."
    )


def _verdicts(found: Evidence, wanted: Collection[str]) -> str:
    """Write a line for every claim and specimen, a column for every condition."""
    short = [a for a in found.answers if a.claim in wanted and a.place.recipe in ("slices", "")]
    kinds = dict.fromkeys((a.claim, a.what, a.place.specimen) for a in sorted(short, key=_order))
    conditions = found.conditions
    head = ["", "measured", "on", *(f"{difficulty}, {labels}" for difficulty, labels in conditions)]
    lines = []
    for claim, what, specimen in kinds:
        cells = {
            (a.place.difficulty, a.place.labels): _verdict(a)
            for a in short
            if (a.claim, a.what, a.place.specimen) == (claim, what, specimen)
        }
        lines.append([claim, what, SPECIMENS[specimen], *(cells.get(c, "not trained") for c in conditions)])
    return markdown_table(head, lines)


def _verdict(one: Answer) -> str:
    return f"{SHORT[one.outcome]} ({one.reason})" if one.reason else SHORT[one.outcome]


def _order(one: Answer) -> tuple[int, int]:
    names = list(SPECIMENS)
    return int(one.claim.removeprefix("C")), names.index(one.place.specimen) if one.place.specimen in names else 9


def _in_words(found: Evidence, wanted: Collection[str]) -> list[str]:
    """Say one sentence for every claim, over all conditions and specimens."""
    return [f"* **{claim}**, {CLAIMS[claim].text}: {_overall(found, claim)}" for claim in CLAIMS if claim in wanted]


def _overall(found: Evidence, claim: str) -> str:
    """Count the verdicts of a claim and give the span of what the weights change."""
    mine = [a for a in found.answers if a.claim == claim and a.place.recipe in ("slices", "")]
    if not mine:
        return "nothing measured yet."
    counts = [(SHORT[o], sum(a.outcome == o for a in mine)) for o in (MET, NOT_MET, NOT_TESTABLE)]
    said = ", ".join(f"{name} in {n}" for name, n in counts if n)
    gains = [a.gains[PAIRS[0]].mean for a in mine if PAIRS[0] in a.gains]
    if not gains:
        first = mine[0]
        return f"{said} of {len(mine)} cases. With {first.place.condition}: {first.sentence}"
    span = f"{number(min(gains), sign='+')} to {number(max(gains), sign='+')} points"
    return f"{said} of {len(mine)} cases; (1, 1.25, 1.5) against no weights: {span} (plus is better)."


def write_report(path: str | Path, *, n_seeds: int | None = None) -> str:
    """Write `study.md` beside the table of a study, and return it."""
    path = Path(path)
    found = evidence(path, n_seeds=n_seeds)
    text = full_text(found)
    with written_whole(path.with_suffix(".md")) as partial:
        partial.write_text(text, encoding="utf-8")
    return text


def full_text(found: Evidence) -> str:
    """Write everything that a study found as Markdown."""
    parts = [
        "# What the study found",
        *_short(found, CLAIMS),
        _LEGEND,
        "![What weights and labels gain, seed by seed](fig_study_gains.png)",
        "![Scores of every training](fig_study.png)",
        "## Claim by claim",
        *(_details(found, claim) for claim in CLAIMS),
        _caution(found),
        "## Labels or weights?",
        _effects_table(found),
        "## The unseen specimens in numbers",
        *(_values_table(found, *condition) for condition in found.conditions),
        "## What is missing",
        "\n".join(f"* {name}: {', '.join(weights)}" for name, weights in found.missing.items()) or "Nothing.",
    ]
    return "\n\n".join(part.rstrip() for part in parts if part) + "\n"


def _details(found: Evidence, claim: str) -> str:
    """Write every answer to one claim."""
    mine = sorted((a for a in found.answers if a.claim == claim), key=_order)
    if not mine:
        return f"### {claim}: {CLAIMS[claim].text}\n\nNothing measured yet."
    with_values = any(a.values for a in mine)
    with_gains = any(a.gains for a in mine)
    head = ["trained on", "tested on", "measured"]
    head += [f"({setting})" for setting in SETTINGS] if with_values else []
    head += [f"({one}) against ({other})" for one, other in PAIRS] if with_gains else []
    lines = []
    for a in mine:
        line = [f"{a.place.difficulty}, {a.place.labels}", _tested_on(a.place), a.what]
        line += [str(a.values[s]) if s in a.values else "" for s in SETTINGS] if with_values else []
        line += [a.gains[pair].signed if pair in a.gains else "" for pair in PAIRS] if with_gains else []
        lines.append([*line, f"**{_verdict(a)}**", a.sentence])
    published = f"Published: {CLAIMS[claim].published}."
    table = markdown_table([*head, "verdict", "in words"], lines)
    return f"### {claim}: {CLAIMS[claim].text}\n\n{published}\n\n{table}"


def _tested_on(place: Place) -> str:
    name = SPECIMENS.get(place.specimen, place.specimen)
    return f"{name}, {place.recipe}" if place.recipe not in ("slices", "") else name


def _caution(found: Evidence) -> str:
    n = sum(len(a.gains) for a in found.answers)
    return (
        "Comparisons are differences in points, seed by seed, plus is better, with 95 % intervals by Student's t. Of "
        f"these {n} about {round(0.05 * n)} would leave zero out by chance alone, so a single one proves little."
    )


def _effects_table(found: Evidence) -> str:
    if not found.effects:
        return "Needs trainings with both labels and all settings of the same seed; there are none yet."
    head = [
        "measure",
        "scans",
        "tested on",
        "labels: truth against procedure",
        "weights: (1, 1.25, 1.5) against none",
        "in words",
    ]
    lines = [
        [
            f"{e.score.name}, {e.score.unit}",
            e.difficulty,
            SPECIMENS[e.specimen],
            e.labels.signed,
            e.weights.signed,
            e.sentence,
        ]
        for e in found.effects
    ]
    return "In points, seed by seed; plus is better.\n\n" + markdown_table(head, lines)


# What is shown of the unseen specimens: quantity, its name and unit, factor, whether specks were removed.
_SHOWN = (
    ("volume_fraction_pct", "volume fraction, vol.%", 1.0, False),
    ("interconnectivity_26", "interconnectivity, %", 100.0, False),
    ("euler_26", "Euler number", 1.0, False),
    ("euler_26", "Euler number, specks removed", 1.0, True),
)


def _values_table(found: Evidence, difficulty: str, labels: str) -> str:
    """Show what the unseen specimens measure as segmented, beside their truth."""
    lines = []
    for casting, (quantity, name, factor, cleaned), network in product(("slow", "fast"), _SHOWN, NETWORKS):
        place = Place(difficulty, labels, casting)
        score = reading(quantity, network, factor=factor, cleaned=cleaned)
        by = by_setting(by_training(found.rows, score, place))
        true = next(
            (r.truth for r in place.rows_of(found.rows, cleaned=cleaned) if (r.quantity, r.of) == (quantity, network)),
            float("nan"),
        )
        values = [str(by[s]) if s in by else "" for s in SETTINGS]
        lines.append([SPECIMENS[casting], name, network, number(factor * true), *values])
    table = markdown_table(["specimen", "", "network", "truth", *(f"({s})" for s in SETTINGS)], lines)
    return f"### {difficulty} scans, labels from the {labels}\n\n{table}"
