"""A tiny training in a process of its own, forked from one that has imported everything already."""

import hashlib
import json
import multiprocessing
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import torch
from faulty_disk import FaultyDisk
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import metrics, weightmaps
from alsiseg.story import mendable
from alsiseg.training import TrainingConfig, train
from alsiseg.unet import UNet, UNetConfig

Item, Result = TypeVar("Item"), TypeVar("Result")
ENVIRONMENT = threading.Lock()
TINY = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=2, batch=4, images_per_epoch=8, kept_every=2)


def specimen() -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Blobs of three phases in 32 x 48 x 48 voxels."""
    random = np.random.default_rng(0)
    field_zyx = ndimage.gaussian_filter(random.normal(size=(32, 48, 48)), 2.5, mode="wrap")
    labels_zyx = np.digitize(field_zyx, np.quantile(field_zyx, [0.6, 0.8])).astype(np.uint8)
    return (1000 + 400.0 * labels_zyx + random.normal(0, 60, labels_zyx.shape)).astype(np.uint16), labels_zyx


SPECIMEN = specimen()
# Load once, before the forks, what is imported or compiled at the first use.
metrics.measure_networks(SPECIMEN[1])
weightmaps.weight_map(SPECIMEN[1], TINY.weights)
torch.optim.Adam(UNet(TINY.unet).parameters())


@dataclass(frozen=True)
class Ended:
    """How a training ended.

    Attributes
    ----------
    signal : int
        That killed it, 0 for none.
    error : str
        Name of the exception, empty when it reached its last epoch.
    sentence : str
        What the exception says.
    mendable : bool
        Whether the command shows the sentence alone, without a traceback.
    calls : list
        Kind and file of every call that changed the disk.
    seconds : float
        From its start to its end, imports not counted.
    """

    signal: int
    error: str = ""
    sentence: str = ""
    mendable: bool = False
    calls: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0


def train_to_the_end(
    run_dir: Path,
    *,
    at: int | None = None,
    fault: str = "EIO",
    killed_after_s: float | None = None,
    largest_file_bytes: int | None = None,
) -> Ended:
    """Start or continue the tiny training in a child, with a fault or without one."""
    report = run_dir.with_name(f"{run_dir.name}.ended.json")
    report.unlink(missing_ok=True)
    child = _forking().Process(target=_train, args=(run_dir, report, at, fault, largest_file_bytes))
    child.start()
    child.join(killed_after_s)
    child.kill()  # SIGKILL; nothing to one that has ended
    child.join()
    code = child.exitcode or 0
    child.close()
    return Ended(signal=-min(code, 0), **(json.loads(report.read_text()) if report.exists() else {}))


def _forking() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    found_in = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    with ENVIRONMENT, patch.dict(os.environ, PYTHONPATH=found_in):  # where the server finds this module
        forkserver.ensure_running()
    return context


def two_at_a_time(attempt: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call a function that waits for children, for two items at a time, and give the results in order."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(attempt, items))


def _train(run_dir: Path, report: Path, at: int | None, fault: str, largest_file_bytes: int | None) -> None:
    log_path = report.with_suffix(".log") if largest_file_bytes is None else os.devnull
    log = os.open(log_path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    disk, ended, started = FaultyDisk(at, fault), {}, time.perf_counter()
    if largest_file_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, hard))
    try:
        with disk.inserted():
            train(*SPECIMEN, run_dir, TINY, resume=True, device="cpu")
    except BaseException as error:
        traceback.print_exc()
        ended = {"error": type(error).__name__, "sentence": str(error), "mendable": mendable(error)}
    sys.stdout.flush()
    if largest_file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    partial = report.with_suffix(".partial")
    partial.write_text(json.dumps({**ended, "calls": disk.calls, "seconds": time.perf_counter() - started}))
    partial.replace(report)


def contents(run_dir: Path) -> dict[str, Any]:
    """SHA-256 of every file of a run, the history without its speeds in full."""
    paths = [path for path in run_dir.rglob("*") if path.is_file()]
    digests: dict[str, Any] = {str(p.relative_to(run_dir)): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}
    rows = [line.split(",") for line in (run_dir / "history.csv").read_text().splitlines()]
    speed = rows[0].index("images_per_s")
    return digests | {"history.csv": [row[:speed] + row[speed + 1 :] for row in rows]}


def phase(run_dir: Path) -> str:
    """What a stopped training has on disk: where in the course of a run it was stopped."""
    if not run_dir.exists():
        return "no folder"
    names = {str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()}
    parts = sorted(name.split("-", 2)[-1] + " under way" for name in names if ".partial-" in name)
    whole = sorted(name for name in names if ".partial-" not in name)
    history = run_dir / "history.csv"
    n_rows = len(history.read_text().splitlines()) - 1 if history.exists() else 0
    return ", ".join([*whole, f"{n_rows} rows", *parts])
