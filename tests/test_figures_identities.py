"""Which particle of one segmentation is which of another, and the colours that say so."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from alsiseg import figures
from alsiseg.figures import identities, rendering
from alsiseg.phases import NETWORK_COLOURS

# Machado, Oliveira and Fernandes, IEEE Trans. Vis. Comput. Graph. 15, 1291 (2009), severity 1.0; linear RGB
COLOUR_BLIND = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
GREY = 2 + len(identities.VIVID_COLOURS)


def line(*particles: tuple[int, int]) -> np.ndarray:
    """A network of bars along x, from one place up to another."""
    network = np.zeros((5, 5, 40), dtype=bool)
    for start, stop in particles:
        network[1:4, 1:4, start:stop] = True
    return network


def numbers_at(numbered: np.ndarray, *places: int) -> list[int]:
    return numbered[2, 2, list(places)].tolist()


def test_particles_are_numbered_by_size():
    (numbered,) = identities.matched_particles([line((0, 3), (5, 15), (20, 26))])
    assert numbers_at(numbered, 1, 7, 22, 17) == [3, 1, 2, 0]


def test_a_particle_that_fell_apart_keeps_its_number_in_its_largest_piece():
    whole, split = identities.matched_particles([line((0, 20), (30, 35)), line((0, 5), (6, 20), (30, 35))])
    assert numbers_at(whole, 3, 10, 32) == [1, 1, 2]
    assert numbers_at(split, 3, 10, 32) == [3, 1, 2]


def test_of_particles_that_grew_together_the_largest_gives_its_number():
    apart, merged = identities.matched_particles([line((0, 5), (6, 20), (30, 35)), line((0, 20), (30, 35))])
    assert numbers_at(apart, 3, 10, 32) == [2, 1, 3]
    assert numbers_at(merged, 3, 10, 32) == [1, 1, 3]


def test_a_particle_that_moved_is_the_same_as_long_as_it_overlaps():
    first, second = identities.matched_particles([line((0, 10), (20, 26)), line((4, 14), (26, 32))])
    assert numbers_at(second, 7) == numbers_at(first, 7) == [1]
    assert numbers_at(first, 22) == [2]
    assert numbers_at(second, 30) == [3]


def test_a_particle_that_vanished_leaves_its_number_to_no_other():
    _, second = identities.matched_particles([line((0, 10), (20, 26)), line((0, 10), (30, 38))])
    assert numbers_at(second, 5, 34) == [1, 3]
    assert 2 not in second


def test_what_the_first_network_lacks_is_looked_for_in_the_second():
    networks = [line((0, 10)), line((0, 10), (20, 26)), line((21, 27)), np.zeros((5, 5, 40), bool)]
    numbered = identities.matched_particles(networks)
    assert numbers_at(numbered[1], 5, 22) == [1, 2]
    assert numbers_at(numbered[2], 22) == [2]
    assert not numbered[3].any()


def test_of_equal_shares_the_larger_particle_counts():
    pieces, whole = identities.matched_particles([line((0, 4), (6, 12)), line((2, 8))])  # shares 2 with either
    assert numbers_at(whole, 5) == numbers_at(pieces, 8) == [1]


@given(st.integers(0, 2**32 - 1))
def test_a_number_is_one_particle_in_every_volume_and_matching_a_volume_with_itself_changes_nothing(seed):
    random = np.random.default_rng(seed)
    networks = [random.random((6, 7, 8)) < 0.2 for _ in range(3)]
    numbered = identities.matched_particles([*networks, networks[0]])
    np.testing.assert_array_equal(numbered[0], numbered[3])
    for network, numbers in zip(networks, numbered, strict=False):
        alone = identities.matched_particles([network])[0]
        assert ((numbers > 0) == network).all()
        pairs = np.unique(np.stack([alone[network], numbers[network]]), axis=1)
        assert len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1]


def test_the_largest_particle_is_green_and_no_other_is():
    numbered = identities.matched_particles([line((0, 10), (12, 14), (16, 18)), line((0, 10), (12, 14))])
    colours = identities.colours_of_particles(numbered)
    assert colours[0] == 0
    assert colours[1] == 1
    assert np.count_nonzero(colours == 1) == 1


def test_a_particle_without_a_counterpart_is_grey_unless_there_is_nothing_to_compare_with():
    first, second = line((0, 10), (12, 14), (16, 18)), line((0, 10), (12, 14), (20, 22))
    both = identities.matched_particles([first, second])
    colours = identities.colours_of_particles(both)
    assert colours[numbers_at(both[0], 12, 17)].tolist() == [2, GREY]
    assert colours[numbers_at(both[1], 12, 21)].tolist() == [2, GREY]
    assert GREY not in identities.colours_of_particles(identities.matched_particles([first]))


def test_neighbours_differ_in_colour():
    random = np.random.default_rng(0)
    network = np.zeros((4, 64, 64), bool)
    network[:, ::8, :] = network[:, :, ::8] = True  # a lattice of bars round 7 x 7 holes, with an island in each
    islands = np.zeros_like(network)
    for row, column in itertools.product(range(4, 64, 8), repeat=2):
        islands[1:3, row : row + random.integers(1, 3), column] = True
    numbered = identities.matched_particles([islands])
    colours = identities.colours_of_particles(numbered)
    shown = colours[numbered[0][1, 4::8, 4::8]][1:, 1:]
    assert (shown[1:] != shown[:-1]).all()
    assert (shown[:, 1:] != shown[:, :-1]).all()
    n_each = np.bincount(colours)[2:GREY]
    assert n_each.min() > 0


def laboratory(colour: str, blindness: str) -> np.ndarray:
    """CIE 1976 L*a*b* of a colour as a colour-blind reader sees it."""
    encoded = np.array(to_rgb(colour))
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(COLOUR_BLIND[blindness]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    x, y, z = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("blindness", COLOUR_BLIND)
def test_colour_blind_readers_tell_the_colours_apart(blindness):
    colours = [NETWORK_COLOURS["silicon"], *identities.VIVID_COLOURS, identities.ALONE_COLOUR]
    seen = [laboratory(colour, blindness) for colour in colours]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 18


def hue_share(picture: np.ndarray, colour: str) -> float:
    """Share of pixels with the hue of a colour, however bright."""
    wanted = np.array(to_rgb(colour)) / np.linalg.norm(to_rgb(colour))
    length = np.linalg.norm(picture.astype(float), axis=-1)
    return float(np.mean((picture @ wanted > 0.985 * length) & (length > 40) & (np.ptp(picture, axis=-1) > 20)))


def two_settings() -> dict[str, np.ndarray]:
    """Three blocks; the last of one setting does not reach that of the other."""
    first = np.zeros((24, 24, 60), bool)
    first[4:20, 4:20, 2:24] = first[4:20, 4:20, 30:40] = first[4:20, 4:20, 46:52] = True
    second = first.copy()
    second[:, :, 44:] = False
    second[12:20, 12:20, 53:58] = True
    return {"without": first, "with": second}


@pytest.mark.parametrize("renderer", ["plain", "opengl"])
def test_the_same_particle_has_the_same_colour_in_both_pictures_and_the_wanted_size(renderer):
    if renderer == "opengl" and figures.opengl_obstacle():
        pytest.skip(figures.opengl_obstacle())
    pictures = figures.particle_pictures(two_settings(), width_px=201, renderer=renderer)
    assert list(pictures) == ["without", "with"]
    assert {picture.shape for picture in pictures.values()} == {pictures["with"].shape}
    assert pictures["with"].shape[1] == 201
    for picture in pictures.values():
        assert hue_share(picture, NETWORK_COLOURS["silicon"]) > 0.02
        assert hue_share(picture, identities.VIVID_COLOURS[0]) > 0.02
        assert hue_share(picture, identities.VIVID_COLOURS[1]) == 0
    again = figures.particle_pictures(two_settings(), width_px=201, renderer=renderer)
    for name, picture in pictures.items():
        np.testing.assert_array_equal(picture, again[name])


def test_pictures_are_as_wide_as_a_column_of_the_journal_in_print():
    assert pytest.approx(figures.SINGLE_COLUMN_MM, abs=0.1) == rendering.PRINT_WIDTH_PX / 300 * 25.4


def test_networks_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="of one shape"):
        figures.particle_pictures({"a": line((0, 3)), "b": line((0, 3))[:3]})
    with pytest.raises(ValueError, match="no network"):
        figures.particle_pictures({})
    with pytest.raises(TypeError, match="select a phase first"):
        figures.particle_pictures({"a": line((0, 3)).astype(np.uint8)})
