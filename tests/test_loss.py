import numpy as np
import pytest
import torch
from torch.nn import functional

from alsiseg import loss
from alsiseg.loss import LossConfig


def example(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(4, 3, 6, 7, generator=generator)
    labels = torch.randint(0, 3, (4, 6, 7), generator=generator, dtype=torch.uint8)
    weight = 1 + torch.rand(4, 6, 7, generator=generator)
    return logits, labels, weight


def by_hand(logits: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> float:
    """Pixel by pixel, as the paper writes it."""
    images = []
    for image in range(len(logits)):
        total = 0.0
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                scores = logits[image, :, y, x].astype(np.float64)
                probability = np.exp(scores[labels[image, y, x]]) / np.exp(scores).sum()
                total -= weight[image, y, x] * np.log(probability)
        images.append(total)
    return float(np.mean(images))


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_summed_over_an_image_and_averaged_over_the_batch(seed):
    logits, labels, weight = example(seed)
    expected = by_hand(logits.numpy(), labels.numpy(), weight.numpy())
    assert loss.weighted_nll(logits, labels, weight).item() == pytest.approx(expected, rel=1e-5)


def test_weights_of_one_give_the_cross_entropy():
    logits, labels, weight = example()
    expected = functional.cross_entropy(logits, labels.long(), reduction="sum") / len(logits)
    torch.testing.assert_close(loss.weighted_nll(logits, labels, torch.ones_like(weight)), expected)


def test_twice_the_weight_is_twice_the_loss_and_pulls_twice_as_hard():
    logits, labels, weight = example()
    logits.requires_grad_()
    (once,) = torch.autograd.grad(loss.weighted_nll(logits, labels, weight), logits)
    (twice,) = torch.autograd.grad(loss.weighted_nll(logits, labels, 2 * weight), logits)
    torch.testing.assert_close(twice, 2 * once)


def test_a_pixel_without_weight_pulls_nowhere():
    logits, labels, weight = example()
    logits.requires_grad_()
    weight[:, 2, 3] = 0
    loss.weighted_nll(logits, labels, weight).backward()
    assert not logits.grad[:, :, 2, 3].any()
    assert logits.grad[:, :, 2, 4].any()


def test_an_undecided_network_loses_log_three_per_pixel():
    _, labels, weight = example()
    undecided = loss.weighted_nll(torch.zeros(4, 3, 6, 7), labels, torch.ones_like(weight))
    assert loss.per_pixel(undecided, labels).item() == pytest.approx(np.log(3))


def test_extreme_scores_and_half_precision_stay_finite():
    logits, labels, weight = example()
    assert torch.isfinite(loss.weighted_nll(1e4 * logits, labels, weight))
    half = loss.weighted_nll(logits.bfloat16(), labels, weight)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss.weighted_nll(logits.bfloat16().float(), labels, weight))


def test_without_options_the_loss_is_that_of_the_paper_to_the_bit():
    logits, labels, weight = example()
    logits.requires_grad_()
    paper, total = loss.weighted_nll(logits, labels, weight), loss.total(logits, labels, weight, LossConfig())
    assert torch.equal(total, paper)
    assert torch.equal(*(torch.autograd.grad(value, logits)[0] for value in (total, paper)))
    assert torch.equal(loss.total(logits, labels, weight, LossConfig(), torch.tensor([9.0, 9.0, 9.0])), paper)


def test_class_weights_make_all_phases_count_alike_and_a_voxel_one_on_the_mean():
    labels = torch.tensor([0] * 12 + [1] * 4 + [2] * 2, dtype=torch.uint8).reshape(2, 3, 3)
    weight_c = loss.class_weights(labels)
    assert weight_c.dtype == torch.float32
    torch.testing.assert_close(weight_c, torch.tensor([18 / 36, 18 / 12, 18 / 6]))
    assert weight_c[labels.long()].mean().item() == pytest.approx(1)


@pytest.mark.parametrize(("present", "missing"), [([0, 1], "found no aluminide"), ([2], "no matrix and no silicon")])
def test_a_phase_that_does_not_occur_has_no_class_weight(present, missing):
    with pytest.raises(ValueError, match=f"every phase in the training slices, .*{missing}"):
        loss.class_weights(torch.tensor(present))


@pytest.mark.parametrize("seed", range(3))
def test_balanced_classes_multiply_the_weight_of_every_pixel(seed):
    logits, labels, weight = example(seed)
    weight_c = np.array([0.4, 1.7, 2.2], np.float32)
    expected = by_hand(logits.numpy(), labels.numpy(), weight.numpy() * weight_c[labels.numpy()])
    total = loss.total(logits, labels, weight, LossConfig(class_balance=True), torch.from_numpy(weight_c))
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_balancing_without_class_weights_is_refused():
    with pytest.raises(ValueError, match="class_balance needs the weight of every class, found none"):
        loss.total(*example(), LossConfig(class_balance=True))


def dice_by_hand(logits: np.ndarray, labels: np.ndarray) -> float:
    """1 - Dice of each phase of each image, pixel by pixel."""
    found = []
    for scores, truth in zip(logits.astype(np.float64), labels, strict=True):
        for phase in range(len(scores)):
            both = predicted = true = 0.0
            for y, x in np.ndindex(truth.shape):
                probability = np.exp(scores[phase, y, x]) / np.exp(scores[:, y, x]).sum()
                both += probability * (truth[y, x] == phase)
                predicted += probability
                true += truth[y, x] == phase
            found.append(1 - (2 * both + 1) / (predicted + true + 1))
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(3))
def test_soft_dice_is_added_for_every_pixel_with_its_factor(seed):
    logits, labels, weight = example(seed)
    expected = dice_by_hand(logits.numpy(), labels.numpy())
    assert loss.soft_dice_loss(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    added = loss.total(logits, labels, weight, LossConfig(soft_dice=0.7)) - loss.weighted_nll(logits, labels, weight)
    assert loss.per_pixel(added, labels).item() == pytest.approx(0.7 * expected, rel=1e-4)


def test_soft_dice_is_nothing_for_a_sure_and_right_network_and_pulls_towards_the_truth():
    _, labels, _ = example()
    right = 50 * functional.one_hot(labels.long(), 3).movedim(-1, 1).float()
    assert loss.soft_dice_loss(right, labels).item() == pytest.approx(0, abs=1e-6)
    logits = torch.zeros_like(right).requires_grad_()
    (slope,) = torch.autograd.grad(loss.soft_dice_loss(logits, labels), logits)
    assert (slope[right > 0] < 0).all()


def test_soft_dice_stays_finite_where_a_phase_is_nowhere():
    logits = 1e4 * functional.one_hot(torch.zeros(2, 4, 4, dtype=torch.long), 3).movedim(-1, 1).float()
    assert loss.soft_dice_loss(logits, torch.zeros(2, 4, 4, dtype=torch.uint8)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("config", [LossConfig(), LossConfig(class_balance=True, soft_dice=1.0, soft_euler=1.0)])
def test_the_loss_of_a_batch_is_the_mean_over_its_images(config):
    """So that micro-batches and several processes see the loss of the whole batch."""
    logits, labels, weight = example()
    weight_c = torch.tensor([0.4, 1.7, 2.2])
    whole = loss.total(logits, labels, weight, config, weight_c)
    parts = zip(logits.split(1), labels.split(1), weight.split(1), strict=True)
    torch.testing.assert_close(whole, torch.stack([loss.total(*part, config, weight_c) for part in parts]).mean())


@pytest.mark.parametrize("factor", [-0.1, np.nan, np.inf])
@pytest.mark.parametrize("name", ["soft_dice", "cl_dice", "soft_euler"])
def test_a_factor_below_zero_or_without_end_is_refused(name, factor):
    with pytest.raises(ValueError, match=f"{name} must be a finite factor from 0 up, got"):
        LossConfig(**{name: factor})


def test_class_balance_is_true_or_false():
    with pytest.raises(TypeError, match="class_balance must be True or False, got 'yes'"):
        LossConfig(class_balance="yes")
