"""The drawn images, cut and changed: whole batches at once, where the specimen is.

Nothing here waits for a device. What decides which operations run comes from the draws, which the host holds.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from alsiseg import hashing
from alsiseg.dataset.draws import Draws
from alsiseg.dataset.specimen import LabelledVolume

BLUR_RADIUS_PX = 3  # three standard deviations of the widest published blur


def training_batch(
    volume: LabelledVolume, draws: Draws, *, crop: int, n_slices: int, normalised_range: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut and change the drawn images, on the device of the volume.

    Returns
    -------
    grey_bcyx : float32 (B, n_slices, crop, crop)
    labels_byx : uint8 (B, crop, crop)
    weight_byx : float32 (B, crop, crop)
        Grey, labels and weights are cropped and turned together; only grey is changed in value.

    Raises
    ------
    ValueError
        When an image reaches beyond the volume, or there is none.
    """
    _check_reach(volume, draws, crop, n_slices)
    batch = _empty_batch(volume, len(draws), crop, n_slices)
    # A processor makes one image after the other, which its cache holds; other devices make all at once.
    n_at_once = 1 if volume.device.type == "cpu" else len(draws)
    for part, *into in zip(draws.batches(n_at_once), *(images.split(n_at_once) for images in batch), strict=True):
        for images, made in zip(into, _images(volume, part, crop, n_slices, normalised_range), strict=True):
            images.copy_(made)
    grey_bcyx, labels_byx, region_byx = batch
    return grey_bcyx, labels_byx, volume.weigh(region_byx)


def change_grey(grey_bcyx: Tensor, draws: Draws, normalised_range: float) -> Tensor:
    """Apply the drawn blur, contrast, brightness and noise to a batch of normalised grey images."""
    return _change(grey_bcyx, draws, _send(draws, normalised_range, grey_bcyx.device))


def _check_reach(volume: LabelledVolume, draws: Draws, crop: int, n_slices: int) -> None:
    """Refuse what is not in the volume: on a device, an index beyond it would be found too late."""
    n_z, *shape_yx = volume.grey_zyx.shape
    if len(draws) == 0:
        raise ValueError("a batch needs at least one image, found none; use larger batches or fewer processes")
    if crop > min(shape_yx):
        raise ValueError(f"crops of {crop} pixels do not fit slices of {tuple(shape_yx)}; take smaller crops")
    low, high = draws.z.min() - n_slices // 2, draws.z.max() + n_slices // 2
    if low < 0 or high >= n_z:
        raise ValueError(
            f"the images drawn need the slices {low} to {high}, found 0 to {n_z - 1}; "
            f"draw slices that have {n_slices // 2} more on each side"
        )


def _empty_batch(volume: LabelledVolume, n_images: int, crop: int, n_slices: int) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for a batch in one piece; keeping the images and joining them at the end took a quarter longer."""
    size = (n_images, crop, crop)
    grey_bcyx = volume.grey_zyx.new_empty(n_images, n_slices, crop, crop)
    return grey_bcyx, volume.labels_zyx.new_empty(size), volume.region_zyx.new_empty(size)


def _images(
    volume: LabelledVolume, draws: Draws, crop: int, n_slices: int, normalised_range: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Make images at once: grey, labels and weight regions."""
    sent = _send(draws, normalised_range, volume.device)
    grey_zcyx = volume.grey_zyx.unfold(0, n_slices, 1).movedim(-1, 1)  # every window of slices, as a view
    first_z = sent.z - n_slices // 2
    grey_bcyx = _turn(_corner_crops(grey_zcyx, first_z, sent.corner, crop), draws, sent)
    labels_byx, region_byx = (
        _turn(_corner_crops(volume_zyx, sent.z, sent.corner, crop), draws, sent)
        for volume_zyx in (volume.labels_zyx, volume.region_zyx)
    )
    return _change(grey_bcyx, draws, sent), labels_byx, region_byx


@dataclass(frozen=True)
class _Sent:
    """The draws of a batch on a device, one entry per image; `blurred_first` numbers the images in that order."""

    z: Tensor
    corner: Tensor
    n_quarter_turns: Tensor
    blurred_first: Tensor
    noise_key: Tensor
    contrast: Tensor
    brightness: Tensor
    blur_sigma_px: Tensor
    noise: Tensor


def _send(draws: Draws, normalised_range: float, device: torch.device) -> _Sent:
    """Bring the draws to a device, in one small transfer."""
    whole = (draws.z, draws.corner, draws.n_quarter_turns, np.argsort(draws.blur_sigma_px == 0), draws.noise_key)
    real = (draws.contrast, draws.brightness * normalised_range, draws.blur_sigma_px, draws.noise * normalised_range)
    rows = [values.astype(np.int32) for values in whole] + [values.astype(np.float32).view(np.int32) for values in real]
    sent = torch.from_numpy(np.stack(rows)).to(device, non_blocking=device.type == "cuda")
    index, key, change = sent.tensor_split((len(whole) - 1, len(whole)))
    return _Sent(*index.long(), *key, *change.view(torch.float32))


def _corner_crops(volume: Tensor, z_b: Tensor, corner_b: Tensor, crop: int) -> Tensor:
    """Cut the crop in one of the four corners for each image: (B, ..., crop, crop) from (Z, ..., Y, X)."""
    rest_y, rest_x = (size - crop for size in volume.shape[-2:])
    # Two windows along each axis, as views; where a crop fills the slice, one.
    windows = volume.unfold(-2, crop, max(rest_y, 1)).unfold(-2, crop, max(rest_x, 1))
    return windows[z_b, ..., corner_b // 2 * min(rest_y, 1), corner_b % 2 * min(rest_x, 1), :, :]


def _turn(images: Tensor, draws: Draws, sent: _Sent) -> Tensor:
    """Turn each image (..., Y, X) by its own quarter turns."""
    all_turns = set(draws.n_quarter_turns.tolist())
    if len(all_turns) == 1:
        return torch.rot90(images, all_turns.pop(), dims=(-2, -1)).contiguous()
    turns_b = sent.n_quarter_turns.reshape(-1, *[1] * (images.ndim - 1))
    for turns in all_turns - {0}:
        images = torch.where(turns_b == turns, torch.rot90(images, turns, dims=(-2, -1)), images)
    return images


def _change(grey_bcyx: Tensor, draws: Draws, sent: _Sent) -> Tensor:
    """Blur, then change contrast and brightness, then add noise; blur and noise only where drawn."""
    n_blurred = np.count_nonzero(draws.blur_sigma_px)
    if n_blurred == len(draws):
        grey_bcyx = _blur(grey_bcyx, _per_image(sent.blur_sigma_px))
    elif n_blurred:
        some = sent.blurred_first[:n_blurred]
        grey_bcyx = grey_bcyx.index_copy(0, some, _blur(grey_bcyx[some], _per_image(sent.blur_sigma_px[some])))
    grey_bcyx = (grey_bcyx * _per_image(sent.contrast)).add_(_per_image(sent.brightness))
    if draws.noise.any():
        grey_bcyx.add_(_noise(grey_bcyx, sent.noise_key).mul_(_per_image(sent.noise)))
    return grey_bcyx


def _per_image(values_b: Tensor) -> Tensor:
    return values_b[:, None, None, None]


def _blur(grey_bcyx: Tensor, sigma_b: Tensor) -> Tensor:
    """Blur each image by its own Gaussian, rows then columns."""
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
    """Uniform noise in -1..1 from a hash of pixel number and image key: the same on every device."""
    pixel = torch.arange(grey_bcyx[0].numel(), dtype=torch.int32, device=grey_bcyx.device)
    bits = hashing.random_int32(pixel.reshape(grey_bcyx.shape[1:]), _per_image(key_b))
    return bits.to(grey_bcyx.dtype).div_(2**31)
