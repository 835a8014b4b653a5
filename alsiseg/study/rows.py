"""One value a row: the tidy table of a study."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import metrics
from alsiseg.phases import NETWORKS, Phase
from alsiseg.topology import NetworkCounts
from alsiseg.volumes import written_whole

Labels = NDArray[np.uint8]
TEST_SECTION = "test section"
WHOLE = "all phases"  # in the place of a network, for what is measured of all labels together


@dataclass(frozen=True)
class Row:
    """One value of one segmentation, and the same of its truth.

    Attributes
    ----------
    difficulty, labels, weights, seed
        Of the training, as in `Condition`; weights as in "1, 1.25, 1.5".
    specimen : str
        "test section" of the specimen that was trained on, "slow" or "fast": unseen specimens.
    recipe : str
        How it was segmented.
    cleaned : bool
        Whether small particles were removed first, from labels and truth alike.
    of : str
        Network or phase, or "all phases".
    quantity : str
        With its unit, where it has one.
    value, truth : float
        `truth` is NaN where there is nothing to compare with, as for an accuracy.
    """

    difficulty: str
    labels: str
    weights: str
    seed: int
    specimen: str
    recipe: str
    cleaned: bool
    of: str
    quantity: str
    value: float
    truth: float


Value = tuple[str, str, float, float]  # of, quantity, value, truth


@dataclass(frozen=True, eq=False)
class Counted:
    """Labels, and how their networks hang together: counted when first asked for, and once.

    Attributes
    ----------
    labels_zyx : uint8 (Z, Y, X)
    """

    labels_zyx: Labels

    @cached_property
    def networks(self) -> dict[str, dict[str, float]]:
        """Volume fraction, interconnectivity, Euler and Betti numbers of every network, by 26 and 6."""
        return _networks(self.labels_zyx)


def values_of(found: Counted | Labels, true: Counted | Labels) -> Iterator[Value]:
    """Measure everything of a segmentation that a study reports; what is `Counted` is not counted again."""
    found, true = _counted(found), _counted(true)
    labels_zyx, truth_zyx, nothing = found.labels_zyx, true.labels_zyx, float("nan")
    yield WHOLE, "accuracy_pct", 100 * metrics.accuracy(labels_zyx, truth_zyx), nothing
    yield WHOLE, "interface_accuracy_pct", 100 * metrics.interface_accuracy(labels_zyx, truth_zyx), nothing
    for phase, dice in metrics.dice_per_phase(labels_zyx, truth_zyx).items():
        yield Phase(phase).name.lower(), "dice", dice, nothing
    yield from topology_of(found, true)


def topology_of(found: Counted | Labels, true: Counted | Labels) -> Iterator[Value]:
    """Measure how the three networks hang together, beside the truth."""
    of_truth = _counted(true).networks
    for network, values in _counted(found).networks.items():
        for quantity, value in values.items():
            yield network, quantity, value, of_truth[network][quantity]


def _counted(labels: Counted | Labels) -> Counted:
    return labels if isinstance(labels, Counted) else Counted(labels)


def _networks(labels_zyx: Labels) -> dict[str, dict[str, float]]:
    measured: dict[str, dict[str, float]] = {name: {} for name in NETWORKS}
    for connectivity in (26, 6):
        counts = NetworkCounts.of(labels_zyx, connectivity=connectivity, cavities=True)  # type: ignore[arg-type]
        for name, network in counts.networks.items():
            assert network.components is not None
            b0, b1, b2 = network.betti_numbers(connectivity)  # type: ignore[arg-type]
            measured[name] |= {
                "n_voxels": float(network.n_voxels),
                "volume_fraction_pct": 100 * network.n_voxels / labels_zyx.size,
                f"interconnectivity_{connectivity}": network.components.interconnectivity,
                f"euler_{connectivity}": float(b0 - b1 + b2),
                f"b0_{connectivity}": float(b0),
                f"b1_{connectivity}": float(b1),
                f"b2_{connectivity}": float(b2),
            }
    return measured


def write(rows: Iterable[Row], path: Path) -> Path:
    """Write a tidy table: a line of names, then one value a line; compressed when `path` ends in .gz."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    content = text.getvalue().encode()
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def read(path: Path) -> list[Row]:
    """Read a tidy table.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ValueError
        When it is not one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"needs the table that a study writes, found none at {path}; let the study train first")
    kinds = {field.name: field.type for field in fields(Row)}
    table = csv.DictReader(io.StringIO(_content(path), newline=""))
    if table.fieldnames != list(kinds):
        raise ValueError(f"needs the columns {', '.join(kinds)}, {path} has {', '.join(table.fieldnames or [])}")
    return [Row(**{name: _typed(kinds[name], text) for name, text in line.items()}) for line in table]


def _content(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content.decode()
    try:
        return gzip.decompress(content).decode()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(
            f"needs a whole compressed table, {path} is damaged ({error}); let it be written anew"
        ) from error


def _typed(kind: Any, text: str) -> Any:
    return text == "True" if kind is bool else kind(text)


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Write a table as Markdown."""
    every = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in every)
