"""How the work is cut up so that it fits into memory, and what to say when it cannot."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from alsiseg.devices import Device
from alsiseg.prediction.options import Options, Plan
from alsiseg.prediction.tiles import aligned
from alsiseg.unet import UNet, UNetConfig, n_parameters

GIB = 2**30
LARGEST_TENSOR = 2**31 - 1  # elements: kernels of convolutions index with 32 bits
SHARE_OF_MEMORY = {"cpu": 0.5, "cuda": 0.85}  # on a CPU others need memory too
BATCH_PX = {"cpu": 2**19, "cuda": 2**22}  # eight slices of 256 x 256 keep two cores busy
SLAB_VOXELS = {"cpu": 2**21, "cuda": 2**26}  # what a stop may cost: seconds of work
SLAB_SLICES_OF_THREE_VIEWS = 256
SLABS_OF_A_WORKER = 4  # at least, where the volume allows: all end about together, and a lost slab costs little
SLABS_IN_MEMORY = 4  # read ahead, waiting, being segmented, being written
MARGIN = 1.4  # estimates then came out at 1.2 to 3 times what processes on a CPU took


@dataclass(frozen=True)
class Load:
    """What a task needs, in bytes.

    Attributes
    ----------
    host_bytes, device_bytes : int
        Beside each other on a GPU; their sum on a CPU.
    """

    host_bytes: int
    device_bytes: int


@dataclass(frozen=True)
class Crew:
    """The workers of a cluster as a plan sees them: all alike, each with a slab of its own.

    Attributes
    ----------
    device : Device
        Of every worker.
    host_bytes, device_bytes : int
        Memory that a worker may use.
    chunk_slices : int
        Slabs must begin at multiples of this, itself a multiple of 16.
    n_workers : int
    torch_version : str
    """

    device: Device
    host_bytes: int
    device_bytes: int
    chunk_slices: int
    n_workers: int
    torch_version: str


def load(shape_zyx: tuple[int, ...], network: UNet, options: Options, plan: Plan, halo: int, item: int) -> Load:
    """Estimate what a plan needs; `item` is the size in bytes of a feature."""
    config, (n_z, n_y, n_x) = network.config, shape_zyx
    plane = aligned(n_y) * aligned(n_x)
    slab_halo = plan.slab_halo(halo)
    core = min(plan.slab_slices + (slab_halo if options.three_views else 0), n_z)
    read = min(plan.slab_slices + (2 * slab_halo if options.three_views else config.n_slices - 1), n_z)
    slabs = SLABS_IN_MEMORY * plane * (read * 8 + core * len(options.maps))  # grey as read, and normalised
    summed = plane * core * 4 * (config.n_classes + 2) if needs_probabilities(options) else 0
    turned = plane * read * 4 if options.three_views else 0
    per_px = features_per_px(config) * item * MARGIN + 4 * (3 * config.n_classes + 3 * config.n_slices)
    pixels = max(plan.batch_px, largest_window_px(shape_zyx, options, plan, halo))
    on_device = int(pixels * per_px + summed + turned + 2 * n_parameters(network) * item)
    return Load(slabs, on_device)


def features_per_px(config: UNetConfig) -> float:
    """Numbers per pixel that live at the widest place: the last doubling, its convolution, and what waits beside."""
    full, half = config.level_channels[:2]
    return full + 2 * half / 4 + 2 * half + full


def needs_probabilities(options: Options) -> bool:
    """Whether the probabilities of a slab are summed up before its labels are known."""
    return options.uncertainty or len(options.member_names) > 1


def largest_window_px(shape_zyx: tuple[int, ...], options: Options, plan: Plan, halo: int) -> int:
    """Pixels of the largest window that the network sees."""
    edges = [min(aligned(n), max(plan.tile_px, 2 * halo + 16)) for n in shape_zyx[1:]]
    rows = [edges[0]]
    if options.three_views:
        rows.append(min(aligned(shape_zyx[0]), aligned(plan.slab_slices) + 2 * plan.slab_halo(halo)))
    return max(max(rows) * max(edges), math.prod(edges))


def choose(
    shape_zyx: tuple[int, ...], network: UNet, options: Options, device: Device, halo: int, *, crew: Crew | None = None
) -> tuple[Plan, Load]:
    """Choose the largest pieces of work that fit into free memory, of this machine or of every worker.

    Whole slices where the device allows, otherwise tiles; batches of them as far as they make the work faster.

    Raises
    ------
    ValueError
        When even the smallest tile does not fit; the message says what would.
    """
    item = 2 if device.bfloat16 else 4
    host, on_device = free_bytes(device) if crew is None else (crew.host_bytes, crew.device_bytes)
    candidates = _candidates(shape_zyx, options, device, halo, crew)

    def estimate(plan: Plan) -> Load:
        return load(shape_zyx, network, options, plan, halo, item)

    def fits(plan: Plan) -> bool:
        needed = estimate(plan)
        widest = 2 * network.config.level_channels[1]
        if max(largest_window_px(shape_zyx, options, plan, halo), plan.batch_px) * widest > LARGEST_TENSOR:
            return False
        if device.type == "cpu":
            return needed.host_bytes + needed.device_bytes <= host
        return needed.host_bytes <= host and needed.device_bytes <= on_device

    plan = next((plan for plan in candidates if fits(plan)), None)
    if plan is None:
        raise ValueError(_too_large(estimate(candidates[-1]), device, host, on_device, options))
    return plan, estimate(plan)


def _candidates(
    shape_zyx: tuple[int, ...], options: Options, device: Device, halo: int, crew: Crew | None
) -> list[Plan]:
    """Plans from the largest pieces to the smallest: batches shrink first, then tiles, then slabs."""
    kind = device.type if device.type in BATCH_PX else "cpu"
    n_z, n_y, n_x = shape_zyx
    first = max(4, min(n_z, SLAB_VOXELS[kind] // (n_y * n_x)))
    if options.three_views:
        first = min(aligned(n_z), SLAB_SLICES_OF_THREE_VIEWS)
    chunk = 1
    if crew is not None:
        chunk = crew.chunk_slices
        share = max(-(-n_z // (SLABS_OF_A_WORKER * crew.n_workers)), 2 * halo if options.three_views else 1)
        first = -(-min(first, share) // chunk) * chunk
    whole = Plan(options.tile_px or max(map(aligned, shape_zyx)), BATCH_PX[kind], first, chunk)
    tiles = [*_halved(whole, lambda plan: smaller(plan, halo))]
    slabs = [*_halved(tiles[-1], lambda plan: _thinner(plan, max(chunk, 16 if options.three_views else 1)))]
    return [*tiles, *slabs[1:]]


def _halved(plan: Plan | None, halve: Callable[[Plan], Plan | None]) -> list[Plan]:
    found = []
    while plan is not None:
        found.append(plan)
        plan = halve(plan)
    return found


def smaller(plan: Plan, halo: int) -> Plan | None:
    """Halve the batch, or the tile when the batch is one tile already; None when nothing is left to halve."""
    least = 2 * halo + 16
    if plan.batch_px > max(plan.tile_px, least) ** 2:
        return replace(plan, batch_px=plan.batch_px // 2)
    if plan.batch_px > 1:
        return replace(plan, batch_px=1)
    if plan.tile_px <= least:
        return None
    return replace(plan, tile_px=max(least, plan.tile_px // 32 * 16))


def _thinner(plan: Plan, least: int) -> Plan | None:
    half = plan.slab_slices // 2 // plan.chunk_slices * plan.chunk_slices
    return replace(plan, slab_slices=max(least, half)) if plan.slab_slices > least else None


def free_bytes(device: Device) -> tuple[int, int]:
    """Memory that may be used: of the machine, and of the device."""
    host = int(min(psutil.virtual_memory().available, _free_in_group()) * SHARE_OF_MEMORY["cpu"])
    if device.type != "cuda":
        return host, host
    return host, int(torch.cuda.mem_get_info(device.name)[0] * SHARE_OF_MEMORY["cuda"])


def _free_in_group(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Memory that the limits of a container or batch job leave; infinite without such limits."""
    try:
        limit, used = ((root / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return math.inf if limit == "max" else max(int(limit) - int(used), 0)
    except (OSError, ValueError):
        return math.inf


def _too_large(needed: Load, device: Device, host: int, on_device: int, options: Options) -> str:
    less = "leave out three_views, " if options.three_views else ""
    return (
        f"needs {gib(needed.host_bytes)} of memory and {gib(needed.device_bytes)} on {device} even in the smallest "
        f"tiles, may use {gib(host)} and {gib(on_device)}; {less}close other programs, take a network of smaller width "
        "or a larger machine"
    )


def gib(n_bytes: float) -> str:
    """Write a number of bytes in GiB, MiB when it is small."""
    return f"{n_bytes / GIB:.1f} GiB" if n_bytes >= GIB else f"{math.ceil(n_bytes / 2**20)} MiB"
