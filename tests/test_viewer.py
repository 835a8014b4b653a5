import builtins
import importlib.util
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alsiseg import viewer, volumes
from alsiseg.phases import PHASE_COLOURS, Phase

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


def control(box, description):
    return next(widget for widget in box.children if getattr(widget, "description", None) == description)


def picture(box):
    return next(widget for widget in box.children if hasattr(widget, "format")).value


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


def test_the_slider_changes_the_picture_and_the_words():
    box = viewer.compare(GREY, truth=TRUTH, prediction=PREDICTION)
    at_the_wrong_slice = picture(box)
    words = box.children[-1].value
    control(box, "slice").value = 1
    assert picture(box) != at_the_wrong_slice
    assert words != box.children[-1].value == "100.00 % of the pixels agree"


def test_planes_have_their_own_number_of_slices():
    box = viewer.compare(GREY, truth=TRUTH)
    for plane, n_slices in {"xy": 6, "xz": 40, "yz": 50, "xy ": 6}.items():
        control(box, "plane").value = plane.strip()
        assert control(box, "slice").max == n_slices - 1
        control(box, "slice").value = n_slices - 1


def test_opacity_moves_between_grey_and_colour():
    box = viewer.compare(GREY, truth=TRUTH)
    control(box, "opacity").value = 0.0
    clear = picture(box)
    control(box, "show").value = "input"
    assert picture(box) == clear
    control(box, "show").value = "truth"
    control(box, "opacity").value = 1.0
    assert picture(box) != clear


def test_the_difference_is_offered_only_for_two_label_volumes():
    assert "difference" not in control(viewer.compare(GREY, truth=TRUTH), "show").options
    assert "difference" in control(viewer.compare(GREY, truth=TRUTH, prediction=PREDICTION), "show").options


def test_without_ipywidgets_a_sentence_says_what_to_install(without, capsys):
    without("ipywidgets")
    assert viewer.compare(GREY) is None
    assert viewer.weights(TRUTH[0]) is None
    assert viewer.thresholds(GREY[0]) is None
    assert capsys.readouterr().out.count('pip install "alsiseg[notebooks]"') == 3


def test_the_weight_sliders_redraw_the_map():
    labels_yx = np.zeros((20, 20), dtype=np.uint8)
    labels_yx[5:9, 5:9] = Phase.SILICON
    box = viewer.weights(labels_yx)
    before = picture(box)
    control(box, "interface").value = 2.0  # no aluminide, no interface
    assert picture(box) == before
    control(box, "silicon").value = 2.0
    assert picture(box) != before
    assert box.children[-1].value.endswith(f"{1 + 16 / 400:.3f}")


def test_the_threshold_slider_marks_the_grey_values_between():
    scan_yx = np.tile(np.arange(100, dtype=np.uint16), (10, 1))
    box = viewer.thresholds(scan_yx, low=90, high=99)
    control(box, "grey").value = (0, 99)
    everything = picture(box)
    control(box, "grey").value = (50, 60)
    assert picture(box) != everything


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
    kinds = [kind for output in notebook.cells[0].outputs for kind in output.get("data", {})]
    assert "image/png" in kinds
    assert "application/vnd.jupyter.widget-view+json" in kinds


GROWING = """
import time
from pathlib import Path
from alsiseg import viewer
history = Path(FOLDER) / "run" / "history.csv"
history.parent.mkdir()
rows = ["epoch,test_loss,accuracy"]
with viewer.growing_curves({"1, 1, 1": history.parent}, every_s=0.05):
    for epoch, loss in enumerate((1.1, 0.5, 0.3)):
        rows.append(f"{epoch},{loss},{1 - loss / 2}")
        partial = history.with_suffix(".partial")
        partial.write_text("\\n".join(rows) + "\\n")
        partial.replace(history)
        time.sleep(0.7)
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
