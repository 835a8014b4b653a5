"""The pixel-wise weighted loss of the paper (section "Pixel-wise weighted loss function"), and options beside it.

Those that look at how pixels hang together stand in `topological`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from alsiseg.loss.topological import cl_dice_loss, find_monai, soft_euler_loss
from alsiseg.phases import Phase

__all__ = [
    "LossConfig",
    "check",
    "cl_dice_loss",
    "class_weights",
    "per_pixel",
    "soft_dice_loss",
    "soft_euler_loss",
    "total",
    "weighted_nll",
]


@dataclass(frozen=True)
class LossConfig:
    """What is done beside the paper's pixel weights; the default is the paper: nothing.

    Attributes
    ----------
    class_balance
        Multiply every pixel's weight with that of its phase, see `class_weights`.
    soft_dice
        Factor of `soft_dice_loss`, which is added; 0 for none, 1 as much as an unweighted NLL of 1 per pixel.
    cl_dice
        Factor of `cl_dice_loss`, likewise; needs MONAI.
    soft_euler
        Factor of `soft_euler_loss`; 1 lets an object or loop too many cost as much as an unweighted NLL of 1 in one
        pixel.
    """

    class_balance: bool = False
    soft_dice: float = 0.0
    cl_dice: float = 0.0
    soft_euler: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.class_balance, bool):
            raise TypeError(f"class_balance must be True or False, got {self.class_balance!r}")
        for name in ("soft_dice", "cl_dice", "soft_euler"):
            factor = getattr(self, name)
            if not (math.isfinite(factor) and factor >= 0):
                raise ValueError(f"{name} must be a finite factor from 0 up, got {factor}; 0 leaves it out, 1 is usual")


def check(config: LossConfig) -> None:
    """Refuse at once, not after an epoch, what needs a package that is not installed.

    Raises
    ------
    ImportError
        When MONAI is needed and missing.
    """
    if config.cl_dice:
        find_monai()


def total(
    logits_bcyx: Tensor,
    labels_byx: Tensor,
    weight_byx: Tensor,
    config: LossConfig,
    class_weight: Tensor | None = None,
) -> Tensor:
    """Loss of a batch with its options: exactly `weighted_nll` for ``LossConfig()``.

    Every image counts by itself, so that the loss of a batch is the mean over its parts, however it is
    cut into micro-batches or shared among processes.

    Parameters
    ----------
    logits_bcyx, labels_byx, weight_byx
        As for `weighted_nll`.
    config
    class_weight : (C,) float
        From `class_weights`, where the logits are; needed, and looked at, with ``config.class_balance`` only.

    Raises
    ------
    ValueError
        When classes are to be balanced and `class_weight` is missing.
    """
    if config.class_balance:
        if class_weight is None:
            raise ValueError("class_balance needs the weight of every class, found none; give loss.class_weights(...)")
        weight_byx = weight_byx * class_weight[labels_byx.long()]
    loss = weighted_nll(logits_bcyx, labels_byx, weight_byx)
    n_pixels = labels_byx[0].numel()  # the paper's loss is a sum over them, the options are means
    if config.soft_dice:
        loss = loss + config.soft_dice * n_pixels * soft_dice_loss(logits_bcyx, labels_byx)
    if config.cl_dice:
        loss = loss + config.cl_dice * n_pixels * cl_dice_loss(logits_bcyx, labels_byx)
    if config.soft_euler:
        loss = loss + config.soft_euler * n_pixels * soft_euler_loss(logits_bcyx, labels_byx)
    return loss


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


def class_weights(labels_zyx: Tensor) -> Tensor:
    """Weight of each phase by its inverse frequency in the slices trained on.

    The weight of phase c is N / (C n_c), with n_c of the N voxels in it and C phases: every phase has the same
    sum of weights, and the mean weight of a voxel is 1 (G. King and L. Zeng, Logistic regression in rare events
    data, Political Analysis 9, 137-163, 2001; scikit-learn's "balanced").

    Parameters
    ----------
    labels_zyx : integer tensor
        The labels of the training slices.

    Returns
    -------
    float32 tensor (C,)
        Where the labels are.

    Raises
    ------
    ValueError
        When a phase does not occur.
    """
    n_of = {phase: int((labels_zyx == phase).sum()) for phase in Phase}
    if missing := [phase.name.lower() for phase, n in n_of.items() if n == 0]:
        raise ValueError(
            f"class_balance needs every phase in the training slices, found no {' and no '.join(missing)}; "
            "train without it"
        )
    weight = [labels_zyx.numel() / (len(Phase) * n) for n in n_of.values()]
    return torch.tensor(weight, dtype=torch.float32, device=labels_zyx.device)


SMOOTHING_PX = 1.0


def soft_dice_loss(logits_bcyx: Tensor, labels_byx: Tensor) -> Tensor:
    """1 - soft Dice, mean over the phases of an image and over the images, 0 (all right) to 1.

    The Dice of phase c in an image is (2 sum p_c g_c + 1) / (sum p_c + sum g_c + 1), summed over its pixels, with
    the probability p_c that the network gives and g_c 1 in the phase, 0 elsewhere (M. Drozdzal et al., The
    importance of skip connections in biomedical image segmentation, 2016, arXiv 1608.04117; added to the
    cross-entropy as by nnU-Net, F. Isensee et al., Nature Methods 18, 203-211, 2021). The 1 decides where a
    phase is in neither. Pixel weights do not count here.

    Parameters
    ----------
    logits_bcyx : (B, C, Y, X) float
    labels_byx : (B, Y, X) integer
    """
    probability_bcyx = functional.softmax(logits_bcyx.float(), dim=1)
    classes = torch.arange(logits_bcyx.shape[1], device=labels_byx.device)
    truth_bcyx = labels_byx[:, None] == classes[:, None, None]
    both_bc = (probability_bcyx * truth_bcyx).sum(dim=(2, 3))
    each_bc = probability_bcyx.sum(dim=(2, 3)) + truth_bcyx.sum(dim=(2, 3))
    return 1 - ((2 * both_bc + SMOOTHING_PX) / (each_bc + SMOOTHING_PX)).mean()
