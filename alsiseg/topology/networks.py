"""All measures of all networks, in one pass over the labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from alsiseg.phases import NETWORKS
from alsiseg.topology.euler import EulerCounts, count_all
from alsiseg.topology.packing import PHASES_OF, Packed, pack_labels, pack_network
from alsiseg.topology.particles import ComponentCounts, count_components
from alsiseg.topology.reading import (
    Connectivity,
    Sliceable,
    check_connectivity,
    check_label_volume,
    check_network,
    count_slabs,
)


def betti_numbers(
    network_zyx: Sliceable, *, connectivity: Connectivity = 26, n_threads: int | None = None
) -> tuple[int, int, int]:
    """Betti numbers (b0, b1, b2) of a network: objects, independent loops, closed cavities.

    The background is joined the other way (6 for 26 and 18, 26 for 6), and a cavity is a background
    component that does not reach the outside of the volume. The Euler number is b0 - b1 + b2.
    Counted slab by slab, as all is here.

    Raises
    ------
    TypeError, ValueError
        As `euler_number` does.
    """
    check_connectivity(connectivity)
    check_network(network_zyx, "betti_numbers")

    def count(thin_zyx: NDArray[Any]) -> Network:
        return _count(pack_network(thin_zyx), connectivity, components=True, cavities=True)

    return count_slabs(network_zyx, count, n_threads=n_threads).betti_numbers(connectivity)


@dataclass(frozen=True, eq=False)
class Network:
    """The counts of one network in a slab; what was not asked for is None.

    Attributes
    ----------
    n_voxels
        Voxels of the network.
    euler
        `EulerCounts` by connectivity, 6, 18 and 26.
    components
        `ComponentCounts` by the connectivity asked for.
    background
        The same of all that is not network, joined with the outside, by the other connectivity;
        its closed components are the cavities.
    """

    n_voxels: int
    euler: dict[Connectivity, EulerCounts]
    components: ComponentCounts | None
    background: ComponentCounts | None

    def followed_by(self, upper: "Network") -> "Network":
        """Join the counts of the slab right above; raises as `EulerCounts.followed_by`."""
        return Network(
            n_voxels=self.n_voxels + upper.n_voxels,
            euler={by: counts.followed_by(upper.euler[by]) for by, counts in self.euler.items()},
            components=_both(self.components, upper.components),
            background=_both(self.background, upper.background),
        )

    def betti_numbers(self, connectivity: Connectivity) -> tuple[int, int, int]:
        """Objects, loops and cavities; needs components and cavities to have been counted."""
        if self.components is None or self.background is None or self.components.connectivity != connectivity:
            raise ValueError(
                f"Betti numbers by {connectivity} need components and cavities counted by it; "
                "count with components=True, cavities=True"
            )
        n_objects, n_cavities = self.components.n, self.background.n_closed
        return n_objects, n_objects + n_cavities - self.euler[connectivity].number, n_cavities


@dataclass(frozen=True, eq=False)
class NetworkCounts:
    """Voxels, Euler numbers, components and cavities of the networks in a slab of labels.

    Slabs of one volume, cut along z in any way, are measured apart, on any thread, process or
    machine (a slab's counts hold two slices), and put together in order:

        counts = NetworkCounts.of(lower_zyx).followed_by(NetworkCounts.of(upper_zyx))
        counts.networks["silicon"].components.interconnectivity
        counts.networks["hybrid"].euler[26].number

    Attributes
    ----------
    shape_zyx
        Shape of the slab.
    networks
        Counts by name of the network.
    """

    shape_zyx: tuple[int, int, int]
    networks: dict[str, Network]

    @classmethod
    def of(
        cls,
        labels_zyx: Sliceable,
        *,
        connectivity: Connectivity = 26,
        networks: Sequence[str] = tuple(NETWORKS),
        components: bool = True,
        cavities: bool = False,
        n_threads: int | None = None,
    ) -> "NetworkCounts":
        """Count a slab or volume in one pass, whatever its size.

        Parameters
        ----------
        labels_zyx
            Volume (Z, Y, X) of 0 matrix, 1 silicon, 2 aluminide: a NumPy array, memory map, zarr
            array, HDF5 data set or dask array, read slab by slab.
        connectivity
            Of the components; Euler numbers are counted by 6, 18 and 26 at once.
        networks
            Any of "silicon", "aluminides", "hybrid", "matrix"; the paper's three unless given.
        components
            Whether to count components; Euler numbers alone come several times faster.
        cavities
            Whether to count closed cavities too, for the Betti numbers; half as fast.
        n_threads
            As many as this process may use processors, unless given.

        Raises
        ------
        TypeError, ValueError
            When the labels are not such a volume, or an option is none of those named.
        """
        check_connectivity(connectivity)
        check_label_volume(labels_zyx, "NetworkCounts")
        _check_names(networks)

        def count(thin_zyx: NDArray[Any]) -> NetworkCounts:
            packed = pack_labels(thin_zyx, networks)
            found = {name: _count(slab, connectivity, components, cavities) for name, slab in packed.items()}
            return cls(thin_zyx.shape, found)

        return count_slabs(labels_zyx, count, n_threads=n_threads)

    def followed_by(self, upper: "NetworkCounts") -> "NetworkCounts":
        """Join the counts of the slab right above this one, as if they had never been cut.

        Raises
        ------
        ValueError
            When the two differ in rows, columns, or in what was counted.
        """
        if list(self.networks) != list(upper.networks):
            raise ValueError(
                f"slabs to be joined need the same networks, got {', '.join(self.networks)} and "
                f"{', '.join(upper.networks)}; count both with the same options"
            )
        networks = {name: counts.followed_by(upper.networks[name]) for name, counts in self.networks.items()}
        return NetworkCounts((self.shape_zyx[0] + upper.shape_zyx[0], *self.shape_zyx[1:]), networks)


def _count(slab: Packed, connectivity: Connectivity, components: bool, cavities: bool) -> Network:
    """Count one network of a packed slab."""
    dual: Connectivity = 26 if connectivity == 6 else 6
    return Network(
        n_voxels=slab.n_voxels,
        euler=count_all(slab),
        components=count_components(slab, connectivity) if components else None,
        background=count_components(slab.background(), dual) if cavities else None,
    )


def _both(lower: ComponentCounts | None, upper: ComponentCounts | None) -> ComponentCounts | None:
    """Join the components where they were counted."""
    if (lower is None) != (upper is None):
        raise ValueError(
            "slabs to be joined need the same counts, got components or cavities of one only; "
            "count both with the same options"
        )
    return None if lower is None or upper is None else lower.followed_by(upper)


def _check_names(networks: Sequence[str]) -> None:
    """Refuse a network that does not exist."""
    unknown = [name for name in networks if name not in PHASES_OF]
    if unknown or isinstance(networks, str):
        raise ValueError(f"networks must be some of {', '.join(PHASES_OF)}, got {networks!r}; name them in a tuple")
