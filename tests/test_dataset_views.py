"""Several specimens and directions that train together: each image is what its own view gives."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from alsiseg import dataset
from alsiseg.dataset import Augmentation, Draws, GreyScale, View
from alsiseg.weightmaps import PixelWeights, weight_map

AS_IT_IS = GreyScale(mean=0.0, spread=1.0, range=1.0)
WEIGHTS = PixelWeights(1.0, 1.25, 1.5)
UNCHANGED = Augmentation(contrast=0.0, brightness=0.0, probability=0.0, quarter_turns=(0,), n_grey_changes=1)
SHAPE_ZYX, TRAIN = (30, 21, 24), range(9, 28)


def view_of(seed: int = 0, specimen: int = 1, normalised_range: float = 4.7) -> View:
    random = np.random.default_rng(seed)
    labels_zyx = random.integers(0, 3, SHAPE_ZYX).astype(np.uint8)
    volume = dataset.labelled_volume(random.normal(size=SHAPE_ZYX), labels_zyx, WEIGHTS, AS_IT_IS)
    return View(volume, TRAIN, normalised_range, specimen=specimen)


def all_views() -> list[View]:
    """Two specimens of different grey ranges, each along its three axes."""
    along_z = [view_of(0), view_of(1, 2, normalised_range=2.0)]
    return [view for one in along_z for view in (one, *(dataset.seen_along(axis, one, n_slices=5) for axis in "yx"))]


def drawn(views: list[View], *, n_images: int, augmentation: Augmentation | None = None, epoch: int = 1) -> Draws:
    trains = [view.train for view in views]
    return dataset.draw_from_views(trains, augmentation or Augmentation(), seed=3, epoch=epoch, n_images=n_images)


def made(views: list[View], draws: Draws) -> tuple[torch.Tensor, ...]:
    return dataset.batch_from_views(views, draws, crop=16, n_slices=5)


def same(first: Draws, second: Draws) -> bool:
    return all(np.array_equal(getattr(first, f.name), getattr(second, f.name)) for f in fields(Draws))


def test_one_view_alone_is_drawn_and_cut_as_ever():
    view, draws = view_of(), drawn([view_of()], n_images=12)
    assert same(draws, dataset.draw_epoch(TRAIN, Augmentation(), seed=3, epoch=1, n_images=12))
    expected = dataset.training_batch(view.volume, draws, crop=16, n_slices=5, normalised_range=4.7)
    assert all(torch.equal(*pair) for pair in zip(made([view], draws), expected, strict=True))


@pytest.mark.parametrize("n_images", [6, 20, 121])
def test_every_view_gives_as_many_images_and_the_turn_goes_on_in_the_next_epoch(n_images):
    views = all_views()
    epochs = [drawn(views, n_images=n_images, epoch=epoch).view for epoch in range(1, 7)]
    assert all(len(view) == n_images and np.ptp(np.bincount(view, minlength=6)) <= 1 for view in epochs)
    assert np.concatenate(epochs).tolist() == [i % 6 for i in range(6 * n_images)]


def test_a_small_view_shows_everything_once_before_it_shows_anything_again():
    trains, once = [range(2, 4), range(2, 50)], Augmentation(n_grey_changes=2)
    draws = dataset.draw_from_views(trains, once, seed=0, epoch=1, n_images=200)  # 100 each, of 48 combinations here
    small = draws.picked(np.flatnonzero(draws.view == 0))
    combinations = list(zip(small.z, small.corner, small.n_quarter_turns, strict=True))
    for shown in (combinations[:48], combinations[48:96]):
        assert all(shown.count(one) == 2 for one in shown)  # with two changes of grey
    assert len(set(small.noise_key.tolist())) == 100  # and never the same change of grey


def test_views_are_drawn_independently():
    draws = drawn(all_views(), n_images=60)
    first, second = (draws.picked(np.flatnonzero(draws.view == view)) for view in (0, 3))  # of the same slices
    assert not same(replace(first, view=second.view), second)
    assert not np.array_equal(first.z, second.z)


def test_a_window_along_y_or_x_is_the_stack_turned():
    along_z, views = view_of(), all_views()[:3]
    draws = drawn(views, n_images=90, augmentation=UNCHANGED)
    grey_bcyx, labels_byx, weight_byx = made(views, draws)
    grey_zyx, labels_zyx = (v[TRAIN.start : TRAIN.stop] for v in (along_z.volume.grey_zyx, along_z.volume.labels_zyx))
    for axis, number in ((1, 1), (2, 2)):
        for image in np.flatnonzero((draws.view == number) & (draws.corner == 0)):
            n = int(draws.z[image])
            planes = [grey_zyx.select(axis, k)[:16, :16] for k in range(n - 2, n + 3)]
            assert torch.equal(grey_bcyx[image], torch.stack(planes))
            labels_yx = labels_zyx.select(axis, n)
            assert torch.equal(labels_byx[image], labels_yx[:16, :16])
            weight_yx = torch.from_numpy(weight_map(labels_yx.numpy(), WEIGHTS))
            assert torch.equal(weight_byx[image], weight_yx[:16, :16])


def test_no_window_sees_anything_but_the_training_part_of_its_own_volume():
    views = []
    for number in (1, 2):
        one = view_of(number, number)
        one.volume.grey_zyx[:] = number  # one grey value each
        one.volume.grey_zyx[: TRAIN.start - 2] = torch.nan  # test and gap
        views += [one, *(dataset.seen_along(axis, one, n_slices=5) for axis in "yx")]
    draws = drawn(views, n_images=360, augmentation=replace(UNCHANGED, n_grey_changes=4))
    grey_bcyx, _, _ = made(views, draws)
    expected = torch.tensor([views[number].specimen for number in draws.view], dtype=torch.float32)
    assert torch.equal(grey_bcyx, expected[:, None, None, None].expand_as(grey_bcyx))
    assert {view.train.stop for view in views} == {28, 19, 22}


def test_an_image_is_the_same_whatever_the_batch_and_the_process():
    views = all_views()
    draws = drawn(views, n_images=50)
    whole = made(views, draws)
    for cut in (draws.batches(7), [draws.share(rank, 3) for rank in range(3)]):
        parts = zip(*(made(views, part) for part in cut), strict=True)
        assert all(torch.equal(torch.cat(part), image) for part, image in zip(parts, whole, strict=True))


def test_grey_changes_are_shares_of_the_specimens_own_range():
    views = all_views()
    brighter = Augmentation(contrast=0.0, brightness=0.1, probability=0.0, quarter_turns=(0,))
    draws = drawn(views, n_images=60, augmentation=brighter)
    plain = replace(draws, brightness=np.zeros_like(draws.brightness))
    step_b = (made(views, draws)[0] - made(views, plain)[0]).mean(dim=(1, 2, 3)).numpy()
    ranges_b = np.array([views[number].normalised_range for number in draws.view])
    np.testing.assert_allclose(step_b, draws.brightness * ranges_b, atol=1e-5)


@pytest.mark.parametrize(
    ("number", "name"), [(0, "8"), (2, "8 along x"), (3, "8 of volume 2"), (4, "8 along y of volume 2")]
)
def test_a_slice_is_named_so_that_it_can_be_found(number, name):
    assert all_views()[number].name(7) == name
