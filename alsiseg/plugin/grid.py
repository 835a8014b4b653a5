"""A table in the window, to be looked at, copied and saved."""

from pathlib import Path

from napari.utils.notifications import show_info
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from alsiseg.plugin.bar import telling
from alsiseg.plugin.measuring import Table, save_csv

WIDEST_PX = 180  # of a column; the whole text is in the tip of a cell
LEAST_PX = (500, 340)  # width, height: a measure with its interval, a dozen rows


class Grid(QWidget):
    """A table with its notes and two buttons: copy, save as CSV."""

    def __init__(self, name: str) -> None:
        """Begin empty; `name` is what a saved file is called at first."""
        super().__init__()
        self.table: Table | None = None
        self._name = name
        self.cells, self.notes = QTableWidget(), QLabel("")
        self.copy_button, self.save_button = QPushButton("Copy table"), QPushButton("Save as CSV ...")
        self.copy_button.clicked.connect(telling(self.copy))
        self.save_button.clicked.connect(telling(self.save))
        self.cells.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.cells.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.cells.setMinimumSize(*LEAST_PX)
        header, self._clipboard = self.cells.verticalHeader(), QApplication.clipboard()
        assert header is not None
        header.setVisible(False)
        self.notes.setWordWrap(True)
        self._lay_out()
        self.show_table(None)

    def _lay_out(self) -> None:
        row, column = QHBoxLayout(), QVBoxLayout(self)
        for button in (self.copy_button, self.save_button):
            row.addWidget(button)
        for widget in (self.cells, self.notes):
            column.addWidget(widget)
        column.addLayout(row)
        column.setContentsMargins(0, 0, 0, 0)

    def show_table(self, table: Table | None, *, sortable: bool = False) -> None:
        """Show a table, or nothing."""
        self.table = table
        self.setVisible(table is not None)
        if table is None:
            return
        self.cells.setSortingEnabled(False)  # or rows would move while they are filled
        self.cells.setColumnCount(len(table.headings))
        self.cells.setRowCount(len(table.rows))
        self.cells.setHorizontalHeaderLabels(table.headings)
        for i, row in enumerate(table.rows):
            for j, text in enumerate(row):
                self.cells.setItem(i, j, _cell(text, as_number=sortable))
        self.cells.setSortingEnabled(sortable)
        self.cells.resizeColumnsToContents()
        for j in range(len(table.headings)):
            self.cells.setColumnWidth(j, min(self.cells.columnWidth(j), WIDEST_PX))
        self.notes.setText("\n".join(table.notes))

    def copy(self) -> None:
        """Put the table on the clipboard, as spreadsheets take it."""
        if self.table is not None and self._clipboard is not None:
            self._clipboard.setText(self.table.as_tabs())
            show_info("The table is on the clipboard; paste it into a spreadsheet.")

    def save(self) -> None:
        """Ask for a file and write the table there."""
        if self.table is None:
            return
        chosen, _ = QFileDialog.getSaveFileName(self, "Save the table", f"{self._name}.csv", "CSV (*.csv)")
        if chosen:
            show_info(f"The table is in {save_csv(self.table, Path(chosen))}.")


def _cell(text: str, *, as_number: bool) -> QTableWidgetItem:
    """Make a cell, numbers to the right; as a number it sorts by value."""
    item = QTableWidgetItem(text)
    item.setToolTip(text)
    try:
        number = float(text)
    except ValueError:
        return item
    if as_number:
        item.setData(Qt.ItemDataRole.DisplayRole, int(number) if text.isdigit() else number)
    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return item
