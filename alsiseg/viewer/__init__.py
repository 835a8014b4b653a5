"""Look at slices in a notebook or in napari, with the labels over the grey values.

In a notebook every function leaves a still picture, so that a saved notebook, a printed page and a run
without a browser show something, and in its place a widget while a browser and a kernel are there: `widgets` is
Python's part, the folder browser what draws, `slices` and `serving` what reads volumes for it.
"""

from alsiseg.viewer.curves import curves_so_far, growing_curves
from alsiseg.viewer.notebook import compare, thresholds, weights
from alsiseg.viewer.stack import still
from alsiseg.viewer.window import open_napari, show_napari

__all__ = ["compare", "curves_so_far", "growing_curves", "open_napari", "show_napari", "still", "thresholds", "weights"]
