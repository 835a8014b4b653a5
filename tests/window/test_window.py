"""The plugin in a real napari window, driven as a person does: choose, press, wait, read."""

import csv
import io
import json
import re
import shutil

import numpy as np
import pytest

from alsiseg import prediction, runs, volumes
from alsiseg.phases import Phase
from alsiseg.viewer import window

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # those of napari and Qt are not ours
VOXEL_UM = 1.2


def add_scan(desk, grey_zyx, name="scan"):
    data, options = window.grey_layer(grey_zyx, name=name, voxel_size_um=VOXEL_UM)
    return desk.window.add_image(data, **options)


def add_labels(desk, labels_zyx, name):
    data, options = window.labels_layer(labels_zyx, name, voxel_size_um=VOXEL_UM)
    return desk.window.add_labels(data, **options)


def test_segment_gives_the_labels_of_the_library_as_a_layer(desk, scan, run_dir):
    grey_zyx, _ = scan
    add_scan(desk, grey_zyx)
    panel = desk.open_panel("Segment")
    panel.run.value = run_dir
    assert panel.epoch.choices[:2] == ("the last", "epoch 4")
    panel.uncertainty.value = True
    desk.press(panel.start)
    assert panel.bar.is_working
    desk.keep_picture("segment_working")
    desk.work(panel)
    layer = desk.window.layers["scan segmented"]
    wanted = prediction.predict(grey_zyx, run_dir, options=prediction.Options(uncertainty=True))
    np.testing.assert_array_equal(layer.data, wanted.labels_zyx)
    np.testing.assert_array_equal(desk.window.layers["scan segmented, uncertainty"].data, wanted.uncertainty_zyx)
    assert list(layer.scale) == [VOXEL_UM] * 3
    silicon = np.argwhere(wanted.labels_zyx == Phase.SILICON)[0] * VOXEL_UM
    desk.window.dims.set_point(0, silicon[0])
    assert "silicon" in layer.get_status(silicon, world=True)["coordinates"]
    assert "no GPU" in panel.bar.words
    assert desk.told == []
    desk.keep_picture("segment_done")


def test_segment_can_be_cancelled_and_begun_again(desk, scan, run_dir):
    grey_zyx = np.tile(scan[0], (8, 4, 4))
    add_scan(desk, grey_zyx)
    panel = desk.open_panel("Segment")
    panel.run.value = run_dir
    panel.symmetries.value = True
    desk.press(panel.start)
    desk.until(lambda: re.search(r"%, about .* left", panel.bar.words))
    assert not panel.start.enabled
    desk.press(panel.bar.cancel_button)
    desk.work(panel)
    assert panel.bar.words == "Cancelled."
    assert [layer.name for layer in desk.window.layers] == ["scan"]
    assert panel.start.enabled


def test_a_mistake_is_told_in_the_sentence_of_the_library(desk, scan, tmp_path):
    panel = desk.open_panel("Segment")
    desk.press(panel.start)
    assert "needs a scan, no such layer is open" in desk.told[-1]
    add_scan(desk, scan[0])
    panel.run.value = tmp_path
    desk.press(panel.start)
    desk.work(panel)
    assert str(tmp_path) in desk.told[-1]
    assert len(desk.window.layers) == 1
    desk.keep_picture("mistake")


def test_measure_makes_a_table_that_can_be_copied_and_saved(desk, scan, tmp_path):
    from qtpy.QtCore import Qt, QTimer
    from qtpy.QtTest import QTest
    from qtpy.QtWidgets import QApplication, QFileDialog, QLineEdit

    _, labels_zyx = scan
    add_labels(desk, labels_zyx, "truth")
    panel = desk.open_panel("Measure")
    desk.press(panel.start)
    desk.work(panel)
    table = panel.grid.table
    assert table.headings[:3] == ("network", "measure", "value")
    assert any("interval" in heading for heading in table.headings)
    share = next(row for row in table.rows if row[:2] == ("silicon", "volume fraction [vol.%]"))
    assert float(share[2]) == pytest.approx(100 * (labels_zyx == Phase.SILICON).mean(), abs=0.01)
    assert panel.grid.cells.item(0, 1).text() == table.rows[0][1]
    desk.press(panel.grid.copy_button)
    assert QApplication.clipboard().text() == table.as_tabs()
    desk.keep_picture("measure")

    def answer():
        for dialog in [one for one in QApplication.topLevelWidgets() if isinstance(one, QFileDialog)]:
            name = dialog.findChild(QLineEdit, "fileNameEdit")
            name.setText(str(tmp_path / "mine.csv"))
            QTest.keyClick(name, Qt.Key.Key_Return)

    waiting = QTimer()
    waiting.timeout.connect(answer)
    waiting.start(200)
    desk.press(panel.grid.save_button)
    waiting.stop()
    written = list(csv.reader(io.StringIO((tmp_path / "mine.csv").read_text())))
    assert written == [list(table.headings), *map(list, table.rows)]


def test_particles_are_coloured_and_told_apart_by_a_click(desk, scan):
    _, labels_zyx = scan
    add_labels(desk, labels_zyx, "truth")
    panel = desk.open_panel("Particles")
    panel.min_voxels.value = 5
    desk.press(panel.start)
    desk.work(panel)
    layer = desk.window.layers["silicon particles"]
    assert len(panel.found.each) == panel.grid.cells.rowCount() > 2
    panel.grid.cells.selectRow(1)
    desk.look(0.1)
    assert panel.words.value.startswith("Particle 2: ")
    centre = np.asarray(panel.found.each[1].centre_zyx)
    assert desk.window.dims.current_step[0] == round(centre[0])
    z, y, x = np.argwhere(layer.data == 3)[0]
    desk.window.dims.set_point(0, z * VOXEL_UM)
    click(desk, (z * VOXEL_UM, y * VOXEL_UM, x * VOXEL_UM))
    assert panel.words.value.startswith("Particle 3: ")
    assert panel.grid.cells.selectedItems()[0].text() == "3"
    assert "um3" in panel.words.value
    assert "aluminides" in panel.words.value
    desk.press(panel.alone)
    assert layer.show_selected_label
    desk.keep_picture("particles")
    desk.window.dims.ndisplay = 3
    desk.press(panel.alone)
    desk.keep_picture("particles_3d")


def click(desk, position_um):
    """Press the mouse on a place of the picture, as the canvas reports it."""
    from qtpy.QtCore import QPoint, Qt
    from qtpy.QtTest import QTest

    canvas = desk.window.window._qt_viewer.canvas
    desk.window.camera.center = position_um
    desk.look(0.2)
    native = canvas.native
    QTest.mouseClick(native, Qt.MouseButton.LeftButton, pos=QPoint(native.width() // 2, native.height() // 2))
    desk.look(0.2)


def test_the_network_learns_what_was_painted(desk, scan, run_dir, tmp_path):
    grey_zyx, truth_zyx = scan
    wrong_zyx = prediction.segment(grey_zyx, run_dir)
    add_scan(desk, grey_zyx)
    add_labels(desk, wrong_zyx.copy(), "prediction")
    panel = desk.open_panel("Correct and retrain")
    desk.press(panel.begin)
    layer = desk.window.layers["prediction corrected"]
    assert desk.window.layers.selection.active is layer
    assert (layer.mode, layer.selected_label) == ("paint", Phase.SILICON)
    layer.brush_size = 4
    z = int(np.argmax((wrong_zyx != truth_zyx).sum(axis=(1, 2))))
    paint_what_is_wrong(desk, panel, layer, truth_zyx, z)
    changed = int((layer.data != wrong_zyx).sum())
    assert changed > 0
    desk.until(lambda: panel.painted.value == f"{changed} voxels corrected in 1 slice")
    np.testing.assert_array_equal(desk.window.layers["prediction"].data, wrong_zyx)
    desk.window.dims.set_point(0, z * VOXEL_UM)
    desk.keep_picture("correct_painted")

    panel.run.value = run_dir
    panel.new_run.value = tmp_path / "mended"
    panel.minutes.value = 0.1
    desk.press(panel.start)
    desk.look(1.0)
    desk.keep_picture("correct_learning")
    desk.work(panel)
    assert desk.told == []
    after_zyx = desk.window.layers["prediction after retraining"].data
    np.testing.assert_array_equal(after_zyx, prediction.segment(grey_zyx, tmp_path / "mended"))
    assert "voxels you corrected: 0.0 % -> " in panel.result.value
    assert json.loads((tmp_path / "mended" / "settings.json").read_text())["parent"]
    corrections = np.asarray(volumes.open(tmp_path / "mended" / "corrections.tif"))
    assert (corrections != 255).sum() >= changed
    assert runs.load_network(tmp_path / "mended").run_dir == tmp_path / "mended"
    desk.keep_picture("correct_done")


def test_what_the_network_was_trained_on_is_seen_again_when_it_is_open(desk, scan, run_dir, tmp_path):
    grey_zyx, truth_zyx = scan
    add_scan(desk, grey_zyx)
    add_labels(desk, truth_zyx, "truth")
    add_labels(desk, prediction.segment(grey_zyx, run_dir), "prediction")
    panel = desk.open_panel("Correct and retrain")
    panel.prediction.value = desk.window.layers["prediction"]
    desk.press(panel.begin)
    layer = desk.window.layers["prediction corrected"]
    paint_what_is_wrong(desk, panel, layer, truth_zyx, 12)
    panel.run.value = run_dir
    panel.new_run.value = tmp_path / "mended"
    panel.minutes.value = 0.05
    desk.press(panel.start)
    desk.work(panel)
    assert desk.told == []
    assert "Half of what it saw came from its first training." in panel.result.value
    assert runs.read_settings(tmp_path / "mended")["correction"]["original_data"] is True


def test_a_network_that_comes_with_alsiseg_stands_ready(desk, scan, run_dir, tmp_path, monkeypatch):
    shutil.copytree(run_dir, tmp_path / "shipped" / "alsi-small")
    monkeypatch.setattr("alsiseg.runs.places.SHIPPED", tmp_path / "shipped")
    add_scan(desk, scan[0])
    panel = desk.open_panel("Segment")
    assert panel.run.line_edit.value == "alsi-small"
    assert panel.epoch.choices[:2] == ("the last", "epoch 4")
    desk.keep_picture("segment_ready")
    desk.press(panel.start)
    desk.work(panel)
    assert desk.told == []
    wanted = prediction.segment(scan[0], run_dir)
    np.testing.assert_array_equal(desk.window.layers["scan segmented"].data, wanted)


def paint_what_is_wrong(desk, panel, layer, truth_zyx, z):
    """Paint every tenth wrong pixel of a slice with the phase it should have."""
    for phase in Phase:
        desk.press(panel.brushes[phase])
        assert layer.selected_label == phase
        wrong = np.argwhere((truth_zyx[z] == phase) & (layer.data[z] != phase))
        for y, x in wrong[::10]:
            layer.paint((z, y, x), int(phase))
    assert layer.mode == "paint"


def test_retraining_without_corrections_is_refused(desk, scan, run_dir):
    grey_zyx, truth_zyx = scan
    add_scan(desk, grey_zyx)
    add_labels(desk, truth_zyx, "prediction")
    panel = desk.open_panel("Correct and retrain")
    desk.press(panel.begin)
    panel.run.value = run_dir
    assert panel.new_run.value.name == "run_corrected_1"
    desk.press(panel.start)
    assert "needs corrections, found none" in desk.told[-1]


def test_the_window_can_be_closed_while_a_panel_works(desk, scan, run_dir):
    add_scan(desk, np.tile(scan[0], (8, 4, 4)))
    panel = desk.open_panel("Segment")
    panel.run.value = run_dir
    panel.symmetries.value = True
    desk.press(panel.start)
    desk.until(lambda: "%" in panel.bar.words)


def test_files_are_opened_lazily_with_their_voxel_size(desk, scan, tmp_path):
    grey_zyx, labels_zyx = scan
    for name, volume_zyx in (("grey.zarr", grey_zyx), ("labels.tif", labels_zyx)):
        path = volumes.write(tmp_path / name, volume_zyx, voxel_size_um=VOXEL_UM)
        desk.window.open(str(path), plugin="alsiseg")
    grey, labels = desk.window.layers
    assert (type(grey).__name__, type(labels).__name__) == ("Image", "Labels")
    assert {str(unit) for unit in grey.units} == {"micrometer"}
    assert hasattr(grey.data, "compute"), "nothing is read but what is shown"
    np.testing.assert_array_equal(np.asarray(grey.data), grey_zyx)
    desk.keep_picture("opened")


def test_an_ambiguous_file_is_told_and_opened_with_what_the_user_says(desk, scan, tmp_path):
    import h5py

    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["first"], file["second"] = scan
    panel = desk.open_panel("Open a volume")
    panel.path.value = tmp_path / "two.h5"
    desk.press(panel.start)
    desk.work(panel)
    assert "holds more than one" in desk.told[-1]
    panel.dataset.value = "first"
    panel.axes.value = "zyx"
    panel.voxel_size_um.value = 0.65
    desk.keep_picture("open_ambiguous")
    desk.press(panel.start)
    desk.work(panel)
    assert desk.window.layers["two"].scale[0] == 0.65
    scan[0].tofile(tmp_path / "bare.raw")
    panel.path.value = tmp_path / "bare.raw"
    panel.dataset.value, panel.axes.value = "", ""
    panel.raw_shape_zyx.value = "32, 48, 56"
    panel.raw_dtype.value = "<u2"
    desk.press(panel.start)
    desk.work(panel)
    np.testing.assert_array_equal(np.asarray(desk.window.layers["bare"].data), scan[0])


def test_the_sample_is_a_scan_and_its_truth(desk):
    desk.window.open_sample("alsiseg", "specimen")
    grey, truth = desk.window.layers
    assert grey.data.shape == truth.data.shape
    assert set(np.unique(truth.data)) == set(Phase)
    window.show_scale(desk.window, legend=True)
    desk.keep_picture("sample")
