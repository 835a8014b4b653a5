"""Write TIFF stacks: of ImageJ where it knows the type, of OME otherwise; uncompressed, so that they can be mapped."""

from pathlib import Path
from typing import Any

import tifffile
from numpy.typing import NDArray

from alsiseg.volumes.stack import Stack

IMAGEJ_TYPES = ("uint8", "uint16", "float32")
CLASSIC_TIFF_BYTES = 2**32 - 2**25  # a larger one is a BigTIFF; ImageJ, which knows none, has one page and a number


def check_library() -> None:
    """Nothing to refuse: tifffile is always installed."""


def begin(partial: Path, stack: Stack) -> None:
    """Write everything but the voxels, which are zero until they are written."""
    options = _imagej(stack) if stack.dtype.name in IMAGEJ_TYPES else _ome(stack)
    tifffile.imwrite(partial, None, shape=stack.shape, dtype=stack.dtype, photometric="minisblack", **options)


def write_slab(partial: Path, z_start: int, slab_zyx: NDArray) -> None:
    """Write the slices where they belong."""
    with tifffile.TiffFile(partial) as tiff:
        series = tiff.series[0]
    shape = series.shape if len(series.shape) == 3 else (1, *series.shape)  # tifffile drops the axis of a single slice
    stack = Stack.checked(shape, series.dtype)
    stack.check_slab(z_start, slab_zyx)
    with partial.open("r+b") as file:
        file.seek((series.dataoffset or 0) + z_start * stack.n_bytes // stack.shape[0])
        for slice_yx in slab_zyx:
            file.write(slice_yx.astype(stack.dtype, order="C", copy=False).data)


def complete(partial: Path) -> None:
    """Nothing is left to do."""


def _imagej(stack: Stack) -> dict[str, Any]:
    options: dict[str, Any] = {"imagej": True, "truncate": stack.n_bytes > CLASSIC_TIFF_BYTES}
    if stack.voxel_size_um is None:
        return options | {"metadata": {"axes": "ZYX"}}
    metadata = {"axes": "ZYX", "spacing": stack.voxel_size_um, "unit": "um"}
    return options | {"metadata": metadata, "resolution": (1 / stack.voxel_size_um,) * 2}


def _ome(stack: Stack) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    if stack.voxel_size_um is not None:
        for axis in "XYZ":
            metadata |= {f"PhysicalSize{axis}": stack.voxel_size_um, f"PhysicalSize{axis}Unit": "µm"}
    return {"ome": True, "bigtiff": stack.n_bytes > CLASSIC_TIFF_BYTES, "metadata": metadata}
