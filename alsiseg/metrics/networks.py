"""The measures of the networks: how much there is of each, and how it hangs together."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

from alsiseg.metrics.checks import check_volume, check_voxel_size
from alsiseg.metrics.slabs import n_slices_at_once, parts, run
from alsiseg.metrics.workers import Task, active_client
from alsiseg.topology import Connectivity, Network, NetworkCounts, Sliceable, check_connectivity

if TYPE_CHECKING:
    from distributed import Client


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
        Euler number per volume measured, the outside being background; None without a voxel size.
    euler_density_corrected_per_mm3
        The same without what the faces of the volume add (`topology.EulerCounts.face_corrected`): that
        of the alloy, not of the cut-out. None without a voxel size, or when an axis has one voxel only.
    mean_local_thickness_um, mean_chord_um
        See the functions of these names; None unless `reports.measure` was asked for them.
    """

    n_voxels: int
    volume_fraction_pct: float
    interconnectivity: float
    euler_number: int
    n_components: int
    euler_density_per_mm3: float | None = None
    euler_density_corrected_per_mm3: float | None = None
    mean_local_thickness_um: float | None = None
    mean_chord_um: float | None = None


def measure_networks(
    labels_zyx: Sliceable,
    *,
    connectivity: Connectivity = 26,
    voxel_size_um: float | None = None,
    client: "Client | None" = None,
) -> dict[str, NetworkMeasure]:
    """Measure the silicon, aluminide and hybrid network of a labelled volume, slab by slab.

    Parameters
    ----------
    labels_zyx
        Volume (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide: a NumPy array, memory map, zarr array,
        HDF5 data set or dask array of any size, or an opened `volumes.Volume`.
    connectivity
        26 as in the paper's reference 18, or 6; see `topology.euler_number`.
    voxel_size_um
        Edge of a voxel in micrometres, for the Euler number per cubic millimetre.
    client
        A dask.distributed client whose workers count the slabs; the active one of this process, if
        there is one, unless given. The numbers are the same.

    Returns
    -------
    dict
        A `NetworkMeasure` for "silicon", "aluminides" and "hybrid" (both together).

    Raises
    ------
    TypeError, ValueError
        When the labels are not such a volume, hold no voxel, or connectivity or voxel size are wrong.
    """
    check_volume(labels_zyx)
    check_connectivity(connectivity)
    if voxel_size_um is not None:
        check_voxel_size(voxel_size_um)
    client = client or active_client()
    if client is None:
        counts = NetworkCounts.of(labels_zyx, connectivity=connectivity)
    else:
        # One thread a task: the workers have threads of their own.
        count = partial(NetworkCounts.of, connectivity=connectivity, n_threads=1)
        each = parts(0, labels_zyx.shape[0], n_slices_at_once([labels_zyx], client))
        counts = reduce(NetworkCounts.followed_by, run([Task(z, count) for z in each], [labels_zyx], client))
    return {name: _measure(network, connectivity, voxel_size_um) for name, network in counts.networks.items()}


def _measure(network: Network, connectivity: Connectivity, voxel_size_um: float | None) -> NetworkMeasure:
    """Read the measures of one network from its counts."""
    euler, components = network.euler[connectivity], network.components
    assert components is not None
    n_volume = math.prod(euler.shape_zyx)
    density = corrected = None
    if voxel_size_um is not None:
        density = euler.density_per_mm3(voxel_size_um, face_corrected=False)
        if min(euler.shape_zyx) > 1:
            corrected = euler.density_per_mm3(voxel_size_um)
    return NetworkMeasure(
        n_voxels=network.n_voxels,
        volume_fraction_pct=100 * network.n_voxels / n_volume,
        interconnectivity=components.interconnectivity,
        euler_number=euler.number,
        n_components=components.n,
        euler_density_per_mm3=density,
        euler_density_corrected_per_mm3=corrected,
    )


def as_dict(measures: Mapping[str, NetworkMeasure]) -> dict[str, dict[str, float | int | None]]:
    """Turn the measures of the networks into plain dictionaries that JSON can hold."""
    return {name: asdict(measure) for name, measure in measures.items()}
