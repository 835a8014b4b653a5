"""Measure training, inference and topology on a GPU in one go, ten minutes at most.

    python benchmarks/gpu.py --out benchmarks/results/CARD [--minutes 9] [--size paper]

Grows a specimen and scans it, compares small results with the CPU's in float64, measures how much of the card's
bfloat16 peak training and inference reach, and trains the three published weight settings side by side for the time
that is left. Writes gpu.json and gpu.md (renewed after every part, so that an interrupted call leaves what it has
measured), histories.csv, and the labels of the test section, true and predicted, as compressed TIFF. Ends with status 1
when a check or a part failed. Without a CUDA GPU it says so and goes through every part on the CPU at a tiny size.

Needs only torch, NumPy, SciPy, scikit-image, tifffile, tqdm and safetensors; alsiseg need not be installed.
"""

import argparse
import dataclasses
import multiprocessing
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gpu_checks
import gpu_learning
import gpu_report
import gpu_specimen
import measuring
import random_phases
import steps
from gpu_specimen import SIZES, Growing, Scanned, Size

from alsiseg import devices, training, unet
from alsiseg.phases import NETWORKS
from alsiseg.topology import tensors
from alsiseg.weightmaps import PixelWeights

PUBLISHED_WIDTH, SMALL_WIDTH = 64, 8
# Share of the time after which no variant of a step is begun, by its width: what is left is for the learning.
BEGUN_UNTIL = {PUBLISHED_WIDTH: 0.30, SMALL_WIDTH: 0.40}
GRACE_S = 25.0  # after the time given, until the call is ended wherever it is
TIMED_SLICES = 200  # at the published 319 x 379, so that the volume is larger than a card's cache
NEEDED = ("torch", "numpy", "scipy", "scikit-image", "tifffile", "tqdm", "safetensors")


@dataclass
class Session:
    """One call: where it computes, how long it may, and what it has found so far."""

    out_dir: Path
    on: devices.Device
    size: Size
    minutes: float
    seed: int
    started_s: float = field(default_factory=time.monotonic)
    found: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def dry(self) -> bool:
        """Whether this is only a try on a CPU."""
        return not self.on.name.startswith("cuda")

    @property
    def backend(self) -> str:
        """What torch.compile makes code with; a dry run only goes through the motions."""
        return "eager" if self.dry else "inductor"

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_s

    @property
    def left_s(self) -> float:
        """Seconds that all may still take."""
        return 60 * self.minutes - self.elapsed_s

    def part(self, name: str, work: Callable[[], Any]) -> Any:
        """Run a part, keep what it found or how it failed, and write the report so far."""
        began = self.elapsed_s
        print(f"{began:6.1f} s  {name}", flush=True)
        try:
            answer = work()
            self.found[name] = answer
        except Exception as error:
            traceback.print_exc()
            answer, self.found[name] = None, {"failed": f"{type(error).__name__}: {error}"}
            self.failed.append(name)
        self.found.setdefault("seconds", {})[name] = round(self.elapsed_s - began, 2)
        self.found["failed"] = self.failed
        gpu_report.write(self.out_dir, self.found)
        return answer


def machine(session: Session) -> dict[str, Any]:
    """Card and versions; no name of the host."""
    found: dict[str, Any] = {
        "dry_run": session.dry,
        "device": str(session.on),
        "python": platform.python_version(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "size": asdict(session.size),
        "versions": {name: version(name) for name in NEEDED},
    }
    if session.dry:
        return found | {"card": platform.machine()}
    card = torch.cuda.get_device_properties(session.on.name)
    return found | {
        "card": card.name,
        "compute_capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "memory_gib": card.total_memory / 2**30,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def ceilings(session: Session) -> dict[str, Any]:
    """What the card can do at most: by its datasheet, and measured."""
    n, n_bytes = (256, 2**20) if session.dry else (8192, 2**32)
    name = session.on.name
    dtype = torch.bfloat16 if session.on.bfloat16 else torch.float32
    return {
        "datasheet_bf16_tflops": measuring.datasheet_tflops(session.found["machine"]["card"]),
        "matmul_dtype": str(dtype),
        "matmul_n": n,
        "matmul_tflops": measuring.matmul_tflops(name, dtype, n),
        "matmul_float32_tflops": measuring.matmul_tflops(name, torch.float32, n // 2),
        "copy_gb_per_s": measuring.copy_gb_per_s(name, n_bytes),
    }


def checks(session: Session) -> list[dict[str, Any]]:
    """Compare with the CPU; a failed one makes the call fail, and the rest goes on."""
    found = []
    for check in gpu_checks.all_checks(session.on, session.seed):
        print(f"          {check}", flush=True)
        found.append(asdict(check) | {"passed": check.passed})
        if not check.passed:
            session.failed.append(check.name)
    return found


def euler_rates(session: Session) -> dict[str, Any]:
    """Euler numbers of the networks in a large tensor of labels: seconds and bandwidth."""
    edge = 32 if session.dry else 512
    generator = torch.Generator(session.on.name).manual_seed(session.seed)
    labels_zyx = random_phases.smooth_labels((edge, edge, edge), generator, session.on.name)
    found: dict[str, Any] = {"edge": edge}
    for connectivity in (26, 6):
        for name in NETWORKS:
            mask_zyx = random_phases.network_of(labels_zyx, name)
            count = partial(tensors.euler_number_on_device, mask_zyx, connectivity)
            took = measuring.timed(count, session.on.name, n=5)
            found[f"{name} by {connectivity}"] = {
                "seconds": took.median_s,
                "voxels_per_s": edge**3 / took.median_s,
                "gb_per_s_of_labels": edge**3 / took.median_s / measuring.GIGA,
            }
    return found


def specimen(session: Session, growing: Growing) -> Scanned | None:
    """Wait for the specimen and scan it on the device, or, where that fails, on the CPU; None where all failed."""
    scans = []

    def work(on: devices.Device) -> dict[str, Any]:
        scanned, facts = gpu_specimen.scan(growing, on)
        scans.append(scanned)
        return facts

    session.part("specimen", partial(work, session.on))
    if not scans and not session.dry:
        session.part("specimen, scanned on the CPU", partial(work, devices.Device("cpu", bfloat16=False)))
    return scans[0] if scans else None


def timed_task(session: Session, width: int) -> training.Task:
    """Prepare random smooth phases with noise for timing, while the specimen still grows."""
    shape_zyx = session.size.shape_zyx if session.dry else (TIMED_SLICES, 319, 379)
    scanned = Scanned(*random_phases.phases_with_noise(shape_zyx, session.seed))
    return gpu_learning.task(scanned, session.size, PixelWeights(), width, session.seed)


def speed(session: Session, width: int) -> list[dict[str, Any]]:
    """Time the library's loop, and training steps in every variant for which there is time."""
    task = timed_task(session, width)
    works = {"training.train_epoch as it is": partial(loop_speed, session, task)}
    works |= {variant.name: partial(step_speed, session, task, variant) for variant in steps.GPU_VARIANTS}
    works["training.train_epoch, compiled"] = partial(loop_speed, session, task, compiled=True)
    found: list[dict[str, Any]] = []
    for name, work in works.items():
        if session.elapsed_s > BEGUN_UNTIL.get(width, 1.0) * 60 * session.minutes:
            found.append({"variant": name, "left_out": "no time left for it"})
            continue
        try:
            found.append({"variant": name, "width": width} | work() | most_memory(session))
        except Exception as error:  # a variant that this torch or card cannot do
            if session.dry:
                raise
            found.append({"variant": name, "left_out": f"{type(error).__name__}: {str(error)[:400]}"})
        print(f"          {gpu_report.one_line(found[-1])}", flush=True)
        free(session)
    return found


def loop_speed(session: Session, task: training.Task, *, compiled: bool = False) -> dict[str, Any]:
    """Time whole epochs of the library's own loop, by the clock."""
    backend = session.backend if compiled else None
    n_images = task.config.batch * (2 if session.dry else 40)
    config = dataclasses.replace(task.config, images_per_epoch=n_images)
    taken = steps.whole_loop(dataclasses.replace(task, config=config), session.on, backend=backend)
    per_step = [getattr(taken, f"{name}_s") * task.config.batch / n_images for name in ("median", "least", "most")]
    return rates(session, task, dict(zip(("median", "least", "most"), per_step, strict=True)))


def step_speed(session: Session, task: training.Task, variant: steps.Variant) -> dict[str, Any]:
    """Time one variant of the step, part by part."""
    if session.dry and variant.compiled == "graph":
        return {"left_out": "a CUDA graph needs a CUDA GPU"}
    began = time.perf_counter()
    one = steps.Steps(task, session.on.name, variant, backend=session.backend)
    taken = steps.measure(one, n=2 if session.dry else 30, n_warm_up=1 if session.dry else 4)
    step_s = {name: getattr(taken.step, f"{name}_s") for name in ("median", "least", "most")}
    return rates(session, task, step_s) | {
        "parts_ms": {name: 1e3 * seconds for name, seconds in taken.parts_s.items()},
        "data_share": taken.data_share,
        "losses_first_last": taken.losses,
        "with_warm_up_s": time.perf_counter() - began,
    }


def most_memory(session: Session) -> dict[str, float]:
    """Most memory of the card that was held since it was last asked for."""
    if session.dry:
        return {}
    most = torch.cuda.max_memory_allocated(session.on.name) / measuring.GIGA
    torch.cuda.reset_peak_memory_stats(session.on.name)
    return {"most_memory_gb": most}


def rates(session: Session, task: training.Task, step_s: dict[str, float]) -> dict[str, Any]:
    """Images and operations a second; what the unpadded model needs counts, nothing recomputed."""
    n_images, flops = task.config.batch, training_flops(task)
    return {
        "batch": n_images,
        "crop_px": task.crop_px,
        "images_per_s": n_images / step_s["median"],
        "step_ms": {name: 1e3 * seconds for name, seconds in step_s.items()},
        "model_gflop_per_image": flops / measuring.GIGA,
        **utilisation(session, n_images * flops / step_s["median"] / measuring.TERA),
    }


def utilisation(session: Session, tflops: float) -> dict[str, float | None]:
    """A rate of model operations beside both ceilings."""
    found = session.found["ceilings"]
    datasheet = found["datasheet_bf16_tflops"]
    return {
        "model_tflops": tflops,
        "of_datasheet_peak": tflops / datasheet if datasheet else None,
        "of_measured_matmul": tflops / found["matmul_tflops"],
    }


def training_flops(task: training.Task) -> int:
    """Operations that forward and backward of one image need, counted without computing them."""
    with torch.device("meta"):
        network = unet.UNet(task.config.unet)
        image = torch.empty(task.config.unet.n_slices, task.crop_px, task.crop_px)
        return measuring.training_flops(network, image)


def free(session: Session) -> None:
    """Give back the memory of what was measured, and what was compiled for it."""
    torch.compiler.reset()
    if not session.dry:
        torch.cuda.empty_cache()


def main() -> int:
    given = arguments()
    on = devices.choose("cuda" if torch.cuda.is_available() else "cpu")
    if on.name == "cpu":
        print("no CUDA GPU here: every part runs on the CPU at a tiny size, and its numbers mean nothing", flush=True)
    size = SIZES["tiny" if on.name == "cpu" else given.size]
    given.out.mkdir(parents=True, exist_ok=True)
    session = Session(given.out, on, size, given.minutes, given.seed)
    end_in_time(session)
    run(session)
    print(gpu_report.as_markdown(session.found))
    return 1 if session.failed else 0


def end_in_time(session: Session) -> None:
    """End the call a little after its time wherever it is, with all that it has found written down."""

    def end(*_: object) -> None:
        for child in multiprocessing.active_children():
            child.terminate()
        session.failed.append("ended after its time")
        gpu_report.write(session.out_dir, session.found | {"failed": session.failed})
        os._exit(1)

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 60 * session.minutes + GRACE_S)


def run(session: Session) -> None:
    """Go through all parts; the specimen grows in other processes during the first of them."""
    widths = (4, 2) if session.dry else (PUBLISHED_WIDTH, SMALL_WIDTH)
    with Growing(session.size, session.seed) as growing:
        session.part("machine", partial(machine, session))
        session.part("ceilings", partial(ceilings, session))
        session.part("checks", partial(checks, session))
        session.part("euler", partial(euler_rates, session))
        for width in widths:
            session.part(f"training at width {width}", partial(speed, session, width))
        free(session)
        scanned = specimen(session, growing)
    if scanned is None:
        return
    session.part("inference", partial(inference, session, scanned, widths))
    free(session)
    session.part("learning", partial(learning, session, scanned, widths[0]))


def inference(session: Session, scanned: Scanned, widths: tuple[int, ...]) -> list[dict[str, Any]]:
    """Time inference at both widths."""
    return gpu_learning.inference(
        scanned, session.on, widths, lambda tflops: utilisation(session, tflops), n=2 if session.dry else 20
    )


def learning(session: Session, scanned: Scanned, width: int) -> dict[str, Any]:
    """Train the three published settings for the time that is left."""
    return gpu_learning.learn(
        scanned,
        session.size,
        session.on,
        width=width,
        seed=session.seed,
        left_s=lambda: session.left_s,
        out_dir=session.out_dir,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--minutes", type=float, default=9.0, help="how long all may take")
    parser.add_argument("--size", choices=SIZES, default="paper", help="of the specimen, on a GPU")
    parser.add_argument("--seed", type=int, default=0, help="of specimen, noise, networks and checks")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
