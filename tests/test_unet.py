from itertools import pairwise

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from alsiseg import unet
from alsiseg.unet import UNet, UNetConfig

PUBLISHED_LEVELS = [128, 256, 512, 1024, 2048]


def small(**changed) -> UNet:
    return unet.build(UNetConfig(**{"stem_channels": 2} | changed), seed=0)


def n_parameters_by_hand(stem: int, *, n_slices: int = 5, n_classes: int = 3) -> int:
    """Weights and biases of every layer of Fig. 2, and scale and shift of every batch norm."""

    def normalised(n_in: int, n_out: int, kernel: int) -> int:
        return n_in * n_out * kernel**2 + n_out + 2 * n_out

    levels = [stem * 2**level for level in (1, 2, 3, 4, 5)]
    total = normalised(n_slices, stem, 5)
    total += sum(normalised(n_in, n_out, 3) for n_in, n_out in zip([stem, *levels], levels, strict=False))
    total += normalised(levels[4], levels[3], 3)
    total += sum(normalised(2 * levels[level + 1], levels[level], 3) for level in (2, 1, 0))
    return total + 2 * levels[0] * n_classes * 9 + n_classes


@pytest.mark.parametrize(("stem", "millions"), [(64, 56.4), (8, 0.885)])
def test_the_number_of_parameters_is_that_of_the_layers_in_the_paper(stem, millions):
    with torch.device("meta"):
        network = UNet(UNetConfig(stem_channels=stem))
    assert unet.n_parameters(network) == n_parameters_by_hand(stem)
    assert unet.n_parameters(network) / 1e6 == pytest.approx(millions, rel=0.005)


def test_the_defaults_are_published():
    config = UNetConfig()
    assert (config.n_slices, config.stem_channels, config.dropout) == (5, 64, 0.33)
    assert config.level_channels == PUBLISHED_LEVELS


def test_a_slice_costs_as_much_as_the_published_time_allows():
    with torch.device("meta"):
        network, grey = UNet(UNetConfig()).eval(), torch.empty(1, 5, 256, 256)
    with FlopCounterMode(display=False) as counter:
        network(grey)
    assert counter.get_total_flops() / 1e9 == pytest.approx(321, abs=1)


def test_layers_are_listed_as_figure_2_draws_them():
    with torch.device("meta"):
        layers = unet.layer_shapes(UNet(UNetConfig()), 256)
    seen = [(layer.kind, layer.n_channels, layer.n_pixels) for layer in layers]
    down = [("input", 5, 256), ("conv5", 64, 256), ("conv3", 128, 256)]
    for level, (before, after) in enumerate(pairwise(PUBLISHED_LEVELS)):
        pixels = 128 >> level
        down += [("pool", before, pixels), ("dropout", before, pixels), ("conv3", after, pixels)]
    up, coming_up = [], 2048
    for level, channels in enumerate((1024, 512, 256, 128)):
        pixels = 32 << level
        up += [("upsample", coming_up, pixels), ("tconv3", channels, pixels), ("concat", 2 * channels, pixels)]
        coming_up = 2 * channels
    assert seen == [*down, *up, ("output", 3, 256)]
    assert ("conv3", 2048, 16) in seen


def test_every_concatenation_joins_the_encoder_layer_of_its_own_size_once():
    layers = unet.layer_shapes(small(), 64)
    concatenations = [layer for layer in layers if layer.kind == "concat"]
    assert all(layer.joins is None for layer in layers if layer.kind != "concat")
    for layer in concatenations:
        joined = layers[layer.joins]
        assert joined.kind == "conv3"
        assert (joined.n_pixels, 2 * joined.n_channels) == (layer.n_pixels, layer.n_channels)
    assert len({layer.joins for layer in concatenations}) == 4


def test_listing_the_layers_leaves_the_network_as_it_was():
    network = small().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    unet.layer_shapes(network, 32)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_kernels_strides_and_dropout_are_published():
    network = UNet(UNetConfig(stem_channels=2))
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    transposed = [m for m in network.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
    assert [m.kernel_size for m in convolutions] == [(5, 5)] + 6 * [(3, 3)]
    assert [m.padding for m in convolutions] == [(2, 2)] + 6 * [(1, 1)]
    assert [(m.kernel_size, m.padding, m.stride) for m in transposed] == 4 * [((3, 3), (1, 1), (1, 1))]
    assert network.dropout.p == 0.33
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()) == 6 + 4


def by_hand(network: UNet, grey: torch.Tensor) -> torch.Tensor:
    """Figure 2 in plain functions: every convolution with batch norm and ReLU, the last one alone."""
    state = network.state_dict()

    def normalised(image: torch.Tensor, name: str) -> torch.Tensor:
        mean, variance, scale, shift = (
            state[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.relu(functional.batch_norm(image, mean, variance, scale, shift))

    def convolved(image: torch.Tensor, name: str, padding: int) -> torch.Tensor:
        image = functional.conv2d(image, state[f"{name}.0.weight"], state[f"{name}.0.bias"], padding=padding)
        return normalised(image, name)

    levels = [convolved(convolved(grey, "stem", 2), "encoder.0", 1)]
    for level in (1, 2, 3, 4):
        levels.append(convolved(functional.max_pool2d(levels[-1], 2), f"encoder.{level}", 1))
    image = levels.pop()
    for step in (0, 1, 2, 3):
        name = f"decoder.{step}"
        image = functional.interpolate(image, scale_factor=2, mode="bilinear")
        image = functional.conv_transpose2d(image, state[f"{name}.0.weight"], state[f"{name}.0.bias"], padding=1)
        image = torch.cat([normalised(image, name), levels.pop()], dim=1)
    return functional.conv2d(image, state["output.weight"], state["output.bias"], padding=1)


def test_the_network_computes_figure_2():
    network = small()
    with torch.no_grad():
        for _ in range(3):  # give the batch norms something of their own
            network.train()(3 + torch.randn(4, 5, 32, 32))
        grey = torch.randn(2, 5, 32, 48)
        torch.testing.assert_close(network.eval()(grey), by_hand(network, grey), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (32, 48)])
def test_the_prediction_has_the_size_of_the_image(size):
    logits = small().eval()(torch.randn(2, 5, *size))
    assert logits.shape == (2, 3, *size)


def test_dropout_is_off_when_the_network_is_tested():
    network, grey = small(), torch.randn(2, 5, 32, 32)
    with torch.no_grad():
        network.eval()
        assert torch.equal(network(grey), network(grey))
        network.train()
        assert not torch.equal(network(grey), network(grey))


KEYS = torch.tensor([5, -7, 2**31 - 1, 0], dtype=torch.int32)


def factors(keys: torch.Tensor, *, p: float = 0.33, level: int = 1, shape=(8, 32, 32)) -> torch.Tensor:
    """What dropout multiplies ones with."""
    return unet.Dropout(p).train()(torch.ones(len(keys), *shape), keys, level)


def test_what_is_dropped_depends_on_the_key_of_the_image_and_not_on_the_batch():
    whole = factors(KEYS)
    assert torch.equal(factors(KEYS.flip(0)), whole.flip(0))
    for image, key in enumerate(KEYS):
        assert torch.equal(factors(key[None]), whole[image : image + 1])
    assert torch.equal(torch.cat([factors(part) for part in KEYS.split(3)]), whole)


def test_what_is_dropped_does_not_depend_on_the_layout_in_memory():
    features = torch.rand(4, 8, 16, 16)
    dropout = unet.Dropout(0.33).train()
    plain, channels_last = (
        dropout(features.to(memory_format=layout), KEYS, 2) for layout in (torch.contiguous_format, torch.channels_last)
    )
    assert torch.equal(plain, channels_last)


@pytest.mark.parametrize("p", [0.1, 0.33, 0.9])
def test_dropout_drops_with_its_probability_and_keeps_the_mean(p):
    kept = factors(torch.arange(16, dtype=torch.int32), p=p) != 0
    assert float(kept.float().mean()) == pytest.approx(1 - p, abs=5 * (p * (1 - p) / kept.numel()) ** 0.5)
    assert factors(KEYS, p=p).unique().tolist() == pytest.approx([0, 1 / (1 - p)])


def test_images_levels_and_places_are_dropped_independently():
    p, n = 0.5, 8 * 32 * 32
    one, other_image, other_level = (
        factors(KEYS[:1], p=p).flatten() > 0,
        factors(KEYS[1:2], p=p).flatten() > 0,
        factors(KEYS[:1], p=p, level=2).flatten() > 0,
    )
    for first, second in ((one, other_image), (one, other_level), (one[1:], one[:-1]), (one[:-1024], one[1024:])):
        assert float((first == second).float().mean()) == pytest.approx(0.5, abs=5 * 0.5 / n**0.5)


def test_the_network_drops_by_the_keys_given_and_by_new_ones_when_none_are():
    network, grey = small().train(), torch.randn(4, 5, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(grey, KEYS), network(grey, KEYS))
        assert not torch.equal(network(grey, KEYS), network(grey, KEYS + 1))
        torch.manual_seed(3)
        first, second = network(grey), network(grey)
        torch.manual_seed(3)
        assert torch.equal(network(grey), first)
    assert not torch.equal(first, second)


def test_dropping_without_keys_is_refused():
    with pytest.raises(ValueError, match="needs the key of every image"):
        unet.Dropout(0.33).train()(torch.ones(1, 1, 4, 4))


def test_dropout_changes_nothing_when_off():
    features = torch.rand(2, 3, 4, 4)
    assert unet.Dropout(0.33).eval()(features) is features
    assert unet.Dropout(0.0).train()(features) is features


def test_the_names_of_what_is_learnt_are_those_of_the_first_version():
    names = list(small().state_dict())
    parts = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]
    blocks = ["stem", *(f"encoder.{i}" for i in range(5)), *(f"decoder.{i}" for i in range(4))]
    assert names == [f"{block}.{part}" for block in blocks for part in parts] + ["output.weight", "output.bias"]


def test_every_parameter_learns():
    network = small(dropout=0.0)
    network(torch.randn(2, 5, 32, 32)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias before a batch norm is taken out by its mean; its gradient is rounding or nothing.
    assert all(name.endswith("0.bias") for name in silent)


def test_the_deepest_level_sees_far_beyond_its_neighbours():
    network = small().eval()
    grey = torch.randn(1, 5, 64, 64, requires_grad=True)
    network(grey)[0, :, 32, 32].sum().backward()
    reached = grey.grad.abs().sum(dim=(0, 1)) > 0
    assert reached.sum() > 48 * 48


def test_the_seed_alone_decides_the_initial_weights():
    torch.manual_seed(1)
    first = small().state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = small().state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = unet.build(UNetConfig(stem_channels=2), seed=1).state_dict()
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"n_slices": 4}, "must be odd, got 4"),
        ({"n_slices": -1}, "must be odd"),
        ({"stem_channels": 0}, "stem_channels .* at least 1, got 0"),
        ({"n_classes": 0}, "n_classes .* at least 1, got 0"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
    ],
)
def test_a_network_that_cannot_be_is_refused(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        UNetConfig(**changed)


@pytest.mark.parametrize(
    ("shape_yx", "largest", "crop"),
    [((319, 379), 256, 256), ((255, 300), 256, 240), ((64, 80), 48, 48), ((33, 40), 256, 32), ((60, 70), 50, 48)],
)
def test_the_crop_is_the_largest_that_four_poolings_can_halve(shape_yx, largest, crop):
    assert unet.fitting_crop((100, *shape_yx), largest=largest) == crop


def test_slices_too_small_to_train_on_are_refused():
    with pytest.raises(ValueError, match=r"at least 32 x 32 pixels, found \(31, 400\)"):
        unet.fitting_crop((100, 31, 400))
