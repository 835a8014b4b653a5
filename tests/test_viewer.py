import builtins
import importlib.util
import os
import queue
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alsiseg import viewer, volumes
from alsiseg.phases import PHASE_COLOURS, Phase
from alsiseg.viewer.serving import Serving
from alsiseg.viewer.slices import Sections, Slices
from alsiseg.viewer.stack import Stack
from alsiseg.weightmaps import PixelWeights, weight_map, weight_regions

rng = np.random.default_rng(3)
TRUTH = rng.integers(0, 3, (6, 40, 50)).astype(np.uint8)
GREY = (1000 * TRUTH.astype(int) + rng.integers(0, 200, TRUTH.shape)).astype(np.uint16)
PREDICTION = TRUTH.copy()
PREDICTION[3, :10] = Phase.MATRIX


@pytest.fixture
def without(monkeypatch):
    """Hide a package, as if it were not installed."""
    real_import = builtins.__import__

    def hide(package):
        def refuse(name, *args, **kwargs):
            if name.split(".")[0] == package:
                raise ImportError(f"No module named {package!r}")
            return real_import(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", refuse)

    return hide


@pytest.fixture
def compared():
    """The widget of grey values, truth and prediction, and a queue of what it sends to the browser."""
    pytest.importorskip("anywidget")
    widget = viewer.compare(GREY, truth=TRUTH, prediction=PREDICTION, voxel_size_um=1.2)
    return widget, listened(widget)


def listened(widget):
    sent = queue.Queue()
    widget.send = lambda message, parts=(): sent.put((message, [bytes(part) for part in parts]))
    widget._serving.answer = widget.send
    return sent


def asked(widget, sent, plane, *indices, ahead=False):
    """Ask as the browser does and wait for the slices or an error."""
    widget._handle_custom_msg({"type": "slices", "plane": plane, "indices": list(indices), "ahead": ahead}, [])
    return sent.get(timeout=60)


def grey_and_labels(answer):
    header, (grey, labels) = answer
    shape = header["rows"], header["columns"]
    return np.frombuffer(grey, header["dtype"]).reshape(shape), np.frombuffer(labels, np.uint8).reshape(shape)


class CountedVolume:
    """Grey values on a disk that counts the slices read."""

    def __init__(self, array_zyx, chunks=None):
        self.array_zyx, self.read = array_zyx, []
        self.volume = volumes.Volume(Path("counted"), array_zyx.shape, array_zyx.dtype, 1.2, self.slices, chunks)

    def slices(self, z_indices):
        self.read += list(z_indices)
        return self.array_zyx[list(z_indices)]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_the_still_picture_shows_what_is_given():
    assert titles(viewer.still(GREY)) == ["input"]
    assert titles(viewer.still(GREY, prediction=PREDICTION)) == ["input", "prediction"]
    everything = viewer.still(GREY, truth=TRUTH, prediction=PREDICTION, z=3)
    assert titles(everything) == ["input", "truth", "prediction", "difference"]
    share = 100 * np.mean(TRUTH[3] == PREDICTION[3])
    assert everything.axes[-1].get_xlabel() == f"{share:.2f} % of the pixels agree"
    assert everything.axes[0].get_xlabel() == "slice 4 of 6"


def test_the_still_picture_of_a_volume_on_disk_is_that_of_its_array(tmp_path):
    grey = volumes.open(volumes.write(tmp_path / "grey.tif", GREY))
    truth = volumes.open(volumes.write(tmp_path / "truth.tif", TRUTH))
    from_disk, from_memory = viewer.still(grey, truth=truth), viewer.still(GREY, truth=TRUTH)
    for one, other in zip(from_disk.axes, from_memory.axes, strict=True):
        assert np.array_equal(one.images[0].get_array(), other.images[0].get_array())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"truth": TRUTH[1:]}, "cut both to the same region"),
        ({"truth": TRUTH + 3}, "renumber the phases"),
        ({"z": 6}, "0 to 5, got 6"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        viewer.still(GREY, **arguments)


def test_a_single_slice_is_refused():
    with pytest.raises(ValueError, match="give a stack"):
        viewer.compare(GREY[0])


@pytest.mark.parametrize(("plane", "n_slices"), [("xy", 6), ("xz", 40), ("yz", 50)])
def test_the_browser_gets_the_slices_it_asks_for(compared, plane, n_slices):
    widget, sent = compared
    axis = {"xy": 0, "xz": 1, "yz": 2}[plane]
    for index in (0, n_slices // 2, n_slices - 1):
        answer = asked(widget, sent, plane, index)
        assert (answer[0]["type"], answer[0]["plane"], answer[0]["indices"]) == ("slices", plane, [index])
        grey, labels = grey_and_labels(answer)
        assert np.array_equal(grey, GREY.take(index, axis))
        assert np.array_equal(labels & 15, TRUTH.take(index, axis))
        assert np.array_equal(labels >> 4, PREDICTION.take(index, axis))


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64, np.float16, np.float32, np.float64]
)
def test_grey_values_reach_the_browser_unchanged_whatever_their_type(dtype):
    pytest.importorskip("anywidget")
    grey = rng.integers(0, 120, (2, 3, 4)).astype(dtype)
    widget = viewer.compare(grey)
    header, (sent,) = asked(widget, listened(widget), "xy", 1)
    assert header["dtype"] in {"int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"}
    assert np.array_equal(np.frombuffer(sent, header["dtype"]).reshape(3, 4), grey[1])


def test_big_endian_grey_values_are_turned_for_the_browser():
    pytest.importorskip("anywidget")
    widget = viewer.compare(GREY.astype(">u2"))
    header, (sent,) = asked(widget, listened(widget), "xz", 7)
    assert np.array_equal(np.frombuffer(sent, "<u2").reshape(header["rows"], header["columns"]), GREY[:, 7])


def test_the_widget_starts_in_the_middle_with_what_matters_most(compared):
    widget, _ = compared
    assert (widget.plane, widget.z, widget.y, widget.x) == ("xy", 3, 20, 25)
    assert widget.layers == ["prediction", "difference"]
    assert widget.phases == ["silicon", "aluminides"]
    assert widget.window == pytest.approx(tuple(np.percentile(GREY[3], (0.5, 99.5))))
    assert viewer.compare(GREY).layers == ["input"]
    assert viewer.compare(GREY, truth=TRUTH).layers == ["truth"]
    assert "alsiseg-compare" in widget._dom_classes


def test_the_widget_can_be_driven_from_python(compared):
    widget, _ = compared
    widget.plane, widget.y, widget.layers, widget.opacity = "xz", 39, ["truth", "input"], 1.0
    widget.phases, widget.window = ["silicon"], (100, 900.5)
    state = widget.get_state()
    assert {"plane": "xz", "y": 39, "layers": ["input", "truth"], "opacity": 1.0}.items() <= state.items()
    assert (state["phases"], list(state["window"])) == (["silicon"], [100.0, 900.5])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("z", 6, "z must be 0 to 5, got 6"),
        ("x", -1, "x must be 0 to 49, got -1"),
        ("layers", ["depth"], "layers must be some of input, truth, prediction, difference, got depth"),
        ("layers", [], "got none"),
        ("phases", ["iron"], "got iron"),
        ("window", (5, 5), "the darker first, got 5.0 and 5.0"),
    ],
)
def test_what_the_widget_cannot_show_is_refused_in_a_sentence(compared, name, value, message):
    with pytest.raises(ValueError, match=message):
        setattr(compared[0], name, value)


def test_the_difference_is_offered_only_for_two_label_volumes():
    pytest.importorskip("anywidget")
    with pytest.raises(ValueError, match="some of input, truth, got difference"):
        viewer.compare(GREY, truth=TRUTH).layers = ["difference"]


def test_labels_that_are_none_are_told_to_the_browser(compared):
    widget, _ = compared
    wrong = TRUTH.copy()
    wrong[1] += 3
    widget = viewer.compare(GREY, truth=wrong)
    answer, _ = asked(widget, listened(widget), "xy", 1)
    assert answer["type"] == "error"
    assert "renumber the phases" in answer["text"]


def served(disk, **options):
    """Answers to questions about a volume on a disk, and the list they are put into."""
    answers = []
    serving = Serving(Sections(Stack.of(disk.volume, None, None), **options), lambda *answer: answers.append(answer[0]))
    disk.read.clear()
    return serving, answers


def test_slices_asked_for_ahead_come_in_one_message(compared):
    widget, sent = compared
    header, parts = asked(widget, sent, "xz", 7, 8, 9, ahead=True)
    assert (header["indices"], header["ahead"], header["rows"], header["columns"]) == ([7, 8, 9], True, 6, 50)
    for y, grey, labels in zip(header["indices"], parts[::2], parts[1::2], strict=True):
        assert np.array_equal(np.frombuffer(grey, header["dtype"]).reshape(6, 50), GREY[:, y])
        assert np.array_equal(np.frombuffer(labels, np.uint8).reshape(6, 50), TRUTH[:, y] | PREDICTION[:, y] << 4)


def test_only_what_is_asked_for_is_read_and_sent():
    disk = CountedVolume(np.repeat(GREY, 5, axis=0))
    serving, answers = served(disk)
    for indices, ahead in (([10], False), ([11, 12, 13], True), ([20], False)):
        serving.ask("xy", indices, ahead=ahead)
        serving.wait()
    assert disk.read == [10, 11, 12, 13, 20]
    assert [answer["indices"] for answer in answers] == [[10], [11, 12, 13], [20]]


def test_large_slices_are_read_ahead_but_sent_only_when_looked_at(monkeypatch):
    monkeypatch.setattr("alsiseg.viewer.serving.SENT_AHEAD_BYTES", GREY[0].nbytes - 1)
    disk = CountedVolume(GREY)
    serving, answers = served(disk)
    for indices, ahead in (([3], False), ([4, 5], True), ([4], False)):
        serving.ask("xy", indices, ahead=ahead)
        serving.wait()
    assert [answer["indices"] for answer in answers] == [[3], [], [4]]
    assert disk.read == [3, 4, 5]


def test_nothing_is_read_ahead_that_needs_another_walk_through_the_file():
    disk = CountedVolume(GREY)
    serving, answers = served(disk, kept_bytes=2 * GREY.nbytes // GREY.shape[1])  # one slice along y
    for indices, ahead in (([4], False), ([5], True)):
        serving.ask("xz", indices, ahead=ahead)
        serving.wait()
    assert [answer["indices"] for answer in answers] == [[4], []]
    assert disk.read == list(range(6))


def test_labels_that_are_none_are_not_told_of_before_they_are_looked_at():
    wrong = TRUTH.copy()
    wrong[2] += 3
    answers = []
    serving = Serving(Sections(Stack.of(GREY, wrong, None)), lambda *answer: answers.append(answer[0]))
    for ahead in (True, False):
        serving.ask("xy", [1, 2, 3] if ahead else [2], ahead=ahead)
        serving.wait()
    assert answers[0]["indices"] == [1]
    assert answers[1]["type"] == "error"


def test_slices_of_one_chunk_are_read_once():
    disk = CountedVolume(np.repeat(GREY, 5, axis=0), chunks=(8, 40, 50))
    slices = Slices(disk.volume)
    for z in (9, 15, 8):
        assert np.array_equal(slices.at(0, z), disk.array_zyx[z])
    assert disk.read == list(range(8, 16))


@pytest.mark.parametrize("axis", [1, 2])
def test_a_small_volume_is_walked_through_once_for_all_planes(axis):
    disk = CountedVolume(GREY)
    slices = Slices(disk.volume)
    for index in (0, 39, 20):
        assert np.array_equal(slices.at(axis, index), GREY.take(index, axis))
        assert np.array_equal(slices.at(3 - axis, index), GREY.take(index, 3 - axis))
        assert np.array_equal(slices.at(0, 4), GREY[4])
    assert disk.read == list(range(6))


@pytest.mark.parametrize("axis", [1, 2])
def test_of_a_large_volume_neighbours_are_kept_with_the_slice(axis):
    disk = CountedVolume(GREY)
    n_bytes = GREY.nbytes // GREY.shape[axis]
    slices = Slices(disk.volume, kept_bytes=20 * n_bytes)  # ten in each direction of the volume
    for index in (20, 15, 24):
        assert np.array_equal(slices.at(axis, index), GREY.take(index, axis))
    assert disk.read == list(range(6))
    for index in (0, GREY.shape[axis] - 1):
        assert np.array_equal(slices.at(axis, index), GREY.take(index, axis))
    assert disk.read == 3 * list(range(6))
    assert sum(slab.array.nbytes for slab in slices._slabs.values()) <= 20 * n_bytes


def test_a_walk_that_was_stopped_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr("alsiseg.viewer.slices.BLOCK_BYTES", 2 * GREY[0].nbytes)
    disk = CountedVolume(GREY)
    slices = Slices(disk.volume)
    seen = []

    def stop_half_way(n_read, n_all):
        seen.append((n_read, n_all))
        if n_read == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        slices.at(1, 5, stop_half_way)
    assert seen == [(2, 6), (4, 6)]
    assert np.array_equal(slices.at(0, 5), GREY[5]), "a slice along z need not wait for the walk"
    assert np.array_equal(slices.at(1, 5), GREY[:, 5])
    assert disk.read == [0, 1, 2, 3, 5, 4, 5]


def test_a_newer_question_stops_a_long_walk(monkeypatch):
    monkeypatch.setattr("alsiseg.viewer.slices.BLOCK_BYTES", 1)
    monkeypatch.setattr("alsiseg.viewer.serving.TOLD_AFTER_S", -1.0)
    disk, answers = CountedVolume(GREY), []

    def answer(message, _parts):
        answers.append((message["type"], message["plane"], message.get("indices")))
        if len(answers) == 1:  # while the file is walked through, the user turns back
            serving.ask("xy", [5])

    serving = Serving(Sections(Stack.of(disk.volume, None, None)), answer)
    disk.read.clear()
    serving.ask("xz", [0])
    serving.wait()
    assert answers == [("progress", "xz", None), ("slices", "xy", [5])]
    assert len(disk.read) < len(GREY)


def test_progress_counts_the_labels_too(tmp_path):
    grey, truth = CountedVolume(GREY), CountedVolume(TRUTH)
    seen = []
    Sections(Stack.of(grey.volume, truth.volume, None)).read("yz", 3, lambda *read: seen.append(read))
    assert seen == [(6, 12), (12, 12)]


def test_a_volume_on_disk_gives_the_slices_of_its_array_and_its_voxel_size(tmp_path):
    pytest.importorskip("anywidget")
    grey = volumes.open(volumes.write(tmp_path / "grey.ome.zarr", GREY, voxel_size_um=0.7))
    widget = viewer.compare(grey)
    sent = listened(widget)
    assert widget.scene["voxel_size_um"] == 0.7
    for plane, axis in {"xy": 0, "xz": 1, "yz": 2}.items():
        header, (part,) = asked(widget, sent, plane, 4)
        assert np.array_equal(np.frombuffer(part, header["dtype"]).reshape(header["rows"], -1), GREY.take(4, axis))


def test_memory_is_given_back_when_the_browser_closes_the_widget():
    pytest.importorskip("anywidget")
    disk = CountedVolume(GREY)
    widget = viewer.compare(disk.volume)
    asked(widget, listened(widget), "xz", 1)
    widget._handle_custom_msg({"type": "closed"}, [])
    widget._serving.wait()
    assert not widget._serving.sections.grey._slabs


def test_without_anywidget_a_sentence_says_what_to_install(without, capsys):
    without("anywidget")
    assert viewer.compare(GREY) is None
    assert viewer.weights(TRUTH[0]) is None
    assert viewer.thresholds(GREY[0]) is None
    assert capsys.readouterr().out.count('pip install "alsiseg[notebooks]"') == 3


def test_the_weights_follow_the_browser_and_give_the_map():
    pytest.importorskip("anywidget")
    widget = viewer.weights(TRUTH[0])
    assert widget.weights == PixelWeights()
    widget.set_state({"silicon": 1.75, "interface": 2.0})
    assert widget.weights == PixelWeights(1.0, 1.75, 2.0)
    assert np.array_equal(widget.weight_yx, weight_map(TRUTH[0], PixelWeights(1.0, 1.75, 2.0)))
    pixels = np.frombuffer(widget.pixels, np.uint8).reshape(TRUTH[0].shape)
    assert np.array_equal(pixels & 15, TRUTH[0])
    assert np.array_equal(pixels >> 4, weight_regions(TRUTH[0]))
    assert "alsiseg-weights" in widget._dom_classes


def test_the_thresholds_follow_the_browser_and_give_the_pixels_between():
    pytest.importorskip("anywidget")
    scan_yx = np.tile(np.arange(100, dtype=np.uint16), (10, 1))
    widget = viewer.thresholds(scan_yx, low=90, high=99)
    assert widget.marked_yx.sum() == 100
    widget.set_state({"low": 50, "high": 60})
    assert np.array_equal(widget.marked_yx, (scan_yx >= 50) & (scan_yx <= 60))
    assert np.array_equal(np.frombuffer(widget.pixels, "<u2").reshape(10, 100), scan_yx)
    assert "alsiseg-thresholds" in widget._dom_classes


@pytest.mark.parametrize("show", [viewer.weights, viewer.thresholds])
def test_weights_and_thresholds_need_one_slice(show):
    with pytest.raises(ValueError, match=r"needs? one slice \(y, x\).*give one"):
        show(TRUTH)


def test_the_scripts_of_the_browser_ask_nothing_of_the_network():
    parts = sorted((Path(viewer.__file__).parent / "browser").iterdir())
    assert {path.suffix for path in parts} == {".js", ".css"}
    for path in parts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"https?:|import |fetch\(|url\(", text), path.name
        assert len(text.splitlines()) < 350


def test_the_viewer_opens_in_a_notebook_with_a_still_picture_beside_the_sliders():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    source = (
        "import numpy as np\nfrom alsiseg import viewer\n"
        "grey = np.arange(4 * 9 * 9, dtype=np.uint16).reshape(4, 9, 9)\nviewer.compare(grey)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    shown = [output.get("data", {}) for output in notebook.cells[0].outputs]
    assert "image/png" in shown[0]
    assert "Run this cell" in shown[1]["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in shown[2]


GROWING = """
import time
from pathlib import Path
from alsiseg.viewer import curves
drawn, draw = [], curves.curves_so_far
def counted(run_dirs):
    figure = draw(run_dirs)
    drawn.append(figure)
    return figure
curves.curves_so_far = counted
history = Path(FOLDER) / "run" / "history.csv"
history.parent.mkdir()
rows = ["epoch,test_loss,accuracy"]
with curves.growing_curves({"1, 1, 1": history.parent}, every_s=0.05):
    for epoch, loss in enumerate((1.1, 0.5, 0.3)):
        rows.append(f"{epoch},{loss},{1 - loss / 2}")
        partial = history.with_suffix(".partial")
        partial.write_text("\\n".join(rows) + "\\n")
        partial.replace(history)
        while len(drawn) < epoch + 2:  # empty at first, then one more for every epoch
            time.sleep(0.01)
"""


def test_curves_grow_in_a_notebook_while_its_cell_trains(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pictures: list[str] = []

    class Watched(nbclient.NotebookClient):
        def process_message(self, message, cell, cell_index):
            if message["msg_type"] in ("display_data", "update_display_data"):
                pictures.append(message["content"]["data"]["image/png"])
            return super().process_message(message, cell, cell_index)

    source = GROWING.replace("FOLDER", repr(str(tmp_path)))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    Watched(notebook, timeout=120).execute()
    shown = [output["data"]["image/png"] for output in notebook.cells[0].outputs if "data" in output]
    assert len(shown) == 1, "one picture, redrawn in its place"
    assert len(set(pictures)) >= 4, "empty, then one more for every epoch"
    assert shown[0] == pictures[-1]


def test_outside_a_notebook_no_curves_are_shown(tmp_path):
    with viewer.growing_curves({"1, 1, 1": tmp_path}):
        pass
    assert len(viewer.curves_so_far({"1, 1, 1": tmp_path}).axes[1].lines) == 0


def test_napari_missing_is_said_in_a_sentence(without):
    without("napari")
    with pytest.raises(ImportError, match=r'pip install "alsiseg\[viewer\]"'):
        viewer.open_napari(GREY, {})


def test_napari_without_a_screen_is_refused_in_a_sentence(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(OSError, match="needs a screen"):
        viewer.show_napari(GREY, {})


def no_window_reason():
    """Why a real window cannot be opened here; empty when it can."""
    if importlib.util.find_spec("napari") is None:
        return "napari is not installed"
    virtual = importlib.util.find_spec("pytest_xvfb") and shutil.which("Xvfb")
    if os.environ.get("DISPLAY") or virtual:
        return ""
    return "no screen: neither DISPLAY nor Xvfb with pytest-xvfb"


@pytest.mark.slow
@pytest.mark.skipif(bool(no_window_reason()), reason=no_window_reason() or "a window can be opened")
@pytest.mark.filterwarnings("ignore")  # those of napari and Qt are not ours
def test_a_real_napari_window_shows_the_phases_in_their_colours():
    window = viewer.open_napari(GREY, {"truth": TRUTH}, voxel_size_um=1.2)
    try:
        layer = window.layers["truth"]
        assert list(layer.scale) == [1.2, 1.2, 1.2]
        assert {str(unit) for unit in layer.units} == {"micrometer"}
        silicon = np.array(Image.new("RGB", (1, 1), PHASE_COLOURS[Phase.SILICON])).ravel() / 255
        assert layer.get_color(int(Phase.SILICON))[:3] == pytest.approx(silicon, abs=0.01)
        assert "silicon" in layer.get_status((3.6, *(np.argwhere(TRUTH[3] == Phase.SILICON)[0] * 1.2)))["coordinates"]
        layer.opacity = 1.0
        shot = window.screenshot(canvas_only=False, flash=False)
        folder = Path("test-artefacts")
        folder.mkdir(exist_ok=True)
        Image.fromarray(shot[..., :3]).save(folder / "napari.png")
        near = np.abs(shot[..., :3] / 255 - silicon).max(axis=-1) < 0.05
        assert near.sum() > 500
    finally:
        window.close()
