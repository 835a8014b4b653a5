"""The notebooks in a real JupyterLab in headless Chromium, used as a person does: click, move, look, save, reopen."""

import json

import nbformat
import numpy as np
import pytest
from conftest import do_without
from laboratory import IS_SAVED, Notebook, wait_until

from alsiseg import volumes, weightmaps
from alsiseg.phases import PHASE_NAMES, Phase

FRAMES = "async () => { for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame); }"
# What is on a canvas once the browser has drawn everything that was asked for.
DRAWN = """async (canvas) => {
    for (let n = 0; n < 3; n++) await new Promise(requestAnimationFrame);
    return canvas.toDataURL();
}"""
# Every picture that the outputs of a cell have ever held, in their order.
REMEMBER_PICTURES = """(index) => {
    window.pictures = [];
    const outputs = window.jupyterapp.shell.currentWidget.model.cells.get(index).outputs;
    outputs.changed.connect(() => {
        for (let n = 0; n < outputs.length; n++) {
            const png = outputs.get(n).data['image/png'];
            if (png && !window.pictures.includes(png)) window.pictures.push(png);
        }
    });
}"""
# Pull the slider through 40 slices, each as soon as the one before is on the screen, twice; milliseconds of each.
PULL = """async (root) => {
    const slider = root.querySelector('[data-testid=slice]'), widget = root.querySelector('.alsiseg-widget');
    const frame = () => new Promise(requestAnimationFrame), passes = {};
    for (const pass of ['first', 'again']) {
        passes[pass] = [];
        for (let i = 0; i < 40; i++) {
            const began = performance.now();
            slider.value = i;
            slider.dispatchEvent(new Event('input'));
            do await frame(); while (widget.dataset.shownIndex !== String(i));
            passes[pass].push(performance.now() - began);
        }
    }
    return passes;
}"""
SPEED_CELLS = [
    "import numpy as np\nfrom scipy import ndimage\nfrom alsiseg import viewer, volumes",
    "random = np.random.default_rng(0)\n"
    "grey = random.normal(30_000, 4_000, (40, 512, 512)).astype(np.uint16)\n"
    "truth = np.digitize(ndimage.uniform_filter(grey, 5), [30_000, 30_200]).astype(np.uint8)\n"
    "prediction = np.roll(truth, 1, axis=2)",
    "for name, volume in {'grey': grey, 'truth': truth, 'prediction': prediction}.items():\n"
    "    volumes.write(f'../data/speed_{name}.tif', volume, voxel_size_um=1.2)\n"
    "grey, truth, prediction = [volumes.open(f'../data/speed_{n}.tif') for n in ('grey', 'truth', 'prediction')]",
    "viewer.compare(grey, truth=truth, prediction=prediction)",
]


def part(widget, name):
    return widget.locator(f"[data-testid='{name}']")


def picture(widget, layer):
    return widget.locator(f"[data-testid=picture][data-layer={layer}]").evaluate(DRAWN)


def wait_for_slice(widget, plane, index):
    """Wait until this slice is on the canvas."""
    widget.locator(f".alsiseg-widget[data-shown-plane={plane}][data-shown-index='{index}']").wait_for()


def pull(notebook, slider, share):
    """Pull a slider with the mouse to a share of its length; the browser may take its last step a little later."""
    box = slider.bounding_box()
    low, high = (float(slider.get_attribute(end)) for end in ("min", "max"))
    height = box["y"] + box["height"] / 2
    notebook.page.mouse.move(box["x"] + 0.5 * box["width"], height)
    notebook.page.mouse.down()
    notebook.page.mouse.move(box["x"] + share * box["width"], height)
    notebook.page.mouse.up()
    wanted, near = low + share * (high - low), 0.1 * (high - low)  # a thumb has a width
    wait_until(lambda: abs(float(slider.input_value()) - wanted) < near, "the slider is where it was pulled to")
    slider.evaluate(FRAMES)
    return float(slider.input_value())


def outputs_words(notebook):
    """What can be read under the cell that was scrolled to."""
    return notebook.page.locator(".jp-Cell.jp-mod-active .jp-OutputArea").inner_text()


@pytest.fixture(scope="module")
def weight_maps(browser, lab):
    notebook = Notebook.open(browser, lab, "03_weight_maps")
    notebook.run_all()
    return notebook


@pytest.fixture(scope="module")
def trained(browser, lab):
    path = lab.home / "notebooks" / "05_training.ipynb"  # the tiny trainings are over in two seconds: look more often
    often = path.read_text(encoding="utf-8").replace(
        "growing_curves(run_dirs)", "growing_curves(run_dirs, every_s=0.2)"
    )
    path.write_text(often, encoding="utf-8")
    notebook = Notebook.open(browser, lab, "05_training")
    notebook.page.evaluate(REMEMBER_PICTURES, notebook.find("viewer.growing_curves("))
    notebook.run_all()
    return notebook


@pytest.fixture(scope="module")
def own_scan(browser, lab, trained):
    notebook = Notebook.open(browser, lab, "10_your_own_scan")
    notebook.run_all()
    return notebook


def test_a_missing_browser_is_a_failure_where_nothing_may_be_skipped(monkeypatch):
    monkeypatch.delenv("ALSISEG_NO_SKIP", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Chromium"):
        do_without("no Chromium")
    monkeypatch.setenv("ALSISEG_NO_SKIP", "1")
    with pytest.raises(pytest.fail.Exception, match="no Chromium"):
        do_without("no Chromium")


@pytest.mark.parametrize("name", ["weight_maps", "trained", "own_scan"])
def test_all_cells_run_without_an_error_and_without_a_complaint_of_the_browser(request, name):
    notebook = request.getfixturevalue(name)
    assert notebook.failures == []
    assert notebook.complaints == []


def test_a_weight_pulled_with_the_mouse_redraws_the_map_that_the_library_makes(weight_maps, lab, artefacts):
    widget = weight_maps.widget("weights")
    before = {layer: picture(widget, layer) for layer in ("target", "weights")}
    weight_maps.keep_picture(artefacts, "jupyterlab_03_weight_maps")
    interface = pull(weight_maps, part(widget, "weight-interface"), 0.85)
    assert interface > 1.5
    assert picture(widget, "weights") != before["weights"]
    assert picture(widget, "target") == before["target"]

    labels_zyx = volumes.open(lab.home / "data" / "tiny" / "slow" / "truth.tif")[:]
    z, rows, columns = weightmaps.busiest_window(labels_zyx, 48)
    chosen = weightmaps.PixelWeights(1.0, 1.25, interface)
    mean = weightmaps.weight_map(labels_zyx[z][rows, columns], chosen).mean()
    assert f"{mean:.3f}" in part(widget, "mean-weight").inner_text()


def test_a_weight_moved_with_the_keyboard_redraws_the_map(weight_maps):
    widget = weight_maps.widget("weights")
    before, slider = picture(widget, "weights"), part(widget, "weight-silicon")
    was = float(slider.input_value())
    slider.focus()
    slider.press("ArrowRight")
    wait_until(lambda: float(slider.input_value()) > was, "the slider follows the key")
    assert picture(widget, "weights") != before


def test_a_published_setting_is_one_click_and_no_older_answer_of_python_undoes_it(weight_maps):
    widget = weight_maps.widget("weights")
    part(widget, "weight-silicon").press("ArrowRight")
    part(widget, "setting-1-1.15-1.2").click()
    wait_until(lambda: weight_maps.ask("print(_.weights)") == "1, 1.15, 1.2", "Python learns what was chosen")
    sliders = [part(widget, f"weight-{name}") for name in ("matrix", "silicon", "interface")]
    assert [float(slider.input_value()) for slider in sliders] == [1.0, 1.15, 1.2]


def test_the_curves_of_the_trainings_grow_while_they_run(trained, artefacts):
    trained.scroll_to(trained.find("viewer.growing_curves("))
    trained.keep_picture(artefacts, "jupyterlab_05_training")
    pictures = trained.page.evaluate("window.pictures")
    assert len(pictures) >= 3, "an empty one, at least one in between, the last one"
    cell = trained.cells[trained.find("viewer.growing_curves(")]
    shown = [output["data"]["image/png"] for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert shown == pictures[-1:]


def test_the_slice_slider_pulled_with_the_mouse_shows_another_slice(own_scan, artefacts):
    widget = own_scan.widget("compare")
    wait_for_slice(widget, "xy", 64)
    own_scan.keep_picture(artefacts, "jupyterlab_10_your_own_scan")
    before = picture(widget, "prediction")
    index = int(pull(own_scan, part(widget, "slice"), 0.8))
    assert index > 90
    wait_for_slice(widget, "xy", index)
    assert picture(widget, "prediction") != before
    assert f"{index + 1} of 128" in part(widget, "slice-words").inner_text()


def test_the_keyboard_steps_through_slices_planes_and_layers(own_scan, artefacts):
    widget = own_scan.widget("compare")
    keys = part(widget, "pictures")
    keys.focus()
    keys.press("Home")
    wait_for_slice(widget, "xy", 0)
    keys.press("ArrowRight")
    wait_for_slice(widget, "xy", 1)
    keys.press("PageDown")
    keys.press("PageDown")
    wait_for_slice(widget, "xy", 0)
    keys.press("End")
    wait_for_slice(widget, "xy", 127)
    keys.press("2")
    wait_for_slice(widget, "xz", 64)
    keys.press("3")
    wait_for_slice(widget, "yz", 64)
    keys.press("i")
    part(widget, "layer-input").and_(widget.locator("[aria-pressed=true]")).wait_for()
    own_scan.keep_picture(artefacts, "jupyterlab_10_plane_yz")
    keys.press("p")
    keys.press("1")
    wait_for_slice(widget, "xy", 127)
    assert widget.locator("[data-testid=picture]").count() == 1


def test_opacity_turns_the_colours_off(own_scan):
    widget = own_scan.widget("compare")
    part(widget, "plane-xy").click()
    before, opacity = picture(widget, "prediction"), part(widget, "opacity")
    opacity.focus()
    opacity.press("Home")
    without_colours = picture(widget, "prediction")
    assert without_colours != before
    part(widget, "phase-silicon").click()
    assert picture(widget, "prediction") == without_colours
    part(widget, "phase-silicon").click()


def test_what_lies_under_the_mouse_is_what_the_files_hold(own_scan, lab):
    widget = own_scan.widget("compare")
    box = widget.locator("[data-testid=picture]").bounding_box()
    own_scan.page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.6 * box["height"])
    words = part(widget, "readout-position").inner_text()
    z, y, x = (int(word.split()[1]) for word in words.split(","))
    scan = volumes.open(lab.home / "data" / "cement_128x128x128.tif")
    labels = volumes.open(lab.home / "data" / "tiny" / "own" / "labels.tif")
    assert part(widget, "readout-grey").inner_text() == str(scan[z][y, x])
    assert part(widget, "readout-prediction").inner_text() == PHASE_NAMES[Phase(labels[z][y, x])]


@pytest.mark.parametrize("name", ["weight_maps", "trained", "own_scan"])
def test_a_notebook_saved_and_opened_another_day_shows_its_pictures(request, browser, lab, artefacts, name):
    used = request.getfixturevalue(name)
    used.save()
    assert used.complaints == []
    assert used.page.evaluate(IS_SAVED)
    used.page.close()
    lab.end_kernels()

    notebook = Notebook.open(browser, lab, used.name)
    kinds = [[list(output.get("data", {})) for output in cell.get("outputs", [])] for cell in notebook.cells]
    with_picture = [i for i, outputs in enumerate(kinds) if any("image/png" in kind for kind in outputs)]
    assert with_picture
    for i in with_picture:
        image = notebook.scroll_to(i).locator(".jp-OutputArea img")
        image.wait_for(state="visible")
        assert image.evaluate("img => img.decode().then(() => img.naturalWidth)") > 200
        controls = notebook.page.locator(".jp-Cell.jp-mod-active .jp-OutputArea-output.jupyter-widgets")
        if any("application/vnd.jupyter.widget-view+json" in kind for kind in kinds[i]):
            controls.wait_for(state="attached")  # JupyterLab has found that there is no widget any more
            assert "Run this cell to have the controls" in outputs_words(notebook)
        assert "model not found" not in outputs_words(notebook)
    notebook.keep_picture(artefacts, f"jupyterlab_{notebook.name}_reopened")
    assert notebook.complaints == []
    notebook.page.close()
    lab.end_kernels()


def test_how_fast_slices_of_512_by_512_pixels_follow_the_slider(browser, lab, artefacts):
    cells = [nbformat.v4.new_code_cell(source) for source in SPEED_CELLS]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}}  # or JupyterLab asks for one
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, lab.home / "notebooks" / "speed.ipynb")
    speed = Notebook.open(browser, lab, "speed")
    speed.run_all()
    assert speed.failures == []
    widget = speed.widget("compare")
    wait_for_slice(widget, "xy", 20)
    passes = widget.evaluate(PULL)
    measured = {f"{name}, frames per s": round(1000 / np.mean(ms), 1) for name, ms in passes.items()}
    measured |= {f"{name}, slowest frame in ms": round(max(ms)) for name, ms in passes.items()}
    pictures = widget.locator("[data-testid=picture]").count()
    (artefacts / "slider_speed.json").write_text(json.dumps({"pictures shown": pictures, **measured}, indent=2) + "\n")
    speed.keep_picture(artefacts, "jupyterlab_speed")
    assert all(len(ms) == 40 for ms in passes.values())
    assert speed.complaints == []
