"""Figures in the manner of the journal, drawn from finished numbers.

`manner` has sizes, styles and saving; `slices` grey and label pictures; `charts` curves and bars;
`sizes` measures against the size of what is measured; `coverage` how often intervals hold the truth;
`rendering` the 3-D pictures and `identities` which particle is which in them;
`recipes` how far ways of segmenting are from the truth;
`architecture` Fig. 2 and `published` the other figures of the paper.
"""

from alsiseg.figures.architecture import network_architecture
from alsiseg.figures.charts import (
    euler_density,
    plot_accuracy_per_slice,
    plot_loss,
    plot_network_bars,
    plot_quantity,
    settings_legend,
    topology_columns,
)
from alsiseg.figures.coverage import coverage
from alsiseg.figures.evidence import (
    MapPanel,
    ScorePanel,
    SeedScores,
    seed_gains,
    seed_scores,
    show_map,
    show_seeds,
    weight_maps,
)
from alsiseg.figures.identities import matched_particles, particle_pictures, particles
from alsiseg.figures.manner import (
    DOUBLE_COLUMN_MM,
    SINGLE_COLUMN_MM,
    new_figure,
    panel_letters,
    save,
    setting_style,
    show_in_notebooks,
    style,
)
from alsiseg.figures.overviews import label_row, loss_overview, picture_row, realism
from alsiseg.figures.published import (
    accuracy,
    interconnectivity,
    loss_curves,
    modalities,
    second_volume,
    show_rendering,
    show_weights,
    topology,
    weight_recipe,
)
from alsiseg.figures.recipes import plot_errors, recipes
from alsiseg.figures.rendering import opengl_obstacle, phases_picture
from alsiseg.figures.sizes import plot_mean_and_spread, plot_relative_spread, representative_volumes
from alsiseg.figures.slices import (
    circle_places,
    colour_picture,
    difference_picture,
    grey_picture,
    grey_range,
    labels_picture,
    overlay,
    overlay_picture,
    phase_legend,
    scale_bar,
    show_difference,
    show_grey,
    show_labels,
    show_picture,
    wrong_interfaces,
)

__all__ = [
    "DOUBLE_COLUMN_MM",
    "SINGLE_COLUMN_MM",
    "MapPanel",
    "ScorePanel",
    "SeedScores",
    "accuracy",
    "circle_places",
    "colour_picture",
    "coverage",
    "difference_picture",
    "euler_density",
    "grey_picture",
    "grey_range",
    "interconnectivity",
    "label_row",
    "labels_picture",
    "loss_curves",
    "loss_overview",
    "matched_particles",
    "modalities",
    "network_architecture",
    "new_figure",
    "opengl_obstacle",
    "overlay",
    "overlay_picture",
    "panel_letters",
    "particle_pictures",
    "particles",
    "phase_legend",
    "phases_picture",
    "picture_row",
    "plot_accuracy_per_slice",
    "plot_errors",
    "plot_loss",
    "plot_mean_and_spread",
    "plot_network_bars",
    "plot_quantity",
    "plot_relative_spread",
    "realism",
    "recipes",
    "representative_volumes",
    "save",
    "scale_bar",
    "second_volume",
    "seed_gains",
    "seed_scores",
    "setting_style",
    "settings_legend",
    "show_difference",
    "show_grey",
    "show_in_notebooks",
    "show_labels",
    "show_map",
    "show_picture",
    "show_rendering",
    "show_seeds",
    "show_weights",
    "style",
    "topology",
    "topology_columns",
    "weight_maps",
    "weight_recipe",
    "wrong_interfaces",
]

show_in_notebooks()
