"""Read OME-Zarr (0.4 and 0.5) and plain zarr arrays (v2 and v3), and refuse what is damaged or ambiguous."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.volumes import checks
from alsiseg.volumes.volume import Volume, read_by_ranges

KIND = "zarr folder"
NODE_FILES = ("zarr.json", ".zgroup", ".zarray")
COMPLETE = "alsiseg_every_chunk_is_written"  # in arrays of ours: a missing chunk is damage, not a chunk of zeros


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a zarr array or group."""
    return any((folder / name).is_file() for name in NODE_FILES)


def open_zarr(
    path: Path, *, dataset: str | None = None, axes: str | None = None, voxel_size_um: float | None = None
) -> Volume:
    """Open level 0 of an OME-Zarr image, or a zarr array; see `volumes.open`."""
    found = _found(path, dataset)
    read = _checked(path, found, axes)
    size_um = checks.agreed_size(read.where, checks.cubic(read.where, found.edges_um), voxel_size_um)
    return checks.volume(path, read.shape_zyx, np.dtype(found.array.dtype), size_um, read, read.chunks_zyx)


def open_levels(path: Path, *, dataset: str | None = None, axes: str | None = None) -> "list[_Array]":
    """Open every level of an OME-Zarr image, the finest first; a zarr array is its only level."""
    found = _found(path, dataset)
    with checks.parsing(path, KIND):
        smaller = [replace(found, array=found.group[name]) for name in found.smaller]
    return [_checked(path, level, axes) for level in (found, *smaller)]


def _checked(path: Path, found: "_Found", axes: str | None) -> "_Array":
    """Refuse an array that is no volume, or not whole."""
    where = path / found.array.path if found.array.path else path
    with checks.parsing(where, KIND):
        kept = [axis for axis, name in enumerate(found.names) if name in tuple("ZYX") or found.array.shape[axis] > 1]
        shape, dtype = found.array.shape, np.dtype(found.array.dtype)
        n_missing = _n_missing_chunks(found.array)
    kept = kept or list(range(len(shape)))
    names = "".join(found.names[axis] for axis in kept) if found.names else "?" * len(kept)
    checks.check_three_axes(where, names, [shape[axis] for axis in kept])
    order = checks.known_order(where, names, axes, [shape[axis] for axis in kept])
    checks.check_type(where, dtype)
    if n_missing:
        raise ValueError(f"{where} is incomplete: {n_missing} of its chunks are missing; copy or write it again")
    return _Array(where, found.array, tuple(kept[order.index(axis)] for axis in "ZYX"))


@dataclass(frozen=True)
class _Array:
    """An array and which of its axes are z, y and x; called with slice indices, it reads them."""

    where: Path
    array: Any  # of zarr, which is imported on use
    axes_zyx: tuple[int, ...]

    def __call__(self, z_indices: Sequence[int]) -> NDArray:
        """Read the slices."""
        with checks.parsing(self.where, KIND):
            slab_zyx = read_by_ranges(z_indices, self._range)
            return np.ascontiguousarray(slab_zyx, dtype=slab_zyx.dtype.newbyteorder("="))

    @property
    def shape_zyx(self) -> tuple[int, ...]:
        """Slices, rows, columns."""
        return tuple(int(self.array.shape[axis]) for axis in self.axes_zyx)

    @property
    def chunks_zyx(self) -> tuple[int, ...]:
        """What the file gives at once."""
        return tuple(int(self.array.chunks[axis]) for axis in self.axes_zyx)

    def box(self, *zyx: slice) -> NDArray:
        """Read a box, of which only the chunks that it touches are read."""
        with checks.parsing(self.where, KIND):
            box_zyx = self._read(*zyx)
            return box_zyx.astype(box_zyx.dtype.newbyteorder("="), copy=False)

    def _range(self, start: int, stop: int) -> NDArray:
        return self._read(slice(start, stop), slice(None), slice(None))

    def _read(self, *zyx: slice) -> NDArray:
        key: list[int | slice] = [0] * self.array.ndim
        for axis, part in zip(self.axes_zyx, zyx, strict=True):
            key[axis] = part
        read = np.asarray(self.array[tuple(key)])
        in_file = sorted(self.axes_zyx)
        return read.transpose([in_file.index(axis) for axis in self.axes_zyx])


@dataclass(frozen=True)
class _Found:
    """An array with what the file says about its axes; no names where it says nothing.

    The smaller levels of its image are arrays of `group`.
    """

    array: Any
    names: Sequence[str] = ()
    edges_um: Mapping[str, float | None] = field(default_factory=dict)
    group: Any = None
    smaller: Sequence[str] = ()


def _found(path: Path, dataset: str | None) -> _Found:
    """Find the array that was asked for: itself, level 0 of the image, or the only one of a group."""
    zarr = checks.library("zarr", f"reading {path}")
    with checks.parsing(path, KIND):
        root = zarr.open(path, mode="r")
        node = root if dataset is None else _child(root, dataset)
        known = _candidates(root)
    if node is None:
        raise ValueError(f"{path} has no array or image {dataset!r}; its own are: {', '.join(known) or 'none'}")
    if _is_group(node):
        with checks.parsing(path, KIND):
            images = _images(node) or _candidates(node)
        node = images[checks.choose(path, "three-dimensional image", images, "dataset (option --dataset)")]
    with checks.parsing(path, KIND):
        if isinstance(node, _Found):
            return node
        return _Found(node, _upper(getattr(node.metadata, "dimension_names", None)))


def _upper(names: Sequence[str | None] | None) -> list[str]:
    return [str(name).upper() for name in names] if names and all(names) else []


def _is_group(node: Any) -> bool:
    return hasattr(node, "members")


def _child(root: Any, dataset: str) -> Any:
    return root.get(dataset.strip("/")) if _is_group(root) else None


def _candidates(group: Any) -> dict[str, Any]:
    """Images, and arrays of at least three axes outside them, by a line that describes them."""
    found: dict[str, Any] = {}
    for member in dict(sorted(group.members())).values() if _is_group(group) else ():
        if not _is_group(member):
            if member.ndim >= 3:
                found[f"{member.path} {member.shape} {member.dtype}"] = member
        elif images := _images(member):
            found |= {f"{member.path} ({what})": image for what, image in images.items()}
        else:
            found |= _candidates(member)
    return found


def _images(group: Any) -> dict[str, _Found]:
    """Level 0 of every OME-Zarr image that a group describes itself."""
    attributes = dict(group.attrs)
    described = attributes.get("ome", attributes).get("multiscales", [])
    return {f"image {image.get('name') or n}": _level_0(group, image) for n, image in enumerate(described)}


def _level_0(group: Any, image: Mapping[str, Any]) -> _Found:
    array = group[image["datasets"][0]["path"]]
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in image["axes"]]
    names = [str(axis["name"]).upper() for axis in axes]
    if len(names) != array.ndim or len(set(names)) != array.ndim:
        raise ValueError(f"its axes {names} do not fit the shape {array.shape}")
    scale = np.ones(array.ndim)
    for described in (image["datasets"][0], image):
        for transformation in described.get("coordinateTransformations", []):
            if transformation["type"] == "scale":
                scale = scale * np.asarray(transformation["scale"], dtype=float)
    units = [checks.MICROMETRES_PER_UNIT.get(str(axis.get("unit", "")).lower()) for axis in axes]
    edges = zip(names, scale, units, strict=True)
    edges_um = {name.lower(): unit and float(edge) * unit for name, edge, unit in edges}
    return _Found(array, names, edges_um, group, [str(level["path"]) for level in image["datasets"][1:]])


def _n_missing_chunks(array: Any) -> int:
    """Chunks that are not there, where that cannot mean zeros: in arrays of ours, or when all are missing."""
    n_chunks, n_written = math.prod(array.cdata_shape), array.nchunks_initialized
    return n_chunks - n_written if COMPLETE in array.attrs or not n_written else 0
