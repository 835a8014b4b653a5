"""Images of an epoch: what `training_batch` makes of the draws, against one image after the other."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from alsiseg import dataset
from alsiseg.dataset import Augmentation, Draws, GreyScale, LabelledVolume, batches
from alsiseg.weightmaps import PixelWeights, weight_map

AS_IT_IS = GreyScale(mean=0.0, spread=1.0, range=1.0)
TRAIN = range(2, 7)
NORMALISED_RANGE = 4.7
Images = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def specimen(shape_zyx: tuple[int, int, int] = (9, 21, 26)) -> LabelledVolume:
    random = np.random.default_rng(5)
    grey_zyx = random.normal(size=shape_zyx)
    return dataset.labelled_volume(grey_zyx, random.integers(0, 3, shape_zyx), PixelWeights(1.0, 1.15, 1.2), AS_IT_IS)


def drawn(n_images: int, *, turns: tuple[int, ...] = (0, 1, 2, 3), seed: int = 0) -> Draws:
    return dataset.draw_epoch(TRAIN, Augmentation(quarter_turns=turns), seed=seed, epoch=1, n_images=n_images)


def made(volume: LabelledVolume, draws: Draws, *, crop: int = 16, n_slices: int = 5) -> Images:
    return dataset.training_batch(volume, draws, crop=crop, n_slices=n_slices, normalised_range=NORMALISED_RANGE)


def made_at_once(volume: LabelledVolume, draws: Draws, *, crop: int = 16, n_slices: int = 5) -> Images:
    """As a GPU makes them, all in one piece."""
    grey, labels, region = batches._images(volume, draws, crop, n_slices, NORMALISED_RANGE)
    return grey, labels, volume.weigh(region)


def made_one_by_one(volume: LabelledVolume, draws: Draws, *, crop: int = 16, n_slices: int = 5) -> Images:
    """Slow and obvious: cut, turn and stack each image, then change the grey of all by the same operations."""
    grey, labels, weight = [], [], []
    for z, corner, turns in zip(draws.z, draws.corner, draws.n_quarter_turns, strict=True):
        top = 0 if corner < 2 else volume.grey_zyx.shape[1] - crop
        left = 0 if corner % 2 == 0 else volume.grey_zyx.shape[2] - crop
        window = slice(top, top + crop), slice(left, left + crop)
        context = slice(z - n_slices // 2, z + n_slices // 2 + 1)
        grey.append(torch.rot90(volume.grey_zyx[context][:, *window], int(turns), dims=(-2, -1)))
        labels.append(torch.rot90(volume.labels_zyx[z][window], int(turns)))
        weight.append(torch.rot90(volume.weight_zyx[z][window], int(turns)))
    return changed_one_by_one(torch.stack(grey), draws), torch.stack(labels), torch.stack(weight)


def changed_one_by_one(grey_bcyx: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Blur, contrast, brightness and noise of every image, whether its draws are zero or not."""
    grey_bcyx = blurred(grey_bcyx, per_image(draws.blur_sigma_px))
    grey_bcyx = grey_bcyx * per_image(draws.contrast) + per_image(draws.brightness * NORMALISED_RANGE)
    return grey_bcyx + per_image(draws.noise * NORMALISED_RANGE) * noise(grey_bcyx, per_image(draws.noise_key))


def per_image(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(values)[:, None, None, None]


def blurred(grey_bcyx: torch.Tensor, sigma_b: torch.Tensor) -> torch.Tensor:
    offsets = torch.arange(-3, 4)
    kernel = torch.exp(-0.5 * (offsets / sigma_b.clamp(min=1e-3)) ** 2)
    kernel = kernel / kernel.sum(-1, keepdim=True)
    for dimension, sides in ((2, (0, 0, 3, 3)), (3, (3, 3, 0, 0))):
        padded, size = functional.pad(grey_bcyx, sides, mode="replicate"), grey_bcyx.shape[dimension]
        grey_bcyx = torch.zeros_like(grey_bcyx)
        for tap in range(7):
            grey_bcyx.addcmul_(padded.narrow(dimension, tap, size), kernel[..., tap : tap + 1])
    return grey_bcyx


def noise(grey_bcyx: torch.Tensor, key_b: torch.Tensor) -> torch.Tensor:
    """The hash "lowbias32" of pixel number and key, by NumPy's unsigned numbers."""
    pixel = np.arange(grey_bcyx[0].numel(), dtype=np.uint32).reshape(grey_bcyx.shape[1:])
    bits = pixel * np.uint32(0x9E3779B9) + key_b.numpy().view(np.uint32)
    for shift, multiplier in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(multiplier)
    bits ^= bits >> np.uint32(16)
    return torch.from_numpy(bits.view(np.int32).astype(np.float32)) / 2**31


def assert_same_bytes(found: Images, expected: Images) -> None:
    for some, others in zip(found, expected, strict=True):
        assert (some.dtype, some.shape) == (others.dtype, others.shape)
        assert some.numpy().tobytes() == others.numpy().tobytes()


def rearranged(draws: Draws, order: np.ndarray) -> Draws:
    return Draws(**{field.name: getattr(draws, field.name)[order] for field in fields(draws)})


@given(
    n_images=st.integers(1, 9),
    crop=st.integers(7, 21),
    extra_yx=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    n_slices=st.sampled_from([1, 3, 5]),
    seed=st.integers(0, 2**32 - 1),
)
@example(n_images=9, crop=16, extra_yx=(0, 0), n_slices=5, seed=0)
@settings(max_examples=60)
def test_a_batch_is_what_one_image_after_the_other_gives_to_the_byte(n_images, crop, extra_yx, n_slices, seed):
    volume = specimen((9, crop + extra_yx[0], crop + extra_yx[1]))
    draws = drawn(n_images, seed=seed)
    expected = made_one_by_one(volume, draws, crop=crop, n_slices=n_slices)
    assert_same_bytes(made(volume, draws, crop=crop, n_slices=n_slices), expected)
    assert_same_bytes(made_at_once(volume, draws, crop=crop, n_slices=n_slices), expected)


def test_all_corners_and_turns_of_all_slices_are_those_of_one_image_after_the_other():
    draws, volume = drawn(len(TRAIN) * 4 * 4 * 4), specimen()
    assert set(zip(draws.z, draws.corner, draws.n_quarter_turns, strict=True)) == {
        (z, corner, turns) for z in TRAIN for corner in range(4) for turns in range(4)
    }
    expected = made_one_by_one(volume, draws)
    assert_same_bytes(made(volume, draws), expected)
    assert_same_bytes(made_at_once(volume, draws), expected)


@pytest.mark.parametrize("changed", [{"blur_sigma_px": 0.0}, {"noise": 0.0}, {"blur_sigma_px": 0.7}])
def test_batches_without_blur_without_noise_and_of_blurred_images_only(changed):
    ((name, value),) = changed.items()
    draws = replace(drawn(6), **{name: np.full(6, value, np.float32)})
    assert_same_bytes(made_at_once(specimen(), draws), made_one_by_one(specimen(), draws))


@given(st.permutations(range(12)), st.integers(1, 12))
@settings(max_examples=20)
def test_an_image_is_the_same_in_any_order_and_in_any_batch(order, n_at_once):
    volume, draws = specimen(), drawn(12)
    expected = made(volume, draws)
    found = [made(volume, part) for part in rearranged(draws, np.array(order)).batches(n_at_once)]
    together = tuple(torch.cat(images) for images in zip(*found, strict=True))
    assert_same_bytes(together, tuple(images[list(order)] for images in expected))


@given(st.integers(0, 40), st.integers(1, 9))
def test_the_shares_of_all_processes_are_the_batch(n_images, n_ranks):
    draws = drawn(n_images)
    shares = [draws.share(rank, n_ranks) for rank in range(n_ranks)]
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    for field in fields(draws):
        joined = np.concatenate([getattr(share, field.name) for share in shares])
        np.testing.assert_array_equal(joined, getattr(draws, field.name))


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_processes_make_the_images_of_one_process_and_so_does_a_restart(n_ranks):
    volume, draws = specimen(), drawn(7)
    parts = [made(volume, drawn(7).share(rank, n_ranks)) for rank in range(n_ranks)]
    assert_same_bytes(tuple(torch.cat(images) for images in zip(*parts, strict=True)), made(volume, draws))


@pytest.mark.parametrize(("rank", "n_ranks"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_that_does_not_exist_is_refused(rank, n_ranks):
    with pytest.raises(ValueError, match=f"rank .* {n_ranks} processes.*got {rank}"):
        drawn(4).share(rank, n_ranks)


def test_a_batch_is_made_without_a_look_at_a_value_on_the_device():
    """Tensors on "meta" have shapes and no values: whatever would wait for a GPU to tell one fails there."""
    grey, labels, weight = made(specimen().to("meta"), drawn(8))
    assert {images.device.type for images in (grey, labels, weight)} == {"meta"}
    assert (grey.shape, labels.shape, weight.shape) == ((8, 5, 16, 16), (8, 16, 16), (8, 16, 16))
    assert (grey.dtype, labels.dtype, weight.dtype) == (torch.float32, torch.uint8, torch.float32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_makes_the_images_of_the_processor_without_waiting():
    volume, draws = specimen(), drawn(12)
    on_gpu = volume.to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = made(on_gpu, draws)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    grey, labels, weight = made(volume, draws)
    torch.testing.assert_close(found[0].cpu(), grey, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[1].cpu(), labels)
    assert torch.equal(found[2].cpu(), weight)


def test_a_volume_keeps_its_tensors_where_they_are_and_weighs_any_part():
    volume = specimen()
    again = volume.to("cpu")
    assert all(getattr(again, field.name) is getattr(volume, field.name) for field in fields(volume))
    expected = weight_map(volume.labels_zyx.numpy(), PixelWeights(1.0, 1.15, 1.2))
    np.testing.assert_array_equal(volume.weight_zyx.numpy(), expected)
    part = np.index_exp[2:5, 3:, ::2]
    np.testing.assert_array_equal(volume.weigh(volume.region_zyx[part]).numpy(), expected[part])


def test_images_that_reach_beyond_the_volume_are_refused():
    volume = specimen()
    for z, needed in ((1, "-1 to 3"), (7, "5 to 9")):
        with pytest.raises(ValueError, match=f"need the slices {needed}, found 0 to 8"):
            made(volume, replace(drawn(1), z=np.array([z])))
    with pytest.raises(ValueError, match=r"22 pixels do not fit slices of \(21, 26\)"):
        made(volume, drawn(2), crop=22)
    with pytest.raises(ValueError, match="at least one image, found none"):
        made(volume, drawn(0))
