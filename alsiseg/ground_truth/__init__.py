"""Labels from three scans of one specimen, as the paper made its ground truth.

Paper, section "Generation of ground truth data": laboratory CT shows the aluminides, the etched
specimen shows everything that is rigid, and the synchrotron scan, in whose frame the labels are,
shows where the edges run.
"""

from alsiseg.ground_truth.cleaning import denoise, without_fringes, without_rings
from alsiseg.ground_truth.labelling import (
    GroundTruth,
    Thresholds,
    as_text,
    choose_thresholds,
    combine,
    label_scans,
    threshold_labels,
)
from alsiseg.ground_truth.registration import Registration, register

__all__ = [
    "GroundTruth",
    "Registration",
    "Thresholds",
    "as_text",
    "choose_thresholds",
    "combine",
    "denoise",
    "label_scans",
    "register",
    "threshold_labels",
    "without_fringes",
    "without_rings",
]
