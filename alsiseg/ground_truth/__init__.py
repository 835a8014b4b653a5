"""Labels from three scans of one specimen, as the paper made its ground truth.

Paper, section "Generation of ground truth data": laboratory CT shows the aluminides, the etched
specimen shows everything that is rigid, and the synchrotron scan, in whose frame the labels are,
shows where the edges run.
"""

from alsiseg.ground_truth.labelling import (
    GroundTruth,
    Thresholds,
    choose_thresholds,
    combine,
    denoise,
    label_scans,
    threshold_labels,
    without_rings,
)
from alsiseg.ground_truth.registration import Registration, register, rotation_matrix

__all__ = [
    "GroundTruth",
    "Registration",
    "Thresholds",
    "choose_thresholds",
    "combine",
    "denoise",
    "label_scans",
    "register",
    "rotation_matrix",
    "threshold_labels",
    "without_rings",
]
