"""Particles that are the same in several segmentations of one specimen, and the colours that say so."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg.figures.rendering import PRINT_WIDTH_PX, Renderer, draw_classes
from alsiseg.phases import NETWORK_COLOURS
from alsiseg.topology import Connectivity

# Under each of the three kinds of colour blindness any two of all these differ by 19 (CIE 1976) or more.
VIVID_COLOURS = ("#f0e442", "#e8590c", "#f3a6d0", "#2f6fe0", "#7b1fa2", "#5c0a0a")
ALONE_COLOUR = "#868686"
LARGEST_SEARCHED = 2_000_000  # voxels; in larger volumes neighbours are looked for on every 2nd, 3rd... voxel

Network = NDArray[np.bool_]
Numbers = NDArray[np.uint32]


def particles(
    network_zyx: Network,
    *,
    width_px: int = PRINT_WIDTH_PX,
    connectivity: Connectivity = 26,
    renderer: Renderer = "auto",
) -> NDArray[np.uint8]:
    """Draw the connected particles of one network, each in one colour, as in Fig. 6 d, e; see `particle_pictures`."""
    pictures = particle_pictures({"": network_zyx}, width_px=width_px, connectivity=connectivity, renderer=renderer)
    return pictures[""]


def particle_pictures(
    networks: Mapping[str, Network],
    *,
    width_px: int = PRINT_WIDTH_PX,
    connectivity: Connectivity = 26,
    renderer: Renderer = "auto",
) -> dict[str, NDArray[np.uint8]]:
    """Draw a network as several segmentations of one specimen show it, the same particle in the same colour.

    Camera and light are the same in all pictures. The largest particle of the first network is green, the colour of
    silicon, and nothing else is. Particles that correspond (`matched_particles`) share one of six vivid colours,
    chosen so that neighbours differ as far as six colours can; a particle without a counterpart in any other
    picture is grey.

    Parameters
    ----------
    networks : mapping from a name to a bool array (Z, Y, X)
        All of one shape. Voxels outside the volume are background; particles are found at full resolution.
    width_px : int
        Width of the pictures in pixels; 1039 are 88 mm, a column of the journal, at 300 dots per inch.
    connectivity : int
        Neighbours that connect voxels: 6, 18 or 26.
    renderer : str
        "opengl" (PyVista, off-screen), "plain" (NumPy, needs no graphics library), or "auto": OpenGL where it
        works, else plain with a warning that says so.

    Returns
    -------
    dict
        By name, uint8 (rows, width_px, 3): white background, parallel projection, slice axis upwards.

    Raises
    ------
    TypeError, ValueError
        When the networks are no boolean volumes of one shape.
    """
    check_networks(list(networks.values()))
    numbered = matched_particles(list(networks.values()), connectivity=connectivity)
    colour_of = colours_of_particles(numbered)
    palette = [NETWORK_COLOURS["silicon"], *VIVID_COLOURS, ALONE_COLOUR]
    return {
        name: draw_classes(colour_of[numbers_zyx], palette, width_px=width_px, renderer=renderer)
        for name, numbers_zyx in zip(networks, numbered, strict=True)
    }


def check_networks(networks: Sequence[Network]) -> None:
    """Refuse what is not one or more boolean volumes of one shape."""
    for network_zyx in networks:
        if network_zyx.dtype != bool or network_zyx.ndim != 3:
            raise TypeError(
                f"particles needs a boolean volume (z, y, x), got {network_zyx.dtype} with {network_zyx.ndim} axes; "
                "select a phase first, e.g. labels_zyx == Phase.SILICON"
            )
    shapes = {network_zyx.shape for network_zyx in networks}
    if len(shapes) != 1:
        raise ValueError(
            f"particles are compared between networks of one shape, got {sorted(shapes) or 'no network'}; "
            "give segmentations of the same section"
        )


def matched_particles(networks: Sequence[Network], *, connectivity: Connectivity = 26) -> list[Numbers]:
    """Number the particles of several segmentations so that the same particle has the same number in all of them.

    Two particles correspond when each is the one that the other shares most voxels with; of equal shares the larger
    particle counts. So a particle that fell apart keeps its number in its largest piece, one that grew together with
    a larger one loses it, and what moved by more than itself is another one. Each network is compared with the first,
    and what is left over with the second, and so on.

    Parameters
    ----------
    networks : sequence of bool array (Z, Y, X)
        All of one shape.

    Returns
    -------
    list of uint32 array (Z, Y, X)
        0 outside the network; 1 the largest particle of the first network, then falling in size, and then those
        that only later networks have.
    """
    numbered: list[Numbers] = []
    n_numbers = 0
    for network_zyx in networks:
        found_zyx, n_found = _by_size(network_zyx, connectivity)
        number_of, taken = np.zeros(n_found + 1, np.uint32), set[int]()
        for earlier_zyx in numbered:
            for particle, number in mutual_largest(found_zyx, earlier_zyx).items():
                if not number_of[particle] and number not in taken:
                    number_of[particle] = number
                    taken.add(number)
        new = np.flatnonzero(number_of[1:] == 0) + 1
        number_of[new] = np.arange(n_numbers + 1, n_numbers + 1 + len(new))
        n_numbers += len(new)
        numbered.append(number_of[found_zyx])
    return numbered


def _by_size(network_zyx: Network, connectivity: Connectivity) -> tuple[Numbers, int]:
    """Number the particles of a network by falling size, from 1."""
    import cc3d

    found_zyx = cc3d.connected_components(network_zyx.view(np.uint8), connectivity=connectivity)
    sizes = np.bincount(found_zyx.ravel())
    number_of = np.zeros(len(sizes), np.uint32)
    number_of[np.argsort(-sizes[1:], kind="stable") + 1] = np.arange(1, len(sizes))
    return number_of[found_zyx], len(sizes) - 1


def mutual_largest(first_zyx: Numbers, second_zyx: Numbers) -> dict[int, int]:
    """Pair the particles of which each shares most voxels with the other; equal shares go to the lower number."""
    both = (first_zyx > 0) & (second_zyx > 0)
    pairs, n_shared = _unique_pairs(first_zyx[both], second_zyx[both])
    most = np.argsort(-n_shared, kind="stable")  # largest shares first
    of_first: dict[int, int] = {}
    of_second: dict[int, int] = {}
    for first, second in pairs[most].tolist():
        of_first.setdefault(first, second)
        of_second.setdefault(second, first)
    return {first: second for first, second in of_first.items() if of_second[second] == first}


def colours_of_particles(numbered: Sequence[Numbers]) -> NDArray[np.uint8]:
    """Choose the colour of every number: 0 nothing, 1 green, then the vivid ones, last grey for those in one volume.

    From large to small, each particle takes the colour that fewest of its neighbours have, and among these the one
    used least so far.
    """
    sizes = [np.bincount(numbers_zyx.ravel()) for numbers_zyx in numbered]
    n_numbers = max(2, *map(len, sizes))
    size_pn = np.stack([np.pad(size, (0, n_numbers - len(size))) for size in sizes])
    colour_of = np.full(n_numbers, 2 + len(VIVID_COLOURS), np.uint8)
    colour_of[:2] = 0, 1
    neighbours = _neighbours(numbered)
    shared = np.flatnonzero(((size_pn > 0).sum(axis=0) > 1) | (len(numbered) == 1))
    shared = shared[shared > 1]
    used, coloured = np.zeros(len(VIVID_COLOURS), int), dict[int, int]()
    for number in shared[np.argsort(-size_pn[:, shared].max(axis=0), kind="stable")].tolist():
        beside = [coloured[other] for other in neighbours.get(number, ()) if other in coloured]
        n_beside = np.bincount(beside, minlength=len(used))
        coloured[number] = int(np.lexsort((used, n_beside))[0])
        used[coloured[number]] += 1
        colour_of[number] = 2 + coloured[number]
    return colour_of


def _neighbours(numbered: Iterable[Numbers]) -> dict[int, set[int]]:
    """Which particles lie beside each other: those whose nearest surroundings touch, in any of the volumes."""
    neighbours: dict[int, set[int]] = {}
    for numbers_zyx in numbered:
        stride = int(np.ceil((numbers_zyx.size / LARGEST_SEARCHED) ** (1 / 3)))
        coarse_zyx = numbers_zyx[::stride, ::stride, ::stride]
        if not coarse_zyx.any():
            continue
        nearest = ndimage.distance_transform_edt(coarse_zyx == 0, return_distances=False, return_indices=True)
        cells_zyx = coarse_zyx[tuple(nearest)]
        for one, other in _touching(cells_zyx):
            neighbours.setdefault(one, set()).add(other)
            neighbours.setdefault(other, set()).add(one)
    return neighbours


def _touching(cells_zyx: Numbers) -> list[list[int]]:
    """Pairs of different cells that share a face."""
    found = []
    for axis in range(3):
        after, before = (np.moveaxis(cells_zyx, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        differ = after != before
        found.append(_unique_pairs(after[differ], before[differ])[0])
    return np.concatenate(found).tolist()


def _unique_pairs(first: Numbers, second: Numbers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair that occurs (n, 2), in order, and how often."""
    n_second = int(second.max(initial=0)) + 1
    codes, counts = np.unique(first.astype(np.int64) * n_second + second, return_counts=True)
    return np.stack(np.divmod(codes, n_second), axis=1), counts
