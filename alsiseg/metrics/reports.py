"""Everything that is measured of a volume of labels, at once."""

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alsiseg.metrics.agreement import Agreement, SurfaceDistance, compare, surface_distance, without_specks
from alsiseg.metrics.blocks import halved_blocks
from alsiseg.metrics.checks import check_same_shape, check_volume
from alsiseg.metrics.geometry import interface_areas_per_mm, local_thickness_um, mean_chord_um
from alsiseg.metrics.intervals import THICKNESS, Bootstrap, Interval, Intervals, network_intervals, thickness_interval
from alsiseg.metrics.networks import NetworkMeasure, measure_networks
from alsiseg.phases import Phase, network_mask
from alsiseg.topology import Connectivity, Sliceable

if TYPE_CHECKING:
    from distributed import Client

# What needs a volume in memory: distances take 10 bytes a voxel, thickness 140.
LARGEST_FOR_DISTANCES = 2**28
LARGEST_EDGE_FOR_THICKNESS = 256


@dataclass(frozen=True)
class Options:
    """What `measure` measures, and how.

    Attributes
    ----------
    connectivity
        26 as in the paper's reference 18, or 6.
    min_voxels
        Particles with fewer voxels (by the same connectivity) are turned into matrix first, in labels and
        truth; 1 keeps all.
    bootstrap
        How intervals are made; None for no intervals.
    thickness
        Whether to measure local thickness and chords too, of the central 256 x 256 x 256 voxels at most.
    """

    connectivity: Connectivity = 26
    min_voxels: int = 1
    bootstrap: Bootstrap | None = field(default_factory=Bootstrap)
    thickness: bool = False


@dataclass(frozen=True, eq=False)
class Measured:
    """All measures of one volume of labels; see `measure_networks`, `interface_areas_per_mm`, `network_intervals`."""

    networks: dict[str, NetworkMeasure]
    interface_areas_per_mm: dict[str, float]
    intervals: Intervals


@dataclass(frozen=True, eq=False)
class Comparison:
    """How labels and truth compare; see `compare`, `surface_distance`, `network_intervals`."""

    agreement: Agreement
    surface_distances: dict[Phase, SurfaceDistance]
    difference_intervals: Intervals


@dataclass(frozen=True, eq=False)
class Report:
    """What `measure` found.

    Attributes
    ----------
    shape_zyx, voxel_size_um, options
        What was measured, and how.
    labels
        The measures.
    truth, comparison
        Those of the truth, and how the two compare; None without a truth.
    notes
        What could not be measured, and why.
    """

    shape_zyx: tuple[int, ...]
    voxel_size_um: float | None
    options: Options
    labels: Measured
    truth: Measured | None
    comparison: Comparison | None
    notes: tuple[str, ...]


def measure(
    labels_zyx: Sliceable,
    truth_zyx: Sliceable | None = None,
    *,
    voxel_size_um: float | None = None,
    options: Options | None = None,
    client: "Client | None" = None,
) -> Report:
    """Measure a volume of labels, and compare it with a truth.

    Volumes are read slab by slab, several times; only removing specks, surface distances and thickness
    need one in memory. What cannot be measured of a volume (intervals of a small one, distances of a huge
    one) is left out, and `Report.notes` says so.

    Parameters
    ----------
    labels_zyx, truth_zyx
        Volumes (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide.
    voxel_size_um
        Edge of a voxel in micrometres; without it there are no densities, areas and lengths.
    options
        `Options()` unless given.
    client
        A dask.distributed client whose workers count the slabs; the active one of this process, if
        there is one, unless given. The numbers are the same.

    Raises
    ------
    TypeError, ValueError
        When the labels are not such volumes of one shape, or an option is out of its range.
    """
    options = options or Options()
    volumes = [labels_zyx] if truth_zyx is None else [labels_zyx, truth_zyx]
    for volume_zyx, what in zip(volumes, ("the labels", "the true labels"), strict=False):
        check_volume(volume_zyx, what)
    if truth_zyx is not None:
        check_same_shape(labels_zyx, truth_zyx)
    notes = _notes(labels_zyx.shape, voxel_size_um, options)
    if options.min_voxels != 1:
        volumes = [
            without_specks(np.asarray(v[:]), options.min_voxels, connectivity=options.connectivity) for v in volumes
        ]
    measured = [_measured(volume, voxel_size_um, options, client) for volume in volumes]
    return Report(
        shape_zyx=tuple(labels_zyx.shape),
        voxel_size_um=voxel_size_um,
        options=options,
        labels=measured[0],
        truth=measured[1] if len(volumes) == 2 else None,
        comparison=_compared(volumes[0], volumes[1], voxel_size_um, options, client) if len(volumes) == 2 else None,
        notes=notes,
    )


def _notes(shape_zyx: tuple[int, ...], voxel_size_um: float | None, options: Options) -> tuple[str, ...]:
    """Say what cannot be measured, and why."""
    notes = []
    if voxel_size_um is None:
        notes.append("no densities, areas and lengths, because the voxel size is not known")
    if voxel_size_um is not None and min(shape_zyx) < 2:
        notes.append("no interface areas, because an axis has one voxel only")
    if why := _no_blocks(shape_zyx, options):
        notes.append(f"no intervals, because {why}")
    if math.prod(shape_zyx) > LARGEST_FOR_DISTANCES:
        notes.append(f"no surface distances, which take memory for at most {LARGEST_FOR_DISTANCES} voxels")
    if options.thickness and max(shape_zyx) > LARGEST_EDGE_FOR_THICKNESS:
        notes.append(f"thickness and chords are those of the central {LARGEST_EDGE_FOR_THICKNESS} voxels of each axis")
    return tuple(notes)


def _no_blocks(shape_zyx: tuple[int, ...], options: Options) -> str:
    """Say why a volume cannot be cut into blocks; empty when it can."""
    try:
        if options.bootstrap is not None:
            halved_blocks(shape_zyx, options.bootstrap.n_blocks)
    except ValueError as error:
        return str(error)
    return ""


def _measured(
    labels_zyx: Sliceable, voxel_size_um: float | None, options: Options, client: "Client | None"
) -> Measured:
    """Measure one volume."""
    networks = measure_networks(
        labels_zyx, connectivity=options.connectivity, voxel_size_um=voxel_size_um, client=client
    )
    intervals = _intervals(labels_zyx, None, voxel_size_um, options, client)
    areas: dict[str, float] = {}
    if voxel_size_um is not None and min(labels_zyx.shape) > 1:
        areas = interface_areas_per_mm(labels_zyx, voxel_size_um=voxel_size_um, client=client)
    if voxel_size_um is not None and options.thickness:
        centre_zyx = _centre(labels_zyx)
        for name, measure_of in networks.items():
            networks[name], interval = _with_lengths(measure_of, network_mask(centre_zyx, name), voxel_size_um, options)
            if interval is not None:
                intervals[name][THICKNESS] = interval
    return Measured(networks, areas, intervals)


def _intervals(
    labels_zyx: Sliceable,
    truth_zyx: Sliceable | None,
    voxel_size_um: float | None,
    options: Options,
    client: "Client | None",
) -> Intervals:
    """Intervals of a volume or, with a truth, of the difference; empty when they cannot be had."""
    if options.bootstrap is None or _no_blocks(labels_zyx.shape, options):
        return {}
    return network_intervals(
        labels_zyx,
        truth_zyx=truth_zyx,
        voxel_size_um=voxel_size_um,
        connectivity=options.connectivity,
        bootstrap=options.bootstrap,
        client=client,
    )


def _centre(labels_zyx: Sliceable) -> NDArray[np.uint8]:
    """Cut out the central voxels, as many as thickness can be measured of."""
    keep = [min(n, LARGEST_EDGE_FOR_THICKNESS) for n in labels_zyx.shape]
    z, y, x = (slice((n - k) // 2, (n - k) // 2 + k) for n, k in zip(labels_zyx.shape, keep, strict=True))
    return np.asarray(labels_zyx[z])[:, y, x]


def _with_lengths(
    measure_of: NetworkMeasure, network_zyx: NDArray[np.bool_], voxel_size_um: float, options: Options
) -> tuple[NetworkMeasure, Interval | None]:
    """Add thickness and chord to the measures of a network, and give the interval of the thickness."""
    if not network_zyx.any():
        return measure_of, None
    thickness_um = local_thickness_um(network_zyx, voxel_size_um)
    chord_um = mean_chord_um(network_zyx, voxel_size_um)
    found = replace(
        measure_of,
        mean_local_thickness_um=float(thickness_um[network_zyx].mean(dtype=np.float64)),
        mean_chord_um=None if math.isnan(chord_um) else chord_um,
    )
    if options.bootstrap is None or _no_blocks(network_zyx.shape, options):
        return found, None
    return found, thickness_interval(thickness_um, voxel_size_um=voxel_size_um, bootstrap=options.bootstrap)


def _compared(
    labels_zyx: Sliceable,
    truth_zyx: Sliceable,
    voxel_size_um: float | None,
    options: Options,
    client: "Client | None",
) -> Comparison:
    """Compare labels and truth."""
    distances: dict[Phase, SurfaceDistance] = {}
    if voxel_size_um is not None and math.prod(labels_zyx.shape) <= LARGEST_FOR_DISTANCES:
        ours_zyx, true_zyx = np.asarray(labels_zyx[:]), np.asarray(truth_zyx[:])
        for phase in Phase:
            distances[phase] = surface_distance(ours_zyx == phase, true_zyx == phase, voxel_size_um=voxel_size_um)
    return Comparison(
        agreement=compare(labels_zyx, truth_zyx, client=client),
        surface_distances=distances,
        difference_intervals=_intervals(labels_zyx, truth_zyx, voxel_size_um, options, client),
    )
