"""Tiled equals untiled: the geometry proved in exact arithmetic, this machine's kernels looked at voxel by voxel."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from alsiseg import dataset, devices, prediction, unet
from alsiseg.dataset import GreyScale
from alsiseg.devices import Device
from alsiseg.prediction import planning, tasks
from alsiseg.prediction.inference import SUMMED_AT_ONCE, Inference, SummedInParts, folded
from alsiseg.prediction.options import Options
from alsiseg.prediction.tiles import aligned, cuts, halo_px, mirrored, parts, reach_px
from alsiseg.runs import Trained
from alsiseg.unet import UNet, UNetConfig

HALO = 80


def network_after_some_images(stem_channels: int, seed: int = 3, n_steps: int = 10) -> UNet:
    network = unet.build(UNetConfig(stem_channels=stem_channels), seed=seed).train()
    with torch.no_grad():
        for step in range(n_steps):
            network(torch.randn(4, 5, 32, 32, generator=torch.Generator().manual_seed(step)))
    return network.eval()


def trained(network: UNet) -> Trained:
    return Trained(network, GreyScale(0.0, 1.0, 1.0), 1, Path("run"))


def grey(*shape_zyx: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 60_000, shape_zyx).astype(np.uint16)


def seen_columns(network: UNet, outputs: slice, n: int) -> tuple[int, int]:
    """First and last input column that the outputs depend on, by the gradient."""
    image = torch.rand(1, 5, 32, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    network(image)[..., outputs].sum().backward()
    assert image.grad is not None
    (columns,) = torch.nonzero(image.grad.abs().sum(dim=(0, 1, 2)), as_tuple=True)
    return int(columns[0]), int(columns[-1])


def test_the_reach_is_that_of_the_gradient():
    network = unet.build(UNetConfig(stem_channels=1), seed=0).double().eval()
    network.pool = nn.AvgPool2d(2)  # the same pixels, without a choice among them
    for parameter in network.parameters():
        parameter.data = parameter.data.abs() + 0.01  # nothing cancels and no ReLU is shut
    n, first = 512, 256
    left, right = reach_px(network)
    assert seen_columns(network, slice(first, None), n) == (first - left, n - 1)
    assert seen_columns(network, slice(0, first), n) == (0, first - 1 + right)


@pytest.mark.parametrize("distance", [1, 16])
def test_a_change_beyond_the_halo_changes_nothing_and_within_the_reach_something(distance):
    network = folded(network_after_some_images(2)).double()
    left, _ = reach_px(network)
    image = torch.rand(1, 5, 32, 512, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    far, near = image.clone(), image.clone()
    far[..., : 256 - left + 1 - distance] += 50
    near[..., 256 - left + 8 : 256] += 50
    with torch.no_grad():
        before, after_far, after_near = (network(one)[..., 256:] for one in (image, far, near))
    assert torch.equal(before, after_far)
    assert not torch.equal(before, after_near)


def test_the_halo_is_a_multiple_of_16_that_holds_the_reach():
    network = unet.build(UNetConfig(stem_channels=1), seed=0)
    assert halo_px(network) == HALO
    assert HALO - 16 < max(reach_px(network)) <= HALO


@pytest.mark.parametrize("n", [16, 48, 176, 224, 400, 416, 1840])
@pytest.mark.parametrize("size", [176, 192, 256, 400, 1024])
def test_windows_cover_an_axis_once_with_a_halo_inside_it(n, size):
    found = parts(n, size, HALO)
    assert [pixel for part in found for pixel in range(part.core_start, part.core_stop)] == list(range(n))
    for part in found:
        assert part.stop - part.start == min(size, n)
        assert part.start % 16 == part.stop % 16 == part.core_start % 16 == 0
        assert part.start == 0 or part.core_start - part.start >= HALO
        assert part.stop == n or part.stop - part.core_stop >= HALO


@pytest.mark.parametrize("n", [1, 5, 8, 9, 16, 31, 250, 416])
def test_cuts_give_every_pixel_of_an_odd_axis_once(n):
    found = cuts(n, 176, HALO)
    assert [pixel for cut in found for pixel in range(cut.target.start, cut.target.stop)] == list(range(n))
    for cut in found:
        assert cut.window.start + cut.core.start == cut.target.start
        assert cut.core.stop - cut.core.start == cut.target.stop - cut.target.start


@pytest.mark.parametrize(("n", "mode"), [(40, "reflect"), (9, "reflect"), (8, "edge"), (3, "edge"), (16, "reflect")])
def test_an_axis_is_mirrored_as_numpy_does(n, mode):
    expected = np.pad(np.arange(n), (0, -n % 16), mode=mode)
    np.testing.assert_array_equal(mirrored(np.arange(aligned(n)), n), expected)


class Exact(Inference):
    """Sums of whole numbers and quarters in double precision: the same in any order, whatever the kernel.

    The labels tell the remainder of the logits, so that any change of a logit changes a label.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.network, self.dtype = self.network.double(), torch.float64

    def logits(self, grey_bcyx, keys_b=None):
        logits = super().logits(grey_bcyx, keys_b)
        scaled = logits * 4 ** (2 * unet.N_POOLINGS)
        assert torch.equal(scaled, scaled.round())
        assert scaled.abs().max() < 2**50
        return functional.one_hot(scaled.sum(dim=1).long() % 3, 3).movedim(3, 1).double()


def whole_number_network(stem_channels: int = 1) -> UNet:
    """A network whose weights are -1, 0 and 1 and whose batch norms do nothing."""
    network = unet.build(UNetConfig(stem_channels=stem_channels), seed=0).eval()
    random = np.random.default_rng(2)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weights = random.choice([-1, 0, 1], p=[0.15, 0.65, 0.2], size=module.weight.shape)
            module.weight.data = torch.from_numpy(weights.astype(np.float32))
            module.bias.data = torch.from_numpy(random.integers(-1, 2, len(module.bias)).astype(np.float32))
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    return network


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr(tasks, "Inference", Exact)
    monkeypatch.setattr(dataset, "grey_scale", lambda grey_zyx: grey_zyx[0] is None or GreyScale(0.0, 1.0, 1.0))
    return trained(whole_number_network())


SIZES = [(1, 193, 250), (2, 177, 40), (1, 30, 355)]
TILES = [1, 192, 240]


@pytest.mark.parametrize("shape_zyx", SIZES)
def test_tiled_equals_untiled_in_exact_arithmetic(exact, shape_zyx):
    grey_zyx = np.random.default_rng(1).integers(0, 8, shape_zyx).astype(np.uint8)
    whole = prediction.segment(grey_zyx, exact)
    assert len(np.unique(whole)) == 3
    for tile_px in TILES:
        np.testing.assert_array_equal(prediction.segment(grey_zyx, exact, options=Options(tile_px=tile_px)), whole)


def test_three_views_with_symmetries_do_not_depend_on_tiles_and_slabs_in_exact_arithmetic(exact, monkeypatch):
    grey_zyx = np.random.default_rng(1).integers(0, 8, (193, 8, 9)).astype(np.uint8)
    options = {"three_views": True, "symmetries": True, "uncertainty": True, "members": True}
    whole = prediction.predict(grey_zyx, exact, options=Options(**options))
    monkeypatch.setattr(planning, "SLAB_SLICES_OF_THREE_VIEWS", 16)
    cut = prediction.predict(grey_zyx, exact, options=Options(**options, tile_px=1))
    np.testing.assert_array_equal(cut.labels_zyx, whole.labels_zyx)
    np.testing.assert_array_equal(cut.uncertainty_zyx, whole.uncertainty_zyx)
    for name, labels_zyx in whole.members.items():
        np.testing.assert_array_equal(cut.members[name], labels_zyx)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape_zyx", SIZES)
def test_tiled_equals_untiled_with_the_kernels_of_this_machine(shape_zyx, precision):
    network = trained(network_after_some_images(4))
    whole = prediction.segment(grey(*shape_zyx), network, device="cpu", options=Options(precision=precision))
    for tile_px in TILES:
        options = Options(precision=precision, tile_px=tile_px)
        tiled = prediction.segment(grey(*shape_zyx), network, device="cpu", options=options)
        assert np.count_nonzero(tiled != whole) == 0


def seen_precision(precision: str) -> str:
    """Leave out bfloat16 where it is emulated: slow, and nothing that "auto" would choose."""
    if precision == "bfloat16" and not devices.choose("cpu").bfloat16:
        pytest.skip("this processor has no instructions for bfloat16")
    return precision


@pytest.fixture(scope="module")
def of_published_width() -> Trained:
    return trained(network_after_some_images(64, n_steps=1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape_zyx", "precision"), [((1, 30, 339), "bfloat16"), ((3, 17, 193), "bfloat16"), ((2, 16, 193), "float32")]
)
def test_at_the_published_width_labels_depend_neither_on_tiles_nor_on_batches(
    of_published_width, shape_zyx, precision, monkeypatch
):
    """At this width a library sums 2048 channels, in blocks that depend on the shape: see `SummedInParts`."""
    seen = seen_precision(precision)
    whole = prediction.segment(grey(*shape_zyx), of_published_width, device="cpu", options=Options(precision=seen))
    assert len(np.unique(whole)) > 1
    for batch_px in (1, 2**19):
        monkeypatch.setattr(planning, "BATCH_PX", {"cpu": batch_px})
        options = Options(precision=seen, tile_px=176)
        cut = prediction.segment(grey(*shape_zyx), of_published_width, device="cpu", options=options)
        assert np.count_nonzero(cut != whole) == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("n_in", "n_out"), [(1024, 64), (256, 3), (64, 128)])
def test_a_pixel_gets_the_same_bits_in_an_image_of_any_size_and_in_any_batch(n_in, n_out, precision):
    torch.manual_seed(0)
    dtype = getattr(torch, seen_precision(precision))
    summed = SummedInParts(nn.Conv2d(n_in, n_out, 3, padding=1), SUMMED_AT_ONCE[dtype])
    summed = summed.to(dtype).to(memory_format=torch.channels_last)
    image = torch.randn(1, n_in, 24, 48).relu().to(dtype)
    with torch.inference_mode():
        whole = summed(image)
        for rows, columns, batch in ((3, 4, 1), (4, 3, 5), (11, 17, 1), (20, 14, 5), (24, 21, 1), (2, 48, 3)):
            cut = summed(image[:, :, :rows, :columns].expand(batch, -1, -1, -1))
            expected = whole[..., : rows - 1, : columns - 1].expand(batch, -1, -1, -1)
            assert torch.equal(cut[..., : rows - 1, : columns - 1], expected)


def test_a_convolution_summed_in_parts_is_that_convolution():
    convolution = nn.Conv2d(7, 4, 5, padding=2).double().requires_grad_(False)
    image = torch.randn(2, 7, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for n_channels in (1, 3, 7, 20):
        torch.testing.assert_close(SummedInParts(convolution, n_channels)(image), convolution(image))


def test_widths_up_to_16_are_summed_in_one_go_in_bfloat16():
    """Their labels are those of torch's own convolutions, bit for bit."""
    network = unet.build(UNetConfig(stem_channels=16), seed=0).eval()
    summed = Inference(network, Device("cpu", bfloat16=True)).network.modules()
    assert {len(module.weights) for module in summed if isinstance(module, SummedInParts)} == {1}


def test_windows_that_are_too_narrow_are_noticed(exact, monkeypatch):
    """The tests above can fail: with half the halo, voxels differ."""
    grey_zyx = np.random.default_rng(1).integers(0, 8, (1, 250, 417)).astype(np.uint8)
    whole = prediction.segment(grey_zyx, exact)
    monkeypatch.setattr(tasks, "halo_px", lambda network: 32)
    assert np.count_nonzero(prediction.segment(grey_zyx, exact, options=Options(tile_px=96)) != whole) > 0


def test_a_folded_network_is_the_same_function():
    network = network_after_some_images(3).double()
    image = torch.randn(2, 5, 48, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(image)
        ready = folded(network).double()
    assert sum(isinstance(module, nn.BatchNorm2d | nn.ConvTranspose2d) for module in ready.modules()) == 0
    with torch.no_grad():
        torch.testing.assert_close(ready(image), expected, rtol=1e-4, atol=1e-5)  # folded in single precision


def test_symmetries_are_eight_different_ones_and_undone():
    from alsiseg.prediction.inference import transformed, transformed_back

    image = torch.arange(12).reshape(1, 1, 3, 4)
    for number in range(8):
        assert torch.equal(transformed_back(transformed(image, number), number), image)
    for one, other in itertools.combinations(range(8), 2):
        a, b = transformed(image, one), transformed(image, other)
        assert a.shape != b.shape or not torch.equal(a, b)
