"""The figures of the paper, each from finished numbers; Fig. 2 is in `architecture`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike, NDArray

from alsiseg.figures import charts, manner, slices
from alsiseg.phases import NETWORKS, Phase

if TYPE_CHECKING:
    from alsiseg.metrics import NetworkMeasure

Labels = NDArray[np.uint8]


@manner.style()
def modalities(
    lab_yx: NDArray,
    synchrotron_yx: NDArray,
    etched_yx: NDArray,
    labels_yx: Labels,
    picture_rgb: NDArray[np.uint8],
    *,
    voxel_size_um: float | None = None,
) -> Figure:
    """Fig. 1: one slice by the three scans (a-c), its segmentation (d) and the volume in 3-D (e).

    Parameters
    ----------
    lab_yx, synchrotron_yx, etched_yx : array (Y, X)
        Grey values of laboratory CT, synchrotron CT, and synchrotron CT after deep etching.
    labels_yx : uint8 array (Y, X)
        The segmentation made from the three.
    picture_rgb : uint8 array (rows, columns, 3)
        From `phases_picture`.
    voxel_size_um : float, optional
        For the scale bars; pixels when unknown.
    """
    figure, upper, lower = _two_rows(8 + 56 * _aspect(lab_yx), 4 + 86 * _aspect(picture_rgb, labels_yx))
    scans = upper.subplots(1, 3)
    names = ("laboratory CT", "synchrotron CT", "synchrotron CT, deep etched")
    for axes, grey_yx, name in zip(scans, (lab_yx, synchrotron_yx, etched_yx), names, strict=True):
        slices.show_grey(axes, grey_yx, name)
    segmented, rendered = lower.subplots(1, 2)
    slices.show_labels(segmented, labels_yx, "segmentation")
    show_rendering(rendered, picture_rgb, "silicon and aluminides in 3-D")
    for axes in (*scans, segmented):
        slices.scale_bar(axes, voxel_size_um)
    slices.phase_legend(lower, loc="outside lower center", ncols=3)
    manner.panel_letters([*scans, segmented, rendered])
    return figure


def _two_rows(upper_mm: float, lower_mm: float) -> tuple[Figure, SubFigure, SubFigure]:
    """Open a double-column figure of two parts laid out apart, heights in millimetres."""
    figure = manner.new_figure(height_mm=upper_mm + lower_mm)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[upper_mm, lower_mm])[:, 0]
    return figure, upper, lower


def _aspect(*pictures: NDArray) -> float:
    """Height over width of the tallest picture."""
    return max(picture.shape[0] / picture.shape[1] for picture in pictures)


def show_rendering(axes: Axes, picture_rgb: NDArray[np.uint8], title: str = "") -> Axes:
    """Show a 3-D picture smoothly and without a frame."""
    axes.imshow(picture_rgb, interpolation="antialiased")
    axes.set_axis_off()
    axes.set_title(title)
    return axes


@manner.style()
def weight_recipe(
    labels_yx: Labels,
    silicon_yx: NDArray[np.bool_],
    interface_yx: NDArray[np.bool_],
    weight_yx: NDArray[np.float32],
    *,
    voxel_size_um: float | None = None,
) -> Figure:
    """Fig. 3: how the pixel-wise weights are made.

    Parameters
    ----------
    labels_yx : uint8 array (Y, X)
        The target (a).
    silicon_yx, interface_yx : bool array (Y, X)
        Output 1 (b), the silicon, and Output 2 (c), the extended silicon-aluminide interface.
    weight_yx : float array (Y, X)
        The combined map (d), drawn with a colour bar that has the weights as ticks.
    """
    figure = manner.new_figure(height_mm=18 + 44 * _aspect(labels_yx))
    axes = figure.subplots(1, 4)
    slices.show_labels(axes[0], labels_yx, "target")
    silicon_colours = np.where(silicon_yx, Phase.SILICON, Phase.MATRIX).astype(np.uint8)
    slices.show_labels(axes[1], silicon_colours, "output 1: silicon")
    slices.show_picture(axes[2], ~interface_yx, "output 2: interfaces", cmap="gray", vmin=-0.35, vmax=1)
    show_weights(axes[3], weight_yx, "combined weights")
    for panel in axes:
        slices.scale_bar(panel, voxel_size_um)
    slices.phase_legend(axes[0], loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=1)
    manner.panel_letters(list(axes))
    return figure


def show_weights(axes: Axes, weight_yx: NDArray[np.float32], title: str = "") -> Axes:
    """Show a weight map with a colour bar below that has the weights as ticks."""
    image = slices.show_picture(axes, weight_yx, title, cmap="viridis")
    levels = np.unique(np.round(np.asarray(weight_yx, dtype=np.float64), 4))
    below = axes.inset_axes((0.05, -0.11, 0.9, 0.05))
    bar = axes.figure.colorbar(image, cax=below, orientation="horizontal")
    if len(levels) <= 6:
        bar.set_ticks(list(levels), labels=[f"{level:g}" for level in levels])
    bar.set_label("weight of a pixel in the loss")
    return axes


@manner.style()
def loss_curves(
    histories: Mapping[str, charts.History],
    *,
    truth_yx: Labels,
    predictions: Mapping[str, Labels],
    grey_yx: NDArray,
    voxel_size_um: float | None = None,
) -> Figure:
    """Fig. 4: normalised loss against the epoch (a) and a region as each setting segments it (b).

    Parameters
    ----------
    histories : mapping from the label of a setting, e.g. "1, 1.25, 1.5", to its history
        Columns epoch, train_loss, test_loss; both losses are divided by their value at epoch 0.
    truth_yx, grey_yx : array (Y, X)
        The region: ground truth and input.
    predictions : mapping from the label of a setting to a uint8 array (Y, X)
        The setting without weights first. Circles are drawn, in every panel at the same places, where this
        first prediction is most wrong on the interface band (see `wrong_interfaces`).
    """
    figure, upper, lower = _two_rows(54, 12 + 172 / (len(predictions) + 2) * _aspect(truth_yx))
    panels = upper.subplots(1, len(histories), sharex=True, sharey=True, squeeze=False)[0]
    for position, (axes, (label, history)) in enumerate(zip(panels, histories.items(), strict=True)):
        charts.plot_loss(axes, history, style=manner.setting_style(position))
        axes.set_title(f"{manner.SETTING_LEGEND_TITLE} = {manner.setting_name(label)}")
        axes.label_outer()
        axes.legend(loc="upper right")
    manner.panel_letters(panels[:1])
    pictures = lower.subplots(1, len(predictions) + 2, squeeze=False)[0]
    _show_region(list(pictures), truth_yx, predictions, grey_yx, voxel_size_um)
    manner.panel_letters(pictures[:1], first="b")
    slices.phase_legend(lower, loc="outside lower center", ncols=3)
    return figure


def _show_region(
    axes: list[Axes],
    truth_yx: Labels,
    predictions: Mapping[str, Labels],
    grey_yx: NDArray,
    voxel_size_um: float | None,
) -> None:
    """Input, truth and the predictions of one region with circles where the first one is wrong."""
    radius = max(3.0, 0.075 * max(truth_yx.shape))
    places = slices.wrong_interfaces(next(iter(predictions.values())), truth_yx, radius=radius)
    slices.show_grey(axes[0], grey_yx, "input")
    slices.show_labels(axes[1], truth_yx, "ground truth")
    for panel, (label, labels_yx) in zip(axes[2:], predictions.items(), strict=True):
        slices.show_labels(panel, labels_yx, manner.setting_name(label))
    for panel in axes:
        slices.circle_places(panel, places, radius=radius)
    slices.scale_bar(axes[0], voxel_size_um)


@manner.style()
def accuracy(
    accuracy_by_setting: Mapping[str, ArrayLike],
    *,
    grey_yx: NDArray,
    truth_yx: Labels,
    prediction_yx: Labels,
    voxel_size_um: float | None = None,
) -> Figure:
    """Fig. 5: accuracy of every test slice (a); input, truth, prediction and difference of one (b-e).

    Parameters
    ----------
    accuracy_by_setting : mapping from the label of a setting to an array (Z,)
        Share of correct pixels of each test slice, 0..1.
    grey_yx, truth_yx, prediction_yx : array (Y, X)
        One test slice.
    """
    figure, upper, lower = _two_rows(56, 14 + 46 * _aspect(truth_yx))
    curve = upper.subplots()
    charts.plot_accuracy_per_slice(curve, accuracy_by_setting)
    panels = lower.subplots(1, 4)
    slices.show_grey(panels[0], grey_yx, "input")
    slices.show_labels(panels[1], truth_yx, "ground truth")
    slices.show_labels(panels[2], prediction_yx, "prediction")
    slices.show_difference(panels[3], prediction_yx, truth_yx, "difference")
    panels[3].set_xlabel(f"{100 * float(np.mean(prediction_yx == truth_yx)):.1f} % of the pixels correct")
    for panel in panels:
        slices.scale_bar(panel, voxel_size_um)
    slices.phase_legend(lower, wrong=True, loc="outside lower center", ncols=4)
    manner.panel_letters([curve, *panels])
    return figure


PARTICLE_COLOURS = "same colour: same particle (green: the largest); grey: a particle that one picture alone has"


@manner.style()
def topology(
    histories: Mapping[str, charts.History],
    truth: Mapping[str, "NetworkMeasure"],
    pictures: Mapping[str, NDArray[np.uint8]],
) -> Figure:
    """Fig. 6: volume fraction and Euler number against the epoch (a-c), silicon particles in 3-D (d, e).

    Parameters
    ----------
    histories : mapping from the label of a setting to its history
        Columns epoch and, per network, ``{network}_volume_fraction_pct`` and ``{network}_euler_number``.
    truth : mapping from network to NetworkMeasure
        Drawn dashed.
    pictures : mapping from the label of a setting to a picture (rows, columns, 3)
        From `particle_pictures`, one or more; the paper shows silicon without weights and with (1, 1.25, 1.5).
    """
    below_mm = 12 + 176 / len(pictures) * _aspect(*pictures.values())
    figure, upper, lower = _two_rows(96, below_mm)
    axes = upper.subplots(2, len(NETWORKS), sharex=True)
    for column, network in enumerate(NETWORKS):
        for row, quantity in enumerate(("volume_fraction_pct", "euler_number")):
            charts.plot_quantity(axes[row, column], histories, truth, network=network, quantity=quantity)
        axes[0, column].set(title=network, xlabel="")
    upper.align_ylabels(axes)
    charts.settings_legend(upper, list(histories))
    manner.panel_letters(list(axes[0]))
    panels = lower.subplots(1, len(pictures), squeeze=False)[0]
    for panel, (label, picture) in zip(panels, pictures.items(), strict=True):
        show_rendering(panel, picture, f"silicon particles, weights {manner.setting_name(label)}")
    manner.panel_letters(list(panels), first="d")
    if len(pictures) > 1:
        lower.supxlabel(PARTICLE_COLOURS, fontsize=manner.JOURNAL["font.size"])
    return figure


@manner.style()
def interconnectivity(histories: Mapping[str, charts.History], truth: Mapping[str, "NetworkMeasure"]) -> Figure:
    """Supplementary Fig. 1: global interconnectivity of each network against the epoch.

    Parameters are those of `topology`; the histories hold ``{network}_interconnectivity`` (0..1).
    """
    figure = manner.new_figure(height_mm=58)
    axes = figure.subplots(1, len(NETWORKS), sharex=True)
    for panel, network in zip(axes, NETWORKS, strict=True):
        charts.plot_quantity(panel, histories, truth, network=network, quantity="interconnectivity")
        panel.set_title(network)
    charts.settings_legend(figure, list(histories))
    manner.panel_letters(list(axes))
    return figure


@manner.style()
def second_volume(
    first: Mapping[str, "NetworkMeasure"],
    second: Mapping[str, "NetworkMeasure"],
    second_truth: Mapping[str, "NetworkMeasure"] | None = None,
    *,
    first_grey_yx: NDArray,
    first_labels_yx: Labels,
    second_grey_yx: NDArray,
    second_labels_yx: Labels,
    voxel_size_um: float | None = None,
) -> Figure:
    """Fig. 7: the second volume (faster solidification) beside the first.

    Parameters
    ----------
    first, second : mapping from network to NetworkMeasure
        Training specimen and second volume, as measured.
    second_truth : mapping, optional
        Truth of the second volume where it is known: open dashed bars.
    first_grey_yx, first_labels_yx, second_grey_yx, second_labels_yx : array (Y, X)
        One slice of each volume and its labels (d-g).
    voxel_size_um : float, optional
        For the scale bars.

    Notes
    -----
    Volumes of different size are compared by the Euler number per mm3 (per million voxels without voxel
    size); over each bar stands the Euler number of the volume itself.
    """
    named = {"training specimen": first, "second volume": second}
    if second_truth is not None:
        named["second volume, truth"] = second_truth
    figure, upper, lower = _two_rows(68, 6 + 44 * _aspect(first_labels_yx, second_labels_yx))
    bars = upper.subplots(1, 3)
    for axes, quantity in zip(bars, ("volume_fraction_pct", "interconnectivity"), strict=False):
        charts.plot_network_bars(axes, named, quantity=quantity).set_ylabel(charts.QUANTITIES[quantity][0])
    charts.plot_network_bars(bars[2], named, quantity="euler_density", scale=10 ** charts.thousands_power(named))
    bars[2].set_ylabel(f"Euler number density ({_density_unit(named)})")
    bars[2].set_title("at the bars: Euler number")
    charts.volume_legend(upper, list(named))
    panels = lower.subplots(1, 4)
    slices.show_grey(panels[0], first_grey_yx, "training specimen")
    slices.overlay(panels[1], first_grey_yx, first_labels_yx, 0.6, title="segmented")
    slices.show_grey(panels[2], second_grey_yx, "second volume")
    slices.overlay(panels[3], second_grey_yx, second_labels_yx, 0.6, title="segmented")
    for panel in panels:
        slices.scale_bar(panel, voxel_size_um)
    manner.panel_letters([*bars, *panels])
    return figure


def _density_unit(volumes: Mapping[str, Mapping[str, "NetworkMeasure"]]) -> str:
    """Name the unit of the scaled Euler density: per mm3, or per million voxels when a voxel size is unknown."""
    power = charts.thousands_power(volumes)
    factor = f"10$^{power}$ " if power else ""
    known = all(m.euler_density_per_mm3 is not None for measures in volumes.values() for m in measures.values())
    return factor + ("mm$^{-3}$" if known else "per 10$^6$ voxels")
