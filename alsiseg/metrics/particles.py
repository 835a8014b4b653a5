"""Every particle of a network by itself: its size, its surface, and which phases it touches."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.metrics.checks import check_volume, check_voxel_size
from alsiseg.metrics.geometry import SHARE_OF_DIRECTION, STEPS
from alsiseg.phases import NETWORKS, Phase, check_labels, network_mask
from alsiseg.topology import Connectivity, check_connectivity

SLAB_SLICES = 16  # whose neighbours are counted at a time
LARGEST_VOXELS = 2**31  # numbers of particles take 4 bytes a voxel, and so does finding them


@dataclass(frozen=True)
class Particle:
    """A connected component of a network.

    Attributes
    ----------
    number
        From 1, the largest first; its voxels hold this number in `Particles.numbers_zyx`.
    n_voxels
        Its size.
    centre_zyx
        Mean place of its voxels, in voxels.
    at_a_face
        Whether it reaches a face of the volume, which may have cut it off.
    surface_voxels
        Its surface inside the volume by the phase on the other side, in voxel faces squared (areas of a voxel
        face), from Crofton's formula in 13 directions (`interface_areas_per_mm`).
    voxel_size_um
        Edge of a voxel in micrometres; None when unknown.
    """

    number: int
    n_voxels: int
    centre_zyx: tuple[float, float, float]
    at_a_face: bool
    surface_voxels: dict[Phase, float]
    voxel_size_um: float | None

    @property
    def volume_um3(self) -> float | None:
        """Volume in cubic micrometres; None without a voxel size."""
        return None if self.voxel_size_um is None else self.n_voxels * self.voxel_size_um**3

    @property
    def surface_um2(self) -> float | None:
        """Surface in square micrometres; None without a voxel size."""
        return None if self.voxel_size_um is None else sum(self.surface_voxels.values()) * self.voxel_size_um**2

    def contact_share(self, phase: Phase) -> float:
        """Share of its surface that touches `phase`, 0..1; 0.0 without a surface."""
        total = sum(self.surface_voxels.values())
        return self.surface_voxels.get(phase, 0.0) / total if total else 0.0


@dataclass(frozen=True, eq=False)
class Particles:
    """The particles of a network.

    Attributes
    ----------
    network
        "silicon", "aluminides" or "hybrid".
    numbers_zyx
        (Z, Y, X) uint32: the number of the particle of every voxel, 0 outside the network.
    each
        The particles, largest first.
    """

    network: str
    numbers_zyx: NDArray[np.uint32]
    each: list[Particle]


def find_particles(
    labels_zyx: NDArray[np.uint8],
    network: str,
    *,
    connectivity: Connectivity = 26,
    min_voxels: int = 1,
    voxel_size_um: float | None = None,
    on_share: Callable[[float], object] | None = None,
) -> Particles:
    """Find the particles of a network and measure each.

    The surface of a particle is counted as `interface_areas_per_mm` counts that of all, so that both agree: the
    sum over the particles is the area of the network's interfaces, but for the neighbours at the faces of the
    volume. Where a face of the volume cuts a particle there is no surface.

    Parameters
    ----------
    labels_zyx
        Volume (Z, Y, X) of phases in memory.
    network
        "silicon", "aluminides" or "hybrid".
    connectivity
        6, 18 or 26, as in `topology.components`.
    min_voxels
        Smaller particles are left out.
    voxel_size_um
        Edge of a voxel in micrometres, for volumes and surfaces with units.
    on_share
        Called with the share of the work that is done, 0..1; it may raise to end the work.

    Raises
    ------
    TypeError, ValueError
        When the labels are no such volume or too large, or an option is out of its range.
    """
    _check(labels_zyx, network, connectivity, min_voxels, voxel_size_um)
    tell = on_share or (lambda share: None)
    tell(0.0)
    numbers_zyx, sizes = _numbered(network_mask(labels_zyx, network), connectivity, min_voxels)
    tell(0.2)
    surfaces = _surfaces(labels_zyx, numbers_zyx, NETWORKS[network], len(sizes), lambda share: tell(0.2 + 0.8 * share))
    centres, at_faces = _centres(numbers_zyx, sizes), _at_faces(numbers_zyx, len(sizes))
    others = [phase for phase in Phase if phase not in NETWORKS[network]]
    each = [
        Particle(
            number=i + 1,
            n_voxels=int(sizes[i]),
            centre_zyx=tuple(centres[i].tolist()),  # type: ignore[arg-type]  # three of them
            at_a_face=bool(at_faces[i]),
            surface_voxels={phase: float(surfaces[i, phase]) for phase in others},
            voxel_size_um=voxel_size_um,
        )
        for i in range(len(sizes))
    ]
    return Particles(network, numbers_zyx, each)


def _check(
    labels_zyx: NDArray[np.uint8], network: str, connectivity: int, min_voxels: int, voxel_size_um: float | None
) -> None:
    check_volume(labels_zyx)
    check_labels(labels_zyx)
    check_connectivity(connectivity)
    if network not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {network!r}")
    if min_voxels < 1:
        raise ValueError(f"min_voxels must be 1 (keep all) or more, got {min_voxels}")
    if voxel_size_um is not None:
        check_voxel_size(voxel_size_um)
    if labels_zyx.size > LARGEST_VOXELS:
        raise ValueError(
            f"particles one by one need a volume of at most {LARGEST_VOXELS} voxels, got {labels_zyx.size}; cut out a "
            "part, or count them with topology.components"
        )


def _numbered(
    network_zyx: NDArray[np.bool_], connectivity: int, min_voxels: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Number the particles by size, the largest first; their sizes in that order."""
    import cc3d

    found_zyx = cc3d.connected_components(network_zyx, connectivity=connectivity)  # type: ignore[call-overload]  # 18 too
    sizes = np.bincount(found_zyx.ravel())
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] >= min_voxels]
    new_number = np.zeros(len(sizes), dtype=np.uint32)
    new_number[order] = np.arange(1, len(order) + 1, dtype=np.uint32)
    return new_number[found_zyx], sizes[order]


def _surfaces(
    labels_zyx: NDArray[np.uint8],
    numbers_zyx: NDArray[np.uint32],
    own: tuple[Phase, ...],
    n_particles: int,
    tell: Callable[[float], object],
) -> NDArray[np.float64]:
    """Surface of each particle against each phase, in voxel faces (particles, phases)."""
    areas = np.zeros((n_particles + 1, len(Phase)))
    n_z = labels_zyx.shape[0]
    for start in range(0, n_z, SLAB_SLICES):
        tell(start / n_z)
        part = slice(start, min(start + SLAB_SLICES, n_z) + 1)  # with the first slice above
        slab_zyx, others_zyx = numbers_zyx[part], ~np.isin(labels_zyx[part], own)
        for step in STEPS:
            n_axes = sum(map(abs, step))
            # Pairs within the uppermost slice belong to the next slab, which begins with it.
            ends = slice(None, -1) if step[0] == 0 and part.stop <= n_z else slice(None)
            arrays = (slab_zyx[ends], others_zyx[ends], labels_zyx[part][ends])
            areas += _cuts(*arrays, step, areas.shape) * (2 * SHARE_OF_DIRECTION[n_axes] / math.sqrt(n_axes))
    return areas[1:]


def _cuts(
    numbers_zyx: NDArray[np.uint32],
    others_zyx: NDArray[np.bool_],
    labels_zyx: NDArray[np.uint8],
    step: tuple[int, int, int],
    shape: tuple[int, ...],
) -> NDArray[np.int64]:
    """Count the neighbours, a step apart, of which one is in a particle and the other in another phase."""
    here, there = _ends(step)
    counts = np.zeros(math.prod(shape), dtype=np.int64)
    for one, other in ((here, there), (there, here)):
        pairs = (numbers_zyx[one] > 0) & others_zyx[other]
        at = numbers_zyx[one][pairs].astype(np.int64) * shape[1] + labels_zyx[other][pairs]
        counts += np.bincount(at, minlength=len(counts))
    return counts.reshape(shape)


def _ends(step: tuple[int, int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slice the voxels that have a neighbour a step away, and those neighbours."""
    here = tuple(slice(max(0, -along), -along if along > 0 else None) for along in step)
    there = tuple(slice(max(0, along), along if along < 0 else None) for along in step)
    return here, there


def _centres(numbers_zyx: NDArray[np.uint32], sizes: NDArray[Any]) -> NDArray[np.float64]:
    """Mean place (z, y, x) of the voxels of each particle."""
    totals, n = np.zeros((len(sizes) + 1, 3)), len(sizes) + 1
    for z, numbers_yx in enumerate(numbers_zyx):
        y, x = np.nonzero(numbers_yx)
        inside = numbers_yx[y, x]
        totals += np.stack([np.bincount(inside, weights=w, minlength=n) for w in (np.full(len(y), z), y, x)], axis=1)
    return totals[1:] / np.maximum(sizes, 1)[:, None]


def _at_faces(numbers_zyx: NDArray[np.uint32], n_particles: int) -> NDArray[np.bool_]:
    """Whether each particle reaches a face of the volume."""
    reached = np.zeros(n_particles + 1, dtype=bool)
    for axis in range(3):
        for end in (0, -1):
            reached[np.take(numbers_zyx, end, axis=axis)] = True
    return reached[1:]
