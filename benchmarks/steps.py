"""A training step taken apart, in the variants that are compared: precision, layout, padding, compiling, CUDA graphs.

The step is that of `training.train_epoch`, written out so that a clock can stand between its parts; what that loop does
beside (it watches for losses that are not finite) is in `whole_loop`.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from measuring import Marks, Timed, synchronise
from torch import Tensor, nn

from alsiseg import devices, training, unet
from alsiseg.dataset import Draws
from alsiseg.devices import Device
from alsiseg.training import Task

PARTS = ("data", "forward", "loss", "backward", "optimiser")
PADDED_CHANNELS = 8  # what a tensor core reads at once in bfloat16: 16 bytes


@dataclass(frozen=True)
class Variant:
    """How a step is computed.

    Attributes
    ----------
    name : str
    ours : bool
        Precision, layout, kernels and optimiser as the library chooses them; otherwise as torch does by default:
        float32, NCHW.
    padded : bool
        Input channels filled up with zeros to a multiple of 8.
    dropout : bool
        Left out only to see what it costs.
    compiled : str or None
        Mode of torch.compile; "graph" captures the whole step, uncompiled, in a CUDA graph.
    """

    name: str
    ours: bool = True
    padded: bool = False
    dropout: bool = True
    compiled: str | None = None


PLAIN = Variant("plain float32 NCHW loop", ours=False)
OURS = Variant("bfloat16, channels last, fused Adam")
GPU_VARIANTS = (  # in the order of their worth, should time be short
    OURS,
    replace(OURS, name="the same with torch.compile", compiled="default"),
    replace(OURS, name="the same, input padded to 8 channels", padded=True),
    PLAIN,
    replace(OURS, name="the same without dropout", dropout=False),
    replace(OURS, name="torch.compile with CUDA graphs", compiled="reduce-overhead"),
    replace(OURS, name="a step in one CUDA graph, not compiled", compiled="graph"),
    replace(OURS, name="torch.compile, input padded", compiled="default", padded=True),
)


class Steps:
    """A network in training, one step at a time, in one variant."""

    def __init__(self, task: Task, device: str, variant: Variant, *, backend: str = "inductor") -> None:
        chosen = devices.choose(device)
        self.variant, self.task = variant, task.to(chosen.name)
        self.on = chosen if variant.ours else Device(chosen.name, bfloat16=False)
        shape = task.config.unet if variant.dropout else replace(task.config.unet, dropout=0.0)
        network = unet.build(shape, seed=task.config.seed)
        if variant.padded:
            pad_stem(network)
        self.network = (self.on.place(network) if variant.ours else network.to(chosen.name)).train()
        self.optimiser = self._optimiser()
        self.forward: Callable[[Tensor, Tensor], Tensor] = self.network
        if variant.compiled in ("default", "reduce-overhead"):
            options: dict[str, Any] = {"mode": variant.compiled} if backend == "inductor" else {"backend": backend}
            self.forward = torch.compile(self.network, dynamic=False, **options)
        self._batches = self._endless()

    def _optimiser(self) -> torch.optim.Adam:
        if self.variant.ours and self.variant.compiled != "graph":
            return training.adam(self.network, self.task.config, self.on)
        config = self.task.config
        options: dict[str, Any] = {"fused": True, "capturable": True} if self.variant.ours else {}
        return torch.optim.Adam(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            amsgrad=True,
            **options,
        )

    def _endless(self) -> Iterator[Draws]:
        """Full batches of one epoch after the other."""
        epoch = 0
        while True:
            epoch += 1
            for draws in self.task.draws(epoch).batches(self.task.config.batch):
                if len(draws) == self.task.config.batch:
                    yield draws

    def batch(self) -> tuple[Tensor, ...]:
        """Cut and change the next batch on the device: grey laid out for the network, labels, weights, dropout keys."""
        draws = next(self._batches)
        grey, labels, weight = self.task.images(draws)
        if self.variant.padded:
            grey = nn.functional.pad(grey, (0, 0, 0, 0, 0, PADDED_CHANNELS - grey.shape[1]))
        grey = self.on.images(grey) if self.variant.ours else grey.contiguous()
        return grey, labels, weight, torch.from_numpy(draws.noise_key).to(self.on.name, non_blocking=True)

    def learn(self, batch: tuple[Tensor, ...], mark: Callable[[str], None]) -> Tensor:
        """Forward, loss, backward and optimiser; returns the loss."""
        grey, labels, weight, keys = batch
        with self.on.autocast():
            logits = self.forward(grey, keys)
        mark("forward")
        value = self.task.loss(logits, labels, weight)
        mark("loss")
        self.optimiser.zero_grad()
        value.backward()
        mark("backward")
        self.optimiser.step()
        mark("optimiser")
        return value

    def step(self, mark: Callable[[str], None]) -> Tensor:
        """One step of the training, `mark` called after each of its `PARTS`."""
        batch = self.batch()
        mark("data")
        if self.variant.compiled == "graph":
            return self._graph.replay(batch, mark)
        return self.learn(batch, mark)

    @cached_property
    def _graph(self) -> "CapturedStep":
        return CapturedStep(self)

    def kernels(self) -> AbstractContextManager:
        """Choose the kernels as the library does, or leave that to torch."""
        return devices.kernels(deterministic=False) if self.variant.ours else nullcontext()


class CapturedStep:
    """Everything of a step but its data in one CUDA graph; its parts cannot be told apart."""

    N_WARM_UP = 3  # torch asks for a few on another stream before a capture

    def __init__(self, steps: Steps) -> None:
        self.inputs = tuple(t.clone(memory_format=torch.preserve_format) for t in steps.batch())
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(self.N_WARM_UP):
                steps.learn(self.inputs, unmarked)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        steps.optimiser.zero_grad()
        with torch.cuda.graph(self.graph):
            self.value = steps.learn(self.inputs, unmarked)

    def replay(self, batch: tuple[Tensor, ...], mark: Callable[[str], None]) -> Tensor:
        """Run the captured step on a batch."""
        for here, given in zip(self.inputs, batch, strict=True):
            here.copy_(given)
        mark("copy into the graph")
        self.graph.replay()
        mark("graph")
        return self.value


def unmarked(name: str) -> None:
    """Stand where no clock is wanted."""


def pad_stem(network: nn.Module) -> None:
    """Let the first convolution take channels of zeros too; the weights of the real ones stay."""
    stem = network.get_submodule("stem.0")
    assert isinstance(stem, nn.Conv2d)
    assert stem.bias is not None
    wide = nn.Conv2d(PADDED_CHANNELS, stem.out_channels, stem.kernel_size, padding=stem.padding)  # type: ignore[arg-type]
    assert wide.bias is not None
    with torch.no_grad():
        wide.weight.zero_()
        wide.weight[:, : stem.in_channels] = stem.weight
        wide.bias.copy_(stem.bias)
    network.get_submodule("stem")[0] = wide  # type: ignore[index]


@dataclass(frozen=True)
class Breakdown:
    """Where the time of a step goes.

    Attributes
    ----------
    step : Timed
        Whole steps, one after the other.
    parts_s : dict
        Median seconds of each part.
    losses : tuple of float
        Of the first and the last step, as a sign of life.
    processor_s : float
        Time of all processors of the host for a step.
    """

    step: Timed
    parts_s: dict[str, float]
    losses: tuple[float, float]
    processor_s: float

    @property
    def data_share(self) -> float:
        """Part of a step that goes into its images."""
        return self.parts_s["data"] / sum(self.parts_s.values())


def measure(steps: Steps, *, n: int, n_warm_up: int = 3) -> Breakdown:
    """Time `n` steps after a warm-up; the host runs ahead of the device, as in training."""
    with steps.kernels():
        losses = [float(steps.step(unmarked).detach()) for _ in range(n_warm_up)]
        every, last, began = [], torch.zeros(()), time.process_time()
        for _ in range(n):
            marks = Marks(steps.on.name)
            marks.mark("start")
            last = steps.step(marks.mark)
            every.append(marks)
        parts = [marks.seconds() for marks in every]
        processor_s = (time.process_time() - began) / n
    medians = {name: Timed.of([one[name] for one in parts]).median_s for name in parts[0]}
    whole = Timed.of([sum(one.values()) for one in parts])
    return Breakdown(whole, medians, (losses[0], float(last.detach())), processor_s)


def whole_loop(task: Task, on: Device, *, n_epochs: int = 2, backend: str | None = None) -> Timed:
    """Seconds of each epoch by `training.train_epoch` itself, after one that warms up.

    With a `backend` the network is compiled, as `training.train` does where that pays.
    """
    task = task.to(on.name)
    network = on.place(unet.build(task.config.unet, seed=task.config.seed))
    if backend is not None:
        network.compile(backend=backend)
    optimiser = training.adam(network, task.config, on)
    seconds, processor_s = [], 0.0
    with devices.kernels(deterministic=False):
        for epoch in range(1, n_epochs + 2):
            synchronise(on.name)
            began, processors_began = time.perf_counter(), time.process_time()
            training.train_epoch(network, optimiser, task, epoch, on)
            synchronise(on.name)
            seconds.append(time.perf_counter() - began)
            processor_s = time.process_time() - processors_began
    return Timed.of(seconds[1:], processor_s)
