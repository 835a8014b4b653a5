"""Rows of a form: a choice of layers, a folder, a file."""

from pathlib import Path
from typing import Any

from magicgui.types import FileDialogMode
from magicgui.widgets import FileEdit, create_widget

from alsiseg import runs

FOLDER = FileDialogMode.EXISTING_DIRECTORY
FILE = FileDialogMode.EXISTING_FILE
NEW = FileDialogMode.OPTIONAL_FILE


def layer_choice(kind: Any, label: str, tooltip: str = "") -> Any:  # a ComboBox, or what napari makes of the type
    """Choose one of the open layers of a kind; it knows by itself which there are."""
    return create_widget(annotation=kind, label=label, options={"tooltip": tooltip})


def path_row(mode: FileDialogMode, label: str, tooltip: str) -> FileEdit:
    """Make a row for a path, to be typed or chosen."""
    row = FileEdit(mode=mode, label=label, tooltip=tooltip)
    row.choose_btn.text = "Choose ..."
    return row


def run_row(tooltip: str) -> FileEdit:
    """Make a row for a run folder; a network that comes with alsiseg stands there ready, by its name."""
    names = list(runs.shipped())
    coming = f" Or the name of a network that comes with alsiseg: {', '.join(names)}." if names else ""
    row = path_row(FOLDER, "run folder", tooltip + coming)
    if names:
        row.line_edit.value = names[0]  # the row itself would make a path of it
    return row


def path_in(row: FileEdit) -> Path:
    """Path in a row for one file or folder; "." when nothing was entered."""
    value = row.value
    assert isinstance(value, Path)
    return value.expanduser()
