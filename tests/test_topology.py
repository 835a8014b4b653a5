import pickle
import subprocess
import sys
from functools import partial, reduce
from itertools import pairwise, permutations, product

import cc3d
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import measure

from alsiseg.phases import Phase, network_mask
from alsiseg.topology import (
    ComponentCounts,
    EulerCounts,
    NetworkCounts,
    betti_numbers,
    components,
    euler_number,
    interconnectivity,
    reading,
    tensors,
)
from alsiseg.topology.tensors import euler_number_on_device

CONNECTIVITIES = (6, 18, 26)
RANK = {6: 1, 18: 2, 26: 3}  # of the structuring element in SciPy and scikit-image
every_connectivity = pytest.mark.parametrize("connectivity", CONNECTIVITIES)
connectivities = st.sampled_from(CONNECTIVITIES)
small_volumes = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))


@st.composite
def wide_volumes(draw, least_side=1):
    """Random volumes whose rows end before, at and behind the borders of 64-bit words."""
    n_x = draw(st.sampled_from([least_side, 7, 8, 9, 63, 64, 65, 127, 128, 129, 200]))
    shape = (draw(st.integers(least_side, 6)), draw(st.integers(least_side, 6)), n_x)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.random(shape) < draw(st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.95]))


@st.composite
def label_volumes(draw):
    """Random label volumes of all three phases, smooth or rough."""
    shape = (draw(st.integers(1, 7)), draw(st.integers(1, 7)), draw(st.sampled_from([1, 8, 63, 64, 70, 130])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    field = ndimage.gaussian_filter(rng.standard_normal((2, *shape)), (0, *[draw(st.sampled_from([0, 1]))] * 3))
    labels = np.where(field[0] > 0.1 * field[0].std(), Phase.SILICON, Phase.MATRIX)
    return np.where(field[1] > 0.5 * field[1].std(), Phase.ALUMINIDE, labels).astype(np.uint8)


def cut(volume, cuts):
    """Cut a volume into slabs at the given slices; some may be empty."""
    ends = [0, *sorted(min(at, len(volume)) for at in cuts), len(volume)]
    return [volume[a:b] for a, b in pairwise(ends)]


def joined_at_random(counts, random):
    """Join the counts of slabs in any grouping, as workers that finish at random would."""
    while len(counts) > 1:
        i = random.randrange(len(counts) - 1)
        counts[i : i + 2] = [counts[i].followed_by(counts[i + 1])]
    return counts[0]


cuts = st.lists(st.integers(0, 6), max_size=5)


def empty(*shape):
    return np.zeros(shape or (9, 9, 9), dtype=bool)


def cube():
    volume = empty()
    volume[2:5, 3:6, 1:4] = True
    return volume


def shell():
    volume = empty()
    volume[1:6, 1:6, 1:6] = True
    volume[2:5, 2:5, 2:5] = False
    return volume


def ring():
    volume = empty()
    volume[4, 2:7, 2:7] = True
    volume[4, 3:6, 3:6] = False
    return volume


def half_ring():
    volume = ring()
    volume[:, 4:] = False
    return volume


def hollow_ring():
    """Return a thick ring whose inside is an empty ring: its surface is a torus."""
    volume = empty(7, 15, 15)
    volume[2:5, 2:13, 2:13] = True
    volume[2:5, 5:10, 5:10] = False
    volume[3, 3:12, 3:12] = False
    volume[3, 4:11, 4:11] = True
    volume[3, 5:10, 5:10] = False
    return volume


def linked_rings():
    flat, upright = empty(11, 11, 13), empty(11, 11, 13)
    flat[5, 3:8, 1:8] = True
    flat[5, 4:7, 2:7] = False
    upright[3:8, 5, 5:12] = True
    upright[4:7, 5, 6:11] = False
    return flat | upright


@every_connectivity
@pytest.mark.parametrize(
    ("shape", "betti"),
    [
        (empty, (0, 0, 0)),
        (cube, (1, 0, 0)),
        (shell, (1, 0, 1)),
        (ring, (1, 1, 0)),
        (half_ring, (1, 0, 0)),
        (hollow_ring, (1, 2, 1)),
        (linked_rings, (2, 2, 0)),
    ],
)
def test_shapes_a_person_can_count_have_the_numbers_counted(shape, betti, connectivity):
    volume = shape()
    objects, loops, cavities = betti
    assert euler_number(volume, connectivity=connectivity) == objects - loops + cavities
    assert betti_numbers(volume, connectivity=connectivity) == betti
    assert components(volume, connectivity=connectivity).n == objects


@every_connectivity
def test_two_half_rings_close_into_one_loop(connectivity):
    lower = half_ring()
    upper = ring() & ~lower
    assert euler_number(lower, connectivity=connectivity) == 1
    assert euler_number(upper, connectivity=connectivity) == 1
    assert euler_number(lower | upper, connectivity=connectivity) == 0


@every_connectivity
def test_a_full_volume_is_one_ball_because_outside_is_background(connectivity):
    full = ~empty(3, 70, 65)
    assert euler_number(full, connectivity=connectivity) == 1
    assert betti_numbers(full, connectivity=connectivity) == (1, 0, 0)


@pytest.mark.parametrize("second", [(1, 2, 2), (2, 1, 2), (2, 2, 1), (2, 2, 2)])
def test_voxels_touching_at_an_edge_are_joined_by_18_and_26_and_at_a_corner_by_26_only(second):
    volume = empty(4, 4, 4)
    volume[1, 1, 1] = volume[second] = True
    by_18 = 2 if second == (2, 2, 2) else 1
    for connectivity, n in {26: 1, 18: by_18, 6: 2}.items():
        assert euler_number(volume, connectivity=connectivity) == n
        assert components(volume, connectivity=connectivity).n == n


def test_a_third_voxel_beside_two_that_touch_at_a_corner_joins_them_by_18():
    volume = empty(4, 4, 4)
    volume[1, 1, 1] = volume[2, 2, 2] = volume[1, 2, 1] = True
    assert betti_numbers(volume, connectivity=18) == (1, 0, 0)
    assert betti_numbers(volume, connectivity=6) == (2, 0, 0)


def test_three_edges_of_voxels_close_a_loop_by_18():
    volume = empty(4, 4, 4)
    volume[0, 1, 1] = volume[1, 0, 1] = volume[2, 1, 1] = volume[1, 2, 1] = True  # around (1, 1, 1)
    assert betti_numbers(volume, connectivity=18) == (1, 1, 0)


def test_a_cavity_that_leaks_through_a_corner_is_closed_for_26_and_open_for_6():
    volume = empty(5, 5, 5)
    volume[1:4, 1:4, 1:4] = True
    volume[2, 2, 2] = volume[1, 1, 1] = False
    assert betti_numbers(volume, connectivity=26) == (1, 0, 1)
    assert betti_numbers(volume, connectivity=6) == (1, 0, 0)


@every_connectivity
def test_a_cavity_open_at_a_face_of_the_volume_is_not_closed(connectivity):
    cup = ~empty(3, 3, 3)
    cup[1:, 1, 1] = False
    assert betti_numbers(cup, connectivity=connectivity) == (1, 0, 0)


def count_closed_cells(volume):
    """Count every vertex, edge, face and cube of the voxels once, in doubled coordinates."""
    cells = {
        tuple(2 * i + offset for i, offset in zip(voxel, offsets, strict=True))
        for voxel in np.argwhere(volume).tolist()
        for offsets in product((0, 1, 2), repeat=3)
    }
    return sum((-1) ** sum(i % 2 for i in cell) for cell in cells)


def count_cells_between_centres(volume):
    """Count voxels, and pairs, squares and cubes of voxels that are all set."""
    total = 0
    for voxel in np.argwhere(volume).tolist():
        for extent in product((0, 1), repeat=3):
            block = volume[tuple(slice(i, i + e + 1) for i, e in zip(voxel, extent, strict=True))]
            total += (-1) ** sum(extent) * (block.size == 2 ** sum(extent) and block.all())
    return total


@given(small_volumes)
def test_euler_number_by_26_is_the_signed_number_of_closed_cells(volume):
    assert euler_number(volume, connectivity=26) == count_closed_cells(volume)


@given(small_volumes)
def test_euler_number_by_6_is_the_signed_number_of_cells_between_voxel_centres(volume):
    assert euler_number(volume, connectivity=6) == count_cells_between_centres(volume)


def count_cells_split_at_corners(volume):
    """Count the closed cells, a vertex once for each group of the eight voxels around it that 18 joins."""
    structure = ndimage.generate_binary_structure(3, RANK[18])
    padded = np.pad(volume, 1)
    around = [padded[z : z + 2, y : y + 2, x : x + 2] for z, y, x in np.ndindex(*[n - 1 for n in padded.shape])]
    return count_closed_cells(volume) + sum(ndimage.label(block, structure)[1] - block.any() for block in around)


@given(small_volumes)
def test_euler_number_by_18_is_the_signed_number_of_cells_split_at_corners(volume):
    assert euler_number(volume, connectivity=18) == count_cells_split_at_corners(volume)


@given(wide_volumes())
def test_euler_number_agrees_with_scikit_image(volume):
    assert euler_number(volume, connectivity=26) == measure.euler_number(volume, connectivity=3)
    assert euler_number(volume, connectivity=6) == measure.euler_number(volume, connectivity=1)


@given(wide_volumes(), connectivities)
def test_components_agree_with_scipy(volume, connectivity):
    structure = ndimage.generate_binary_structure(3, RANK[connectivity])
    labels, n = ndimage.label(volume, structure)
    found = components(volume, connectivity=connectivity)
    assert found.n == n
    assert found.sizes.tolist() == sorted(np.bincount(labels.ravel())[1:].tolist(), reverse=True)


@every_connectivity
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 1), (9, 3, 1), (1, 9, 9), (3, 3, 3)])
def test_volumes_full_of_single_voxels_are_counted(shape, connectivity):
    volume = empty(*shape)
    volume[::2, ::2, ::2] = True
    assert components(volume, connectivity=connectivity).n == volume.sum()


@given(wide_volumes(), connectivities)
def test_components_agree_with_connected_components_3d(volume, connectivity):
    labels, n = cc3d.connected_components(volume.view(np.uint8), connectivity=connectivity, return_N=True)
    found = components(volume, connectivity=connectivity)
    assert found.n == n
    assert found.sizes.tolist() == sorted(np.bincount(labels.ravel())[1:].tolist(), reverse=True)


@every_connectivity
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("smoothing", [0, 1.5])
def test_volumes_of_many_slabs_agree_with_scipy_and_scikit_image(share, smoothing, connectivity, monkeypatch):
    monkeypatch.setattr(reading, "VOXELS_AT_ONCE", 7000)  # three slices
    field = ndimage.gaussian_filter(np.random.default_rng(8).standard_normal((31, 33, 70)), smoothing)
    volume = field > np.quantile(field, 1 - share)
    labels, n = ndimage.label(volume, ndimage.generate_binary_structure(3, RANK[connectivity]))
    sizes = np.bincount(labels.ravel())[1:]
    found = components(volume, connectivity=connectivity)
    assert found.n == n
    assert found.sizes.tolist() == sorted(sizes.tolist(), reverse=True)
    assert interconnectivity(volume, connectivity=connectivity) == sizes.max() / sizes.sum()
    if connectivity != 18:  # which scikit-image does not know
        assert euler_number(volume, connectivity=connectivity) == measure.euler_number(volume, RANK[connectivity])
    assert betti_numbers(volume, connectivity=connectivity)[2] == count_cavities(volume, connectivity)


def count_cavities(volume, connectivity):
    """Count the background components that do not reach the outside, by the other connectivity."""
    background = np.pad(~volume, 1, constant_values=True)
    structure = ndimage.generate_binary_structure(3, 3 if connectivity == 6 else 1)
    return ndimage.label(background, structure)[1] - 1


@given(wide_volumes(), connectivities)
def test_betti_numbers_are_components_and_cavities_found_by_scipy(volume, connectivity):
    objects, loops, cavities = betti_numbers(volume, connectivity=connectivity)
    structure = ndimage.generate_binary_structure(3, RANK[connectivity])
    assert objects == ndimage.label(volume, structure)[1]
    assert cavities == count_cavities(volume, connectivity)
    assert loops == objects + cavities - euler_number(volume, connectivity=connectivity) >= 0


@given(small_volumes | wide_volumes(), st.sampled_from([6, 26]))
def test_betti_numbers_are_the_cubical_homology_found_by_gudhi(volume, connectivity):
    gudhi = pytest.importorskip("gudhi")
    # Closed cells around the voxels join by 26, cells between their centres by 6.
    cells = {"top_dimensional_cells" if connectivity == 26 else "vertices": np.where(volume, 0.0, 1.0)}
    homology = gudhi.CubicalComplex(**cells)
    homology.compute_persistence(min_persistence=0)
    found = betti_numbers(volume, connectivity=connectivity)
    assert [*found, 0] == homology.persistent_betti_numbers(0, 0)


@given(wide_volumes())
def test_background_has_the_dual_numbers_of_the_network(volume):
    # In a box with a rim of background: a cavity more for each object, and the outside as object.
    background = np.pad(~volume, 1, constant_values=True)
    objects, loops, cavities = betti_numbers(volume, connectivity=26)
    assert betti_numbers(background, connectivity=6) == (cavities + 1, loops, objects)
    assert euler_number(background, connectivity=6) == euler_number(volume, connectivity=26) + 1


@given(small_volumes, connectivities)
def test_euler_number_is_the_same_for_turned_and_mirrored_volumes(volume, connectivity):
    number = euler_number(volume, connectivity=connectivity)
    for axes in permutations(range(3)):
        turned = volume.transpose(axes)
        assert euler_number(turned, connectivity=connectivity) == number
        assert euler_number(np.flip(turned, axis=0), connectivity=connectivity) == number
        assert euler_number(turned[:, ::-1, ::-1], connectivity=connectivity) == number


@given(small_volumes, connectivities)
def test_betti_numbers_and_sizes_are_the_same_for_turned_and_mirrored_volumes(volume, connectivity):
    numbers = betti_numbers(volume, connectivity=connectivity)
    sizes = components(volume, connectivity=connectivity).sizes.tolist()
    for axes in permutations(range(3)):
        for turned in (volume.transpose(axes), np.flip(volume.transpose(axes))):
            assert betti_numbers(turned, connectivity=connectivity) == numbers
            assert components(turned, connectivity=connectivity).sizes.tolist() == sizes


@given(wide_volumes(), connectivities, cuts, st.randoms())
def test_slabs_of_any_thickness_give_the_same_euler_number(volume, connectivity, cuts, random):
    of = partial(EulerCounts.of, connectivity=connectivity)
    counts, whole = joined_at_random([of(slab) for slab in cut(volume, cuts)], random), of(volume)
    assert counts.shape_zyx == volume.shape
    assert (counts.number, counts.face_corrected) == (whole.number, whole.face_corrected)


@given(wide_volumes(), connectivities, cuts, st.randoms())
def test_slabs_of_any_thickness_give_the_same_components(volume, connectivity, cuts, random):
    of = partial(ComponentCounts.of, connectivity=connectivity)
    counts = joined_at_random([of(slab) for slab in cut(volume, cuts)], random)
    assert counts.shape_zyx == volume.shape
    assert counts.n_voxels == volume.sum()
    assert counts.components.sizes.tolist() == components(volume, connectivity=connectivity).sizes.tolist()
    assert counts.n == components(volume, connectivity=connectivity).n


def everything(counts):
    """All that can be asked of the counts of networks."""
    return {
        name: (
            network.n_voxels,
            {by: (euler.number, euler.face_corrected, euler.shape_zyx) for by, euler in network.euler.items()},
            network.components and network.components.components.sizes.tolist(),
            network.background and network.background.n_closed,
        )
        for name, network in counts.networks.items()
    }


FOUR_NETWORKS = ("silicon", "aluminides", "hybrid", "matrix")


@given(label_volumes(), connectivities, cuts, st.randoms())
def test_slabs_of_labels_of_any_thickness_give_the_same_counts(labels, connectivity, cuts, random):
    of = partial(NetworkCounts.of, connectivity=connectivity, networks=FOUR_NETWORKS, cavities=True)
    counts = joined_at_random([of(slab) for slab in cut(labels, cuts)], random)
    assert counts.shape_zyx == labels.shape
    assert everything(counts) == everything(of(labels))


@given(label_volumes(), connectivities)
def test_all_networks_counted_in_one_pass_are_those_counted_one_by_one(labels, connectivity):
    counts = NetworkCounts.of(labels, connectivity=connectivity, networks=FOUR_NETWORKS, cavities=True)
    for name, network in counts.networks.items():
        mask = labels == Phase.MATRIX if name == "matrix" else network_mask(labels, name)
        assert network.n_voxels == network.components.n_voxels == mask.sum()
        for by in CONNECTIVITIES:
            assert network.euler[by].number == euler_number(mask, connectivity=by)
            assert network.euler[by].face_corrected == EulerCounts.of(mask, connectivity=by).face_corrected
        assert network.components.interconnectivity == interconnectivity(mask, connectivity=connectivity)
        assert network.betti_numbers(connectivity) == betti_numbers(mask, connectivity=connectivity)


@given(label_volumes())
def test_renaming_the_phases_renames_the_networks(labels):
    swapped = np.array([Phase.MATRIX, Phase.ALUMINIDE, Phase.SILICON], dtype=np.uint8)[labels]
    there, back = everything(NetworkCounts.of(labels)), everything(NetworkCounts.of(swapped))
    assert there == {"silicon": back["aluminides"], "aluminides": back["silicon"], "hybrid": back["hybrid"]}


def test_counts_asked_for_are_the_only_ones_made():
    labels = np.zeros((3, 4, 5), dtype=np.uint8)
    counts = NetworkCounts.of(labels, networks=("matrix",), components=False)
    assert list(counts.networks) == ["matrix"]
    assert counts.networks["matrix"].components is counts.networks["matrix"].background is None
    assert counts.networks["matrix"].euler[6].number == 1


def test_counts_travel_between_processes():
    labels = np.random.default_rng(6).integers(0, 3, (8, 9, 70), dtype=np.uint8)
    slabs = [pickle.loads(pickle.dumps(NetworkCounts.of(slab, cavities=True))) for slab in np.split(labels, 4)]
    whole = reduce(NetworkCounts.followed_by, slabs)
    assert everything(whole) == everything(NetworkCounts.of(labels, cavities=True))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64])
@pytest.mark.parametrize("n_x", [64, 65])
def test_labels_of_any_integer_type_and_memory_order_are_counted(dtype, n_x):
    labels = np.random.default_rng(6).integers(0, 3, (6, 5, n_x), dtype=np.uint8)
    expected = everything(NetworkCounts.of(labels))
    assert everything(NetworkCounts.of(labels.astype(dtype))) == expected
    assert everything(NetworkCounts.of(np.asfortranarray(labels.astype(dtype)))) == expected
    behind_a_header = np.frombuffer(bytes(3) + labels.tobytes(), dtype=np.uint8)[3:].reshape(labels.shape)
    assert everything(NetworkCounts.of(behind_a_header)) == expected


def test_booleans_stored_as_other_bytes_than_one_are_true():
    volume = np.random.default_rng(9).random((4, 5, 33)) < 0.4
    for byte in (2, 8, 128, 255):
        stored = np.where(volume, np.uint8(byte), np.uint8(0)).view(bool)
        assert betti_numbers(stored) == betti_numbers(volume)


class Lazy:
    """A volume that exists a few slices at a time, as one read from disk."""

    def __init__(self, volume, chunks=None):
        self.volume, self.chunks = volume, chunks
        self.shape, self.dtype = volume.shape, volume.dtype
        self.reads = []

    def __getitem__(self, index):
        self.reads.append((index.start, min(index.stop, self.shape[0])))
        return self.volume[index]


@pytest.mark.parametrize(
    ("chunks", "reads"),
    [
        (None, [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]),
        ((4, 8, 8), [(0, 4), (4, 8), (8, 10)]),
        ((1, 8, 8), [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]),
        (((5, 5), (20,), (70,)), [(0, 5), (5, 10)]),
    ],
)
@pytest.mark.parametrize("n_threads", [1, 3])
def test_volumes_are_read_once_in_whole_chunks(monkeypatch, chunks, reads, n_threads):
    labels = np.random.default_rng(1).integers(0, 3, (10, 20, 70), dtype=np.uint8)
    expected = everything(NetworkCounts.of(labels))
    monkeypatch.setattr(reading, "VOXELS_AT_ONCE", 2 * 20 * 70)
    volume = Lazy(labels, chunks)
    assert everything(NetworkCounts.of(volume, n_threads=n_threads)) == expected
    assert volume.reads == reads


def test_arrays_of_dask_are_measured():
    dask_array = pytest.importorskip("dask.array")
    labels = np.random.default_rng(1).integers(0, 3, (10, 20, 70), dtype=np.uint8)
    volume = dask_array.from_array(labels, chunks=(3, 20, 35))
    assert everything(NetworkCounts.of(volume)) == everything(NetworkCounts.of(labels))
    assert betti_numbers(volume == Phase.SILICON) == betti_numbers(labels == Phase.SILICON)


def test_memory_maps_are_measured(tmp_path):
    labels = np.random.default_rng(1).integers(0, 3, (10, 20, 64), dtype=np.uint8)
    np.save(tmp_path / "labels.npy", labels)
    mapped = np.load(tmp_path / "labels.npy", mmap_mode="r")
    assert everything(NetworkCounts.of(mapped)) == everything(NetworkCounts.of(labels))


@pytest.mark.parametrize("count", [euler_number, euler_number_on_device])
@given(wide_volumes(), connectivities)
def test_a_tensor_has_the_euler_number_of_its_array(count, volume, connectivity):
    import torch

    found = count(torch.from_numpy(volume), connectivity=connectivity)
    assert found == euler_number(volume, connectivity=connectivity)


@every_connectivity
def test_a_tensor_counted_in_parts_has_the_same_euler_number(monkeypatch, connectivity):
    import torch

    volume = np.random.default_rng(1).random((13, 20, 30)) < 0.4
    monkeypatch.setattr(tensors, "VOXELS_AT_ONCE", 2000)
    found = euler_number_on_device(torch.from_numpy(volume), connectivity)
    assert found == euler_number(volume, connectivity=connectivity)


def test_tensors_that_are_no_networks_are_refused():
    import torch

    with pytest.raises(TypeError, match="boolean network"):
        euler_number(torch.zeros(3, 3, 3))
    with pytest.raises(ValueError, match="axes z, y, x"):
        euler_number(torch.zeros(3, 3, dtype=torch.bool))


def weighted_cells(volume, connectivity):
    """Count the signed cells inside the box through the outermost voxel centres, by hand.

    A cell is a block of one or two voxels along each axis: set if all are (6) or any is (18, 26). It
    weighs 1/2 for each axis along which it lies in a face of the box.
    """
    total = 0.0
    for extent in product((0, 1), repeat=3):
        shape = [n - e for n, e in zip(volume.shape, extent, strict=True)]
        blocks = [
            volume[tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))]
            for offset in product(*[range(e + 1) for e in extent])
        ]
        cells = np.logical_and.reduce(blocks) if connectivity == 6 else np.logical_or.reduce(blocks)
        weights = [np.ones(n) for n in shape]
        for weight, e in zip(weights, extent, strict=True):
            weight[[0, -1]] = 1 if e else 0.5
        sign = (-1) ** (sum(extent) + (connectivity != 6))
        total += sign * np.einsum("zyx,z,y,x", cells.astype(float), *weights)
    if connectivity == 18:
        total += count_cells_split_at_corners(volume) - count_closed_cells(volume)
    return total


@given(wide_volumes(least_side=2), connectivities)
def test_the_face_corrected_number_is_that_of_cells_weighted_by_hand(volume, connectivity):
    corrected = EulerCounts.of(volume, connectivity=connectivity).face_corrected
    assert corrected == weighted_cells(volume, connectivity)


@given(wide_volumes(least_side=2))
def test_the_face_corrected_number_is_that_of_the_background(volume):
    network, background = EulerCounts.of(volume), EulerCounts.of(~volume, connectivity=6)
    assert network.face_corrected == background.face_corrected


@given(wide_volumes(least_side=2), connectivities, st.integers(0, 2), st.integers(1, 198))
def test_boxes_that_share_a_layer_add_up_without_their_faces(volume, connectivity, axis, layer):
    volume = np.swapaxes(volume, 0, axis)
    layer = min(layer, len(volume) - 1)
    parts = [volume[: layer + 1], volume[layer:]]
    if len(parts[1]) < 2:
        return
    whole, lower, upper = (
        EulerCounts.of(np.swapaxes(part, 0, axis), connectivity=connectivity).face_corrected
        for part in (volume, *parts)
    )
    assert whole == lower + upper


@every_connectivity
def test_what_runs_through_the_volume_has_no_end_without_the_faces(connectivity):
    plate, rod, half_ball, inside = (empty(6, 7, 66) for _ in range(4))
    plate[:, 3] = rod[2:4, 3:5] = half_ball[:3, 2:4, 20:30] = inside[2:4, 2:4, 20:30] = True
    corrected = [
        EulerCounts.of(volume, connectivity=connectivity).face_corrected
        for volume in (plate, rod, half_ball, inside, ~empty(6, 7, 66), empty(6, 7, 66))
    ]
    assert corrected == [0, 0, 0.5, 1, 0, 0]


def test_the_density_counts_the_box_between_the_outermost_voxel_centres():
    volume = empty(5, 6, 9)
    volume[2, 2, 2] = volume[0, 4, 4] = True
    counts = EulerCounts.of(volume)
    assert counts.density_per_mm3(10.0) == pytest.approx(1.5 * 1e6 / (4 * 5 * 8))
    assert counts.density_per_mm3(10.0, face_corrected=False) == pytest.approx(2 * 1e6 / (5 * 6 * 9))


@pytest.mark.parametrize("size", [0, -1.2, np.nan, np.inf])
def test_a_density_needs_a_voxel_size(size):
    with pytest.raises(ValueError, match="voxel_size_um must be a length above 0 in micrometres"):
        EulerCounts.of(cube()).density_per_mm3(size)


def test_a_density_needs_a_box_with_a_volume():
    counts = EulerCounts.of(empty(1, 4, 4))
    with pytest.raises(ValueError, match=r"at least 2 voxels along every axis, got shape \(1, 4, 4\)"):
        counts.density_per_mm3(1.2)
    assert counts.density_per_mm3(1.2, face_corrected=False) == 0


HUGE = (520, 2048, 2048)  # more than 2^31 voxels; a broadcast value takes no memory


def test_a_component_beyond_32_bits_is_counted():
    full = np.broadcast_to(np.ones(HUGE[1:], dtype=bool), HUGE)
    assert full.size > 2**31
    counts = ComponentCounts.of(full)
    assert (counts.n, counts.n_voxels, counts.largest_voxels) == (1, full.size, full.size)
    assert euler_number(full, connectivity=6) == 1


def test_a_volume_beyond_32_bits_of_many_components_is_counted():
    slice_yx = np.zeros((2048, 2048), dtype=np.uint8)
    slice_yx[::64, ::64] = Phase.SILICON  # 32 x 32 rods along z
    slice_yx[32::64, ::64] = Phase.ALUMINIDE
    counts = NetworkCounts.of(np.broadcast_to(slice_yx, HUGE), networks=FOUR_NETWORKS)
    n_rods = {name: network.components.n for name, network in counts.networks.items()}
    assert n_rods == {"silicon": 1024, "aluminides": 1024, "hybrid": 2048, "matrix": 1}
    assert counts.networks["matrix"].n_voxels == HUGE[0] * (2048**2 - 2048) > 2**31
    assert counts.networks["silicon"].euler[26].number == 1024
    assert counts.networks["silicon"].components.components.sizes.tolist() == [HUGE[0]] * 1024
    assert counts.networks["matrix"].components.interconnectivity == 1.0


def test_interconnectivity_is_the_share_of_the_largest_component():
    volume = cube()  # 27 voxels
    volume[8, 8, 0:9:3] = True
    assert interconnectivity(volume) == 27 / 30
    assert components(volume).sizes.tolist() == [27, 1, 1, 1]


def test_an_empty_network_is_not_interconnected():
    assert interconnectivity(empty()) == 0.0
    assert components(empty()).sizes.tolist() == []


@every_connectivity
@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 0, 4), (4, 4, 0)])
def test_a_volume_without_voxels_has_no_network(shape, connectivity):
    assert euler_number(empty(*shape), connectivity=connectivity) == 0
    assert betti_numbers(empty(*shape), connectivity=connectivity) == (0, 0, 0)
    assert interconnectivity(empty(*shape), connectivity=connectivity) == 0.0
    assert NetworkCounts.of(empty(*shape).view(np.uint8)).shape_zyx == shape


def test_the_compiler_is_loaded_only_to_count():
    code = "import sys; from alsiseg import topology; print('numba' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert shown.stdout.split() == ["False"]


def test_measures_leave_the_volume_as_it_was():
    volume = np.random.default_rng(2).random((5, 6, 7)) < 0.5
    before = volume.copy()
    betti_numbers(volume)
    assert np.array_equal(volume, before)


@pytest.mark.parametrize("measured", [euler_number, components, interconnectivity, betti_numbers])
class TestRefusal:
    def test_labels_are_refused_with_advice_to_select_phases(self, measured):
        labels = np.full((3, 3, 3), Phase.SILICON, dtype=np.uint8)
        with pytest.raises(TypeError, match=r"boolean network, got dtype uint8; select phases first"):
            measured(labels)

    def test_what_is_no_array_is_refused(self, measured):
        with pytest.raises(TypeError, match="needs a boolean network, got list"):
            measured([[[True]]])

    def test_a_single_slice_is_refused_with_advice(self, measured):
        with pytest.raises(ValueError, match=r"axes z, y, x, got shape \(9, 9\).*np\.newaxis"):
            measured(empty(9, 9))

    @pytest.mark.parametrize("connectivity", [17, 8, None, "26"])
    def test_other_connectivities_are_refused(self, measured, connectivity):
        with pytest.raises(ValueError, match=r"connectivity must be 6 .* or 26"):
            measured(cube(), connectivity=connectivity)


class TestRefusalOfLabels:
    @pytest.mark.parametrize("dtype", [np.float32, bool, complex])
    def test_other_types_are_refused(self, dtype):
        with pytest.raises(TypeError, match=f"needs labels, whole numbers .*, got dtype {np.dtype(dtype)}"):
            NetworkCounts.of(np.zeros((3, 3, 3), dtype=dtype))

    def test_tensors_are_refused(self):
        import torch

        with pytest.raises(TypeError, match=r"got dtype torch\.uint8"):
            NetworkCounts.of(torch.zeros(3, 3, 3, dtype=torch.uint8))
        with pytest.raises(TypeError, match=r"got dtype torch\.bool"):
            components(torch.zeros(3, 3, 3, dtype=torch.bool))

    @pytest.mark.parametrize("n_threads", [0, -1])
    def test_less_than_one_thread_is_refused(self, n_threads):
        with pytest.raises(ValueError, match=f"n_threads must be 1 or more, got {n_threads}"):
            NetworkCounts.of(np.zeros((3, 3, 3), dtype=np.uint8), n_threads=n_threads)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
    @pytest.mark.parametrize("label", [3, 7, 127, -1])
    @pytest.mark.parametrize("n_x", [64, 13])
    def test_unknown_labels_are_refused_by_value(self, dtype, label, n_x):
        labels = np.zeros((3, 3, n_x), dtype=dtype)
        labels[2, 1, 5] = label = np.array(label).astype(dtype)
        with pytest.raises(ValueError, match=rf"found .*{label}.*; renumber"):
            NetworkCounts.of(labels)

    def test_what_is_no_volume_is_refused(self):
        with pytest.raises(ValueError, match=r"axes z, y, x, got shape \(3, 3\)"):
            NetworkCounts.of(np.zeros((3, 3), dtype=np.uint8))
        with pytest.raises(TypeError, match=r"needs labels, .* got list"):
            NetworkCounts.of([[[1]]])

    @pytest.mark.parametrize("networks", [("silicon", "gold"), "silicon"])
    def test_unknown_networks_are_refused_by_name(self, networks):
        with pytest.raises(ValueError, match="networks must be some of silicon, aluminides, hybrid, matrix"):
            NetworkCounts.of(np.zeros((3, 3, 3), dtype=np.uint8), networks=networks)

    def test_other_connectivities_are_refused(self):
        with pytest.raises(ValueError, match="connectivity must be 6"):
            NetworkCounts.of(np.zeros((3, 3, 3), dtype=np.uint8), connectivity=8)

    def test_betti_numbers_that_were_not_counted_are_refused(self):
        silicon = NetworkCounts.of(np.zeros((3, 3, 3), dtype=np.uint8)).networks["silicon"]
        with pytest.raises(ValueError, match="count with components=True, cavities=True"):
            silicon.betti_numbers(26)

    def test_counts_of_different_things_are_not_joined(self):
        of = partial(NetworkCounts.of, np.zeros((3, 3, 3), dtype=np.uint8))
        with pytest.raises(ValueError, match="need the same networks, got silicon, aluminides, hybrid and matrix"):
            of().followed_by(of(networks=("matrix",)))
        with pytest.raises(ValueError, match="need the same counts"):
            of().followed_by(of(cavities=True))


@pytest.mark.parametrize("counts", [EulerCounts, ComponentCounts])
def test_slabs_of_different_volumes_are_not_joined(counts):
    lower = counts.of(empty(2, 5, 64))
    with pytest.raises(ValueError, match=r"same connectivity.*\(5, 64\) and \(5, 63\)"):
        lower.followed_by(counts.of(empty(2, 5, 63)))
    with pytest.raises(ValueError, match="26 and 6"):
        lower.followed_by(counts.of(empty(2, 5, 64), connectivity=6))
