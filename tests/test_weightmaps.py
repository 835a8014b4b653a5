from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alsiseg.phases import Phase
from alsiseg.weightmaps import (
    PUBLISHED_SETTINGS,
    PixelWeights,
    interface_mask,
    silicon_mask,
    weight_map,
    weight_regions,
    weight_tensor,
)

SI, AL = Phase.SILICON, Phase.ALUMINIDE
slices = hnp.arrays(np.uint8, st.tuples(st.integers(3, 9), st.integers(3, 9)), elements=st.integers(0, 2))
tiny_slices = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=4), elements=st.integers(0, 2))
stacks = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.integers(0, 2))


def slide_window_2(labels, centres):
    """Slide Window 2 of Fig. 3 literally: mark the window if it holds both phases."""
    output_2 = np.zeros(labels.shape, dtype=bool)
    for y, x in centres:
        window = (slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
        if (labels[window] == SI).any() and (labels[window] == AL).any():
            output_2[window] = True
    return output_2


def all_centres(labels):
    return list(product(range(labels.shape[0]), range(labels.shape[1])))


def inner_centres(labels):
    return list(product(range(1, labels.shape[0] - 1), range(1, labels.shape[1] - 1)))


@given(tiny_slices)
def test_interface_is_what_the_sliding_window_of_the_paper_marks(labels):
    assert np.array_equal(interface_mask(labels), slide_window_2(labels, all_centres(labels)))


@given(slices)
def test_windows_cut_by_the_border_and_windows_kept_inside_mark_the_same(labels):
    mask = interface_mask(labels)
    assert np.array_equal(mask, slide_window_2(labels, all_centres(labels)))
    assert np.array_equal(mask, slide_window_2(labels, inner_centres(labels)))


@pytest.mark.parametrize("shape", [(130, 64), (64, 257)])
def test_large_slices_agree_with_the_sliding_window(shape):
    labels = np.random.default_rng(3).choice(3, shape, p=[0.9, 0.05, 0.05]).astype(np.uint8)
    assert np.array_equal(interface_mask(labels), slide_window_2(labels, all_centres(labels)))


def test_two_touching_pixels_mark_four_by_three_pixels_of_a_slice_eight_wide():
    labels = np.zeros((7, 8), dtype=np.uint8)
    labels[3, 3], labels[3, 4] = SI, AL
    expected = np.zeros((7, 8), dtype=bool)
    expected[1:6, 2:6] = True  # centres at rows 2-4, columns 3-4, each with its window
    assert np.array_equal(interface_mask(labels), expected)


def test_phases_two_pixels_apart_share_a_window_and_three_apart_do_not():
    labels = np.zeros((5, 9), dtype=np.uint8)
    labels[2, 2], labels[2, 4] = SI, AL
    assert interface_mask(labels).sum() == 15  # three centres in one column: 5 rows x 3 columns
    labels[2, 4], labels[2, 5] = Phase.MATRIX, AL
    assert not interface_mask(labels).any()


def test_windows_do_not_reach_around_the_ends_of_rows():
    labels = np.zeros((6, 5), dtype=np.uint8)
    labels[2, 4], labels[3, 0] = SI, AL
    assert not interface_mask(labels).any()


def test_windows_stay_in_the_slice_plane():
    labels = np.zeros((2, 5, 5), dtype=np.uint8)
    labels[0, 2, 2], labels[1, 2, 2] = SI, AL
    assert not interface_mask(labels).any()


@given(stacks)
def test_a_stack_is_weighted_slice_by_slice(labels):
    for of in (silicon_mask, interface_mask, weight_regions, weight_map):
        assert np.array_equal(of(labels), np.stack([of(labels_yx) for labels_yx in labels]))


@given(stacks)
def test_weights_follow_the_table_of_the_paper(labels):
    weights = PixelWeights(matrix=0.5, silicon=1.15, interface=1.2)
    output_1, output_2 = silicon_mask(labels), interface_mask(labels)
    weight = weight_map(labels, weights)
    assert weight.dtype == np.float32
    assert (weight[output_2] == np.float32(1.2)).all()  # with and without silicon
    assert (weight[output_1 & ~output_2] == np.float32(1.15)).all()
    assert (weight[~output_1 & ~output_2] == np.float32(0.5)).all()


@given(stacks)
def test_regions_tell_which_weight_a_pixel_has(labels):
    weights = PixelWeights(matrix=0.5, silicon=1.15, interface=1.2)
    region, output_1, output_2 = weight_regions(labels), silicon_mask(labels), interface_mask(labels)
    assert region.dtype == np.uint8
    assert np.array_equal(region, output_1 + 2 * output_2)
    assert np.array_equal(weights.of_region[region], weight_map(labels, weights))
    assert np.array_equal(weights.of_region[region], weight_tensor(torch.from_numpy(labels), weights).numpy())


@pytest.mark.parametrize("shape", [(67, 33), (3, 41, 59), (2, 64, 64)])
def test_weights_of_slices_of_any_size_agree_with_the_sliding_window(shape):
    labels = np.random.default_rng(5).choice(3, shape, p=[0.8, 0.1, 0.1]).astype(np.uint8)
    expected = np.where(labels == SI, np.float32(1.25), np.float32(1))
    for labels_yx, expected_yx in zip(labels.reshape(-1, *shape[-2:]), expected.reshape(-1, *shape[-2:]), strict=True):
        expected_yx[slide_window_2(labels_yx, all_centres(labels_yx))] = 1.5
    assert np.array_equal(weight_map(labels), expected)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 3, 3), (2, 0, 3), (1, 1), (1, 2), (1, 5, 1)])
def test_slices_of_no_or_one_pixel_have_as_many_weights(shape):
    labels = np.ones(shape, dtype=np.uint8)
    assert np.array_equal(weight_map(labels), np.full(shape, 1.25, dtype=np.float32))


@given(stacks)
def test_silicon_and_aluminide_are_interchangeable_in_the_interface(labels):
    swapped = np.array([Phase.MATRIX, AL, SI], dtype=np.uint8)[labels]
    assert np.array_equal(interface_mask(labels), interface_mask(swapped))


@given(stacks)
def test_the_best_setting_of_the_paper_is_the_default(labels):
    assert np.array_equal(weight_map(labels), weight_map(labels, PixelWeights(1.0, 1.25, 1.5)))


def test_the_published_settings_start_without_weights_and_end_with_the_default():
    assert [(w.matrix, w.silicon, w.interface) for w in PUBLISHED_SETTINGS] == [
        (1.0, 1.0, 1.0),
        (1.0, 1.15, 1.2),
        (1.0, 1.25, 1.5),
    ]
    assert PUBLISHED_SETTINGS[-1] == PixelWeights()


@given(stacks)
def test_a_tensor_gets_the_weights_of_its_array(labels):
    weights = PixelWeights(matrix=0.5, silicon=1.15, interface=1.2)
    weight = weight_tensor(torch.from_numpy(labels), weights)
    assert weight.dtype == torch.float32
    assert np.array_equal(weight.numpy(), weight_map(labels, weights))
    assert np.array_equal(weight_tensor(torch.from_numpy(labels[0])).numpy(), weight_map(labels[0]))
    batch = torch.from_numpy(labels.astype(np.int64)).reshape(1, *labels.shape)
    assert np.array_equal(weight_tensor(batch, weights)[0].numpy(), weight_map(labels, weights))


def test_what_is_no_label_tensor_is_refused():
    with pytest.raises(TypeError, match="whole numbers"):
        weight_tensor(torch.zeros(4, 4))
    with pytest.raises(ValueError, match="found 0, 7"):
        weight_tensor(torch.tensor([[0, 7]]))
    with pytest.raises(ValueError, match=r"rows and columns, got shape \(4,\)"):
        weight_tensor(torch.zeros(4, dtype=torch.uint8))


def test_labels_are_left_as_they_were_and_may_be_a_view():
    whole = np.random.default_rng(4).integers(0, 3, (12, 14), dtype=np.uint8)
    before = whole.copy()
    view = whole[::-2, 1::3]
    assert np.array_equal(interface_mask(view), interface_mask(view.copy()))
    assert np.array_equal(weight_map(view), weight_map(view.copy()))
    assert np.array_equal(whole, before)


def test_labels_of_other_integer_types_give_the_same_map():
    labels = np.random.default_rng(4).integers(0, 3, (12, 14))
    assert np.array_equal(weight_map(labels), weight_map(labels.astype(np.uint8)))


@pytest.mark.parametrize("shape", [(12, 14), (3, 12, 14), (0, 3, 3)])
def test_weights_written_into_given_memory_are_the_same(shape):
    labels = np.random.default_rng(4).integers(0, 3, shape, dtype=np.uint8)
    weights, given = PixelWeights(0.5, 1.15, 1.2), np.full(shape, np.nan, dtype=np.float32)
    assert weight_map(labels, weights, out=given) is given
    assert np.array_equal(given, weight_map(labels, weights))


def test_labels_and_weights_may_be_files(tmp_path):
    labels = np.random.default_rng(4).integers(0, 3, (3, 12, 14), dtype=np.uint8)
    np.save(tmp_path / "labels.npy", labels)
    read_only = np.load(tmp_path / "labels.npy", mmap_mode="r")
    weight = np.lib.format.open_memmap(tmp_path / "weight.npy", mode="w+", dtype=np.float32, shape=labels.shape)
    weight_map(read_only, out=weight).flush()
    assert np.array_equal(np.load(tmp_path / "weight.npy"), weight_map(labels))
    assert np.array_equal(interface_mask(read_only), interface_mask(labels))


@pytest.mark.parametrize(
    ("out", "error", "sentence"),
    [
        (np.empty((12, 14)), TypeError, "must be a float32 array, got float64"),
        ([[1.0]], TypeError, "must be a float32 array, got list"),
        (np.empty((14, 12), np.float32), ValueError, r"labels' shape \(12, 14\), got shape \(14, 12\); make"),
        (np.empty((14, 12), np.float32).T, ValueError, "not C-contiguous"),
        (np.broadcast_to(np.float32(1), (12, 14)), ValueError, "not C-contiguous, read-only"),
    ],
)
def test_memory_that_cannot_hold_the_weights_is_refused(out, error, sentence):
    with pytest.raises(error, match=sentence):
        weight_map(np.zeros((12, 14), dtype=np.uint8), out=out)


def test_the_memory_of_the_labels_is_not_overwritten():
    memory = np.zeros(12 * 14, dtype=np.float32)
    labels = memory.view(np.uint8)[: 12 * 14].reshape(12, 14)
    with pytest.raises(ValueError, match="memory of its own"):
        weight_map(labels, out=memory.reshape(12, 14))


@pytest.mark.parametrize("name", ["matrix", "silicon", "interface"])
@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_weights_that_are_not_above_zero_are_refused_by_name(name, weight):
    with pytest.raises(ValueError, match=f"the {name} weight must be a finite number above 0, got"):
        PixelWeights(**{name: weight})


@pytest.mark.parametrize("of", [silicon_mask, interface_mask, weight_regions, weight_map])
def test_what_is_no_label_slice_is_refused(of):
    with pytest.raises(TypeError, match="whole numbers"):
        of(np.zeros((4, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="found 0, 7"):
        of(np.array([[0, 7]], dtype=np.uint8))
    with pytest.raises(ValueError, match=r"slice \(Y, X\) or a stack .* got shape \(4,\)"):
        of(np.zeros(4, dtype=np.uint8))
