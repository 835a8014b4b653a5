"""Where the network runs and in which precision: chosen once, passed on."""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Device:
    """A device and the precision of the convolutions on it.

    Attributes
    ----------
    name : str
        As torch names it: "cpu", "cuda", "cuda:1", "mps".
    bfloat16 : bool
        Convolutions in bfloat16 under autocast; loss, batch statistics and weights stay float32.
    """

    name: str
    bfloat16: bool

    @property
    def type(self) -> str:
        """Kind of device: "cpu", "cuda", "mps"."""
        return torch.device(self.name).type

    def autocast(self) -> AbstractContextManager:
        """Run the block's convolutions in the chosen precision."""
        return torch.autocast(self.type, torch.bfloat16, enabled=self.bfloat16)

    def place(self, module: Network) -> Network:
        """Move a network here, channels last (the layout the convolution kernels want)."""
        return module.to(self.name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def images(self, images_bcyx: Tensor) -> Tensor:
        """Move images here, channels last."""
        return images_bcyx.to(self.name, memory_format=torch.channels_last)

    def free(self) -> None:
        """Give memory back that torch holds for later, so that it can be had in other pieces."""
        if self.type == "cuda":
            torch.cuda.empty_cache()

    def __str__(self) -> str:
        return f"{self.name}, {'bfloat16' if self.bfloat16 else 'float32'}"


def clock(name: str) -> float:
    """Seconds that a device has worked: of this process on a CPU, whoever else uses it; of the clock elsewhere."""
    return time.process_time() if name == "cpu" else time.perf_counter()


def choose(name: str = "auto") -> Device:
    """Choose a device: "auto" takes a CUDA GPU, then an Apple GPU, then the CPU.

    Raises
    ------
    ValueError
        When the device asked for is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name).tolist()  # reading it back fails on "meta", which computes nothing
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {name!r} is not available here; use auto or cpu") from error
    return Device(name, _has_fast_bfloat16(name))


def _has_fast_bfloat16(name: str) -> bool:
    """Whether bfloat16 runs on instructions of its own; emulated it would be slower than float32."""
    if name.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return name == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


@contextmanager
def kernels(*, deterministic: bool) -> Iterator[None]:
    """Within the block, let torch use the same kernels every time, or on a GPU those that it finds fastest.

    With `deterministic`, torch raises RuntimeError for an operation of which it has no such kernel.
    """
    was_deterministic, was_benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may sum in any order
        torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic, warn_only=warned_only)
        torch.backends.cudnn.benchmark = was_benchmark
