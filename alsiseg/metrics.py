"""What is compared with the truth: accuracy, Dice, and the measures of the three networks.

The four parameters of section Evaluation of the CNN (accuracy per slice, volume fraction, global
interconnectivity, Euler number) and a few beside them. Fractions are 0..1, names ending in _pct
are per cent.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from alsiseg import topology
from alsiseg.phases import NETWORKS, Phase, check_labels, network_mask
from alsiseg.weightmaps import interface_mask

UM3_PER_MM3 = 1e9


@dataclass(frozen=True)
class NetworkMeasure:
    """How much of a network there is, and how it hangs together.

    Attributes
    ----------
    n_voxels
        Voxels of the network.
    volume_fraction_pct
        Share of the volume, vol.%.
    interconnectivity
        Voxels of the largest component / voxels of the network, 0..1; 0.0 for an empty network.
    euler_number
        Objects - loops + cavities; more negative with more connecting branches.
    n_components
        Connected components ("particles").
    euler_density_per_mm3
        Euler number per volume measured; None without a voxel size.
    """

    n_voxels: int
    volume_fraction_pct: float
    interconnectivity: float
    euler_number: int
    n_components: int
    euler_density_per_mm3: float | None = None


def measure_networks(
    labels_zyx: NDArray[np.uint8],
    *,
    connectivity: topology.Connectivity = 26,
    voxel_size_um: float | None = None,
) -> dict[str, NetworkMeasure]:
    """Measure the silicon, aluminide and hybrid network of a labelled volume.

    Parameters
    ----------
    labels_zyx
        Volume (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide.
    connectivity
        26 as in the paper's reference 18, or 6; see `topology.euler_number`.
    voxel_size_um
        Edge of a voxel in micrometres, for the Euler number per cubic millimetre.

    Returns
    -------
    dict
        A `NetworkMeasure` for "silicon", "aluminides" and "hybrid" (both together).

    Raises
    ------
    TypeError, ValueError
        When the labels are not such a volume, hold no voxel, or connectivity or voxel size are wrong.
    """
    check_labels(labels_zyx)
    _check_volume(labels_zyx)
    if voxel_size_um is not None:
        _check_voxel_size(voxel_size_um)
    return {name: _measure(network_mask(labels_zyx, name), connectivity, voxel_size_um) for name in NETWORKS}


def _measure(
    network_zyx: NDArray[np.bool_], connectivity: topology.Connectivity, voxel_size_um: float | None
) -> NetworkMeasure:
    """Measure one network."""
    particles = topology.components(network_zyx, connectivity=connectivity)
    n_voxels = int(particles.sizes.sum())
    number = topology.euler_number(network_zyx, connectivity=connectivity)
    density = None
    if voxel_size_um is not None:
        density = number * UM3_PER_MM3 / (network_zyx.size * voxel_size_um**3)
    return NetworkMeasure(
        n_voxels=n_voxels,
        volume_fraction_pct=100 * n_voxels / network_zyx.size,
        interconnectivity=particles.interconnectivity,
        euler_number=number,
        n_components=particles.n,
        euler_density_per_mm3=density,
    )


def accuracy(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Share of correctly labelled pixels, 0..1, of two label arrays of the same shape.

    Raises
    ------
    TypeError, ValueError
        When they are not labels, differ in shape, or hold no pixel.
    """
    _check_pair(prediction, truth)
    return np.count_nonzero(prediction == truth) / truth.size


def accuracy_per_slice(prediction_zyx: NDArray[np.uint8], truth_zyx: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Share of correctly labelled pixels of every slice, float64 (Z,) in 0..1 (Fig. 5a).

    Raises
    ------
    TypeError, ValueError
        When they are not label volumes of the same shape, or hold no pixel.
    """
    _check_pair(prediction_zyx, truth_zyx)
    _check_volume(truth_zyx)
    pixels_per_slice = truth_zyx[0].size
    n_correct = [
        np.count_nonzero(prediction_yx == truth_yx)
        for prediction_yx, truth_yx in zip(prediction_zyx, truth_zyx, strict=True)
    ]
    return np.array(n_correct) / pixels_per_slice


def best_naming(classes: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Name three unnamed classes (of a threshold, say) so that most voxels agree with the truth.

    The kindest reading of a segmentation by grey value alone, to compare a network with.

    Parameters
    ----------
    classes : uint8 array
        Values 0, 1, 2 without a meaning.
    truth : uint8 array of the same shape
        Phases.
    """
    _check_pair(classes, truth)
    namings = [np.array(naming, dtype=np.uint8) for naming in permutations(Phase)]
    best = max(namings, key=lambda naming: np.count_nonzero(naming[classes] == truth))
    return best[classes]


def dice_per_phase(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[Phase, float]:
    """Dice coefficient of every phase: twice the voxels in common / the voxels of both, 0..1.

    A phase that neither holds is predicted without fault: 1.0.

    Raises
    ------
    TypeError, ValueError
        When they are not labels, differ in shape, or hold no pixel.
    """
    _check_pair(prediction, truth)
    return {phase: _dice(prediction == phase, truth == phase) for phase in Phase}


def _dice(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks."""
    in_both = np.count_nonzero(ours) + np.count_nonzero(theirs)
    return 2 * np.count_nonzero(ours & theirs) / in_both if in_both else 1.0


def interface_accuracy(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Share of correct pixels, 0..1, where the truth has a silicon-aluminide interface (Fig. 4b).

    The band is `weightmaps.interface_mask` of the truth. NaN when the truth has no interface.

    Raises
    ------
    TypeError, ValueError
        When they are not label slices or volumes of the same shape, or hold no pixel.
    """
    _check_pair(prediction, truth)
    band = interface_mask(truth)
    n_band = np.count_nonzero(band)
    return np.count_nonzero((prediction == truth) & band) / n_band if n_band else math.nan


def volume_fractions_pct(labels: NDArray[np.uint8]) -> dict[Phase, float]:
    """Share of every phase in vol.%; the three add up to 100.

    Raises
    ------
    TypeError, ValueError
        When the array does not hold labels, or nothing at all.
    """
    check_labels(labels)
    _check_not_empty(labels)
    return {phase: 100 * np.count_nonzero(labels == phase) / labels.size for phase in Phase}


def mean_local_thickness_um(network_zyx: NDArray[np.bool_], voxel_size_um: float) -> float:
    """Mean diameter, in micrometres, of the largest ball inside the network that covers a voxel.

    Hildebrand and Ruegsegger's local thickness as PoreSpy computes it, averaged over the voxels
    of the network. PoreSpy's balls have whole radii, half of which cannot lie on the voxel
    grid; every voxel is therefore split into 2 x 2 x 2 first, which makes plates along the axes
    exact down to one voxel. The faces of the volume do not limit a ball. Needs about 140 bytes of
    memory a voxel; give a part of a large volume. NaN for an empty network.

    Raises
    ------
    TypeError, ValueError
        When the network is not a boolean volume, or the voxel size not above zero.
    """
    topology.check_network(network_zyx, "mean_local_thickness_um")
    _check_voxel_size(voxel_size_um)
    if not network_zyx.any():
        return math.nan
    from porespy.filters import local_thickness

    halved_zyx = network_zyx.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    radius_half_voxels_zyx = local_thickness(halved_zyx)
    # A radius in half voxels is a diameter in voxels.
    return float(radius_half_voxels_zyx[halved_zyx].mean(dtype=np.float64)) * voxel_size_um


def as_dict(measures: Mapping[str, NetworkMeasure]) -> dict[str, dict[str, float | int | None]]:
    """Turn the measures of the networks into plain dictionaries that JSON can hold."""
    return {name: asdict(measure) for name, measure in measures.items()}


# Heading of a column, field of NetworkMeasure, factor to the unit printed, decimals.
_COLUMNS = (
    ("volume fraction [vol.%]", "volume_fraction_pct", 1, 2),
    ("interconnectivity [%]", "interconnectivity", 100, 2),
    ("Euler number", "euler_number", 1, 0),
    ("components", "n_components", 1, 0),
    ("Euler number per mm3", "euler_density_per_mm3", 1, 0),
)


def table(measures: Mapping[str, NetworkMeasure], truth: Mapping[str, NetworkMeasure] | None = None) -> str:
    """Write the measures as a table with units; with `truth`, its values and the difference below.

    Raises
    ------
    ValueError
        When `truth` does not hold the same networks.
    """
    if truth is not None and set(truth) != set(measures):
        raise ValueError(
            f"the truth must hold the networks {', '.join(measures)}, got {', '.join(truth)}; "
            "measure both with measure_networks"
        )
    rows = [["network", *(heading for heading, *_ in _COLUMNS)]]
    for name, measure in measures.items():
        values = _printed_values(measure)
        rows.append([name, *_cells(values)])
        if truth is not None:
            true_values = _printed_values(truth[name])
            rows.append(["  truth", *_cells(true_values)])
            rows.append(["  difference", *_cells(_differences(values, true_values), sign="+")])
    return _aligned(rows)


def _printed_values(measure: NetworkMeasure) -> list[float | None]:
    """Values of one network in the units of the table."""
    values = [(getattr(measure, field), factor) for _, field, factor, _ in _COLUMNS]
    return [None if value is None else value * factor for value, factor in values]


def _differences(values: list[float | None], true_values: list[float | None]) -> list[float | None]:
    """Measured minus true, where both are known."""
    pairs = zip(values, true_values, strict=True)
    return [None if value is None or true is None else value - true for value, true in pairs]


def _cells(values: list[float | None], *, sign: str = "-") -> list[str]:
    """Write values with the decimals of their columns; a dash stands for not measured."""
    columns = zip(values, _COLUMNS, strict=True)
    return ["-" if value is None else f"{value:{sign}.{decimals}f}" for value, (*_, decimals) in columns]


def _aligned(rows: list[list[str]]) -> str:
    """Set rows in columns: names to the left, numbers to the right; leave out columns of dashes."""
    columns = [column for column in zip(*rows, strict=True) if set(column[1:]) != {"-"}]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in zip(*columns, strict=True)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _check_pair(prediction: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
    """Refuse two arrays that are not labels of the same, not empty, shape."""
    check_labels(prediction, "the predicted labels")
    check_labels(truth, "the true labels")
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction and truth must have the same shape, got {prediction.shape} and {truth.shape}; "
            "crop both to the same slices, rows and columns"
        )
    _check_not_empty(truth)


def _check_volume(labels_zyx: NDArray[np.uint8]) -> None:
    """Refuse what has not three axes, or no voxel."""
    if labels_zyx.ndim != 3:
        raise ValueError(
            f"labels must be a volume with axes z, y, x, got shape {labels_zyx.shape}; "
            "a single slice is a volume too: labels_yx[np.newaxis]"
        )
    _check_not_empty(labels_zyx)


def _check_not_empty(labels: NDArray[np.uint8]) -> None:
    """Refuse an array without any voxel."""
    if not labels.size:
        raise ValueError(f"labels must hold at least one voxel, got shape {labels.shape}; check the crop")


def _check_voxel_size(voxel_size_um: float) -> None:
    """Refuse a voxel size that is not a length."""
    if not (math.isfinite(voxel_size_um) and voxel_size_um > 0):
        raise ValueError(
            f"voxel_size_um must be a length above 0 in micrometres, got {voxel_size_um}; the paper's scans have 1.2"
        )
