"""Fig. 2: the network drawn from its own layers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

from alsiseg.figures import manner

if TYPE_CHECKING:
    from alsiseg.unet import LayerShape

# The colours of Fig. 2 of the paper, after Azimi et al. (2018); the letter tells them apart in grey print.
LAYER_KINDS = {
    "input": ("#ffffff", "", "input slices"),
    "conv5": ("#8a8a2a", "C", "convolution 5 × 5, batch norm, ReLU"),
    "conv3": ("#5cb85c", "C", "convolution 3 × 3, batch norm, ReLU"),
    "pool": ("#d9483b", "P", "max pooling 2 × 2"),
    "dropout": ("#f4d03f", "D", "dropout (training only)"),
    "upsample": ("#9ecae9", "U", "up-sampling × 2, bilinear"),
    "tconv3": ("#4a86c5", "T", "transposed convolution 3 × 3, batch norm, ReLU"),
    "concat": ("#b9a7d6", "+", "concatenation with the encoder"),
    "output": ("#404040", "", "convolution 3 × 3 to classes"),
}
BOX_WIDTH = 0.62


@manner.style()
def network_architecture(layer_shapes: Sequence["LayerShape"]) -> Figure:
    """Draw Fig. 2: encoder going down, decoder coming up, and what is joined on the way.

    Parameters
    ----------
    layer_shapes : sequence of LayerShape
        From ``unet.layer_shapes(network)``: the layers in the order in which an image passes them.

    Returns
    -------
    Figure
        Double column. Over each layer stand its channels, at the left of each level the size of its images;
        arrows lead from the encoder to where its output is concatenated.

    Raises
    ------
    ValueError
        When there are no layers or one of them is of a kind Fig. 2 does not have.
    """
    unknown = sorted({layer.kind for layer in layer_shapes} - set(LAYER_KINDS))
    if unknown or not layer_shapes:
        raise ValueError(
            f"network_architecture needs layers of the kinds {', '.join(LAYER_KINDS)}, "
            f"found {', '.join(unknown) or 'none'}; give unet.layer_shapes(network)"
        )
    figure = manner.new_figure(height_mm=88)
    axes = figure.subplots()
    levels = _levels(layer_shapes)
    for position, layer in enumerate(layer_shapes):
        _draw_layer(axes, position, layer, levels[layer.n_pixels])
        if layer.joins is not None:
            _draw_skip(axes, layer.joins, position, levels[layer.n_pixels], layer_shapes)
    _draw_flow(axes, layer_shapes, levels)
    _name_levels(axes, layer_shapes, levels)
    axes.set(xlim=(-2.3, len(layer_shapes) - 0.2), ylim=(-max(levels.values()) - 0.75, 0.85))
    axes.set_axis_off()
    _legend(figure, layer_shapes)
    return figure


def _levels(layer_shapes: Sequence["LayerShape"]) -> dict[int, int]:
    """Give every image size its level, 0 for the largest."""
    sizes = sorted({layer.n_pixels for layer in layer_shapes}, reverse=True)
    return {size: level for level, size in enumerate(sizes)}


def _box_height(n_pixels: int) -> float:
    """Height of a box: smaller images, lower boxes, by their logarithm."""
    return 0.11 + 0.055 * float(np.log2(max(n_pixels, 2)))


def _draw_layer(axes: Axes, position: int, layer: "LayerShape", level: int) -> None:
    """Draw one layer as a coloured box with its letter inside and its channels above."""
    colour, letter, _ = LAYER_KINDS[layer.kind]
    height = _box_height(layer.n_pixels)
    corner = (position - BOX_WIDTH / 2, -level - height / 2)
    axes.add_patch(Rectangle(corner, BOX_WIDTH, height, facecolor=colour, edgecolor="0.15", linewidth=0.6, zorder=3))
    ink = "white" if layer.kind in ("conv5", "pool", "tconv3", "output") else "black"
    axes.text(position, -level, letter, ha="center", va="center", fontsize=6.5, color=ink, zorder=4)
    if layer.kind not in ("pool", "dropout", "upsample"):  # these do not change the channels
        top = -level + height / 2 + 0.05
        axes.text(position, top, f"{layer.n_channels}", ha="center", va="bottom", fontsize=6)


def _draw_skip(axes: Axes, start: int, end: int, level: int, layers: Sequence["LayerShape"]) -> None:
    """Draw the arrow from an encoder layer along its level to the concatenation."""
    dip = -level - _box_height(layers[start].n_pixels) / 2 - 0.07
    axes.plot([start, start, end], [dip + 0.07, dip, dip], color="0.45", lw=0.9, ls="-", zorder=1)
    _arrow(axes, (end, dip), (end, dip + 0.085))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = FancyArrowPatch(
        start,
        end,
        arrowstyle="-|>",
        mutation_scale=5,
        color="0.45",
        linewidth=0.9,
        shrinkA=0,
        shrinkB=0,
        zorder=2,
    )
    axes.add_patch(arrow)


def _draw_flow(axes: Axes, layers: Sequence["LayerShape"], levels: dict[int, int]) -> None:
    """Join neighbouring layers by a thin line with a corner where the level changes."""
    columns, rows = [0], [-levels[layers[0].n_pixels]]
    for position, layer in enumerate(layers[1:], start=1):
        columns += [position, position]
        rows += [rows[-1], -levels[layer.n_pixels]]
    axes.plot(columns, rows, color="0.2", linewidth=0.7, zorder=0.5)


def _name_levels(axes: Axes, layers: Sequence["LayerShape"], levels: dict[int, int]) -> None:
    """Write the image size of each level to the left of its first layer."""
    for size, level in levels.items():
        first = next(i for i, layer in enumerate(layers) if layer.n_pixels == size)
        axes.text(first - 0.55, -level, f"{size} × {size}", ha="right", va="center", fontsize=6.5, color="0.2")


def _legend(figure: Figure, layers: Sequence["LayerShape"]) -> None:
    """Name the kinds of layers that occur, in two columns under the drawing."""
    present = [kind for kind in LAYER_KINDS if any(layer.kind == kind for layer in layers)]
    patches = []
    for kind in present:
        colour, letter, name = LAYER_KINDS[kind]
        label = f"{letter}  {name}" if letter else name
        patches.append(Patch(facecolor=colour, edgecolor="0.15", linewidth=0.6, label=label))
    figure.legend(handles=patches, loc="outside lower center", ncols=3, handlelength=1.2, columnspacing=1.4)
