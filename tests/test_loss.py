import numpy as np
import pytest
import torch
from torch.nn import functional

from alsiseg import loss


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
