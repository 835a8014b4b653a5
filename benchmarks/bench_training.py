"""Measure training beside a plain loop and beside MONAI, the same network on the same specimen, in one run.

    python benchmarks/bench_training.py [--width 8] [--crop 256] [--batch 25] [--steps 3] [--repeats 2]

Every measurement runs in a process of its own, the loops take turns, and each is warmed up before the clock starts.
Peak memory is what the process grew by over what it held before the training was set up. The share of the peak counts
the operations that the network needs, as torch counts them, beside a large product of matrices in the same precision.
Compare ratios, not machines. MONAI and pytorch-ignite are measured where they are installed. Writes
`benchmarks/RESULTS_training.md`.
"""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from measuring import GIGA, TERA, matmul_tflops, training_flops
from random_phases import phases_with_noise
from steps import OURS, PARTS, PLAIN, Steps, Variant, measure, whole_loop

from alsiseg import devices, training, unet
from alsiseg.training import Task, TrainingConfig
from alsiseg.unet import UNetConfig

RESULTS = Path(__file__).parent / "RESULTS_training.md"
N_SLICES, MARGIN_PX = 40, 32
MATMUL_N = 2048
LOOPS = {
    "alsiseg": "`training.train_epoch`",
    "plain": "plain loop: float32, NCHW, torch's Adam, the same images",
    "monai": "MONAI: its transforms, CacheDataset, ThreadDataLoader, SupervisedTrainer",
}
Measured = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is trained, and for how many steps."""

    width: int = 8
    crop_px: int = 256
    batch: int = 25
    n_steps: int = 3
    seed: int = 0

    @property
    def n_images(self) -> int:
        """Images that are timed."""
        return self.batch * self.n_steps

    def task(self) -> Task:
        """Prepare random smooth phases with noise for training: nothing here depends on what is learnt."""
        shape_zyx = (N_SLICES, self.crop_px + MARGIN_PX, self.crop_px + MARGIN_PX)
        config = TrainingConfig(
            unet=UNetConfig(stem_channels=self.width),
            crop_px=self.crop_px,
            batch=self.batch,
            images_per_epoch=self.n_images,
            seed=self.seed,
        )
        return training.prepare(*phases_with_noise(shape_zyx, self.seed), config)


def measure_job(job: str, setting: Setting) -> Measured:
    """Time one thing in this process, from its first breath on."""
    if job == "matmul":
        return {name: matmul_tflops("cpu", getattr(torch, name), MATMUL_N) for name in ("bfloat16", "float32")}
    if job == "monai":
        import peer_monai  # noqa: F401 - its own memory is not that of a training
    task = setting.task()
    before = peak_bytes()
    found = {"alsiseg": ours, "alsiseg parts": ours_in_parts, "plain": plain, "monai": monai}[job](task, setting)
    return found | {"extra_bytes": peak_bytes() - before}


def ours(task: Task, setting: Setting) -> Measured:
    """Time the library's loop as a whole."""
    on = devices.choose("cpu")
    taken = whole_loop(task, on, n_epochs=1)
    return {
        "step_s": taken.median_s / setting.n_steps,
        "processor_s": taken.processor_s / setting.n_steps,
        "precision": "bfloat16" if on.bfloat16 else "float32",
    }


def ours_in_parts(task: Task, setting: Setting) -> Measured:
    """Time the parts of the library's step."""
    return in_parts(task, setting, OURS)


def plain(task: Task, setting: Setting) -> Measured:
    """Time the same images in a loop as torch makes it by default."""
    return in_parts(task, setting, PLAIN) | {"precision": "float32"}


def in_parts(task: Task, setting: Setting, variant: Variant) -> Measured:
    """Time a step and its parts."""
    taken = measure(Steps(task, "cpu", variant), n=setting.n_steps, n_warm_up=1)
    return {
        "step_s": taken.step.median_s,
        "processor_s": taken.processor_s,
        "parts_s": taken.parts_s,
        "losses": taken.losses,
    }


def monai(task: Task, setting: Setting) -> Measured:
    """Time MONAI's loop, after its first step."""
    import peer_monai

    steps, losses, processor_s = peer_monai.measured_steps(task, setting.n_steps + 1)
    parts_s = {name: statistics.median(step[name] for step in steps[1:]) for name in PARTS}
    step_s = statistics.median(sum(step.values()) for step in steps[1:])
    return {
        "step_s": step_s,
        "processor_s": processor_s,
        "parts_s": parts_s,
        "losses": (losses[0], losses[-1]),
        "precision": "float32",
    }


def peak_bytes() -> int:
    """Most memory that this process has held (ru_maxrss would count that of its parent at the start, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def in_child(job: str, setting: Setting) -> Measured:
    """Measure in a fresh process."""
    given = [f"--{name}={value}" for name, value in options_of(setting).items()]
    ended = subprocess.run(
        [sys.executable, __file__, "--child", job, *given], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(ended.stderr)
    return json.loads(ended.stdout.splitlines()[-1])


def options_of(setting: Setting) -> dict[str, int]:
    """Options that make a child take the same setting."""
    names = {"width": "width", "crop": "crop_px", "batch": "batch", "steps": "n_steps", "seed": "seed"}
    return {option: getattr(setting, name) for option, name in names.items()}


def measured(setting: Setting, n_repeats: int) -> dict[str, list[Measured]]:
    """Let the loops take turns, each in a process of its own."""
    with_peer = [loop for loop in LOOPS if loop != "monai" or peer_is_there()]
    jobs = ["alsiseg parts", *["matmul", *with_peer] * n_repeats]
    found: dict[str, list[Measured]] = {}
    for job in jobs:
        found.setdefault(job, []).append(in_child(job, setting))
        print(job, found[job][-1], flush=True)
    return found


def peer_is_there() -> bool:
    """Whether MONAI and what its trainer needs are installed."""
    return all(find_spec(name) is not None for name in ("monai", "ignite"))


def report(setting: Setting, found: dict[str, list[Measured]], load: float) -> Iterator[str]:
    """Write what was measured."""
    gflop = training_gflop(setting)
    yield "# Training, measured by `make bench`\n"
    yield conditions(load) + "\n"
    yield (
        f"Width {setting.width}, batches of {setting.batch} images of {setting.crop_px} x {setting.crop_px} pixels, "
        f"{setting.n_steps} steps after a first one, {len(found['alsiseg'])} times in turn; "
        f"{gflop:.2f} GFLOP an image forward and backward, counted by torch. A product of random {MATMUL_N}² matrices "
        f"reaches {product(found, 'bfloat16'):.3f} TFLOP/s in bfloat16 and {product(found, 'float32'):.3f} in "
        "float32, at best.\n"
    )
    yield "| loop | precision | images/s | least to most | alsiseg / loop | processor time | of product | memory |"
    yield "|---|---|---|---|---|---|---|---|"
    for loop, name in LOOPS.items():
        yield row_of(name, setting, found, loop, gflop)
    yield "\nMilliseconds of a step:\n"
    yield f"| loop | {' | '.join(PARTS)} |"
    yield "|---" * (1 + len(PARTS)) + "|"
    for job, name in (("alsiseg parts", LOOPS["alsiseg"]), ("plain", "plain loop"), ("monai", "MONAI")):
        if job in found:
            parts_s = found[job][-1]["parts_s"]
            yield f"| {name} | {' | '.join(f'{1e3 * parts_s[part]:.0f}' for part in PARTS)} |"
    yield (
        "\nProcessor time is that of all threads of the process, and hardly depends on what else runs on the machine. "
        "Memory is what the process grew by over the prepared specimen. MONAI's thread makes the next images while a "
        "step computes; its crops lie anywhere in the slice."
    )


def product(found: dict[str, list[Measured]], precision: str) -> float:
    """TFLOP/s of the product of matrices in its best turn."""
    return max(one[precision] for one in found["matmul"])


def row_of(name: str, setting: Setting, found: dict[str, list[Measured]], loop: str, gflop: float) -> str:
    """One loop beside ours."""
    if loop not in found:
        return f"| {name} | - | not installed | | | | | |"
    rates = [setting.batch / one["step_s"] for one in found[loop]]
    rate, ours_rate = (
        setting.batch / statistics.median(one["step_s"] for one in found[which]) for which in (loop, "alsiseg")
    )
    processor_s, ours_processor_s = (
        statistics.median(one["processor_s"] for one in found[which]) for which in (loop, "alsiseg")
    )
    precision = found[loop][0]["precision"]
    share = rate * gflop * GIGA / TERA / product(found, precision)
    memory = max(one["extra_bytes"] for one in found[loop]) / 1e6
    return (
        f"| {name} | {precision} | {rate:.2f} | {min(rates):.2f} to {max(rates):.2f} | {ours_rate / rate:.2f} | "
        f"{processor_s / ours_processor_s:.2f} | {100 * share:.0f} % | {memory:.0f} MB |"
    )


def training_gflop(setting: Setting) -> float:
    """Operations of an image forward and backward, in 10⁹."""
    with torch.device("meta"):
        network = unet.UNet(UNetConfig(stem_channels=setting.width))
        image = torch.empty(network.config.n_slices, setting.crop_px, setting.crop_px)
        return training_flops(network, image) / GIGA


def conditions(load: float) -> str:
    """Say what the numbers were measured with."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    tools = [tool for tool in ("torch", "numpy", "monai", "pytorch-ignite") if is_installed(tool)]
    versions = ", ".join(f"{tool} {version(tool)}" for tool in tools)
    return (
        f"{model}, {len(os.sched_getaffinity(0))} processors, "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}. "
        f"Load of the machine when the run began: {load:.1f}."
    )


def is_installed(distribution: str) -> bool:
    """Whether a distribution of that name is there."""
    try:
        return bool(version(distribution))
    except PackageNotFoundError:
        return False


def main() -> None:
    given = arguments()
    setting = Setting(given.width, given.crop, given.batch, given.steps, given.seed)
    if given.child is not None:
        print(json.dumps(measure_job(given.child, setting)))
        return
    load = os.getloadavg()[0]
    lines = list(report(setting, measured(setting, given.repeats), load))
    print("\n".join(lines))
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=8, help="channels of the first convolution; 64 as published")
    parser.add_argument("--crop", type=int, default=256, help="edge of the images in pixels")
    parser.add_argument("--batch", type=int, default=25, help="images of a step")
    parser.add_argument("--steps", type=int, default=3, help="steps that are timed")
    parser.add_argument("--repeats", type=int, default=2, help="turns of each loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the table is written")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
