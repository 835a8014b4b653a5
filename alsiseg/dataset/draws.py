"""What is random about the images of an epoch: drawn before anything is done."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

N_CORNERS = 4


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
        """Count the images of an epoch: slices x corners x rotations x grey changes.

        The published 28,560 are 595 slices x 4 x 3 x 4.
        """
        return n_slices * N_CORNERS * len(self.quarter_turns) * self.n_grey_changes


@dataclass(frozen=True)
class Draws:
    """Everything random about a sequence of images, one entry per image.

    Attributes
    ----------
    view : int64
        Number of the view that the image is cut from (see `views`), 0 where there is one only.
    z, corner, n_quarter_turns : int64
        Slice along the view, corner of the crop (0 to 3: top left, top right, bottom left, bottom right), rotation.
    contrast, brightness, blur_sigma_px, noise : float32
        See `Augmentation`; brightness and noise in parts of the grey range, 0 where an image has none.
    noise_key : int32
        Key of the image's random bits: its noise, and the dropout of the network that sees it.
    """

    view: NDArray[np.int64]
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
            yield self.picked(slice(start, start + n_images))

    def share(self, rank: int, n_ranks: int) -> "Draws":
        """Take the part of one of `n_ranks` processes: contiguous, in order, of equal sizes as far as they divide.

        Raises
        ------
        ValueError
            When there is no such rank.
        """
        if not 0 <= rank < n_ranks:
            raise ValueError(f"the rank must be from 0 to one below the {n_ranks} processes, got {rank}; give another")
        return self.picked(slice(len(self) * rank // n_ranks, len(self) * (rank + 1) // n_ranks))

    def picked(self, which: slice | NDArray[np.int64]) -> "Draws":
        """Take some of the images: a slice, or their numbers in the order wanted."""
        return Draws(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


def draw_epoch(
    train: range, augmentation: Augmentation, *, seed: int, epoch: int, n_images: int | None = None, stream: int = 0
) -> Draws:
    """Draw the images of one epoch in random order.

    Image i of the full count is slice, corner, rotation and grey change in nested order, so that every
    combination occurs once. With `n_images` only the first so many of the random order are used. Another
    `stream` (below 2**32) of the same seed and epoch is drawn independently.
    """
    total = augmentation.n_images(len(train))
    random = np.random.Generator(np.random.Philox(key=[seed, epoch + (stream << 32)]))
    order = random.permutation(total)
    grey = random.random((6, total), dtype=np.float32)
    noise_key = random.integers(-(2**31), 2**31, total, dtype=np.int32)
    order = order[:n_images]
    turns, per_slice = np.array(augmentation.quarter_turns), augmentation.n_images(1)
    symmetric, (blurred, noisy) = 2 * grey[:2, order] - 1, grey[2:4, order] < augmentation.probability
    return Draws(
        view=np.zeros(len(order), np.int64),
        z=np.array(train)[order // per_slice],
        corner=order // (len(turns) * augmentation.n_grey_changes) % N_CORNERS,
        n_quarter_turns=turns[order // augmentation.n_grey_changes % len(turns)],
        contrast=1 + augmentation.contrast * symmetric[0],
        brightness=augmentation.brightness * symmetric[1],
        blur_sigma_px=augmentation.blur_sigma_px * grey[4, order] * blurred,
        noise=augmentation.noise * grey[5, order] * noisy,
        noise_key=noise_key[order],
    )


def draw_from_views(
    trains: Sequence[range], augmentation: Augmentation, *, seed: int, epoch: int, n_images: int
) -> Draws:
    """Draw the images of one epoch from several views in turn: the same number from each, whatever their sizes.

    The views take turns from image to image, and from one epoch to the next. A view shows every combination of
    slice, corner, rotation and grey change once before it shows one again, with grey changes drawn anew.

    Parameters
    ----------
    trains
        The slices to draw from, of every view.
    """
    n_views = len(trains)
    view = (np.arange(n_images) + (epoch - 1) * n_images) % n_views
    found = []
    for number, train in enumerate(trains):
        n_wanted, n_whole = int(np.count_nonzero(view == number)), augmentation.n_images(len(train))
        for n_before in range(0, n_wanted, n_whole):  # every round over a view has random numbers of its own
            stream = n_before // n_whole * n_views + number
            part = draw_epoch(train, augmentation, seed=seed, epoch=epoch, n_images=n_wanted - n_before, stream=stream)
            found.append(replace(part, view=np.full(len(part), number)))
    place = np.argsort(view, kind="stable")  # where the images go that were found view after view
    return _joined(found).picked(np.argsort(place))


def _joined(parts: Sequence[Draws]) -> Draws:
    return Draws(
        **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Draws)}
    )
