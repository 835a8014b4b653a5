"""Write OME-Zarr 0.5 with its pyramid: compressed, with a checksum on every chunk, slabs in chunks of their own.

Version 0.5 (zarr 3) is what ome-zarr-py writes by default and what napari, neuroglancer and WebKnossos open, and
its chunks carry checksums by specification; `open` reads 0.4 too.
"""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.phases import PHASE_COLOURS, PHASE_NAMES
from alsiseg.progress import steps
from alsiseg.volumes import checks
from alsiseg.volumes.stack import CHUNK_EDGE_PX, Stack
from alsiseg.volumes.zarrs import COMPLETE, KIND

VERSION = "0.5"
ZSTD_LEVEL = 3
EVERY_CHUNK = {"write_empty_chunks": True}  # chunks of zeros too, so that a missing one is damage
CORNERS = tuple(product((0, 1), repeat=3))


def check_library() -> None:
    """Refuse to begin without zarr."""
    _zarr()


def begin(partial: Path, stack: Stack) -> None:
    """Make the image with its empty level 0."""
    group = _zarr().create_group(partial, overwrite=True)
    group.attrs.update({"ome": {"version": VERSION}, "labels": stack.labels, "voxel_size_um": stack.voxel_size_um})
    _create_level(group, 0, stack)


def begin_again(partial: Path, stack: Stack) -> None:
    """Make the image ready for more slabs; those that are there stay, levels made from them go."""
    if not (partial / "0" / "zarr.json").is_file():
        begin(partial, stack)
        return
    group = _zarr().open_group(partial, mode="r+")
    for level in [name for name in group.array_keys() if name != "0"]:
        del group[level]
    group.attrs.put({"ome": {"version": VERSION}, "labels": stack.labels, "voxel_size_um": stack.voxel_size_um})


def chunk_files(partial: Path, z: range) -> list[Path]:
    """List the files that hold the slices `z` of level 0."""
    array = _zarr().open_array(partial / "0", mode="r")
    numbers = [range(-(-n // chunk)) for n, chunk in zip(array.shape, array.chunks, strict=True)]
    numbers[0] = range(z.start // array.chunks[0], -(-z.stop // array.chunks[0]))
    return [partial / "0" / array.metadata.encode_chunk_key(number) for number in product(*numbers)]


def read_slab(partial: Path, z: range) -> NDArray:
    """Read slices of level 0."""
    with checks.parsing(partial, KIND):
        missing = [path for path in chunk_files(partial, z) if not path.is_file()]
        if missing:
            raise ValueError(f"{partial} lacks {missing[0].relative_to(partial)}; write that slab again")
        return np.asarray(_zarr().open_array(partial / "0", mode="r")[z.start : z.stop])


def write_slab(partial: Path, z_start: int, slab_zyx: NDArray) -> None:
    """Write the slices."""
    array = _zarr().open_array(partial / "0", mode="r+").with_config(EVERY_CHUNK)
    stack = Stack(array.shape, array.dtype)
    stack.check_slab(z_start, slab_zyx)
    z_stop = z_start + len(slab_zyx)
    if z_start % stack.slab_slices or (z_stop % stack.slab_slices and z_stop != stack.shape[0]):
        raise ValueError(f"needs slabs of whole chunks, {stack.slab_slices} slices, got {z_start} to {z_stop}")
    array[z_start:z_stop] = slab_zyx


def complete(partial: Path) -> None:
    """Make the pyramid from level 0 and describe the image.

    Raises
    ------
    ValueError
        When slabs are missing.
    """
    group = _zarr().open_group(partial, mode="r+")
    level_0, labels, size_um = group["0"], bool(group.attrs["labels"]), group.attrs["voxel_size_um"]
    missing = level_0.nchunks - level_0.nchunks_initialized
    if missing:
        raise ValueError(f"{partial} is incomplete: {missing} chunks are missing; write the missing slabs")
    n_levels = 1
    while max(group[str(n_levels - 1)].shape) > CHUNK_EDGE_PX:
        finer = group[str(n_levels - 1)]
        z, y, x = (-(-n // 2) for n in finer.shape)
        coarser = _create_level(group, n_levels, Stack((z, y, x), finer.dtype, labels=labels))
        _shrink(finer, coarser, labels=labels)
        n_levels += 1
    group.attrs.put({"ome": _description(n_levels, labels=labels, voxel_size_um=size_um)})


def _zarr() -> Any:
    return checks.library("zarr", "writing OME-Zarr")


def _create_level(group: Any, level: int, stack: Stack) -> Any:
    codecs = checks.library("zarr.codecs", "writing OME-Zarr")
    return group.create_array(
        str(level),
        shape=stack.shape,
        dtype=stack.dtype,
        chunks=stack.chunks,
        compressors=[codecs.ZstdCodec(level=ZSTD_LEVEL), codecs.Crc32cCodec()],
        dimension_names=["z", "y", "x"],
        fill_value=0,
        attributes={COMPLETE: True},
        config=EVERY_CHUNK,
        overwrite=True,
    )


def _shrink(finer: Any, coarser: Any, *, labels: bool) -> None:
    """Fill a level from the one below it, a chunk at a time."""
    starts = [range(0, n, chunk) for n, chunk in zip(coarser.shape, coarser.chunks, strict=True)]
    for corner in steps([*product(*starts)], "making a smaller level of the pyramid", unit=" chunks"):
        ends = [min(start + n, size) for start, n, size in zip(corner, coarser.chunks, coarser.shape, strict=True)]
        block = finer[tuple(slice(2 * start, 2 * end) for start, end in zip(corner, ends, strict=True))]
        octets = _octets(np.asarray(block))
        target = tuple(slice(start, end) for start, end in zip(corner, ends, strict=True))
        coarser[target] = most_frequent(octets) if labels else mean(octets)


def _octets(block: NDArray) -> list[NDArray]:
    """Eight arrays, one for each corner of the cubes of 2 x 2 x 2; odd faces count twice, which changes no share."""
    even = np.pad(block, [(0, n % 2) for n in block.shape], mode="edge")
    return [even[z::2, y::2, x::2] for z, y, x in CORNERS]


def mean(octets: list[NDArray]) -> NDArray:
    """Mean of eight arrays, rounded for whole numbers."""
    total = np.zeros(octets[0].shape, np.float64)
    for octet in octets:
        total += octet
    dtype = octets[0].dtype
    return (total / 8).astype(dtype) if dtype.kind == "f" else np.rint(total / 8).astype(dtype)


def most_frequent(octets: list[NDArray]) -> NDArray:
    """Most frequent of eight labels; of several, the smallest."""
    chosen = octets[0].copy()
    mixed = np.zeros(chosen.shape, bool)
    for octet in octets[1:]:
        mixed |= octet != chosen
    chosen[mixed] = _elected([octet[mixed] for octet in octets])
    return chosen


def _elected(octets: list[NDArray]) -> NDArray:
    """Label of the highest score: most votes first, then the least label."""
    bits = 8 * octets[0].itemsize + 1  # votes stand above the label
    score_type = {1: np.int16, 2: np.int32}.get(octets[0].itemsize, np.int64)
    best = np.zeros(octets[0].shape, score_type)
    for octet in octets:
        votes = np.zeros(octet.shape, score_type)
        for other in octets:
            votes += octet == other
        np.maximum(best, (votes << bits) - octet, out=best, casting="unsafe")
    most_votes = (best + (1 << bits - 1)) >> bits
    return ((most_votes << bits) - best).astype(octets[0].dtype)


def _description(n_levels: int, *, labels: bool, voxel_size_um: float | None) -> dict[str, Any]:
    """Metadata of OME-Zarr: axes, scale and place of every level; names and colours of the phases."""
    unit = {} if voxel_size_um is None else {"unit": "micrometer"}
    edge = 1.0 if voxel_size_um is None else voxel_size_um
    image = {
        "name": "labels" if labels else "grey",
        "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [edge * 2**level] * 3},
                    {"type": "translation", "translation": [edge * (2**level - 1) / 2] * 3},
                ],
            }
            for level in range(n_levels)
        ],
        "type": "mode" if labels else "mean",
    }
    description: dict[str, Any] = {"version": VERSION, "multiscales": [image]}
    return description | {"image-label": _phases()} if labels else description


def _phases() -> dict[str, Any]:
    colours = [
        {"label-value": int(phase), "rgba": [*bytes.fromhex(colour.lstrip("#")), 255]}
        for phase, colour in PHASE_COLOURS.items()
    ]
    names = [{"label-value": int(phase), "name": name} for phase, name in PHASE_NAMES.items()]
    return {"version": VERSION, "colors": colours, "properties": names}
