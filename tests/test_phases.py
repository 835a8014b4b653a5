from itertools import pairwise

import numpy as np
import pytest

from alsiseg.phases import (
    NETWORK_COLOURS,
    NETWORKS,
    PHASE_COLOURS,
    PHASE_NAMES,
    Phase,
    check_labels,
    network_mask,
)

ALL_LABELS = np.array([[[0, 1, 2]]], dtype=np.uint8)


def test_the_hybrid_network_is_silicon_and_aluminides_together():
    silicon, aluminides = network_mask(ALL_LABELS, "silicon"), network_mask(ALL_LABELS, "aluminides")
    assert silicon.tolist() == [[[False, True, False]]]
    assert aluminides.tolist() == [[[False, False, True]]]
    assert np.array_equal(network_mask(ALL_LABELS, "hybrid"), silicon | aluminides)


def test_an_unknown_network_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="one of silicon, aluminides, hybrid, got 'matrix'"):
        network_mask(ALL_LABELS, "matrix")


def test_every_phase_and_network_has_a_colour_and_every_phase_a_name():
    assert set(PHASE_COLOURS) == set(PHASE_NAMES) == set(Phase)
    assert set(NETWORK_COLOURS) == set(NETWORKS)
    assert len(set(PHASE_COLOURS.values())) == len(Phase)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
def test_labels_of_any_integer_type_pass(dtype):
    check_labels(ALL_LABELS.astype(dtype))
    check_labels(np.zeros((0, 4, 4), dtype=dtype))


@pytest.mark.parametrize("labels", [ALL_LABELS.astype(float), np.full((2, 2, 2), np.nan), ALL_LABELS > 0])
def test_labels_that_are_not_integers_are_refused(labels):
    with pytest.raises(TypeError, match=f"labels must hold whole numbers.*got {labels.dtype}"):
        check_labels(labels)


def test_unknown_labels_are_refused_and_listed():
    with pytest.raises(ValueError, match=r"the truth must be 0 .* found 0, 1, 5;"):
        check_labels(np.array([0, 1, 5]), "the truth")
    with pytest.raises(ValueError, match="found -1, 2;"):
        check_labels(np.array([-1, 2]))


def test_many_unknown_labels_are_cut_short():
    with pytest.raises(ValueError, match=r"found 0, 1, 2, 3, 4, 5, 6, 7, \.\.\.;"):
        check_labels(np.arange(256))


def test_phases_differ_in_grey_print():
    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    steps = sorted(lightness(colour) for colour in PHASE_COLOURS.values())
    assert min(b - a for a, b in pairwise(steps)) > 40
