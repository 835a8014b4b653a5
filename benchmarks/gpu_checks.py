"""Whether a device computes what the CPU computes in float64: small inputs, drawn anew, every part of a training step.

Errors are relative, |out - reference| / |reference| over all elements; whole numbers must be equal (tolerance 0).
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from random_phases import network_of, smooth_labels
from skimage.measure import euler_number
from torch import Tensor

from alsiseg import dataset, devices, loss, training, unet, weightmaps
from alsiseg.dataset import LabelledVolume
from alsiseg.devices import Device
from alsiseg.phantom import imaging
from alsiseg.phantom.materials import Variant
from alsiseg.phantom.microstructure import Microstructure
from alsiseg.phases import NETWORKS, Phase
from alsiseg.topology import tensors
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNet, UNetConfig
from alsiseg.weightmaps import PixelWeights

SIZE = (12, 96, 112)  # of the little volume, z, y, x
CROP_PX, BATCH = 64, 6
# Largest relative errors of logits and of gradients. A maximum that changes place by rounding moves the gradient by
# 1e-3 in any precision; eleven layers in bfloat16 give 0.014 and 0.02 on a CPU.
FLOAT32, FLOAT32_GRADIENT = 1e-4, 5e-3
SCAN = 1e-3  # of grey values less their mean, which are kept in whole numbers
TF32, TF32_GRADIENT = 1e-2, 5e-2
BFLOAT16, BFLOAT16_GRADIENT = 5e-2, 1e-1


@dataclass(frozen=True)
class Check:
    """One comparison; NaN never passes."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is small enough."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        return f"{'passed' if self.passed else 'FAILED'}  {self.name}: {self.error:.2g}, at most {self.tolerance:.2g}"


def relative_error(out: Tensor, reference: Tensor) -> float:
    """Norm of the difference over the norm of the reference, in float64."""
    out, reference = (t.detach().cpu().double() for t in (out, reference))
    return float((out - reference).norm() / reference.norm())


def n_different(out: Tensor, reference: Tensor) -> float:
    """Number of elements that differ."""
    return float((out.cpu() != reference.cpu()).sum())


@dataclass(frozen=True)
class Little:
    """A little volume with smooth random phases, on the CPU, and the draws of one batch."""

    grey_zyx: NDArray[np.float64]
    volume: LabelledVolume
    draws: dataset.Draws

    @classmethod
    def drawn(cls, seed: int, *, n_slices: int = SIZE[0]) -> "Little":
        """Draw the volume; every seed gives another."""
        shape_zyx = (n_slices, *SIZE[1:])
        labels_zyx = smooth_labels(shape_zyx, torch.Generator().manual_seed(seed))
        grey_zyx = labels_zyx.numpy() * 1000.0 + np.random.default_rng(seed).normal(0, 300, shape_zyx)
        scale = dataset.grey_scale(grey_zyx)
        volume = dataset.labelled_volume(grey_zyx, labels_zyx.numpy(), PixelWeights(), scale)
        augmentation = dataset.Augmentation(probability=1.0)
        draws = dataset.draw_epoch(range(2, SIZE[0] - 2), augmentation, seed=seed, epoch=1, n_images=BATCH)
        return cls(grey_zyx, volume, draws)

    def batch(self, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Cut and change the batch on a device, the grey values in `dtype`."""
        volume = self.volume.to(device)
        volume = replace(volume, grey_zyx=volume.grey_zyx.to(dtype))
        return dataset.training_batch(volume, self.draws, crop=CROP_PX, n_slices=5, normalised_range=4.0)


def all_checks(on: Device, seed: int) -> Iterator[Check]:
    """Run every check on a device; one that cannot be made at all has failed, and says why."""
    little = Little.drawn(seed)
    checkers = {
        "batches": partial(check_batches, little, on),
        "weights": partial(check_weights, little, on),
        "loss": partial(check_loss, on, seed),
        "network": partial(check_network, little, on, seed),
        "topology": partial(check_topology, on, seed),
        "scan": partial(check_scan, on, seed),
        "deterministic training": partial(check_repeatable, on, seed),
    }
    for name, checker in checkers.items():
        try:
            yield from checker()
        except Exception as error:  # the other checks are still worth their time
            yield Check(f"{name}: {type(error).__name__}, {' '.join(str(error).split())[:200]}", math.nan, 0)


def check_batches(little: Little, on: Device) -> Iterator[Check]:
    """Cut, turned and changed images: grey close, labels and weights equal."""
    expected = little.batch("cpu", torch.float64)
    found = little.batch(on.name, torch.float32)
    yield Check("batch: grey", relative_error(found[0], expected[0]), FLOAT32)
    yield Check("batch: labels that differ", n_different(found[1], expected[1]), 0)
    yield Check("batch: weights that differ", n_different(found[2], expected[2]), 0)


def check_weights(little: Little, on: Device) -> Iterator[Check]:
    """Weight maps made on the device: equal to those made by NumPy."""
    labels_zyx = little.volume.labels_zyx
    expected = torch.from_numpy(weightmaps.weight_map(labels_zyx.numpy(), PixelWeights()))
    found = weightmaps.weight_tensor(labels_zyx.to(on.name), PixelWeights())
    yield Check("weight_tensor: weights that differ", n_different(found, expected), 0)


def check_loss(on: Device, seed: int) -> Iterator[Check]:
    """Loss and its gradient, from random logits."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(BATCH, len(Phase), CROP_PX, CROP_PX, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, len(Phase), (BATCH, CROP_PX, CROP_PX), generator=generator)
    weight = 1 + torch.rand(labels.shape, generator=generator, dtype=torch.float64)

    def work(device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        given = logits.to(device, dtype).requires_grad_()
        value = loss.weighted_nll(given, labels.to(device), weight.to(device, dtype))
        return value, torch.autograd.grad(value, given)[0]

    expected, found = work("cpu", torch.float64), work(on.name, torch.float32)
    for name, one, other in zip(("loss", "loss: gradient"), found, expected, strict=True):
        yield Check(name, relative_error(one, other), FLOAT32)


def check_network(little: Little, on: Device, seed: int) -> Iterator[Check]:
    """Logits and gradient of a small network with dropout: float32, tf32 and bfloat16 where the device has them."""
    network = unet.build(UNetConfig(stem_channels=8), seed=seed)
    batch = (*little.batch("cpu", torch.float64), torch.as_tensor(little.draws.noise_key))
    expected = _pass(network.double(), Device("cpu", bfloat16=False), batch)
    precisions = [("float32", False, False, FLOAT32, FLOAT32_GRADIENT)]
    if on.name.startswith("cuda"):
        precisions.append(("tf32", True, False, TF32, TF32_GRADIENT))
    if on.bfloat16:
        precisions.append(("bfloat16", True, True, BFLOAT16, BFLOAT16_GRADIENT))
    for name, tf32, bfloat16, tolerance, of_gradient in precisions:
        with tf32_convolutions(tf32):
            found = _pass(network.float(), replace(on, bfloat16=bfloat16), batch)
        yield Check(f"network, {name}: logits", relative_error(found[0], expected[0]), tolerance)
        yield Check(f"network, {name}: gradient", relative_error(found[1], expected[1]), of_gradient)


@contextmanager
def tf32_convolutions(allowed: bool) -> Iterator[None]:
    """Let float32 convolutions of a GPU round their operands to tf32, or not."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _pass(network: UNet, on: Device, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of the loss by all parameters in one vector, of a copy of the network."""
    here = on.place(copy.deepcopy(network)).train()
    grey, labels, weight, keys = (t.to(on.name) for t in batch)
    with on.autocast():
        logits = here(on.images(grey.to(next(here.parameters()).dtype)), keys)
    value = loss.weighted_nll(logits, labels, weight) / labels[0].numel()
    value.backward()
    return logits, torch.cat([p.grad.flatten() for p in here.parameters() if p.grad is not None])


def check_topology(on: Device, seed: int) -> Iterator[Check]:
    """Euler numbers of a tensor, three networks by 26 and by 6: those of scikit-image."""
    labels_zyx = smooth_labels(SIZE, torch.Generator().manual_seed(seed + 1))
    for name in NETWORKS:
        mask_zyx = network_of(labels_zyx, name)
        for connectivity, by_skimage in ((26, 3), (6, 1)):
            found = tensors.euler_number_on_device(mask_zyx.to(on.name), connectivity)
            expected = int(euler_number(mask_zyx.numpy(), connectivity=by_skimage))
            yield Check(f"Euler number of {name} by {connectivity}: difference", abs(found - expected), 0)


def check_scan(on: Device, seed: int) -> Iterator[Check]:
    """Grey values of a simulated scan: those of the CPU, which computes it in float32 too."""
    labels_zyx = smooth_labels((16, 32, 40), torch.Generator().manual_seed(seed)).numpy()
    constituents = np.array([Variant.AL, Variant.SI, Variant.AL7CU4NI], dtype=np.uint8)
    specimen = Microstructure.sharp(labels_zyx, constituents[labels_zyx], voxel_size_um=1.2)
    settings = imaging.DIFFICULTIES["clean"]["synchrotron"].with_angles(24)
    found, expected = (
        torch.from_numpy(imaging.scan(specimen, "synchrotron", settings, seed=seed, device=name).astype(np.float64))
        for name in (on.name, "cpu")
    )
    yield Check("scan: grey", relative_error(found - expected.mean(), expected - expected.mean()), SCAN)


def check_repeatable(on: Device, seed: int) -> Iterator[Check]:
    """Weights after the same short training twice with deterministic kernels: equal."""
    little = Little.drawn(seed, n_slices=40)
    config = TrainingConfig(
        unet=UNetConfig(stem_channels=4), batch=4, crop_px=CROP_PX, images_per_epoch=12, seed=seed, deterministic=True
    )
    task = training.prepare(little.grey_zyx, little.volume.labels_zyx.numpy(), config).to(on.name)
    states = []
    with devices.kernels(deterministic=True):
        for _ in range(2):
            network = on.place(unet.build(config.unet, seed=seed))
            training.train_epoch(network, training.adam(network, config, on), task, 1, on)
            states.append(torch.cat([value.flatten().double() for value in network.state_dict().values()]))
    yield Check("deterministic training twice: numbers that differ", n_different(*states), 0)
