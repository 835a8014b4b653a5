from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import dataset
from alsiseg.dataset import Augmentation, Draws, GreyScale
from alsiseg.weightmaps import PixelWeights, weight_map

SHAPE_ZYX = (12, 40, 48)
AS_IT_IS = GreyScale(mean=0.0, spread=1.0, range=1.0)
TRAIN = range(4, 10)


def draws(n_images: int = 6, **changed) -> Draws:
    """Images drawn without any change of grey, but for what is given."""
    plain = {
        "view": np.zeros(n_images, np.int64),
        "z": np.full(n_images, 5),
        "corner": np.zeros(n_images, np.int64),
        "n_quarter_turns": np.zeros(n_images, np.int64),
        "contrast": np.ones(n_images, np.float32),
        "brightness": np.zeros(n_images, np.float32),
        "blur_sigma_px": np.zeros(n_images, np.float32),
        "noise": np.zeros(n_images, np.float32),
        "noise_key": np.arange(n_images, dtype=np.int32) * 7919,
    }
    return Draws(**plain | changed)


def images(n_images: int = 6, size: int = 24) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(size=(n_images, 5, size, size)).astype(np.float32))


def random_labels() -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 3, SHAPE_ZYX).astype(np.uint8)


def test_a_thousand_slices_are_split_as_published():
    split = dataset.split(1000)
    assert split == dataset.Split(train=range(403, 998), test=range(0, 300))
    assert len(split.train) == 595
    assert Augmentation().n_images(len(split.train)) == 595 * 4 * 3 * 4 == 28_560


def test_exactly_the_published_gap_stays_unused():
    split = dataset.split(1000)
    touched = {z + shift + 1 for z in split.train for shift in (-2, -1, 0, 1, 2)}
    unused = set(range(1, 1001)) - touched - {z + 1 for z in split.test}
    assert unused == set(range(301, 402))


@given(st.integers(dataset.SMALLEST_SPLIT, 3000), st.sampled_from([0, 1, 2, 3]))
def test_training_and_its_context_never_meet_the_test_slices(n_slices, n_context):
    split = dataset.split(n_slices, n_context=n_context)
    assert len(split.train) > 0
    assert len(split.test) > 0
    assert split.train.start - n_context > split.test.stop - 1
    assert split.train.stop - 1 + n_context < n_slices


def test_too_few_slices_are_refused():
    with pytest.raises(ValueError, match="at least 30 slices, found 29"):
        dataset.split(29)


def test_every_combination_of_slice_corner_rotation_occurs_once_per_grey_change():
    drawn = dataset.draw_epoch(TRAIN, Augmentation(), seed=0, epoch=1)
    combinations = Counter(zip(drawn.z, drawn.corner, drawn.n_quarter_turns, strict=True))
    assert set(combinations) == {(z, corner, turns) for z in TRAIN for corner in range(4) for turns in (0, 1, 3)}
    assert set(combinations.values()) == {4}
    assert len(drawn) == Augmentation().n_images(len(TRAIN)) == 288


def test_an_epoch_of_the_published_split_has_the_published_28560_images():
    """595 slices x 4 corners x 3 rotations, each with 4 grey changes of its own."""
    drawn = dataset.draw_epoch(dataset.split(1000).train, Augmentation(), seed=0, epoch=1)
    combinations = Counter(zip(drawn.z, drawn.corner, drawn.n_quarter_turns, strict=True))
    assert len(drawn) == 595 * 4 * 3 * 4 == 28_560
    assert len(combinations) == 595 * 4 * 3
    assert set(combinations.values()) == {4}
    changes = zip(drawn.contrast, drawn.brightness, drawn.noise_key, strict=True)
    assert len(set(changes)) == 28_560


def test_an_epoch_is_drawn_the_same_again_and_another_epoch_or_seed_differently():
    def drawn(seed: int, epoch: int) -> dict:
        found = vars(dataset.draw_epoch(TRAIN, Augmentation(), seed=seed, epoch=epoch))
        return {name: values for name, values in found.items() if name != "view"}  # there is one only

    first, again = drawn(3, 7), drawn(3, 7)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    for other in (drawn(3, 8), drawn(4, 7), drawn(7, 3)):
        assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_fewer_images_are_the_first_of_the_whole_epoch():
    whole = dataset.draw_epoch(TRAIN, Augmentation(), seed=0, epoch=1)
    part = dataset.draw_epoch(TRAIN, Augmentation(), seed=0, epoch=1, n_images=20)
    assert len(part) == 20
    assert all(np.array_equal(vars(part)[name], vars(whole)[name][:20]) for name in vars(whole))


@pytest.mark.parametrize("batch", [1, 7, 288, 1000])
def test_batches_lose_no_image(batch):
    whole = dataset.draw_epoch(TRAIN, Augmentation(), seed=0, epoch=1)
    parts = list(whole.batches(batch))
    assert all(len(part) == batch for part in parts[:-1])
    for name, values in vars(whole).items():
        np.testing.assert_array_equal(np.concatenate([vars(part)[name] for part in parts]), values)


def test_draws_stay_within_their_ranges_and_reach_both_ends():
    augmentation = Augmentation(contrast=0.2, brightness=0.1, noise=0.05, blur_sigma_px=1.0, probability=0.5)
    drawn = dataset.draw_epoch(range(2, 102), augmentation, seed=0, epoch=1)
    for values, low, high in (
        (drawn.contrast, 0.8, 1.2),
        (drawn.brightness, -0.1, 0.1),
        (drawn.blur_sigma_px, 0.0, 1.0),
        (drawn.noise, 0.0, 0.05),
    ):
        tolerance = 0.01 * (high - low)
        assert low - 1e-6 <= values.min() < low + tolerance
        assert high - tolerance < values.max() <= high + 1e-6
    blurred, noisy = drawn.blur_sigma_px > 0, drawn.noise > 0
    assert np.mean(blurred) == pytest.approx(0.5, abs=0.03)
    assert np.mean(noisy) == pytest.approx(0.5, abs=0.03)
    assert np.mean(blurred & noisy) == pytest.approx(0.25, abs=0.03)
    assert abs(np.corrcoef(drawn.contrast, drawn.brightness)[0, 1]) < 0.05


def test_without_probability_no_image_is_blurred_or_noisy():
    drawn = dataset.draw_epoch(TRAIN, Augmentation(probability=0.0), seed=0, epoch=1)
    assert not drawn.blur_sigma_px.any()
    assert not drawn.noise.any()


def test_grey_labels_and_weights_move_together():
    """The grey value of a voxel is its number, so that every pixel of an image says where it came from."""
    labels_zyx = random_labels()
    number_zyx = np.arange(labels_zyx.size).reshape(SHAPE_ZYX)
    weights = PixelWeights()
    volume = dataset.labelled_volume(number_zyx, labels_zyx, weights, AS_IT_IS)
    plain = Augmentation(contrast=0.0, brightness=0.0, probability=0.0)
    drawn = dataset.draw_epoch(TRAIN, plain, seed=0, epoch=1)
    grey, labels, weight = dataset.training_batch(volume, drawn, crop=32, n_slices=5, normalised_range=1.0)
    middle = grey[:, 2].round().long().numpy()
    assert labels.dtype == torch.uint8
    np.testing.assert_array_equal(labels.numpy(), labels_zyx.ravel()[middle])
    np.testing.assert_array_equal(weight.numpy(), weight_map(labels_zyx, weights).ravel()[middle])
    n_per_slice = SHAPE_ZYX[1] * SHAPE_ZYX[2]
    for channel, shift in enumerate((-2, -1, 0, 1, 2)):
        np.testing.assert_array_equal(grey[:, channel].round().long().numpy(), middle + shift * n_per_slice)
    np.testing.assert_array_equal(middle // n_per_slice, np.broadcast_to(drawn.z[:, None, None], middle.shape))


@pytest.mark.parametrize("turns", [0, 1, 3])
@pytest.mark.parametrize(("corner", "rows", "columns"), [(0, 0, 0), (1, 0, 16), (2, 8, 0), (3, 8, 16)])
def test_the_four_crops_touch_the_four_corners_and_turn_by_quarters(turns, corner, rows, columns):
    number_zyx = np.arange(np.prod(SHAPE_ZYX)).reshape(SHAPE_ZYX)
    volume = dataset.labelled_volume(number_zyx, random_labels(), PixelWeights(), AS_IT_IS)
    one = draws(1, corner=np.array([corner]), n_quarter_turns=np.array([turns]))
    grey, _, _ = dataset.training_batch(volume, one, crop=32, n_slices=1, normalised_range=1.0)
    window = number_zyx[5, rows : rows + 32, columns : columns + 32]
    np.testing.assert_array_equal(grey[0, 0].numpy(), np.rot90(window, turns))


def test_making_images_leaves_the_volume_as_it_was():
    volume = dataset.labelled_volume(random_labels(), random_labels(), PixelWeights(), AS_IT_IS)
    before = volume.grey_zyx.clone()
    drawn = dataset.draw_epoch(TRAIN, Augmentation(), seed=0, epoch=1, n_images=8)
    dataset.training_batch(volume, drawn, crop=32, n_slices=5, normalised_range=1.0)
    assert torch.equal(volume.grey_zyx, before)


def test_no_change_of_grey_is_no_change():
    before = images()
    assert torch.equal(dataset.change_grey(before, draws(), 4.0), before)


def test_blur_is_the_gaussian_filter():
    before, sigmas = images(), np.array([0.0, 0.05, 0.3, 0.5, 0.8, 1.0], np.float32)
    after = dataset.change_grey(before, draws(blur_sigma_px=sigmas), 1.0).numpy()
    for image, blurred, sigma in zip(before.numpy(), after, sigmas, strict=True):
        expected = ndimage.gaussian_filter(image.astype(np.float64), [0, sigma, sigma], mode="nearest", radius=3)
        np.testing.assert_allclose(blurred, expected if sigma > 0 else image, atol=1e-5)


def test_contrast_and_brightness_are_a_factor_and_a_share_of_the_grey_range():
    contrast, brightness = np.linspace(0.8, 1.2, 6, dtype=np.float32), np.linspace(-0.1, 0.1, 6, dtype=np.float32)
    before = images()
    after = dataset.change_grey(before, draws(contrast=contrast, brightness=brightness), 4.0)
    expected = before * torch.from_numpy(contrast)[:, None, None, None]
    torch.testing.assert_close(after, expected + 4 * torch.from_numpy(brightness)[:, None, None, None])


def test_noise_is_uniform_bounded_and_its_own_in_every_image():
    noise = np.array([0.0, 0.01, 0.02, 0.03, 0.04, 0.05], np.float32)
    before = torch.zeros(6, 5, 64, 64)
    after = dataset.change_grey(before, draws(noise=noise), 4.0)
    again = dataset.change_grey(before, draws(noise=noise), 4.0)
    assert torch.equal(after, again)
    assert torch.equal(after[0], before[0])
    for image, amplitude in zip(after[1:].numpy(), 4 * noise[1:], strict=True):
        assert np.abs(image).max() <= amplitude * (1 + 1e-6)
        assert image.std() == pytest.approx(float(amplitude) / np.sqrt(3), rel=0.02)
        assert image.mean() == pytest.approx(0, abs=0.02 * float(amplitude))
    correlation = np.corrcoef(after[1:].reshape(5, -1).numpy())
    assert np.abs(correlation - np.eye(5)).max() < 0.03
    neighbours = np.corrcoef(after[5, 0, :, 1:].ravel(), after[5, 0, :, :-1].ravel())[0, 1]
    between_slices = np.corrcoef(after[5, 0].ravel(), after[5, 1].ravel())[0, 1]
    assert max(abs(neighbours), abs(between_slices)) < 0.05


def test_noise_differs_between_the_images_of_an_epoch():
    drawn = dataset.draw_epoch(range(0, 100), Augmentation(), seed=0, epoch=1)
    assert len(set(drawn.noise_key)) == len(drawn)


def test_the_grey_scale_is_mean_and_spread():
    grey_zyx = np.random.default_rng(0).normal(1000, 50, (20, 64, 64))
    scale = dataset.grey_scale(grey_zyx)
    assert scale.mean == pytest.approx(1000, abs=1)
    assert scale.spread == pytest.approx(50, rel=0.03)
    assert scale.range == pytest.approx(2 * 2.576 * 50, rel=0.03)
    normalised = scale.normalise(grey_zyx)
    assert normalised.dtype == np.float32
    assert normalised.std() == pytest.approx(1, rel=0.03)
    assert scale.normalised_range == pytest.approx(scale.range / scale.spread)


def test_hot_pixels_do_not_move_the_grey_scale():
    grey_zyx = np.random.default_rng(0).normal(1000, 50, (20, 64, 64)).astype(np.uint16)
    hot_zyx = grey_zyx.copy()
    hot_zyx[:, :, 7][np.random.default_rng(1).random((20, 64)) < 0.2] = 65_535
    before, after = dataset.grey_scale(grey_zyx), dataset.grey_scale(hot_zyx)
    assert hot_zyx.std() > 10 * grey_zyx.std()
    assert after.mean == pytest.approx(before.mean, rel=0.005)
    assert after.spread == pytest.approx(before.spread, rel=0.05)


def test_the_grey_scale_follows_another_gain():
    grey_zyx = np.random.default_rng(0).normal(100, 5, (40, 32, 32))
    scale, other = dataset.grey_scale(grey_zyx), dataset.grey_scale(30 * grey_zyx + 700)
    np.testing.assert_allclose(other.normalise(30 * grey_zyx + 700), scale.normalise(grey_zyx), atol=1e-3)


def test_a_volume_of_one_grey_value_is_refused():
    with pytest.raises(ValueError, match="needs a grey volume with contrast"):
        dataset.grey_scale(np.full((5, 8, 8), 7, np.uint16))


def test_the_grey_scale_reads_single_slices_of_a_volume_on_disk():
    class Sliced:
        shape = (1000, 8, 8)

        def __init__(self) -> None:
            self.read: list[int] = []

        def __getitem__(self, z: int) -> NDArray:
            self.read.append(z)
            return np.arange(64).reshape(8, 8) + z

    volume = Sliced()
    dataset.grey_scale(volume)
    assert len(volume.read) == 32
    assert {0, 999} <= set(volume.read)


@pytest.mark.parametrize(
    ("z", "expected"), [(0, [0, 0, 0, 1, 2]), (1, [0, 0, 1, 2, 3]), (5, [3, 4, 5, 6, 7]), (9, [7, 8, 9, 9, 9])]
)
def test_beyond_the_ends_the_outermost_slice_is_repeated(z, expected):
    assert dataset.context_slices(z, 10, 5).tolist() == expected


def test_weights_are_those_of_the_whole_slice():
    labels_zyx = random_labels()
    volume = dataset.labelled_volume(labels_zyx, labels_zyx, PixelWeights(), AS_IT_IS)
    np.testing.assert_array_equal(volume.weight_zyx.numpy(), weight_map(labels_zyx, PixelWeights()))


def test_labels_of_another_shape_or_other_numbers_are_refused():
    grey_zyx, labels_zyx = np.zeros(SHAPE_ZYX), random_labels()
    with pytest.raises(ValueError, match=r"same shape .*\(12, 40, 48\) and \(12, 40, 47\)"):
        dataset.labelled_volume(grey_zyx, labels_zyx[..., 1:], PixelWeights(), AS_IT_IS)
    with pytest.raises(ValueError, match=r"found .*3"):
        dataset.labelled_volume(grey_zyx, np.where(labels_zyx == 2, 3, labels_zyx) | (labels_zyx == 0) * 2, *_rest())
    with pytest.raises(TypeError, match="whole numbers"):
        dataset.labelled_volume(grey_zyx, labels_zyx.astype(np.float32), *_rest())
    with pytest.raises(ValueError, match="three axes"):
        dataset.labelled_volume(grey_zyx[0], labels_zyx[0], *_rest())


def _rest() -> tuple[PixelWeights, GreyScale]:
    return PixelWeights(), AS_IT_IS


def test_the_section_tested_is_the_centre_of_the_first_slices():
    number_zyx = np.arange(100 * 40 * 50).reshape(100, 40, 50)
    section_zyx = dataset.test_section(number_zyx, 32)
    np.testing.assert_array_equal(section_zyx, number_zyx[:30, 4:36, 9:41])
    assert dataset.centre_window((319, 379), 256) == (slice(31, 287), slice(61, 317))
