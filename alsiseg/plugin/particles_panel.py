"""The panel Particles: the components of a network in colours, and what is known of each."""

from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, Container, Label, PushButton, SpinBox
from napari.layers import Labels

from alsiseg import metrics
from alsiseg.metrics import Particles
from alsiseg.phases import NETWORKS
from alsiseg.plugin import layers, particles
from alsiseg.plugin.bar import WorkBar, add_below, telling
from alsiseg.plugin.forms import layer_choice
from alsiseg.plugin.grid import Grid
from alsiseg.plugin.work import Progress
from alsiseg.viewer import window

if TYPE_CHECKING:
    import napari


class ParticlesPanel(Container):  # napari takes panels that are widgets, and passes its viewer to their class
    """A form: labels, network, smallest size; a button; progress; the table; the chosen particle in words."""

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__()
        self._viewer = viewer
        self.found: Particles | None = None
        self.layer: Labels | None = None
        self.labels_layer = layer_choice(Labels, "labels")
        self.network = ComboBox(label="network", choices=list(NETWORKS))
        self.min_voxels = SpinBox(
            label="smallest [voxels]", value=10, min=1, max=10**9, tooltip="Smaller particles are left out."
        )
        self.start = PushButton(text="Find particles")
        self.alone = CheckBox(text="show the chosen particle alone", enabled=False)
        self.extend([self.labels_layer, self.network, self.min_voxels, self.start, self.alone])
        self.bar, self.grid, self.words = WorkBar([self.start]), Grid("particles"), Label(value="")
        self.words.native.setWordWrap(True)
        add_below(self, self.bar, self.words.native, self.grid)
        self.start.changed.connect(telling(self.find))
        self.alone.changed.connect(telling(self._show_alone))
        self.grid.cells.itemSelectionChanged.connect(telling(self._choose_row))

    def find(self) -> None:
        """Find the particles of the chosen network in a thread."""
        layer, network, least = self.labels_layer.value, self.network.value, self.min_voxels.value
        layers.voxels(layer, "a volume of labels")
        size_um = layers.voxel_size_um(layer)

        def work(progress: Progress) -> Particles:
            progress.begin("finding particles")
            labels_zyx = layers.phases(layer, "the labels")
            return metrics.find_particles(
                labels_zyx, network, min_voxels=least, voxel_size_um=size_um, on_share=progress.at
            )

        self.bar.start(work, lambda found: self._show(layer, found))

    def _show(self, source: Labels, found: Particles) -> None:
        """Add the particles as a layer with a colour each, and list them."""
        self.found = found
        self.layer = Labels(
            found.numbers_zyx,
            name=f"{found.network} particles",
            features=particles.features(found),
            opacity=0.8,
            **layers.place(source),
        )
        self.layer.editable = False
        self.layer.mouse_drag_callbacks.append(self._choose_clicked)
        self._viewer.add_layer(self.layer)
        source.visible = False  # or its colours would hide those of the particles
        window.show_scale(self._viewer, legend=False)  # colours are particles now, not phases
        self.grid.show_table(particles.table_of(found), sortable=True)
        self.alone.enabled, self.alone.value = bool(found.each), False
        self.words.value = "Click a particle in the picture, or its row." if found.each else ""

    def _choose_clicked(self, layer: Labels, event: Any) -> None:  # of napari: a click on the canvas
        number = layer.get_value(
            event.position, view_direction=event.view_direction, dims_displayed=event.dims_displayed, world=True
        )
        if number:
            self.choose(int(number))
            self._mark_row(int(number))

    def _mark_row(self, number: int) -> None:
        """Mark the row of a particle, without moving the view."""
        cells = self.grid.cells
        first_column = [cells.item(row, 0) for row in range(cells.rowCount())]
        blocked = cells.blockSignals(True)
        for cell in first_column:
            if cell is not None and cell.text() == str(number):
                cells.selectRow(cell.row())
                cells.scrollToItem(cell)
        cells.blockSignals(blocked)

    def _choose_row(self) -> None:
        chosen = self.grid.cells.selectedItems()
        if chosen:
            self.choose(int(chosen[0].text()), move=True)  # the first column of the row

    def choose(self, number: int, *, move: bool = False) -> None:
        """Say what is known of a particle, and move the view to it when asked."""
        if self.found is None or self.layer is None or not 1 <= number <= len(self.found.each):
            return
        particle = self.found.each[number - 1]
        self.words.value = particles.in_words(particle)
        self.layer.selected_label = number
        if move and self.layer in self._viewer.layers:
            place_world = np.asarray(self.layer.data_to_world(particle.centre_zyx))
            self._viewer.dims.set_point(range(3), place_world)
            self._viewer.camera.center = tuple(place_world)

    def _show_alone(self) -> None:
        if self.layer is not None:
            self.layer.show_selected_label = self.alone.value
