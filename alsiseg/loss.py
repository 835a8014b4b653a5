"""The pixel-wise weighted loss of the paper (section "Pixel-wise weighted loss function")."""

from torch import Tensor
from torch.nn import functional


def weighted_nll(logits_bcyx: Tensor, labels_byx: Tensor, weight_byx: Tensor) -> Tensor:
    """Weighted negative log-likelihood: summed over the pixels of an image, mean over the batch.

    Log-softmax and NLL are computed per pixel in float32, multiplied by the pixel's weight and
    summed over the image as published; `per_pixel` turns the sum into the reported value.

    Parameters
    ----------
    logits_bcyx : (B, C, Y, X) float
    labels_byx : (B, Y, X) integer
        Phases, 0..C-1.
    weight_byx : (B, Y, X) float
        From `weightmaps.weight_map`.
    """
    log_probability = functional.log_softmax(logits_bcyx.float(), dim=1)
    nll_byx = functional.nll_loss(log_probability, labels_byx.long(), reduction="none")
    return (nll_byx * weight_byx).sum(dim=(1, 2)).mean()


def per_pixel(loss: Tensor, labels_byx: Tensor) -> Tensor:
    """Divide the image sum by the number of its pixels, so that image sizes compare."""
    return loss / labels_byx[0].numel()
