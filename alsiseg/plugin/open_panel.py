"""The panel Open a volume: for files that do not say themselves what they hold."""

from dataclasses import fields
from typing import TYPE_CHECKING

from magicgui.widgets import Container, FloatSpinBox, LineEdit, PushButton, SpinBox
from napari.layers import Layer

from alsiseg.plugin import opening
from alsiseg.plugin.bar import WorkBar, add_below, telling
from alsiseg.plugin.forms import FILE, path_in, path_row
from alsiseg.plugin.layers import LayerData
from alsiseg.plugin.opening import Statement
from alsiseg.plugin.work import Progress

if TYPE_CHECKING:
    import napari


class OpenPanel(Container):  # napari takes panels that are widgets, and passes its viewer to their class
    """A form: file, and what it does not state; a button."""

    def __init__(self, viewer: "napari.viewer.Viewer") -> None:
        super().__init__()
        self._viewer = viewer
        self.path = path_row(FILE, "file", "Or type the path of a folder: TIFF slices, zarr.")
        self.axes = LineEdit(label="axes", tooltip="Order in the file when it does not state it, e.g. ZYX.")
        self.dataset = LineEdit(label="data set", tooltip="Name inside an HDF5 or zarr file with several.")
        self.voxel_size_um = FloatSpinBox(
            label="voxel size [um]", value=0.0, min=0.0, max=1e6, step=0.1, tooltip="0: as the file states it."
        )
        self.raw_shape_zyx = LineEdit(label="raw: shape z, y, x", tooltip="For bare voxels, e.g. 400, 512, 512.")
        self.raw_dtype = LineEdit(label="raw: type", tooltip="Of a bare voxel with its byte order, e.g. <u2 or f4.")
        self.raw_offset_bytes = SpinBox(label="raw: bytes before", value=0, min=0, max=2**31 - 1)
        self.start = PushButton(text="Open")
        self._stated = [getattr(self, field.name) for field in fields(Statement)]
        self.extend([self.path, *self._stated, self.start])
        self.bar = WorkBar([self.start])
        add_below(self, self.bar)
        self.start.changed.connect(telling(self.open))

    def open(self) -> None:
        """Open the file as a layer; large ones are searched for their grey values in a thread."""
        path, statement = path_in(self.path), Statement(*(widget.value for widget in self._stated))

        def work(progress: Progress) -> LayerData:
            progress.begin(f"opening {path.name}")
            return opening.layer_of(statement.open(path), path.stem)

        self.bar.start(work, lambda layer: self._viewer.add_layer(Layer.create(*layer)))
