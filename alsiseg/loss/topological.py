"""Losses that look at how pixels hang together: the Euler number of a slice, and its skeletons.

Both see the three networks of the paper (silicon, aluminides, both together) in the slice that the network predicts,
and give every image a value of its own, so that the loss of a batch is the mean over its parts. Betti matching (N.
Stucki et al., ICML 2023) is not among them: of its packages only topolosses 0.2.0 could be installed (November 2026),
and that needs OpenCV, POT and a torchvision that loads beside the same build of torch, which the pinned one has not.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor, nn
from torch.nn import functional

from alsiseg.phases import NETWORKS

# Large enough to hold a whole particle of eutectic silicon or a mesh of the network (10 to 25 voxels of 1.2 um), and
# small enough that one window seldom holds an object too many and one too few, which would cancel.
WINDOW_PX = 32
# Probabilities are raised to this power before they are drawn from. As they are, the blurred edges of a network after
# ten epochs (width 8, quick) gave silicon 28 objects less loops in a window, its segmentation 6, the truth 4; at the
# 2nd power 15, at the 4th 9, and windows with too many in one have too many in the other (correlation 0.92).
SHARPNESS = 4.0
SKELETON_STEPS = 5  # skeletons of whatever is at most 11 pixels thick


def soft_euler_loss(logits_bcyx: Tensor, labels_byx: Tensor) -> Tensor:
    """How far the expected Euler numbers of the networks are from those of the labels, per pixel of the image.

    If every pixel were drawn by itself with the probability that the network gives it, the Euler number of a slice
    would on average be that of `euler_of_windows`. The probabilities are sharpened first (`SHARPNESS`), because pixels
    drawn one by one along a blurred edge make crumbs that the segmentation does not have.

    Compared is in windows of about 32 x 32 pixels, because over a whole slice an object too many would hide one too
    few. Differences below one object count by half their square, larger ones as they are (Huber); they are summed over
    the windows of an image and divided by its pixels. This is done for silicon, aluminides and both together and for
    both connectivities, and the mean taken, over the images too. What hangs together above and below the slice does
    not count.

    Parameters
    ----------
    logits_bcyx : (B, C, Y, X) float
    labels_byx : (B, Y, X) integer
    """
    probability_bnyx, truth_bnyx = _networks(SHARPNESS * logits_bcyx.float(), labels_byx)
    errors = [
        functional.huber_loss(
            euler_of_windows(probability_bnyx, connectivity=connectivity),
            euler_of_windows(truth_bnyx, connectivity=connectivity),
            reduction="sum",
        )
        for connectivity in (4, 8)
    ]
    return torch.stack(errors).mean() / truth_bnyx.numel()


def euler_of_windows(probability: Tensor, *, connectivity: int) -> Tensor:
    """Expected Euler number (objects - loops) of a slice, as the sum over its windows.

    With 4-connectivity: pixels, less pairs of neighbours, plus squares of four, each with the probability that all of
    its pixels are set. With 8-connectivity an object is what the background, 4-connected, leaves of the plane: the
    same count of the pixels not set, with the other sign. What is outside the image is not set. Corners, edges and
    pixels each belong to one window, so that the sum over the windows is the Euler number of the slice: exactly that
    of `topology.euler_number`, when every probability is 0 or 1.

    Parameters
    ----------
    probability : (..., Y, X) float, 0 to 1
    connectivity : 4 or 8

    Returns
    -------
    (..., windows along y, windows along x) float
    """
    set_yx = functional.pad(probability, (1, 1, 1, 1))
    quads = _quads(set_yx) if connectivity == 4 else -_quads(1 - set_yx)
    n_y, n_x = (max(n // WINDOW_PX, 1) for n in probability.shape[-2:])
    high, wide = (-(-size // n) for size, n in zip(quads.shape[-2:], (n_y, n_x), strict=True))
    full = functional.pad(quads, (0, n_x * wide - quads.shape[-1], 0, n_y * high - quads.shape[-2]))
    return full.unflatten(-1, (n_x, wide)).unflatten(-3, (n_y, high)).sum(dim=(-3, -1))


def _quads(p: Tensor) -> Tensor:
    """What every square of four pixels adds: its first pixel, two of its pairs, itself."""
    first, right, below, across = p[..., :-1, :-1], p[..., :-1, 1:], p[..., 1:, :-1], p[..., 1:, 1:]
    return first * (1 - right - below + right * below * across)


def cl_dice_loss(logits_bcyx: Tensor, labels_byx: Tensor) -> Tensor:
    """Soft clDice: how much of each skeleton lies outside the other segmentation, 0 (nothing) to 1, as MONAI has it.

    Mean over silicon, aluminides and both together of every image, then over the images (S. Shit et al., clDice, a
    novel topology-preserving loss function for tubular structure segmentation, CVPR 2021). Made for tubes, whereas
    most silicon is plates, which a slice cuts to lines.

    Parameters
    ----------
    logits_bcyx : (B, C, Y, X) float
    labels_byx : (B, Y, X) integer

    Raises
    ------
    ImportError
        When MONAI is missing or old.
    """
    probability, truth = (
        networks_bnyx.flatten(0, 1)[:, None] for networks_bnyx in _networks(logits_bcyx.float(), labels_byx)
    )
    loss: Tensor = _monai_cl_dice()(probability, truth)
    return loss


@cache
def _monai_cl_dice() -> nn.Module:
    find_monai()
    from monai.losses import SoftclDiceLoss

    loss: nn.Module = SoftclDiceLoss(iter_=SKELETON_STEPS)
    return loss


def find_monai() -> None:
    """Refuse to go on without a MONAI whose clDice gives every image its own value."""
    try:
        found = version("monai")
    except PackageNotFoundError:
        found = "none"
    if found == "none" or tuple(map(int, found.split(".")[:2])) < (1, 6):
        raise ImportError(f"cl_dice needs the package monai 1.6 or newer, found {found}; pip install 'alsiseg[bench]'")


def _networks(logits_bcyx: Tensor, labels_byx: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of every network in every pixel, and 1 where the labels have it: (B, networks, Y, X) each."""
    probability_bcyx = functional.softmax(logits_bcyx, dim=1)
    phases = torch.arange(logits_bcyx.shape[1], device=labels_byx.device)
    truth_bcyx = (labels_byx[:, None] == phases[:, None, None]).float()
    return _joined(probability_bcyx), _joined(truth_bcyx)


def _joined(of_phase_bcyx: Tensor) -> Tensor:
    """Add up the phases of each network."""
    networks = [torch.stack([of_phase_bcyx[:, phase] for phase in phases]).sum(dim=0) for phases in NETWORKS.values()]
    return torch.stack(networks, dim=1)
