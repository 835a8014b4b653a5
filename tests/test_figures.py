import csv
import json
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from alsiseg import figures, weightmaps
from alsiseg.figures import identities, rendering
from alsiseg.metrics import measure_networks
from alsiseg.phases import PHASE_COLOURS, Phase

SETTINGS = ("1, 1, 1", "1, 1.15, 1.2", "1, 1.25, 1.5")
rng = np.random.default_rng(7)


def blocks(shape=(12, 40, 40)):
    """Labels of silicon and aluminide blocks that touch."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[:, 5:20, 5:20] = Phase.SILICON
    labels[2:, 20:30, 10:35] = Phase.ALUMINIDE
    return labels


LABELS_ZYX = blocks()
LABELS_YX = LABELS_ZYX[6]
GREY_YX = (1000 * LABELS_YX.astype(int) + rng.integers(0, 300, LABELS_YX.shape)).astype(np.uint16)
TRUTH = measure_networks(LABELS_ZYX, voxel_size_um=1.2)
PICTURE = np.full((60, 80, 3), 200, dtype=np.uint8)


def history(n_epochs=8):
    epochs = np.arange(n_epochs + 1)
    columns = {
        "epoch": epochs,
        "train_loss": 2 * np.exp(-epochs / 3) + 0.2,
        "test_loss": np.exp(-epochs / 3) + 0.3,
    }
    for network, measure in TRUTH.items():
        columns[f"{network}_volume_fraction_pct"] = measure.volume_fraction_pct + np.cos(epochs)
        columns[f"{network}_interconnectivity"] = 1 - np.exp(-epochs - 1.0)
        columns[f"{network}_euler_number"] = measure.euler_number + epochs
    return columns


HISTORIES = {label: history() for label in SETTINGS}


def every_figure():
    masks = weightmaps.silicon_mask(LABELS_YX), weightmaps.interface_mask(LABELS_YX)
    slices = {
        "first_grey_yx": GREY_YX,
        "first_labels_yx": LABELS_YX,
        "second_grey_yx": GREY_YX,
        "second_labels_yx": LABELS_YX,
    }
    predictions = dict.fromkeys(SETTINGS, LABELS_YX)
    per_slice = dict.fromkeys(SETTINGS, np.linspace(0.9, 0.95, 12))
    one_slice = {"grey_yx": GREY_YX, "truth_yx": LABELS_YX}
    yield figures.modalities(GREY_YX, GREY_YX, GREY_YX, LABELS_YX, PICTURE, voxel_size_um=1.2)
    yield figures.weight_recipe(LABELS_YX, *masks, weightmaps.weight_map(LABELS_YX))
    yield figures.loss_curves(HISTORIES, predictions=predictions, **one_slice)
    yield figures.accuracy(per_slice, prediction_yx=LABELS_YX, **one_slice)
    yield figures.topology(HISTORIES, TRUTH, dict.fromkeys(SETTINGS[::2], PICTURE))
    yield figures.interconnectivity(HISTORIES, TRUTH)
    yield figures.second_volume(TRUTH, TRUTH, TRUTH, **slices)
    frequency = np.linspace(0.02, 0.5, 20)
    greys = {"matrix": GREY_YX[LABELS_YX == Phase.MATRIX], "silicon": GREY_YX[LABELS_YX == Phase.SILICON]}
    yield figures.realism(greys, frequency, np.sin(3 * frequency))


def rgb(colour):
    return np.round(255 * np.array(matplotlib.colors.to_rgb(colour))).astype(int)


def test_every_published_figure_is_a_double_column_and_leaves_no_setting_behind():
    before = dict(matplotlib.rcParams)
    widths_mm = [figure.get_size_inches()[0] * 25.4 for figure in every_figure()]
    assert widths_mm == pytest.approx([figures.DOUBLE_COLUMN_MM] * len(widths_mm))
    assert dict(matplotlib.rcParams) == before


def test_text_is_at_least_five_and_a_half_points_and_everything_lies_on_the_page():
    for figure in every_figure():
        figure.draw_without_rendering()
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip()]
        assert min(sizes) >= 5.5
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert drawn.x0 >= -0.01
        assert drawn.y0 >= -0.01
        assert drawn.x1 <= width + 0.01
        assert drawn.y1 <= height + 0.01


def test_axes_with_data_have_labels_with_units():
    figure = figures.topology(HISTORIES, TRUTH, {"1, 1, 1": PICTURE})
    labels = {axes.get_ylabel() for axes in figure.findobj(matplotlib.axes.Axes)} - {""}
    assert labels == {"volume fraction (vol.%)", "Euler number"}


def test_the_ramp_is_drawn_through_the_low_frequencies_of_the_noise():
    frequency = np.linspace(0.02, 0.5, 25)
    figure = figures.realism({"matrix": GREY_YX, "silicon": GREY_YX}, frequency, 3 * frequency)
    noise, ramp = figure.axes[1].lines
    assert ramp.get_xdata().max() <= 0.25
    np.testing.assert_allclose(ramp.get_ydata(), noise.get_ydata()[: len(ramp.get_ydata())], rtol=1e-6)


def test_the_truth_is_dashed_and_the_untrained_network_left_out():
    axes = Figure().subplots()
    figures.plot_quantity(axes, HISTORIES, TRUTH, network="silicon", quantity="euler_number")
    *settings, truth = axes.lines
    assert truth.get_linestyle() == "--"
    assert set(truth.get_ydata()) == {TRUTH["silicon"].euler_number}
    assert [line.get_xdata().min() for line in settings] == [1, 1, 1]
    looks = [(line.get_color(), line.get_linestyle(), line.get_marker()) for line in settings]
    assert all(len(set(column)) == 3 for column in zip(*looks, strict=True))


def test_losses_start_at_one():
    axes = Figure().subplots()
    figures.plot_loss(axes, history(), style=figures.setting_style(0))
    assert [line.get_ydata()[0] for line in axes.lines] == [1.0, 1.0]
    assert axes.lines[0].get_ydata()[3] == pytest.approx((2 * np.exp(-1) + 0.2) / 2.2)


def test_bars_show_interconnectivity_in_per_cent_and_euler_numbers_per_volume():
    axes = Figure().subplots()
    figures.plot_network_bars(axes, {"first": TRUTH}, quantity="interconnectivity")
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([100 * m.interconnectivity for m in TRUTH.values()])
    assert figures.euler_density(TRUTH["silicon"]) == TRUTH["silicon"].euler_density_per_mm3
    without_size = measure_networks(LABELS_ZYX)["silicon"]
    assert figures.euler_density(without_size) == pytest.approx(1e6 * without_size.euler_number / LABELS_ZYX.size)


def test_labels_have_the_colours_of_their_phases():
    picture = figures.labels_picture(np.array([list(Phase)], dtype=np.uint8))
    assert [tuple(p) for p in picture[0]] == [tuple(rgb(PHASE_COLOURS[phase])) for phase in Phase]


def test_an_overlay_leaves_the_matrix_grey_and_mixes_the_rest():
    labels = np.array([[Phase.MATRIX, Phase.SILICON]], dtype=np.uint8)
    grey = np.array([[0, 100]], dtype=np.uint16)
    opaque = figures.overlay_picture(grey, labels, 1.0, limits=(0, 100))
    clear = figures.overlay_picture(grey, labels, 0.0, limits=(0, 100))
    assert opaque[0, 0].tolist() == [0, 0, 0]
    assert opaque[0, 1].tolist() == rgb(PHASE_COLOURS[Phase.SILICON]).tolist()
    assert clear[0, 1].tolist() == [255, 255, 255]


def test_a_difference_is_black_exactly_where_labels_differ():
    other = LABELS_YX.copy()
    other[3, 4] = Phase.ALUMINIDE
    black = (figures.difference_picture(other, LABELS_YX) == 0).all(axis=-1)
    assert np.argwhere(black).tolist() == [[3, 4]]


def test_circles_stand_where_the_interface_is_wrong():
    wrong = LABELS_YX.copy()
    wrong[18:22, 14:18] = Phase.MATRIX  # on the interface
    wrong[2:4, 35:39] = Phase.SILICON  # elsewhere: no circle
    places = figures.wrong_interfaces(wrong, LABELS_YX, radius=4)
    assert len(places) == 1
    assert np.hypot(places[0][0] - 19.5, places[0][1] - 15.5) < 4
    assert figures.wrong_interfaces(LABELS_YX, LABELS_YX) == []


@pytest.mark.parametrize(
    ("voxel_size_um", "words", "n_pixels"),
    [(None, "20 pixels", 20), (1.2, "20 µm", 20 / 1.2), (0.01, "0.2 µm", 20)],
)
def test_a_scale_bar_is_as_long_as_it_says(voxel_size_um, words, n_pixels):
    axes = Figure().subplots()
    figures.show_labels(axes, np.zeros((80, 80), dtype=np.uint8))
    figures.scale_bar(axes, voxel_size_um)
    assert [text.get_text() for text in axes.texts] == [words]
    assert axes.patches[0].get_width() == pytest.approx(n_pixels)


def test_a_figure_is_saved_with_the_numbers_behind_it(tmp_path):
    figure = figures.interconnectivity(HISTORIES, TRUTH)
    paths = figures.save(figure, "figS1", tmp_path / "new", {"epoch": np.arange(3), "x": [1.5, 2.5]})
    assert [path.name for path in paths] == ["figS1.png", "figS1.pdf", "figS1.csv"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)
    with Image.open(paths[0]) as picture:
        assert picture.size[0] == pytest.approx(180 / 25.4 * 300, abs=1)
        assert picture.info["dpi"][0] == pytest.approx(300, abs=0.1)
    assert b"/Subtype /Type3" not in paths[1].read_bytes()
    with open(paths[2], newline="") as file:
        assert list(csv.reader(file)) == [["epoch", "x"], ["0", "1.5"], ["1", "2.5"], ["2", ""]]


def test_the_same_numbers_give_the_same_files(tmp_path):
    for name in ("one", "two"):
        figures.save(figures.interconnectivity(HISTORIES, TRUTH), "f", tmp_path / name, {"a": [1]})
    for file in ("f.png", "f.pdf", "f.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_nested_numbers_are_saved_as_json(tmp_path):
    numbers = {"histories": HISTORIES, "truth": TRUTH, "missing": float("nan")}
    path = figures.save(Figure(), "f", tmp_path, numbers)[-1]
    saved = json.loads(path.read_text())
    assert saved["histories"]["1, 1, 1"]["epoch"] == list(range(9))
    assert saved["truth"]["silicon"]["euler_number"] == TRUTH["silicon"].euler_number
    assert saved["missing"] is None


def test_fig_2_is_drawn_from_the_network_itself():
    from alsiseg import unet

    layers = unet.layer_shapes(unet.build(unet.UNetConfig(stem_channels=3), seed=0), n_pixels=64)
    figure = figures.network_architecture(layers)
    axes = figure.axes[0]
    boxes = [patch for patch in axes.patches if isinstance(patch, matplotlib.patches.Rectangle)]
    assert len(boxes) == len(layers)
    words = [text.get_text() for text in axes.texts]
    assert {"64 × 64", "4 × 4", "96"} <= set(words)  # 3 stem channels x 2^5 in the deepest level
    arrows = [patch for patch in axes.patches if isinstance(patch, matplotlib.patches.FancyArrowPatch)]
    assert len(arrows) == 4


def test_fig_2_refuses_layers_it_does_not_know():
    with pytest.raises(ValueError, match=r"give unet\.layer_shapes"):
        figures.network_architecture([])


def two_particles():
    network = np.zeros((30, 34, 38), dtype=bool)
    network[4:26, 4:14, 4:34] = True
    network[10:20, 24:32, 10:20] = True
    return network


def share_of(picture, colour):
    """Share of pixels with the hue of a colour, however bright."""
    wanted = rgb(colour) / np.linalg.norm(rgb(colour))
    length = np.linalg.norm(picture.astype(float), axis=-1)
    return float(np.mean((picture @ wanted > 0.985 * length) & (length > 40)))


def check_two_particles(picture):
    assert picture.dtype == np.uint8
    assert picture.shape[1] == 200
    assert (picture[0, 0] == 255).all()
    assert share_of(picture, PHASE_COLOURS[Phase.SILICON]) > 0.15
    assert share_of(picture, identities.VIVID_COLOURS[0]) > 0.02
    assert share_of(picture, identities.VIVID_COLOURS[1]) == 0


def test_the_plain_renderer_draws_each_particle_in_its_colour():
    check_two_particles(figures.particles(two_particles(), width_px=200, renderer="plain"))


def test_opengl_draws_the_same_scene_as_the_plain_renderer():
    if figures.opengl_obstacle():
        pytest.skip(figures.opengl_obstacle())
    by_opengl = figures.particles(two_particles(), width_px=200, renderer="opengl")
    check_two_particles(by_opengl)
    plain = figures.particles(two_particles(), width_px=200, renderer="plain")
    same = (by_opengl.min(axis=-1) < 250) == (plain.min(axis=-1) < 250)
    assert same.mean() > 0.97


def test_the_plain_renderer_shows_what_is_in_front():
    labels = np.zeros((20, 20, 20), dtype=np.uint8)
    labels[:, :, 15] = Phase.SILICON  # the camera stands at high x, y and z
    labels[:, :, 4] = Phase.ALUMINIDE
    picture = figures.phases_picture(labels, width_px=150, renderer="plain")
    silicon, aluminide = (share_of(picture, PHASE_COLOURS[p]) for p in (Phase.SILICON, Phase.ALUMINIDE))
    assert silicon > 1.3 * aluminide > 0


@pytest.mark.parametrize("renderer", ["plain", "auto"])
def test_an_empty_network_gives_an_empty_box(renderer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a machine without OpenGL says so
        picture = figures.particles(np.zeros((8, 9, 10), dtype=bool), width_px=80, renderer=renderer)
    assert (picture.std(axis=-1) < 2).all()  # greys only


def test_without_opengl_a_line_says_so_and_the_picture_is_drawn_all_the_same(monkeypatch):
    monkeypatch.setattr(rendering, "PROBE", "import os; os.abort()")  # as VTK does on some machines
    rendering.opengl_obstacle.cache_clear()
    try:
        with pytest.warns(UserWarning, match="no OpenGL library"):
            check_two_particles(figures.particles(two_particles(), width_px=200))
    finally:
        rendering.opengl_obstacle.cache_clear()


def test_particles_need_a_boolean_volume():
    with pytest.raises(TypeError, match="select a phase first"):
        figures.particles(LABELS_ZYX)


def test_drawing_needs_no_screen_and_no_torch():
    code = "import sys; from alsiseg import figures; assert not {'torch', 'pyvista', 'napari'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "/usr/bin"})
