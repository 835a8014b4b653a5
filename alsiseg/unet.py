"""The network of the paper (Fig. 2), with its width as a setting."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alsiseg import hashing

N_POOLINGS = 4
ALIGNMENT = 2**N_POOLINGS  # rows and columns must be a multiple of this: four poolings halve them
SMALLEST_CROP = 2 * ALIGNMENT  # from a smaller one a single pixel would reach the deepest batch norm


@dataclass(frozen=True)
class UNetConfig:
    """Size of the network; the defaults are the published ones.

    Attributes
    ----------
    n_slices : int
        Consecutive slices given as channels; the middle one is predicted (odd).
    n_classes : int
        Matrix, silicon, aluminides.
    stem_channels : int
        Channels after the first convolution; the levels have 2, 4, 8, 16, 32 times as many.
    dropout : float
        Probability of a channel's pixel to be dropped after each pooling, in training only (see `Dropout`).
    """

    n_slices: int = 5
    n_classes: int = 3
    stem_channels: int = 64
    dropout: float = 0.33

    def __post_init__(self) -> None:
        if self.n_slices < 1 or self.n_slices % 2 == 0:
            raise ValueError(f"the number of input slices must be odd, got {self.n_slices}")
        for name in ("stem_channels", "n_classes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} of the network must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a probability from 0 to below 1, got {self.dropout}")

    @property
    def level_channels(self) -> list[int]:
        """Channels of the five encoder levels, from full size to the deepest."""
        return [self.stem_channels * 2 ** (level + 1) for level in range(N_POOLINGS + 1)]


class UNet(nn.Module):
    """Encoder and decoder of Fig. 2: five slices in, three classes for the middle slice out.

    One 5 x 5 convolution, then one 3 x 3 convolution per level, each with batch norm and ReLU;
    max pooling and dropout between levels. On the way up: bilinear doubling, a 3 x 3 transposed
    convolution with batch norm and ReLU, and concatenation with the encoder output of that size.
    At the published width: 56.4 million parameters.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.level_channels
        self.stem = _convolution(config.n_slices, config.stem_channels, kernel=5)
        inputs = [config.stem_channels, *channels[:-1]]
        self.encoder = nn.ModuleList(_convolution(i, o, kernel=3) for i, o in zip(inputs, channels, strict=True))
        self.pool = nn.MaxPool2d(2)
        self.dropout = Dropout(config.dropout)
        self.upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        # The deepest level comes up alone; every later stage comes up with its concatenation.
        coming_up = [channels[-1], *(2 * c for c in channels[-2:0:-1])]
        self.decoder = nn.ModuleList(
            _transposed_convolution(i, o) for i, o in zip(coming_up, channels[-2::-1], strict=True)
        )
        self.output = nn.Conv2d(2 * channels[0], config.n_classes, 3, padding=1)

    def forward(self, grey_bcyx: Tensor, dropout_key_b: Tensor | None = None) -> Tensor:
        """Map normalised grey (B, n_slices, Y, X) to logits (B, n_classes, Y, X).

        Y and X must be multiples of 16. `dropout_key_b` (int32, one per image) decides what is dropped in
        training; without it torch's generator draws the keys.
        """
        if self.training and dropout_key_b is None:
            dropout_key_b = torch.randint(-(2**31), 2**31, grey_bcyx.shape[:1], device=grey_bcyx.device).int()
        features = self.stem(grey_bcyx)
        skipped = []
        for level, convolve in enumerate(self.encoder):
            if level > 0:
                features = self.dropout(self.pool(features), dropout_key_b, level)
            features = convolve(features)
            skipped.append(features)
        skipped.pop()
        for convolve in self.decoder:
            features = convolve(self.upsample(features))
            features = torch.cat([features, skipped.pop()], dim=1)
        return self.output(features)


class Dropout(nn.Module):
    """In training, drop numbers with probability `p` and scale the others by 1 / (1 - p); else change nothing.

    What is dropped of an image depends on its key, the level and the place in the image alone: it is the same in
    any batch, on any device and on any number of processes, and after a restart.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, features_bcyx: Tensor, key_b: Tensor | None = None, level: int = 0) -> Tensor:
        """Drop by the int32 key of each image; `key_b` may be left out when nothing is dropped."""
        if not self.training or self.p == 0:
            return features_bcyx
        if key_b is None:
            raise ValueError("dropout in training needs the key of every image, found none; give dropout_key_b")
        return features_bcyx * self.scale_bcyx(features_bcyx, key_b, level)

    def scale_bcyx(self, features_bcyx: Tensor, key_b: Tensor, level: int) -> Tensor:
        """Make the factor of every number, 0 or 1 / (1 - p), laid out channels last as the network's features are."""
        _, n_channels, n_rows, n_columns = features_bcyx.shape
        place = torch.arange(n_rows * n_columns * n_channels, dtype=torch.int32, device=features_bcyx.device)
        level_key_b = hashing.random_int32(torch.full_like(key_b, level), key_b)
        bits = hashing.random_int32(place, level_key_b[:, None])
        kept = bits >= round(self.p * 2**32) - 2**31
        scale = kept.to(features_bcyx.dtype).mul_(1 / (1 - self.p))
        return scale.reshape(-1, n_rows, n_columns, n_channels).permute(0, 3, 1, 2)


def _convolution(n_in: int, n_out: int, *, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


def _transposed_convolution(n_in: int, n_out: int) -> nn.Sequential:
    # Stride 1: padding 1 keeps the size, the doubling is the bilinear step before it.
    convolution = nn.ConvTranspose2d(n_in, n_out, 3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


def fitting_crop(shape_zyx: tuple[int, ...], *, largest: int = 256) -> int:
    """Edge of the largest square training crop, up to the published 256, that four poolings can halve."""
    crop = min(largest, *shape_zyx[1:]) // ALIGNMENT * ALIGNMENT
    if crop < SMALLEST_CROP:
        raise ValueError(
            f"training needs slices and crops of at least {SMALLEST_CROP} x {SMALLEST_CROP} pixels, "
            f"found {tuple(shape_zyx[1:])}; give a larger volume"
        )
    return crop


def n_parameters(network: nn.Module) -> int:
    """Count the trainable numbers of `network`."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def build(config: UNetConfig, *, seed: int) -> UNet:
    """Make a network with random weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(config)


@dataclass(frozen=True)
class LayerShape:
    """One layer of the network as Fig. 2 draws it.

    Attributes
    ----------
    kind : str
        "input", "conv5", "conv3", "pool", "dropout", "upsample", "tconv3", "concat" or "output".
    name : str
        Where it stands in the network, e.g. "encoder.2".
    n_channels, n_pixels : int
        Channels and edge length in pixels of what it gives out.
    joins : int or None
        For "concat": index in the list of the encoder layer that is concatenated.
    """

    kind: str
    name: str
    n_channels: int
    n_pixels: int
    joins: int | None = None


def layer_shapes(network: UNet, n_pixels: int = 256) -> list[LayerShape]:
    """List the layers in the order in which an image of `n_pixels` squared passes them.

    The shapes are recorded while an empty image runs through `network` itself, so that a drawing
    made from them cannot differ from what is trained.
    """
    layers = [LayerShape("input", "input", network.config.n_slices, n_pixels)]
    skipped: list[int] = []
    for name, kind, shape in _passed_layers(network, n_pixels):
        layers.append(LayerShape(kind, name, shape[1], shape[2]))
        if name.startswith("encoder"):
            skipped.append(len(layers) - 1)
        if kind == "tconv3":
            joined = next(i for i in reversed(skipped) if layers[i].n_pixels == shape[2])
            n_channels = shape[1] + layers[joined].n_channels
            layers.append(LayerShape("concat", f"{name}.concat", n_channels, shape[2], joined))
    return layers


def _passed_layers(network: UNet, n_pixels: int) -> Iterator[tuple[str, str, torch.Size]]:
    passed: list[tuple[str, str, torch.Size]] = []

    def watch(name: str, kind: str) -> RemovableHandle:
        module = network.get_submodule(name)
        return module.register_forward_hook(lambda _m, _i, out: passed.append((name, kind, out.shape)))

    kinds = {
        "stem": "conv5",
        "pool": "pool",
        "dropout": "dropout",
        "upsample": "upsample",
        "output": "output",
    }
    kinds |= {f"encoder.{i}": "conv3" for i in range(len(network.encoder))}
    kinds |= {f"decoder.{i}": "tconv3" for i in range(len(network.decoder))}
    handles = [watch(name, kind) for name, kind in kinds.items()]
    was_training = network.training
    weight = next(network.parameters())
    try:
        with torch.no_grad():
            network.eval()
            network(weight.new_zeros(1, network.config.n_slices, n_pixels, n_pixels))
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    yield from passed
