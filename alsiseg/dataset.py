"""From one labelled volume to the images of an epoch (paper, "Data augmentation and data splitting").

What is random is drawn first (`draw_epoch`), for all images of an epoch at once and from a
counter-based generator, and applied afterwards (`training_batch`): image i of epoch e is the same
whatever the batch size, the device or a restart.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from alsiseg.phases import check_labels
from alsiseg.volumes import Volume
from alsiseg.weightmaps import PixelWeights, weight_map

N_CORNERS = 4
BLUR_RADIUS_PX = 3  # three standard deviations of the widest published blur


@dataclass(frozen=True)
class Split:
    """The slices for training and for test, zero-based and half-open.

    The published split of 1000 slices is ``Split(train=range(403, 998), test=range(0, 300))``: with two
    context slices on each side, training touches slices 402-1000 (one-based) and 301-401 stay unused.
    """

    train: range
    test: range


SMALLEST_SPLIT = 30


def split(n_slices: int, *, n_context: int = 2) -> Split:
    """Divide a volume as the paper does: first 30 % test, a gap of 10 %, the rest for training.

    1000 slices give exactly the published numbers; others are divided in the same proportion.

    Raises
    ------
    ValueError
        With fewer than 30 slices, where no gap would be left between test and training.
    """
    if n_slices < SMALLEST_SPLIT:
        raise ValueError(
            f"the split into test, gap and training needs at least {SMALLEST_SPLIT} slices, found {n_slices}; "
            "give a taller volume"
        )
    return Split(train=range(n_slices * 403 // 1000, n_slices - n_context), test=range(0, n_slices * 3 // 10))


@dataclass(frozen=True)
class GreyScale:
    """Robust grey statistics of one volume: mean, spread and range without the extreme per cent."""

    mean: float
    spread: float
    range: float

    def normalise(self, grey: NDArray) -> NDArray[np.float32]:
        """Shift and scale grey values to mean 0 and spread 1."""
        return ((grey.astype(np.float32) - self.mean) / self.spread).astype(np.float32)

    @property
    def normalised_range(self) -> float:
        """Grey range in units of the spread: what brightness and noise are fractions of."""
        return self.range / self.spread


def grey_scale(grey_zyx: NDArray | Volume, *, n_slices: int = 32) -> GreyScale:
    """Measure a volume's own grey scale on at most `n_slices` evenly spread slices.

    Values beyond the 0.5 and 99.5 percentiles are clipped first, so that rings and hot pixels do not count.

    Raises
    ------
    ValueError
        When the volume has one grey value only.
    """
    z = np.unique(np.linspace(0, grey_zyx.shape[0] - 1, n_slices).round().astype(int))
    sample = np.stack([np.asarray(grey_zyx[int(i)]) for i in z]).astype(np.float32)
    low, high = np.percentile(sample, [0.5, 99.5])
    if not high > low:
        raise ValueError(f"needs a grey volume with contrast, found the value {low:g} almost everywhere")
    clipped = sample.clip(low, high)
    return GreyScale(float(clipped.mean()), float(clipped.std()), float(high - low))


@dataclass(frozen=True)
class LabelledVolume:
    """Grey, labels and weights of one specimen as tensors in memory.

    Attributes
    ----------
    grey_zyx : float32 tensor
        Normalised grey.
    labels_zyx : uint8 tensor
    weight_zyx : float32 tensor
        Pixel weights, made on whole slices: a crop border changes none.
    """

    grey_zyx: Tensor
    labels_zyx: Tensor
    weight_zyx: Tensor


def check_pair(grey_zyx: NDArray | Volume, labels_zyx: NDArray | Volume) -> None:
    """Refuse labels of another shape than the scan, and what is no volume; reads no voxel."""
    if grey_zyx.shape != labels_zyx.shape:
        raise ValueError(
            f"grey and labels must have the same shape (z, y, x), got {tuple(grey_zyx.shape)} and "
            f"{tuple(labels_zyx.shape)}; give the labels of this scan"
        )
    if len(grey_zyx.shape) != 3:
        raise ValueError(f"needs volumes with three axes (z, y, x), got the shape {tuple(grey_zyx.shape)}")


def labelled_volume(
    grey_zyx: NDArray, labels_zyx: NDArray[np.uint8], weights: PixelWeights, scale: GreyScale
) -> LabelledVolume:
    """Check that grey and labels belong together and bring them, with their weights, into tensors."""
    check_pair(grey_zyx, labels_zyx)
    labels_zyx = np.asarray(labels_zyx)
    check_labels(labels_zyx)
    labels_zyx = labels_zyx.astype(np.uint8)
    return LabelledVolume(
        grey_zyx=torch.from_numpy(scale.normalise(np.asarray(grey_zyx))),
        labels_zyx=torch.from_numpy(labels_zyx),
        weight_zyx=torch.from_numpy(weight_map(labels_zyx, weights)),
    )


@dataclass(frozen=True)
class Augmentation:
    """What is done to each training slice; the counts are the published ones.

    The ranges of the grey changes are lost in the paper's text; ours are fractions of the volume's grey range.

    Attributes
    ----------
    quarter_turns : tuple of int
        Rotations by 0, 90 and 270 degrees.
    n_grey_changes : int
        Random brightness and contrast per crop.
    contrast, brightness, noise : float
        Contrast factor within 1 +- `contrast`; brightness within +- `brightness` and noise values within
        +- (0 to `noise`), both in parts of the grey range.
    blur_sigma_px : float
        Gaussian blur of 0 to this many pixels.
    probability : float
        Share of the images that are blurred, and, apart from it, given noise.
    """

    quarter_turns: tuple[int, ...] = (0, 1, 3)
    n_grey_changes: int = 4
    contrast: float = 0.2
    brightness: float = 0.1
    noise: float = 0.05
    blur_sigma_px: float = 1.0
    probability: float = 0.5

    def n_images(self, n_slices: int) -> int:
        """Count the images of an epoch: slices x corners x rotations x grey changes."""
        return n_slices * N_CORNERS * len(self.quarter_turns) * self.n_grey_changes


@dataclass(frozen=True)
class Draws:
    """Everything random about a sequence of images, one entry per image."""

    z: NDArray[np.int64]
    corner: NDArray[np.int64]
    n_quarter_turns: NDArray[np.int64]
    contrast: NDArray[np.float32]
    brightness: NDArray[np.float32]
    blur_sigma_px: NDArray[np.float32]
    noise: NDArray[np.float32]
    noise_key: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.z)

    def batches(self, n_images: int) -> Iterator["Draws"]:
        """Cut the sequence into batches; the last one may be smaller (no image is lost)."""
        for start in range(0, len(self), n_images):
            part = slice(start, start + n_images)
            yield Draws(**{name: values[part] for name, values in vars(self).items()})


def draw_epoch(
    train: range, augmentation: Augmentation, *, seed: int, epoch: int, n_images: int | None = None
) -> Draws:
    """Draw the images of one epoch in random order.

    Image i of the full count is slice, corner, rotation and grey change in nested order, so that every
    combination occurs once. With `n_images` only the first so many of the random order are used.
    """
    total = augmentation.n_images(len(train))
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = random.permutation(total)
    grey = random.random((6, total), dtype=np.float32)
    noise_key = random.integers(-(2**31), 2**31, total, dtype=np.int32)
    order = order[:n_images]
    turns, per_slice = np.array(augmentation.quarter_turns), augmentation.n_images(1)
    symmetric, (blurred, noisy) = 2 * grey[:2, order] - 1, grey[2:4, order] < augmentation.probability
    return Draws(
        z=np.array(train)[order // per_slice],
        corner=order // (len(turns) * augmentation.n_grey_changes) % N_CORNERS,
        n_quarter_turns=turns[order // augmentation.n_grey_changes % len(turns)],
        contrast=1 + augmentation.contrast * symmetric[0],
        brightness=augmentation.brightness * symmetric[1],
        blur_sigma_px=augmentation.blur_sigma_px * grey[4, order] * blurred,
        noise=augmentation.noise * grey[5, order] * noisy,
        noise_key=noise_key[order],
    )


def training_batch(
    volume: LabelledVolume, draws: Draws, *, crop: int, n_slices: int, normalised_range: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut and change the drawn images.

    Returns
    -------
    grey_bcyx : float32 (B, n_slices, crop, crop)
    labels_byx : uint8 (B, crop, crop)
    weight_byx : float32 (B, crop, crop)
        Grey, labels and weights are cropped and turned together; only grey is changed in value.
    """
    grey: list[Tensor] = []
    labels: list[Tensor] = []
    weight: list[Tensor] = []
    for z, corner, turns in zip(draws.z, draws.corner, draws.n_quarter_turns, strict=True):
        rows, columns = _corner_window(volume.grey_zyx.shape, int(corner), crop)
        context = slice(int(z) - n_slices // 2, int(z) + n_slices // 2 + 1)
        for images, image in (
            (grey, volume.grey_zyx[context, rows, columns]),
            (labels, volume.labels_zyx[int(z), rows, columns]),
            (weight, volume.weight_zyx[int(z), rows, columns]),
        ):
            images.append(torch.rot90(image, int(turns), dims=(-2, -1)))
    grey_bcyx = change_grey(torch.stack(grey), draws, normalised_range)
    return grey_bcyx, torch.stack(labels), torch.stack(weight)


def _corner_window(shape_zyx: torch.Size, corner: int, crop: int) -> tuple[slice, slice]:
    """Rows and columns of the crop in one of the four corners of a slice."""
    top = 0 if corner < 2 else shape_zyx[1] - crop
    left = 0 if corner % 2 == 0 else shape_zyx[2] - crop
    return slice(top, top + crop), slice(left, left + crop)


def change_grey(grey_bcyx: Tensor, draws: Draws, normalised_range: float) -> Tensor:
    """Apply the drawn blur, contrast, brightness and noise to a batch of normalised grey images."""

    def per_image(values: NDArray) -> Tensor:
        return torch.as_tensor(values, device=grey_bcyx.device)[:, None, None, None]

    grey_bcyx = _blur(grey_bcyx, per_image(draws.blur_sigma_px))
    grey_bcyx = grey_bcyx * per_image(draws.contrast) + per_image(draws.brightness * normalised_range)
    amplitude = per_image(draws.noise * normalised_range)
    return grey_bcyx + amplitude * _noise(grey_bcyx, per_image(draws.noise_key))


def _blur(grey_bcyx: Tensor, sigma_b: Tensor) -> Tensor:
    """Blur each image by its own Gaussian, rows then columns; sigma 0 leaves it as it is."""
    offsets = torch.arange(-BLUR_RADIUS_PX, BLUR_RADIUS_PX + 1, device=grey_bcyx.device)
    kernel = torch.exp(-0.5 * (offsets / sigma_b.clamp(min=1e-3)) ** 2)
    kernel = (kernel / kernel.sum(-1, keepdim=True)).to(grey_bcyx.dtype)
    for dimension, sides in ((2, (0, 0, BLUR_RADIUS_PX, BLUR_RADIUS_PX)), (3, (BLUR_RADIUS_PX, BLUR_RADIUS_PX, 0, 0))):
        padded = functional.pad(grey_bcyx, sides, mode="replicate")
        size = grey_bcyx.shape[dimension]
        grey_bcyx = torch.zeros_like(grey_bcyx)
        for tap in range(len(offsets)):
            grey_bcyx.addcmul_(padded.narrow(dimension, tap, size), kernel[..., tap : tap + 1])
    return grey_bcyx


def _noise(grey_bcyx: Tensor, key_b: Tensor) -> Tensor:
    """Uniform noise in -1..1 from a hash of pixel number and image key: the same on every device.

    The hash is "lowbias32" (C. Wellons, 2018) in wrapping 32-bit arithmetic; `&` turns the arithmetic shift of
    torch into the logical one that the hash wants.
    """
    pixel = torch.arange(grey_bcyx[0].numel(), dtype=torch.int32, device=grey_bcyx.device)
    bits = pixel.reshape(grey_bcyx.shape[1:]) * -0x61C88647 + key_b
    for shift, multiplier in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        bits = (bits ^ ((bits >> shift) & (2 ** (32 - shift) - 1))) * multiplier
    bits = bits ^ ((bits >> 16) & 0xFFFF)
    return bits.to(grey_bcyx.dtype) / 2**31


def centre_window(shape_yx: tuple[int, ...], crop: int) -> tuple[slice, slice]:
    """Rows and columns of the central section that is tested (256 x 256 in the paper)."""
    top, left = ((size - crop) // 2 for size in shape_yx)
    return slice(top, top + crop), slice(left, left + crop)


def test_section(volume_zyx: NDArray | Volume, crop_px: int) -> NDArray:
    """Cut the section that is tested: the centre of the first slices (256 x 256 x 300 in the paper)."""
    rows, columns = centre_window(tuple(volume_zyx.shape[1:]), crop_px)
    test = split(volume_zyx.shape[0]).test
    return np.asarray(volume_zyx[test.start : test.stop, rows, columns])


def context_slices(z: int, n_total: int, n_slices: int) -> NDArray[np.int64]:
    """Numbers of the `n_slices` slices around `z`; beyond the ends the outermost slice is repeated."""
    return np.arange(z - n_slices // 2, z + n_slices // 2 + 1).clip(0, n_total - 1)
