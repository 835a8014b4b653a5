"""Several processes train one network: each takes its share of every batch, and none can tell the difference.

`torchrun` starts the processes; Lightning Fabric, imported for several processes only, finds each one's device
and opens the connection. What they exchange is written out here, so that the loop stays a loop: sums over
the gradients, and over the statistics of the batch norms.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from alsiseg import devices
from alsiseg.dataset import Draws
from alsiseg.devices import Device


class StoppedElsewhere(RuntimeError):
    """Another process of this training stopped, and has said why."""


class ConnectionLost(StoppedElsewhere):
    """Another process of this training went without a word to this one."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together, as one of them sees them.

    Attributes
    ----------
    rank : int
        Number of this one; the first, 0, evaluates, writes and speaks.
    n : int
    """

    rank: int = 0
    n: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that evaluates, writes and speaks."""
        return self.rank == 0

    def share(self, draws: Draws) -> Draws:
        """Take this process's part of a batch; it may be empty when the batch is small."""
        return draws.share(self.rank, self.n)

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Replace float32 tensors by their sums over all processes, in one exchange."""
        if self.n == 1:
            return
        tensors = list(tensors)
        sums = torch.cat([tensor.reshape(-1) for tensor in tensors])
        _exchange(distributed.all_reduce, sums)
        for tensor, total in zip(tensors, sums.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(total.view(tensor.shape))

    def gather(self, found: Any) -> list[Any]:
        """Collect one object of every process, in the order of their ranks."""
        gathered = [found] * self.n
        if self.n > 1:
            _exchange(distributed.all_gather_object, gathered, found)
        return gathered

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Leave the block on all processes or on none: where one fails, it raises and the others `StoppedElsewhere`.

        The block holds no exchange of its own.
        """
        error = None
        try:
            yield
        except Exception as caught:
            error = caught
        told = self.gather(None if error is None else f"{type(error).__name__}: {error}")
        first = next((rank for rank, sentence in enumerate(told) if sentence is not None), None)
        if error is not None and first == self.rank:
            raise error
        if first is not None:
            raise StoppedElsewhere(f"process {first} of this training stopped ({told[first]})") from error

    def leave(self) -> None:
        """Close the connection; left to the end of the interpreter, its threads could abort the process."""
        if self.n > 1 and distributed.is_initialized():
            distributed.destroy_process_group()


ALONE = Processes()


def _exchange(collective: Any, *arguments: Any) -> None:
    try:
        collective(*arguments)
    except RuntimeError as error:  # the connection is closed: the other process has gone
        raise ConnectionLost("another process of this training stopped; every finished epoch is kept") from error


def join(device: str) -> tuple[Processes, Device]:
    """Join the processes that `torchrun` started, each on a device of its own; alone without torchrun.

    Raises
    ------
    ValueError
        When the device is not there, or there are more processes than GPUs.
    ImportError
        When there are several processes and Lightning Fabric is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not distributed.is_torchelastic_launched():
        return ALONE, devices.choose(device)
    n_here = int(os.environ["LOCAL_WORLD_SIZE"])
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"each of several processes finds a device of its own, got {device!r}; use cuda or cpu")
    if kind == "cuda" and n_here > torch.cuda.device_count():
        raise ValueError(
            f"needs one GPU for each of {n_here} processes, found {torch.cuda.device_count()}; "
            "start fewer or use --device cpu"
        )
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise ImportError(
            "several processes need the package lightning-fabric, found none; pip install 'alsiseg[distributed]'"
        ) from error
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # greetings of each process
    n_machines = int(os.environ["WORLD_SIZE"]) // n_here
    fabric = Fabric(accelerator=kind, devices=n_here, num_nodes=n_machines, strategy="ddp")
    fabric.launch()
    return Processes(fabric.global_rank, fabric.world_size), devices.choose(str(fabric.device))


class _GlobalNormalisation(torch.autograd.Function):
    """Batch norm over the images of all processes, forward and backward, with one exchange each."""

    @staticmethod
    def forward(
        ctx: Any, features_bcyx: Tensor, scale_c: Tensor, shift_c: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n_channels, n_own = features_bcyx.shape[1], features_bcyx.numel() / features_bcyx.shape[1]
        sums = torch.zeros(2 * n_channels + 1, dtype=torch.float64, device=features_bcyx.device)
        if n_own:  # in float64: the variance over all is a small difference of large numbers
            own_variance_c, own_mean_c = torch.var_mean(_wide(features_bcyx), (0, 2, 3), correction=0)
            own_mean_c = own_mean_c.double()
            sums = n_own * torch.cat([own_mean_c, own_variance_c + own_mean_c.square(), torch.ones_like(sums[:1])])
        _exchange(distributed.all_reduce, sums)
        count, mean_c = sums[-1], sums[:n_channels] / sums[-1]
        variance_c = (sums[n_channels:-1] / count - mean_c.square()).clamp(min=0)
        inverse_c = (variance_c + epsilon).rsqrt()
        mean_c, variance_c, inverse_c = (values_c.to(scale_c.dtype) for values_c in (mean_c, variance_c, inverse_c))
        ctx.save_for_backward(features_bcyx, scale_c, mean_c, inverse_c, count)
        normal_bcyx = (features_bcyx - _per_channel(mean_c)) * _per_channel(inverse_c * scale_c)
        result_bcyx = (normal_bcyx + _per_channel(shift_c)).to(features_bcyx.dtype)
        ctx.mark_non_differentiable(mean_c, variance_c, count)
        return result_bcyx, mean_c, variance_c, count

    @staticmethod
    def backward(ctx: Any, gradient_bcyx: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        features_bcyx, scale_c, mean_c, inverse_c, count = ctx.saved_tensors
        axes, n_channels = (0, 2, 3), len(mean_c)
        gradient_bcyx = _wide(gradient_bcyx)
        normal_bcyx = (features_bcyx - _per_channel(mean_c)) * _per_channel(inverse_c)
        own = torch.cat([gradient_bcyx.sum(axes), (gradient_bcyx * normal_bcyx).sum(axes)])
        sums = own.clone()
        _exchange(distributed.all_reduce, sums)
        mean_of_gradient_c, slope_c = (sums / count).to(mean_c.dtype).split(n_channels)
        inner_bcyx = gradient_bcyx - _per_channel(mean_of_gradient_c) - normal_bcyx * _per_channel(slope_c)
        features_gradient = (inner_bcyx * _per_channel(scale_c * inverse_c)).to(features_bcyx.dtype)
        return features_gradient, own[n_channels:], own[:n_channels], None


def _wide(values: Tensor) -> Tensor:
    """Sums and differences are float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _per_channel(values_c: Tensor) -> Tensor:
    return values_c[None, :, None, None]


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics in training are those of the whole batch, not of one process's share.

    Its tensors are those of torch's batch norm, and so are its numbers but for rounding. torch's own
    `SyncBatchNorm` refuses the CPU and waits for the GPU in every layer.
    """

    def forward(self, features_bcyx: Tensor) -> Tensor:
        """Normalise; a process without images takes part in the exchange."""
        if not self.training:
            return super().forward(features_bcyx)
        result_bcyx, mean_c, variance_c, count = _GlobalNormalisation.apply(
            features_bcyx, self.weight, self.bias, self.eps
        )
        running = self.running_mean, self.running_var, self.num_batches_tracked
        mean, variance, n_batches = (tensor for tensor in running if tensor is not None)
        with torch.no_grad():
            mean.lerp_(mean_c, self.momentum or 0)
            variance.lerp_(variance_c * (count / (count - 1)).to(variance_c.dtype), self.momentum or 0)
            n_batches += 1
        return result_bcyx


def share_statistics(network: nn.Module, processes: Processes) -> None:
    """Let the batch norms of `network` see the whole batch of several processes; names in its state stay."""
    if processes.n == 1:
        return
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                shared = GlobalBatchNorm(child.num_features, child.eps, child.momentum).to(child.weight)
                shared.load_state_dict(child.state_dict())
                setattr(parent, name, shared)
