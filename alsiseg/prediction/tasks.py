"""One volume, one network, one way of doing it: checked at the door, then segmented slab by slab."""

import hashlib
import sys
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from alsiseg import dataset, devices, runs
from alsiseg.dataset import GreyScale
from alsiseg.devices import Device
from alsiseg.phases import Phase
from alsiseg.prediction import planning
from alsiseg.prediction.inference import Inference, dropout_keys, entropy_uint8
from alsiseg.prediction.options import Options, Plan
from alsiseg.prediction.pipeline import Clock, Stopped, ahead
from alsiseg.prediction.slabs import Grey, Slab, SlabReader, ViewImages, check_finite, normalised, slabs_of, view_images
from alsiseg.prediction.tiles import halo_px
from alsiseg.progress import steps
from alsiseg.runs import Trained


@dataclass(frozen=True)
class SlabMaps:
    """What was found of a slab.

    Attributes
    ----------
    z : range
        Its slices.
    maps : dict
        "labels", and what the options ask for: uint8 (len(z), Y, X) each. See `Options.maps`.
    """

    z: range
    maps: dict[str, NDArray[np.uint8]]


@dataclass
class Task:
    """A volume to be segmented; `plan` changes when memory turns out to be short."""

    grey_zyx: Grey
    trained: Trained
    options: Options
    device: Device
    halo: int
    scale: GreyScale
    scan_sha256: str
    plan: Plan
    load: planning.Load
    crew: planning.Crew | None = None
    clock: Clock = field(default_factory=Clock)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        z, y, x = map(int, self.grey_zyx.shape)
        return z, y, x

    @property
    def slabs(self) -> list[Slab]:
        """The slabs in order."""
        return slabs_of(
            self.shape_zyx[0],
            n_slices=self.trained.network.config.n_slices,
            slab_slices=self.plan.slab_slices,
            halo=self.plan.slab_halo(self.halo) if self.options.three_views else None,
        )

    def __str__(self) -> str:
        """Say what is done and what it needs, before it starts."""
        shape, plan = " x ".join(map(str, self.shape_zyx)), self.plan
        pieces = "whole slices" if plan.tile_px >= max(self.shape_zyx[1:]) else f"tiles of {plan.tile_px} pixels"
        free = planning.free_bytes(self.device)[0] if self.crew is None else self.crew.host_bytes
        crew = "" if self.crew is None else f"{self.crew.n_workers} worker{'s' * (self.crew.n_workers != 1)} with "
        return (
            f"{shape} voxels on {crew}{self.device}, {pieces}, slabs of {plan.slab_slices} slices; "
            f"{'each ' if crew else ''}needs about {planning.gib(self.load.host_bytes + self.load.device_bytes)} of "
            f"memory (may use {planning.gib(free)})"
        )


def prepare(
    grey_zyx: Grey,
    trained: Trained | str | Path,
    *,
    device: str,
    options: Options,
    crew: planning.Crew | None = None,
) -> Task:
    """Check that everything fits together, measure the grey scale and choose a plan.

    Raises
    ------
    ValueError, TypeError
        When the grey volume or the network is not what is needed, or the memory cannot hold the smallest tiles.
    """
    _check_grey(grey_zyx)
    if not isinstance(trained, Trained):
        trained = runs.load_network(trained)
    if trained.network.config.n_classes != len(Phase):
        raise ValueError(
            f"needs a network for the {len(Phase)} phases, this one tells {trained.network.config.n_classes} classes "
            "apart; train one on labels 0, 1 and 2"
        )
    on = in_precision(devices.choose(device), options) if crew is None else crew.device
    sampled = _Sampled(grey_zyx)
    scale = dataset.grey_scale(sampled)  # type: ignore[arg-type]
    halo = halo_px(trained.network)
    shape_zyx = tuple(map(int, grey_zyx.shape))
    plan, load = planning.choose(shape_zyx, trained.network, options, on, halo, crew=crew)
    return Task(grey_zyx, trained, options, on, halo, scale, sampled.sha256, plan, load, crew)


def in_precision(device: Device, options: Options) -> Device:
    """Choose the precision that the options ask for."""
    return device if options.precision == "auto" else replace(device, bfloat16=options.precision == "bfloat16")


def _check_grey(grey_zyx: Grey) -> None:
    shape = tuple(grey_zyx.shape)
    if len(shape) != 3 or 0 in shape:
        raise ValueError(
            f"needs a grey volume with three axes (z, y, x) and at least one voxel, got shape {shape}; "
            "give one grey value per voxel"
        )
    if np.dtype(grey_zyx.dtype).kind not in "iuf":
        raise TypeError(f"needs grey values (whole numbers or floats), got {grey_zyx.dtype}; convert the volume")


class _Sampled:
    """Passes slices on and keeps a checksum of what was read, to know the scan by."""

    def __init__(self, grey_zyx: Grey) -> None:
        self.grey_zyx, self.shape, self.dtype = grey_zyx, tuple(grey_zyx.shape), grey_zyx.dtype
        self._hash = hashlib.sha256(repr((tuple(map(int, self.shape)), np.dtype(self.dtype).name)).encode())

    def __getitem__(self, z: int) -> NDArray[Any]:
        slice_yx = np.ascontiguousarray(self.grey_zyx[z])
        check_finite(slice_yx, range(z, z + 1))
        self._hash.update(slice_yx.data)
        return slice_yx

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def slab_maps(task: Task, finished: Collection[int] = ()) -> Generator[SlabMaps, None, None]:
    """Yield what is found of one slab after the other, without those of the numbers `finished`.

    Reading, the network, and the caller work side by side. A caller that stops early closes the generator.
    """
    slabs = [slab for number, slab in enumerate(task.slabs) if number not in finished]
    with progress(task, finished) as bar:
        read = ahead(lambda _: _read(task, slabs))
        found = ahead(lambda stopped: _segmented(task, read, stopped, partial(bar.write, file=sys.stderr)))
        with closing(found):
            for maps in found:
                yield maps
                bar.update(len(maps.z) * _plane(task))


@contextmanager
def progress(task: Task, finished: Collection[int]) -> "Iterator[tqdm]":
    """Show how many voxels are done, how many a second, and the time left."""
    done = sum(len(slab.core) for number, slab in enumerate(task.slabs) if number in finished)
    with steps(None, "segmenting", task.shape_zyx[0] * _plane(task)) as bar:
        bar.unit, bar.unit_scale = " voxels", True
        bar.initial = bar.n = done * _plane(task)
        yield bar


def _plane(task: Task) -> int:
    return task.shape_zyx[1] * task.shape_zyx[2]


def _read(task: Task, slabs: list[Slab]) -> Iterator[tuple[Slab, Tensor]]:
    """Read and normalise one slab after the other."""
    reader = SlabReader(task.grey_zyx)
    for slab in slabs:
        yield slab, read_slab(task, slab, reader)


def read_slab(task: Task, slab: Slab, reader: SlabReader) -> Tensor:
    """Read and normalise one slab."""
    with task.clock("read"):
        slab_zyx = reader.read(slab.read)
    with task.clock("normalise"):
        grey_zyx = normalised(slab_zyx, task.scale)
        return grey_zyx.pin_memory() if task.device.type == "cuda" else grey_zyx


def _segmented(
    task: Task, read: Generator[tuple[Slab, Tensor], None, None], stopped: Event, say: Callable[[str], object]
) -> Iterator[SlabMaps]:
    """Run the network on every slab that was read."""
    inference = Inference(task.trained.network, task.device, symmetries=task.options.symmetries)
    with torch.inference_mode(), closing(read):
        for slab, grey_zyx in read:
            yield segmented_slab(task, inference, slab, grey_zyx, stopped, say)


def segmented_slab(
    task: Task, inference: Inference, slab: Slab, grey_zyx: Tensor, stopped: Event, say: Callable[[str], object]
) -> SlabMaps:
    """Run the network on one slab; raises `Stopped` soon after the event is set."""
    work = _SlabWork(task, inference, slab, grey_zyx.to(task.device.name, non_blocking=True), stopped)
    return SlabMaps(slab.core, _within_memory(task, work, say))


def _within_memory(task: Task, work: "_SlabWork", say: Callable[[str], object]) -> dict[str, NDArray[np.uint8]]:
    """Segment a slab, in ever smaller pieces when memory runs out."""
    while True:
        try:
            return work.maps()
        except (MemoryError, RuntimeError) as error:
            plan = planning.smaller(task.plan, task.halo)
            if not _is_out_of_memory(error):
                raise
            if plan is None:
                raise ValueError(
                    f"needs more memory on {task.device} than there is even for the smallest tile; close other "
                    "programs, take a network of smaller width or another device"
                ) from error
        task.device.free()
        say(f"memory ran out; going on with tiles of {plan.tile_px} and batches of {plan.batch_px} pixels at most")
        task.plan = plan


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()  # torch has no type of its own for a CPU without memory
    return "out of memory" in text or "can't allocate memory" in text


class _SlabWork:
    """The network's work on one slab."""

    def __init__(self, task: Task, inference: Inference, slab: Slab, grey_zyx: Tensor, stopped: Event) -> None:
        self.task, self.inference, self.slab, self.grey_zyx, self.stopped = task, inference, slab, grey_zyx, stopped
        self.shape = (len(slab.core), *task.shape_zyx[1:])

    def maps(self) -> dict[str, NDArray[np.uint8]]:
        """Labels of the slab, and whatever else is wanted."""
        found = self._by_votes() if planning.needs_probabilities(self.task.options) else {"labels": self._labels()}
        with self.task.clock("to host"):
            return {name: found[name].cpu().numpy() for name in self.task.options.maps}

    def _empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.task.device.name)

    def _labels(self) -> Tensor:
        """Labels of a single pass, without keeping its probabilities."""
        labels_zyx = self._empty(*self.shape, dtype=torch.uint8)
        for place, scores in self._passed(self.task.options.views[0], member=0):
            with self.task.clock("argmax"):
                labels_zyx[place] = scores.argmax(dim=1).to(torch.uint8)
        return labels_zyx

    def _by_votes(self) -> dict[str, Tensor]:
        """Maps from the probabilities of all views and passes."""
        options, found = self.task.options, {}
        sum_czyx = self._empty(len(Phase), *self.shape, dtype=torch.float32)
        for member, name in enumerate(options.member_names):
            view = options.views[member // max(options.dropout_passes, 1)]
            axis = "zyx".index(view)
            labels_zyx = self._empty(*self.shape, dtype=torch.uint8)
            target, target_labels = sum_czyx.movedim(1 + axis, 1), labels_zyx.movedim(axis, 0)
            for place, scores in self._passed(view, member=member):
                with self.task.clock("argmax"):
                    target[(slice(None), *place)] += scores.movedim(1, 0)
                    if options.members:
                        target_labels[place] = scores.argmax(dim=1).to(torch.uint8)
            if options.members:
                found[name] = labels_zyx
        with self.task.clock("argmax"):
            found["labels"] = sum_czyx.argmax(dim=0).to(torch.uint8)
            if options.uncertainty:
                found["uncertainty"] = _entropy(sum_czyx / len(options.member_names))
        return found

    def _passed(self, view: str, *, member: int) -> Iterator[tuple[tuple[slice, slice, slice], Tensor]]:
        """Scores (B, classes, H, W) of one batch of cores after the other, and where they go."""
        config, plan = self.task.trained.network.config, self.task.plan
        images = view_images(
            view,
            self.slab,
            self.grey_zyx,
            self.task.shape_zyx,
            n_slices=config.n_slices,
            tile_px=plan.tile_px,
            halo=self.task.halo,
        )
        per_batch = max(1, plan.batch_px // images.window_px)
        for rows, columns in images.tiles():
            for start in range(0, images.n_images, per_batch):
                if self.stopped.is_set():
                    raise Stopped
                batch = range(start, min(start + per_batch, images.n_images))
                windows = images.windows(batch)[:, :, rows.window, columns.window]
                with self.task.clock("forward"):
                    scores = self._scores(windows, self._keys(images, batch, member))
                yield (
                    (slice(batch.start, batch.stop), rows.target, columns.target),
                    scores[:, :, rows.core, columns.core],
                )

    def _scores(self, windows_bcyx: Tensor, keys_b: Tensor | None) -> Tensor:
        """Probabilities, or the logits when those say the same."""
        options = self.task.options
        self.inference.drop(active=keys_b is not None)
        if options.symmetries or planning.needs_probabilities(options):
            return self.inference.probabilities(windows_bcyx, keys_b)
        return self.inference.logits(windows_bcyx, keys_b)

    def _keys(self, images: ViewImages, batch: range, member: int) -> Tensor | None:
        """Keys by the number of an image in its view of the whole volume, so that slabs do not matter."""
        if self.task.options.dropout_passes == 0:
            return None
        first = self.slab.core.start if images.axis == 0 else 0
        return dropout_keys(range(first + batch.start, first + batch.stop), member, self.task.device.name)


def _entropy(probabilities_czyx: Tensor) -> Tensor:
    """Entropy slice by slice: the logarithms of a whole slab would take its memory again."""
    return torch.stack([entropy_uint8(probabilities_czyx[:, z]) for z in range(probabilities_czyx.shape[1])])
