"""The trained network made ready for prediction: the same function with fewer, faster layers."""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from alsiseg import hashing
from alsiseg.devices import Device
from alsiseg.unet import Dropout, UNet

N_SYMMETRIES = 8
SUMMED_AT_ONCE = {torch.float32: 128, torch.bfloat16: 512}  # input channels; see `SummedInParts`


class Inference:
    """A network on its device, without batch norms, in the precision of the convolutions.

    In evaluation a batch norm is a factor and an offset per channel, which the convolution before it can do; a
    transposed convolution of stride 1 is a convolution with the kernel turned round. What is left is the same
    function up to rounding, in about half the passes over memory.
    """

    def __init__(self, network: UNet, device: Device, *, symmetries: bool = False) -> None:
        self.device, self.symmetries = device, symmetries
        self.dtype = torch.bfloat16 if device.bfloat16 else torch.float32
        ready = folded(network)
        if device.type == "cpu":
            sum_in_parts(ready, SUMMED_AT_ONCE[self.dtype])
        self.network = device.place(ready).to(self.dtype)

    def logits(self, grey_bcyx: Tensor, keys_b: Tensor | None = None) -> Tensor:
        """Map normalised grey (B, n_slices, Y, X) on the device to logits (B, classes, Y, X).

        With int32 keys, one per image, dropout is on and depends on them alone.
        """
        images = grey_bcyx.to(self.dtype, memory_format=torch.channels_last)
        return self.network(images) if keys_b is None else self.network(images, keys_b)

    def probabilities(self, grey_bcyx: Tensor, keys_b: Tensor | None = None) -> Tensor:
        """Map grey to probabilities, float32, averaged over the symmetries of the square where asked for."""
        total = self.logits(grey_bcyx, keys_b).float().softmax(dim=1)
        if not self.symmetries:
            return total
        for number in range(1, N_SYMMETRIES):
            logits = self.logits(transformed(grey_bcyx, number), keys_b)
            total += transformed_back(logits, number).float().softmax(dim=1)
        return total / N_SYMMETRIES

    def drop(self, *, active: bool) -> None:
        """Turn dropout on or off; nothing else in the network depends on it."""
        for module in self.network.modules():
            if isinstance(module, Dropout):
                module.train(active)


def folded(network: UNet) -> UNet:
    """Copy a network with its batch norms folded into the convolutions; same labels up to rounding."""
    network = copy.deepcopy(network).cpu().float().eval()
    for block in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        convolution, norm = block[0], block[1]
        assert isinstance(norm, nn.BatchNorm2d)
        if isinstance(convolution, nn.ConvTranspose2d):
            block[0] = _turned(fuse_conv_bn_eval(convolution, norm, transpose=True))
        else:
            assert isinstance(convolution, nn.Conv2d)
            block[0] = fuse_conv_bn_eval(convolution, norm)
        block[1] = nn.Identity()
    return network.requires_grad_(False)


def _turned(transposed: nn.ConvTranspose2d) -> nn.Conv2d:
    """Convolution that does what a transposed convolution of stride 1 does."""
    kernel = transposed.kernel_size[0]
    convolution = nn.Conv2d(transposed.in_channels, transposed.out_channels, kernel, padding=kernel // 2)
    convolution.weight.data = transposed.weight.data.transpose(0, 1).flip(2, 3).contiguous()
    assert transposed.bias is not None
    convolution.bias = transposed.bias
    return convolution


class SummedInParts(nn.Module):
    """A convolution on a CPU that gives a pixel the same bits in an image of any size and in any batch.

    A sum of floats depends on its order. oneDNN, which does torch's convolutions, adds all input channels up in one
    go as long as their kernel fits into the caches, and in blocks chosen by the image's shape when it does not; so
    tiles and whole slices came to differ in the last bit. Here the input channels are cut into parts that fit, and
    what the parts give is added in float32, one after the other. Small images are given to oneDNN as well, for which
    torch would otherwise take kernels of its own.
    """

    def __init__(self, convolution: nn.Conv2d, n_channels: int) -> None:
        super().__init__()
        parts = convolution.weight.split(n_channels, dim=1)
        self.weights = nn.ParameterList(nn.Parameter(part, requires_grad=False) for part in parts)
        assert not isinstance(convolution.padding, str)  # "same" or "valid"; the network gives numbers
        self.bias, self.padding, self.n_channels = convolution.bias, convolution.padding, n_channels

    def forward(self, features_bcyx: Tensor) -> Tensor:
        """Convolve as the convolution would."""
        first, *others = zip(features_bcyx.split(self.n_channels, dim=1), self.weights, strict=True)
        total = self._part(*first, self.bias)
        if not others:
            return total
        total = total.float() if features_bcyx.dtype == torch.bfloat16 else total
        for features, weight in others:
            total += self._part(features, weight, None)
        return total.to(features_bcyx.dtype)

    def _part(self, features_bcyx: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        features_bcyx = features_bcyx.contiguous(memory_format=torch.channels_last)
        if features_bcyx.dtype == torch.float32 and torch.backends.mkldnn.is_available():
            return torch.mkldnn_convolution(features_bcyx, weight, bias, self.padding, (1, 1), (1, 1), 1)
        return functional.conv2d(features_bcyx, weight, bias, padding=self.padding)


def sum_in_parts(network: UNet, n_channels: int) -> None:
    """Let every convolution sum at most so many input channels at once."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, SummedInParts(child, n_channels))


def transformed(images_bcyx: Tensor, number: int) -> Tensor:
    """Turn images by `number` modulo 4 quarters; numbers from 4 on reflect them too."""
    turned = torch.rot90(images_bcyx, number % 4, dims=(2, 3))
    return turned.flip(3) if number >= 4 else turned


def transformed_back(images_bcyx: Tensor, number: int) -> Tensor:
    """Undo `transformed`."""
    return torch.rot90(images_bcyx.flip(3) if number >= 4 else images_bcyx, -number % 4, dims=(2, 3))


def entropy_uint8(probabilities_cb: Tensor) -> Tensor:
    """Entropy over the first axis, from 0 (one class is certain) to 255 (all equally likely), rounded to uint8."""
    nats = -(probabilities_cb * probabilities_cb.clamp(min=1e-12).log()).sum(dim=0)
    return (nats * (255 / math.log(len(probabilities_cb)))).round().clamp(0, 255).to(torch.uint8)


def dropout_keys(images: range, member: int, device: str) -> Tensor:
    """One key per image, by its number in the view and the number of the pass."""
    counter = torch.arange(images.start, images.stop, dtype=torch.int32, device=device)
    key = torch.tensor(np.int32(member + 1), dtype=torch.int32, device=device)
    return hashing.random_int32(counter, hashing.random_int32(key, torch.zeros_like(key)))
