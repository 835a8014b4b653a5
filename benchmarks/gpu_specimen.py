"""The specimen that a GPU is measured on: grown in blocks by other processes, scanned on the GPU."""

import multiprocessing
import sys
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from alsiseg.dataset import split
from alsiseg.devices import Device
from alsiseg.phantom import imaging, microstructure
from alsiseg.phantom.microstructure import Microstructure

LONGEST_SCAN_S = 60.0


@dataclass(frozen=True)
class Size:
    """How large the specimen and the training on it are.

    Attributes
    ----------
    shape_zyx : tuple of int
    n_blocks : int
        Parts along z that are grown apart, from seeds of their own, each in a process. The first holds all slices
        that are tested and ends in the gap between test and training, so that no measure sees a seam.
    n_angles : int
        Projections of the scan, fewer where they would take longer than a minute.
    crop_px, batch, images_per_epoch : int
        Of the training.
    """

    shape_zyx: tuple[int, int, int]
    n_blocks: int
    n_angles: int
    crop_px: int
    batch: int
    images_per_epoch: int

    @property
    def block_ends(self) -> list[int]:
        """Number of the slice behind each block."""
        n_z = self.shape_zyx[0]
        ends = [round(n_z * (block + 1) / self.n_blocks) for block in range(self.n_blocks)]
        if self.n_blocks > 1:
            parts = split(n_z)
            ends[0] = (parts.test.stop + parts.train.start) // 2
        return ends


SIZES = {
    "tiny": Size((36, 64, 80), 1, 24, 48, 4, 8),  # every part in seconds, on a CPU
    "standard": Size((300, 256, 256), 1, 900, 256, 25, 1425),
    "paper": Size((1000, 319, 379), 3, 900, 256, 25, 1425),  # a twentieth of the published epoch, in batches of 25
}


@dataclass(frozen=True)
class Scanned:
    """A specimen and its synchrotron scan: grey uint16, labels uint8, both (Z, Y, X)."""

    grey_zyx: NDArray[np.uint16]
    labels_zyx: NDArray[np.uint8]


class Growing:
    """A specimen that grows in other processes while the GPU is measured."""

    def __init__(self, size: Size, seed: int) -> None:
        self.size, self.seed = size, seed
        self.blocks: list[Future[tuple[Microstructure, float]]] = []
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        _, n_y, n_x = self.size.shape_zyx
        shapes = [(stop - start, n_y, n_x) for start, stop in pairwise([0, *self.size.block_ends])]
        self.pool = ProcessPoolExecutor(self.size.n_blocks, multiprocessing.get_context("spawn"))
        self.blocks = [self.pool.submit(grow_block, shape, self.seed + i) for i, shape in enumerate(shapes)]
        return self

    def __exit__(self, *_: object) -> None:
        assert self.pool is not None
        self.pool.shutdown(wait=False, cancel_futures=True)

    def result(self) -> tuple[Microstructure, dict[str, Any]]:
        """Wait for the blocks and put them on top of each other."""
        began = time.perf_counter()
        blocks, seconds = zip(*(block.result() for block in self.blocks), strict=True)
        names = ("labels_zyx", "silicon_share_zyx", "aluminide_share_zyx", "aluminides_zyx")
        whole = {name: np.concatenate([getattr(block, name) for block in blocks]) for name in names}
        facts = {
            "blocks_end_at": self.size.block_ends,
            "growing_s": list(seconds),
            "waited_for_it_s": time.perf_counter() - began,
            "components_by": "SciPy" if find_spec("cc3d") is None else "connected-components-3d",
        }
        return Microstructure(**whole, voxel_size_um=blocks[0].voxel_size_um), facts


def grow_block(shape_zyx: tuple[int, int, int], seed: int) -> tuple[Microstructure, float]:
    """Grow one block, and say how long it took."""
    components_by_scipy_where_needed()
    began = time.perf_counter()
    grown = microstructure.grow(shape_zyx, seed=seed)
    return grown, time.perf_counter() - began


def components_by_scipy_where_needed() -> None:
    """Let SciPy find the small pieces where connected-components-3d is not installed: the same pieces, only slower.

    A GPU machine may offer the few packages that this benchmark needs and no way to install another.
    """
    if "cc3d" in sys.modules or find_spec("cc3d") is not None:
        return
    from scipy import ndimage

    def connected_components(volume_zyx: NDArray[Any], connectivity: int) -> NDArray[np.int32]:
        assert connectivity == 26
        return ndimage.label(volume_zyx, np.ones((3, 3, 3)))[0]

    by_scipy = ModuleType("cc3d")
    by_scipy.connected_components = connected_components  # type: ignore[attr-defined]
    sys.modules["cc3d"] = by_scipy


class TooSlowError(Exception):
    """A scan would take longer than it may; says how many angles fit."""


def scan(growing: Growing, on: Device, *, longest_s: float = LONGEST_SCAN_S) -> tuple[Scanned, dict[str, Any]]:
    """Scan the grown specimen on a device, all slices at once, in as many angles as fit into the time."""
    grown, facts = growing.result()
    n_angles = growing.size.n_angles
    began = time.perf_counter()
    try:
        grey_zyx = _scan(grown, n_angles, on, growing.seed, longest_s)
    except TooSlowError as error:
        n_angles = int(str(error))
        began = time.perf_counter()
        grey_zyx = _scan(grown, n_angles, on, growing.seed, float("inf"))
    seconds = time.perf_counter() - began
    million = grey_zyx.size / 1e6
    facts |= {
        "shape_zyx": list(grey_zyx.shape),
        "n_angles": n_angles,
        "scan_s": seconds,
        "scan_s_per_million_voxels": seconds / million,
        "scan_s_per_million_voxels_and_100_angles": seconds / million / n_angles * 100,
        "phase_shares": (np.bincount(grown.labels_zyx.ravel(), minlength=3) / grey_zyx.size).tolist(),
    }
    return Scanned(grey_zyx, grown.labels_zyx), facts


def _scan(grown: Microstructure, n_angles: int, on: Device, seed: int, longest_s: float) -> NDArray[np.uint16]:
    settings = imaging.DIFFICULTIES["clean"]["synchrotron"].with_angles(n_angles)
    done: list[tuple[int, float]] = []  # angles so far, and when: what comes before the first does not depend on them

    def step(n: int) -> None:
        done.append((n + (done[-1][0] if done else 0), time.perf_counter()))
        if len(done) > 1:
            (first, began), (last, now) = done[0], done[-1]
            per_angle = (now - began) / (last - first)
            if last >= n_angles // 10 and per_angle * n_angles > longest_s:
                raise TooSlowError(max(16, int(longest_s / per_angle)))

    every_slice = slice(0, len(grown.labels_zyx))
    return imaging.scan_slab(grown, "synchrotron", settings, every_slice, seed=seed, device=on.name, step=step)
