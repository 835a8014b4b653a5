"""How a network hangs together: Euler number, components, interconnectivity, Betti numbers.

The Euler number counts the connecting branches of a network (paper, section Material, after
Toriwaki and Yonekura 2002): objects - loops + cavities, the more negative the more branches.
Voxels outside the volume count as background, as in scikit-image and ImageJ;
`EulerCounts.face_corrected` takes the faces of the volume away.

A volume only needs ``shape``, ``dtype`` and slicing along z: NumPy arrays, memory maps, zarr
arrays, HDF5 data sets and dask arrays are read slab by slab and may be of any size. Each measure
comes as a function, and as counts of a slab that join with those of the next: `EulerCounts` and
`ComponentCounts` for a network, `NetworkCounts` for all networks of a volume of labels.

`reading` cuts volumes into slabs, `packing` makes 64 voxels one machine word, `kernels` and `runs`
hold the compiled loops, `euler` and `particles` the two counts, `networks` both for all networks,
`tensors` the Euler number of a torch tensor.
"""

from alsiseg.topology.euler import EulerCounts, euler_number
from alsiseg.topology.networks import Network, NetworkCounts, betti_numbers
from alsiseg.topology.particles import ComponentCounts, Components, components, interconnectivity
from alsiseg.topology.reading import Connectivity, Sliceable, check_connectivity, check_network

__all__ = [
    "ComponentCounts",
    "Components",
    "Connectivity",
    "EulerCounts",
    "Network",
    "NetworkCounts",
    "Sliceable",
    "betti_numbers",
    "check_connectivity",
    "check_network",
    "components",
    "euler_number",
    "interconnectivity",
]
