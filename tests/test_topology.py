from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage import measure

from alsiseg import topology
from alsiseg.phases import Phase
from alsiseg.topology import (
    EulerCounts,
    betti_numbers,
    components,
    euler_number,
    interconnectivity,
)

CONNECTIVITIES = (6, 26)
both_connectivities = pytest.mark.parametrize("connectivity", CONNECTIVITIES)
connectivities = st.sampled_from(CONNECTIVITIES)
small_volumes = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5))


@st.composite
def wide_volumes(draw):
    """Random volumes whose rows end before, at and behind the borders of 64-bit words."""
    n_x = draw(st.sampled_from([1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 200]))
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 6)), n_x)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.random(shape) < draw(st.sampled_from([0.05, 0.3, 0.5, 0.7, 0.95]))


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


@both_connectivities
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


@both_connectivities
def test_two_half_rings_close_into_one_loop(connectivity):
    lower = half_ring()
    upper = ring() & ~lower
    assert euler_number(lower, connectivity=connectivity) == 1
    assert euler_number(upper, connectivity=connectivity) == 1
    assert euler_number(lower | upper, connectivity=connectivity) == 0


@both_connectivities
def test_a_full_volume_is_one_ball_because_outside_is_background(connectivity):
    full = ~empty(3, 70, 65)
    assert euler_number(full, connectivity=connectivity) == 1
    assert betti_numbers(full, connectivity=connectivity) == (1, 0, 0)


@pytest.mark.parametrize("second", [(1, 2, 2), (2, 1, 2), (2, 2, 1), (2, 2, 2)])
def test_voxels_touching_at_an_edge_or_corner_are_joined_by_26_only(second):
    volume = empty(4, 4, 4)
    volume[1, 1, 1] = volume[second] = True
    assert euler_number(volume, connectivity=26) == components(volume, connectivity=26).n == 1
    assert euler_number(volume, connectivity=6) == components(volume, connectivity=6).n == 2


def test_a_cavity_that_leaks_through_a_corner_is_closed_for_26_and_open_for_6():
    volume = empty(5, 5, 5)
    volume[1:4, 1:4, 1:4] = True
    volume[2, 2, 2] = volume[1, 1, 1] = False
    assert betti_numbers(volume, connectivity=26) == (1, 0, 1)
    assert betti_numbers(volume, connectivity=6) == (1, 0, 0)


@both_connectivities
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


@given(wide_volumes())
def test_euler_number_agrees_with_scikit_image(volume):
    assert euler_number(volume, connectivity=26) == measure.euler_number(volume, connectivity=3)
    assert euler_number(volume, connectivity=6) == measure.euler_number(volume, connectivity=1)


@given(wide_volumes(), connectivities)
def test_components_agree_with_scipy(volume, connectivity):
    structure = ndimage.generate_binary_structure(3, 3 if connectivity == 26 else 1)
    labels, n = ndimage.label(volume, structure)
    found = components(volume, connectivity=connectivity)
    assert found.n == n
    assert found.sizes.tolist() == sorted(np.bincount(labels.ravel())[1:].tolist(), reverse=True)


@both_connectivities
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 9, 1), (9, 3, 1), (1, 9, 9), (3, 3, 3)])
def test_volumes_full_of_single_voxels_are_counted(shape, connectivity):
    volume = empty(*shape)
    volume[::2, ::2, ::2] = True
    assert components(volume, connectivity=connectivity).n == volume.sum()


def test_sizes_counted_in_parts_are_those_counted_at_once(monkeypatch):
    volume = np.random.default_rng(5).random((20, 30, 40)) < 0.2
    at_once = components(volume, connectivity=6)
    monkeypatch.setattr(topology, "VOXELS_AT_ONCE", 7)
    assert np.array_equal(components(volume, connectivity=6).sizes, at_once.sizes)


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


@given(wide_volumes(), connectivities, st.lists(st.integers(0, 6), max_size=5), st.randoms())
def test_slabs_of_any_thickness_give_the_same_counts(volume, connectivity, cuts, random):
    cuts = [0, *sorted(min(cut, len(volume)) for cut in cuts), len(volume)]
    slabs = [EulerCounts.of(volume[a:b], connectivity=connectivity) for a, b in pairwise(cuts)]
    while len(slabs) > 1:  # joined in any grouping, as workers that finish at random would
        i = random.randrange(len(slabs) - 1)
        slabs[i : i + 2] = [slabs[i].followed_by(slabs[i + 1])]
    assert slabs[0].number == euler_number(volume, connectivity=connectivity)
    assert slabs[0].shape_zyx == volume.shape


@both_connectivities
@pytest.mark.parametrize("words_at_once", [1, 100, 2**20])
def test_slices_taken_together_do_not_change_the_number(monkeypatch, words_at_once, connectivity):
    volume = np.random.default_rng(1).random((13, 20, 70)) < 0.4
    number = euler_number(volume, connectivity=connectivity)
    monkeypatch.setattr(topology, "WORDS_AT_ONCE", words_at_once)
    assert euler_number(volume, connectivity=connectivity) == number
    lower, upper = (EulerCounts.of(slab, connectivity=connectivity) for slab in np.split(volume, [5]))
    assert lower.followed_by(upper).number == number


class Tiled:
    """A volume that exists a few slices at a time, as one read from disk: one tile, repeated."""

    dtype = np.dtype(bool)

    def __init__(self, tile_zyx, n_tiles):
        self.tile_zyx = tile_zyx
        self.shape = (len(tile_zyx) * n_tiles, *tile_zyx.shape[1:])
        self.most_slices = 0

    def __getitem__(self, index):
        slices = range(*index.indices(self.shape[0]))
        self.most_slices = max(self.most_slices, len(slices))
        return self.tile_zyx[np.array(slices) % len(self.tile_zyx)]


@both_connectivities
def test_a_volume_beyond_32_bit_indices_is_counted_a_slice_at_a_time(connectivity):
    tile = empty(2, 2048, 2048)
    tile[0, ::2, ::2] = True  # single voxels: one object each
    volume = Tiled(tile, n_tiles=260)
    assert np.prod(volume.shape, dtype=np.int64) > 2**31
    assert euler_number(volume, connectivity=connectivity) == 260 * 1024 * 1024
    assert volume.most_slices == 1


def test_interconnectivity_is_the_share_of_the_largest_component():
    volume = cube()  # 27 voxels
    volume[8, 8, 0:9:3] = True
    assert interconnectivity(volume) == 27 / 30
    assert components(volume).sizes.tolist() == [27, 1, 1, 1]


def test_an_empty_network_is_not_interconnected():
    assert interconnectivity(empty()) == 0.0
    assert components(empty()).sizes.tolist() == []


@both_connectivities
@pytest.mark.parametrize("shape", [(0, 4, 4), (4, 0, 4), (4, 4, 0)])
def test_a_volume_without_voxels_has_no_network(shape, connectivity):
    assert euler_number(empty(*shape), connectivity=connectivity) == 0
    assert betti_numbers(empty(*shape), connectivity=connectivity) == (0, 0, 0)


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

    @pytest.mark.parametrize("connectivity", [18, 8, None, "26"])
    def test_other_connectivities_are_refused(self, measured, connectivity):
        with pytest.raises(ValueError, match=r"connectivity must be 6 .* or 26"):
            measured(cube(), connectivity=connectivity)


def test_slabs_of_different_volumes_are_not_joined():
    counts = EulerCounts.of(empty(2, 5, 64))
    with pytest.raises(ValueError, match=r"same connectivity.*\(5, 64\) and \(5, 63\)"):
        counts.followed_by(EulerCounts.of(empty(2, 5, 63)))
    with pytest.raises(ValueError, match="26 and 6"):
        counts.followed_by(EulerCounts.of(empty(2, 5, 64), connectivity=6))
