"""The manner of every figure: widths, fonts, weight settings, panel letters, and how it is saved."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from alsiseg import volumes

SINGLE_COLUMN_MM = 88.0
DOUBLE_COLUMN_MM = 180.0
PRINT_DPI = 300

# DejaVu Sans travels with Matplotlib, so a figure looks the same on every machine.
JOURNAL: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "mathtext.default": "regular",
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.titlelocation": "left",
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "hatch.linewidth": 0.6,
    "image.interpolation": "nearest",
    "figure.dpi": 150,
    "savefig.dpi": PRINT_DPI,
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class LineStyle:
    """How one weight setting is drawn: colour, dashes and marker, each enough to tell it apart."""

    color: str
    linestyle: str
    marker: str

    def options(self) -> dict[str, Any]:
        """Keyword arguments for ``Axes.plot``."""
        return {"color": self.color, "linestyle": self.linestyle, "marker": self.marker}


# From light to dark with rising weights, apart from the colours of the phases. Plain dashes are
# left to the truth.
SETTING_STYLES = (
    LineStyle("#e0a100", ":", "o"),
    LineStyle("#5aa9e6", "-.", "s"),
    LineStyle("#5b2a86", "-", "^"),
    LineStyle("#8c564b", (0, (5, 1, 1, 1, 1, 1)), "D"),  # type: ignore[arg-type]
    LineStyle("#555555", (0, (1, 1)), "v"),  # type: ignore[arg-type]
)
TRUTH_STYLE: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.0, "zorder": 1.5}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the manner of the journal: a context manager, or a decorator of a drawing function.

    Matplotlib's own settings are untouched outside it.
    """
    with matplotlib.rc_context(JOURNAL):
        yield


def setting_style(position: int) -> LineStyle:
    """Return the style of the weight setting at `position` in the order of the figure (0: without weights)."""
    return SETTING_STYLES[position % len(SETTING_STYLES)]


def setting_name(label: str) -> str:
    """Write the label of a setting, e.g. "1, 1.25, 1.5", as the paper does: in brackets."""
    return f"({label})"


SETTING_LEGEND_TITLE = "weights ($ω_0$, $ω_{Si}$, $ω_{Int}$)"


def new_figure(*, height_mm: float, width_mm: float = DOUBLE_COLUMN_MM) -> Figure:
    """Open an empty figure of the printed size in millimetres; call it within `style()`."""
    figure = Figure(figsize=(width_mm / 25.4, height_mm / 25.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05, wspace=0.03, hspace=0.04)  # type: ignore[union-attr, call-arg]
    return figure


def panel_letters(axes_in_order: Sequence[Axes], *, first: str = "a") -> None:
    """Write a, b, c, ... in bold above the left corner of each axes, left of its title."""
    start = ascii_lowercase.index(first)
    for axes, letter in zip(axes_in_order, ascii_lowercase[start:], strict=False):
        axes.annotate(
            letter,
            xy=(0, 1),
            xycoords="axes fraction",
            xytext=(-3, 3),
            textcoords="offset points",
            fontsize=8,
            fontweight="bold",
            ha="right",
            va="bottom",
        )


def save(
    figure: Figure,
    name: str,
    folder: str | Path,
    numbers: Mapping[str, Any],
) -> list[Path]:
    """Write a figure and the numbers behind it: ``name.png``, ``name.pdf``, ``name.csv`` or ``name.json``.

    Parameters
    ----------
    figure : Figure
        Saved at its own size, 300 dots per inch as PNG and as vectors with editable text as PDF.
    name : str
        File name without ending, e.g. ``"fig4"``.
    folder : path
        Made when it does not exist.
    numbers : mapping
        Columns (one-dimensional arrays, shorter ones leave empty cells) are written as CSV, anything nested
        as JSON. Arrays, NumPy numbers and dataclasses inside are converted.

    Returns
    -------
    list of Path
        The files written. Each appears whole or not at all.
    """
    folder = Path(folder)
    pictures = [folder / f"{name}.png", folder / f"{name}.pdf"]
    with style():
        for path in pictures:
            # without a date the same numbers give the same file
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
            with volumes.written_whole(path) as partial:
                figure.savefig(partial, format=path.suffix[1:], metadata=metadata)
    return [*pictures, _save_numbers(folder / name, numbers)]


def _save_numbers(stem: Path, numbers: Mapping[str, Any]) -> Path:
    """Write columns as CSV, anything else as JSON."""
    columns = all(np.ndim(column) == 1 for column in numbers.values() if not isinstance(column, Mapping))
    as_table = columns and not any(isinstance(column, Mapping) for column in numbers.values())
    path = stem.with_name(stem.name + (".csv" if as_table else ".json"))
    with volumes.written_whole(path) as partial:
        if as_table:
            _write_columns(partial, numbers)
        else:
            Path(partial).write_text(json.dumps(plain(numbers), indent=1) + "\n", encoding="utf-8")
    return path


def _write_columns(path: Path, columns: Mapping[str, ArrayLike]) -> None:
    """Write one-dimensional columns; a column that ends early leaves its cells empty."""
    values = [np.asarray(column).tolist() for column in columns.values()]
    n_rows = max((len(column) for column in values), default=0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(columns)
        for row in range(n_rows):
            table.writerow([column[row] if row < len(column) else "" for column in values])


def plain(value: Any) -> Any:
    """Turn arrays, NumPy numbers, paths and dataclasses into what JSON can hold; NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {field: plain(getattr(value, field)) for field in value.__dataclass_fields__}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def show_in_notebooks() -> None:
    """Let Jupyter show a figure that ends a cell.

    Pyplot would do so, but keeps every figure in memory and is not used here.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None:
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(shell, {"png"}, bbox_inches=None)
