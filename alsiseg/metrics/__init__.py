"""What is compared with the truth: agreement, the measures of the three networks, and how sure they are.

The four parameters of section Evaluation of the CNN (accuracy per slice, volume fraction, global
interconnectivity, Euler number) and those that a materials scientist asks for beside them. Fractions are
0..1, names ending in _pct are per cent, lengths are in micrometres (_um), densities per millimetre.

`agreement` compares labels with a truth, voxel by voxel and surface by surface; `networks` measures the
networks; `geometry` knows interfaces, thickness and chords; `particles` measures every particle by itself;
`blocks` shares a volume out among blocks, from which `intervals` makes bootstrap intervals and curves of
representative volumes; `reports` measures all of it at once and `tables` writes it down; `slabs` works through
volumes in threads, `workers` on a dask.distributed cluster; `checks` stands at the door.
"""

from alsiseg.metrics.agreement import (
    Agreement,
    SurfaceDistance,
    accuracy,
    accuracy_per_slice,
    best_naming,
    compare,
    confusion,
    dice_per_phase,
    interface_accuracy,
    iou_per_phase,
    surface_distance,
    volume_fractions_pct,
    without_specks,
)
from alsiseg.metrics.blocks import BlockCounts
from alsiseg.metrics.geometry import (
    INTERFACES,
    chord_lengths_um,
    interface_areas_per_mm,
    local_thickness_um,
    mean_chord_um,
    mean_local_thickness_um,
)
from alsiseg.metrics.intervals import (
    Bootstrap,
    Interval,
    SizeCurve,
    network_intervals,
    representative_volumes,
    size_columns,
    thickness_interval,
)
from alsiseg.metrics.networks import NetworkMeasure, as_dict, measure_networks
from alsiseg.metrics.particles import Particle, Particles, find_particles
from alsiseg.metrics.reports import Comparison, Measured, Options, Report, measure
from alsiseg.metrics.tables import as_json, as_text, estimates_table, table, table_rows

__all__ = [
    "INTERFACES",
    "Agreement",
    "BlockCounts",
    "Bootstrap",
    "Comparison",
    "Interval",
    "Measured",
    "NetworkMeasure",
    "Options",
    "Particle",
    "Particles",
    "Report",
    "SizeCurve",
    "SurfaceDistance",
    "accuracy",
    "accuracy_per_slice",
    "as_dict",
    "as_json",
    "as_text",
    "best_naming",
    "chord_lengths_um",
    "compare",
    "confusion",
    "dice_per_phase",
    "estimates_table",
    "find_particles",
    "interface_accuracy",
    "interface_areas_per_mm",
    "iou_per_phase",
    "local_thickness_um",
    "mean_chord_um",
    "mean_local_thickness_um",
    "measure",
    "measure_networks",
    "network_intervals",
    "representative_volumes",
    "size_columns",
    "surface_distance",
    "table",
    "table_rows",
    "thickness_interval",
    "volume_fractions_pct",
    "without_specks",
]
