"""Times, operations and ceilings: what the two training benchmarks measure with.

Work on a GPU runs on after the call that started it, so times there come from events of the device; on a CPU they
come from the clock. Every time is taken after a warm-up and reported as a median with its spread.
"""

import math
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

TERA, GIGA = 1e12, 1e9
# Dense bfloat16 TFLOP/s by the vendor's datasheets, without sparsity; the first found in the card's name counts.
DATASHEET_TFLOPS = {
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H200": 989,
    "GH200": 989,
    "B200": 2250,
    "A100": 312,
    "A40": 150,
    "A30": 165,
    "A10": 125,
    "RTX A6000": 155,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
}


def datasheet_tflops(card: str) -> float | None:
    """Dense bfloat16 TFLOP/s of a card by its name, None for one that is not in the table."""
    found = (float(peak) for name, peak in DATASHEET_TFLOPS.items() if re.search(rf"\b{name}\b", card))
    return next(found, None)


def synchronise(device: str) -> None:
    """Wait for the device's work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


@dataclass
class Marks:
    """Moments in the work of a device, and the seconds between them."""

    device: str
    _moments: list[tuple[str, Any]] = field(default_factory=list)

    def mark(self, name: str) -> None:
        """Note the moment at which the work called `name`, given since the last mark, is done."""
        if self.device.startswith("cuda"):
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._moments.append((name, event))
        else:
            self._moments.append((name, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Seconds of each piece of work in order; the first mark only starts the clock."""
        synchronise(self.device)
        pairs = zip(self._moments, self._moments[1:], strict=False)
        return {name: _between(start, stop) for (_, start), (name, stop) in pairs}


def _between(start: Any, stop: Any) -> float:
    return start.elapsed_time(stop) / 1e3 if isinstance(start, torch.cuda.Event) else stop - start


@dataclass(frozen=True)
class Timed:
    """Median, least and most seconds of equal pieces of work, and the host's processor time where it was taken."""

    median_s: float
    least_s: float
    most_s: float
    n: int
    processor_s: float = math.nan

    @classmethod
    def of(cls, seconds: list[float], processor_s: float = math.nan) -> "Timed":
        """Sum up single times."""
        return cls(statistics.median(seconds), min(seconds), max(seconds), len(seconds), processor_s)


def timed(work: Callable[[], Any], device: str, *, n: int = 20, n_warm_up: int = 3) -> Timed:
    """Time `work` on a device `n` times after a warm-up, each on its own."""
    for _ in range(n_warm_up):
        work()
    all_marks = [Marks(device) for _ in range(n)]
    for marks in all_marks:
        marks.mark("start")
        work()
        marks.mark("work")
    return Timed.of([marks.seconds()["work"] for marks in all_marks])


def matmul_tflops(device: str, dtype: torch.dtype, n: int) -> float:
    """Measured ceiling of arithmetic: TFLOP/s of a product of two random n x n matrices (zeros would run faster)."""
    first, second = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(first)
    return 2 * n**3 / timed(lambda: torch.matmul(first, second, out=out), device).median_s / TERA


def copy_gb_per_s(device: str, n_bytes: int) -> float:
    """Measured ceiling of memory: GB/s of a copy on the device, bytes read and written counted."""
    source = torch.randint(0, 256, (n_bytes,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * n_bytes / timed(lambda: target.copy_(source), device).median_s / GIGA


def forward_flops(network: nn.Module, image_cyx: Tensor) -> int:
    """Floating-point operations of a forward pass of one image (C, Y, X), counted by torch."""
    was_training = network.training
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image_cyx[None])
    network.train(was_training)
    return counter.get_total_flops()


def training_flops(network: nn.Module, image_cyx: Tensor) -> int:
    """Floating-point operations of forward and backward of one image: what the model needs, nothing recomputed."""
    was_training = network.training
    network.eval()  # batch statistics stay as they are; the convolutions are the same
    with FlopCounterMode(display=False) as counter:
        network(image_cyx[None]).sum().backward()
    network.train(was_training)
    network.zero_grad(set_to_none=True)
    return counter.get_total_flops()
