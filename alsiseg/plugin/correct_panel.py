"""The panel Correct and retrain: paint over what is wrong, let the network learn from it, compare."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import Container, FloatSpinBox, Label, PushButton
from napari.layers import Image, Labels
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from alsiseg.phases import PHASE_NAMES, Phase
from alsiseg.plugin import layers, originals, retraining
from alsiseg.plugin.bar import WorkBar, add_below, telling
from alsiseg.plugin.forms import FILE, NEW, layer_choice, path_in, path_row, run_row
from alsiseg.plugin.retraining import Retrained
from alsiseg.plugin.work import Progress
from alsiseg.viewer import window

if TYPE_CHECKING:
    import napari

COUNT_AFTER_MS = 200
FIRST = (
    "What the network was trained on, scan and labels: half of what it sees then comes from there, so that it does not "
    "forget the rest. May stay empty: if both are open as layers, they are found by themselves."
)


class CorrectPanel(Container):  # napari takes panels that are widgets, and passes its viewer to their class
    """Three steps: begin a copy of the prediction, paint on it, retrain."""

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__()
        self._viewer = viewer
        self.layer: Labels | None = None
        self._before_zyx: NDArray[np.uint8] | None = None
        self._soon = QTimer(self.native)
        self._soon.setSingleShot(True)
        self._soon.setInterval(COUNT_AFTER_MS)
        self._soon.timeout.connect(self._count)
        self.scan = layer_choice(Image, "scan")
        self.prediction = layer_choice(Labels, "prediction")
        self.begin = PushButton(text="1. Start correcting", tooltip="Paint on a copy; the prediction stays as it is.")
        self.brushes = {
            phase: PushButton(text=PHASE_NAMES[phase], tooltip=f"Paint {PHASE_NAMES[phase]}.", enabled=False)
            for phase in Phase
        }
        palette = Container(widgets=list(self.brushes.values()), layout="horizontal", labels=False, label="2. paint")
        self.painted = Label(value="", label="")
        self.run = run_row("The run whose network made the prediction.")
        self.new_run = path_row(NEW, "new run folder", "Must not be there yet.")
        self.minutes = FloatSpinBox(label="minutes", value=5.0, min=0.05, max=10_000.0, step=1.0)
        self.first_scan = path_row(FILE, "first scan", FIRST)
        self.first_labels = path_row(FILE, "first labels", FIRST)
        self.start = PushButton(text="3. Retrain", enabled=False)
        painting = [self.scan, self.prediction, self.begin, palette, self.painted]
        learning = [self.run, self.first_scan, self.first_labels, self.new_run, self.minutes, self.start]
        self.extend([*painting, *learning])
        self.bar, self.result = WorkBar([self.begin, self.start]), Label(value="")
        self.result.native.setWordWrap(True)
        add_below(self, self.bar, self.result.native)
        self._connect()

    def _connect(self) -> None:
        self.begin.changed.connect(telling(self.begin_correcting))
        self.start.changed.connect(telling(self.retrain))
        self.run.changed.connect(telling(self._name_new_run))
        if path_in(self.run) != Path():
            self._name_new_run()
        for phase, button in self.brushes.items():
            button.changed.connect(telling(partial(self.paint_with, phase)))

    def _name_new_run(self) -> None:
        self.new_run.value = retraining.new_run_dir(path_in(self.run))

    def begin_correcting(self) -> None:
        """Copy the prediction into a layer to be painted on."""
        prediction = self.prediction.value
        self._before_zyx = layers.phases(prediction, "a prediction to correct").copy()
        layers.check_same_shape(
            layers.voxels(self.scan.value, "a scan"), self._before_zyx, "needs the prediction of the scan"
        )
        data, options, _ = layers.labels_over(prediction, self._before_zyx.copy(), f"{prediction.name} corrected")
        self.layer = Labels(data, **options)
        self.layer.events.paint.connect(lambda event: self._soon.start())  # it comes before the voxels change
        self._viewer.add_layer(self.layer)
        prediction.visible = False  # or its colours would mix with those painted over it
        window.show_scale(self._viewer, legend=True)
        for button in [*self.brushes.values(), self.start]:
            button.enabled = True
        self.paint_with(Phase.SILICON)
        self.painted.value = "Nothing painted yet."

    def paint_with(self, phase: Phase) -> None:
        """Take the brush with the colour of a phase."""
        if self.layer is None:
            return
        self._viewer.layers.selection.active = self.layer
        self.layer.selected_label = int(phase)
        self.layer.mode = "paint"

    def _count(self) -> None:
        """Say how much was painted, a moment after a stroke."""
        if self.layer is None or self._before_zyx is None:
            return
        changed_zyx = self.layer.data != self._before_zyx
        n_slices = int(changed_zyx.any(axis=(1, 2)).sum())
        slices = "1 slice" if n_slices == 1 else f"{n_slices} slices"
        self.painted.value = f"{int(changed_zyx.sum())} voxels corrected in {slices}"

    def retrain(self) -> None:
        """Let the network learn from the corrections, in a thread."""
        assert self.layer is not None
        assert self._before_zyx is not None
        grey_zyx = layers.voxels(self.scan.value, "a scan")
        before_zyx, corrected_zyx = self._before_zyx, np.array(self.layer.data)  # painting may go on meanwhile
        retraining.painted(before_zyx, corrected_zyx)
        run_dir, new_dir = path_in(self.run), path_in(self.new_run)
        scan, name, minutes = self.scan.value, self.prediction.value.name, self.minutes.value
        size_um = layers.voxel_size_um(scan)
        first_scan, first_labels = path_in(self.first_scan), path_in(self.first_labels)
        opened = self._opened()
        self.result.value = ""

        def work(progress: Progress) -> Retrained:
            return retraining.retrain(
                run_dir,
                new_dir,
                grey_zyx,
                before_zyx,
                corrected_zyx,
                progress,
                minutes=minutes,
                original=originals.from_files(first_scan, first_labels),
                opened=opened,
                voxel_size_um=size_um,
            )

        self.bar.start(work, partial(self._show, scan, name))

    def _opened(self) -> list[Any]:
        """List the volumes that are open, at full resolution; what was painted on is no data of a training."""
        shown = [
            layer for layer in self._viewer.layers if isinstance(layer, Image | Labels) and layer is not self.layer
        ]
        return [layer.data[0] if layer.multiscale else layer.data for layer in shown]

    def _show(self, scan: Image, name: str, found: Retrained) -> None:
        """Add what the new network says, and say what became better and what worse."""
        data, options, _ = layers.labels_over(scan, found.labels_zyx, f"{name} after retraining")
        self._viewer.add_layer(Labels(data, **options))
        if self.layer is not None:
            self.layer.mode, self.layer.visible = "pan_zoom", False
        self.result.value = f"{found}\nEpochs: {found.n_epochs}. The new run: {found.run_dir}"
        self._name_new_run()
