"""The panel Measure: the networks of a labels layer as a table."""

from functools import partial
from typing import TYPE_CHECKING

from magicgui.widgets import CheckBox, ComboBox, Container, PushButton, SpinBox
from napari.layers import Labels

from alsiseg.plugin import layers, measuring
from alsiseg.plugin.bar import WorkBar, add_below, telling
from alsiseg.plugin.forms import layer_choice
from alsiseg.plugin.grid import Grid
from alsiseg.topology import Connectivity

if TYPE_CHECKING:
    import napari

NEIGHBOURS: dict[str, Connectivity] = {"faces, edges and corners (26)": 26, "faces (6)": 6}


class MeasurePanel(Container):  # napari takes panels that are widgets, and passes its viewer to their class
    """A form: labels, what to compare them with, options; a button; progress; the table."""

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__()
        self.labels_layer = layer_choice(Labels, "labels")
        self.truth_layer = layer_choice(Labels | None, "compare with")
        self.neighbours = ComboBox(
            label="voxels join by", choices=list(NEIGHBOURS), tooltip="Which neighbours belong to one particle."
        )
        self.min_voxels = SpinBox(
            label="smallest [voxels]", value=1, min=1, max=10**9, tooltip="Smaller particles become matrix first."
        )
        self.intervals = CheckBox(text="intervals (block bootstrap, 95 %)", value=True)
        self.start = PushButton(text="Measure")
        self.extend(
            [
                self.labels_layer,
                self.truth_layer,
                self.neighbours,
                self.min_voxels,
                self.intervals,
                self.start,
            ]
        )
        self.bar, self.grid = WorkBar([self.start]), Grid("networks")
        add_below(self, self.bar, self.grid)
        self.start.changed.connect(telling(self.measure))

    def measure(self) -> None:
        """Measure the chosen labels in a thread."""
        layer, truth = self.labels_layer.value, self.truth_layer.value
        labels_zyx = layers.voxels(layer, "a volume of labels")
        truth_zyx = None if truth is None else layers.voxels(truth, "labels to compare with")
        work = partial(
            measuring.measure,
            labels_zyx,
            truth_zyx,
            voxel_size_um=layers.voxel_size_um(layer),
            connectivity=NEIGHBOURS[self.neighbours.value],
            min_voxels=self.min_voxels.value,
            intervals=self.intervals.value,
        )
        self.bar.start(work, self.grid.show_table)
