"""The panel Segment: a scan and a trained network give a layer of phases."""

from typing import TYPE_CHECKING

from magicgui.widgets import CheckBox, ComboBox, Container, Label, PushButton
from napari.layers import Image, Labels

from alsiseg.plugin import layers, segmenting
from alsiseg.plugin.bar import WorkBar, add_below, telling
from alsiseg.plugin.forms import layer_choice, path_in, run_row
from alsiseg.plugin.segmenting import Segmented
from alsiseg.prediction.options import PRECISIONS, Options
from alsiseg.viewer import window

if TYPE_CHECKING:
    import napari


class SegmentPanel(Container):  # napari takes panels that are widgets, and passes its viewer to their class
    """A form: scan, run, options; a button; progress; warnings."""

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__()
        self._viewer = viewer
        self.scan = layer_choice(Image, "scan")
        self.run = run_row("The folder that alsiseg train wrote.")
        epochs = segmenting.epochs(path_in(self.run))
        self.epoch = ComboBox(label="network", choices=epochs, tooltip="Which epoch of the run.")
        self.three_views = CheckBox(
            text="three views", tooltip="Average over slices along z, y and x; three times as long."
        )
        self.symmetries = CheckBox(
            text="symmetries", tooltip="Average over eight turns and reflections; eight times as long."
        )
        self.uncertainty = CheckBox(text="uncertainty", tooltip="Show how sure the network is, as a layer of its own.")
        self.precision = ComboBox(label="precision", choices=list(PRECISIONS), value="auto")
        self.start = PushButton(text="Segment")
        self.extend(
            [
                self.scan,
                self.run,
                self.epoch,
                self.three_views,
                self.symmetries,
                self.uncertainty,
                self.precision,
                self.start,
            ]
        )
        self.bar, self.message = WorkBar([self.start]), Label(value="")
        self.message.native.setWordWrap(True)
        add_below(self, self.bar, self.message.native)
        self.run.changed.connect(telling(self._list_epochs))
        self.start.changed.connect(telling(self.segment))

    def _list_epochs(self) -> None:
        self.epoch.choices = segmenting.epochs(path_in(self.run))

    @property
    def chosen(self) -> Options:
        """What is chosen in the form."""
        return Options(
            three_views=self.three_views.value,
            symmetries=self.symmetries.value,
            uncertainty=self.uncertainty.value,
            precision=self.precision.value,
        )

    def segment(self) -> None:
        """Segment the chosen scan in a thread."""
        scan, options = self.scan.value, self.chosen
        grey_zyx = layers.voxels(scan, "a scan")
        size_um = layers.voxel_size_um(scan)
        trained = segmenting.load(path_in(self.run), self.epoch.value)
        self.message.value = ""
        self.bar.start(
            lambda progress: segmenting.segment(grey_zyx, trained, progress, options=options, voxel_size_um=size_um),
            lambda found: self._show(scan, found),
        )

    def _show(self, scan: Image, found: Segmented) -> None:
        """Add the layers, and say in what the scan is unlike those of the training."""
        name = f"{scan.name} segmented"
        if found.uncertainty_zyx is not None:
            place = layers.place(scan)
            look = {"colormap": "inferno", "opacity": 0.7, "contrast_limits": (0, 255), "visible": False}
            self._viewer.add_layer(Image(found.uncertainty_zyx, name=f"{name}, uncertainty", **look, **place))
        data, options, _ = layers.labels_over(scan, found.labels_zyx, name)
        self._viewer.add_layer(Labels(data, **options))
        window.show_scale(self._viewer, legend=True)
        self.bar.say(f"Segmented on {found.device}.")
        self.message.value = "\n".join(f"Note: {sentence}" for sentence in found.warnings)
