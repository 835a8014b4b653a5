"""What every format is asked: grey numbers, a known order of axes, cubic voxels of a known unit, finite values."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import permutations
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from alsiseg.volumes.volume import ReadSlices, Volume

GREY_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")
ORDERS = tuple("".join(order) for order in permutations("ZYX"))
MICROMETRES_PER_UNIT = {
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometre", "micrometers"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
}
SIZES_AGREE_WITHIN = 1e-3  # formats keep voxel sizes as fractions or rounded texts


@contextmanager
def parsing(path: Path, kind: str) -> Iterator[None]:
    """Say in one sentence that a file is unreadable, whatever a library raises on damaged bytes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # what libraries raise on damaged bytes is not documented
        raise unreadable(path, kind, error) from error


def unreadable(path: Path, kind: str, reason: object) -> ValueError:
    """Error for a file that is damaged or of another kind than its name says."""
    said = " ".join(str(reason).split())[:200] or type(reason).__name__
    return ValueError(f"needs a readable {kind}, {path} is damaged or not a {kind} ({said}); export it again")


def library(name: str, what: str) -> ModuleType:
    """Import what reads and writes a format; it need not be installed for the others.

    Raises
    ------
    ValueError
        When it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.split(".")[0]
        raise ValueError(
            f"{what} needs the package {package}, which is not installed; pip install {package}"
        ) from error


def check_type(path: Path, dtype: np.dtype) -> None:
    """Refuse voxels that are not 8-, 16- or 32-bit whole numbers or 32- or 64-bit floats."""
    if dtype.name not in GREY_TYPES:
        raise TypeError(
            f"needs grey voxels of 8-, 16- or 32-bit whole numbers or 32- or 64-bit floats, {path} holds {dtype.name}; "
            "convert it first, e.g. in ImageJ by Image > Type > 16-bit"
        )


def check_axes_option(axes: str | None) -> None:
    """Refuse an option `axes` that does not name z, y and x."""
    if axes is not None and axes.upper() not in ORDERS:
        raise ValueError(f"axes must name Z, Y and X once each, e.g. ZYX, got {axes!r}")


def known_order(path: Path, stated: str, axes: str | None, shape: Sequence[int]) -> str:
    """Order of three axes: what the file states, or what the caller says when it states none.

    Raises
    ------
    ValueError
        When nobody says it, or they contradict each other.
    """
    if stated in ORDERS:
        check_axes(path, stated, axes)
        return stated
    if axes is None:
        raise ValueError(
            f"{path} does not state which of its axes {tuple(shape)} is the slice: say axes ZYX when the "
            "slices come first, or YXZ, XYZ, ... (option --axes)"
        )
    return axes.upper()


def check_axes(path: Path, stated: str, axes: str | None) -> None:
    """Refuse an order of axes that contradicts the file."""
    if axes is not None and axes.upper() != stated:
        raise ValueError(f"{path} states its axes as {stated}, got axes {axes}; leave axes out or save the file anew")


def check_three_axes(path: Path, axes: str, shape: Sequence[int]) -> None:
    """Refuse colours, single images, and axes beside z, y and x."""
    shape = tuple(shape)
    if "S" in axes or (len(shape) == 4 and shape[-1] in (3, 4) and not axes.strip("?")):
        raise ValueError(
            f"needs one grey value per voxel, {path} holds colour (RGB) images of shape {shape}; "
            "save it as 8- or 16-bit grey"
        )
    if len(shape) == 2:
        raise ValueError(f"needs a stack of slices, {path} holds one image of {shape}; give the whole stack")
    if len(shape) != 3:
        said = f"the axes {axes} with shape {shape}" if axes.strip("?") else f"{len(shape)} axes of shape {shape}"
        raise ValueError(f"needs three axes z, y, x, {path} has {said}; save one channel and one time")
    if 0 in shape:
        raise ValueError(f"needs at least one voxel, {path} has the shape {shape}; export it again")


def cubic(path: Path, edges_um: Mapping[str, float | None] | None) -> float | None:
    """Edge of cubic voxels from the edges along x, y and z; None when one is not stated.

    Raises
    ------
    ValueError
        When they are not alike, or not lengths.
    """
    edges = [(edges_um or {}).get(axis) for axis in "xyz"]
    if any(edge is None for edge in edges):
        return None
    x_um, y_um, z_um = (float(edge) for edge in edges if edge is not None)
    if not all(math.isfinite(edge) and edge > 0 for edge in (x_um, y_um, z_um)):
        raise ValueError(f"needs a voxel size above 0 um, {path} states {x_um:g}, {y_um:g}, {z_um:g}; correct it")
    if not all(math.isclose(x_um, other_um, rel_tol=SIZES_AGREE_WITHIN) for other_um in (y_um, z_um)):
        raise ValueError(
            f"needs cubic voxels, {path} has {x_um:g} um along x, {y_um:g} um along y and {z_um:g} um between slices; "
            "resample it first"
        )
    return x_um


def check_voxel_size(voxel_size_um: float | None) -> None:
    """Refuse what is neither a length nor None (unknown)."""
    if voxel_size_um is not None and not (math.isfinite(voxel_size_um) and voxel_size_um > 0):
        raise ValueError(f"the voxel size must be a length above 0 um, got {voxel_size_um}; None says unknown")


def agreed_size(path: Path, stated_um: float | None, given_um: float | None) -> float | None:
    """Voxel size of the file, or the caller's when it states none; two that differ are refused."""
    check_voxel_size(given_um)
    if stated_um is None or given_um is None:
        return given_um if stated_um is None else stated_um
    if not math.isclose(stated_um, given_um, rel_tol=SIZES_AGREE_WITHIN):
        raise ValueError(f"{path} states a voxel size of {stated_um:g} um, got {given_um:g} um; leave it out")
    return stated_um


def choose(path: Path, what: str, candidates: Iterable[str], option: str) -> str:
    """Return the only candidate; refuse none, and several with their list."""
    found = list(candidates)
    if not found:
        raise ValueError(f"needs a {what}, found none in {path}; give another file")
    if len(found) > 1:
        shown = "; ".join(found[:12]) + (f"; and {len(found) - 12} more" if len(found) > 12 else "")
        raise ValueError(f"{path} holds more than one {what}, say which by {option}: {shown}")
    return found[0]


def volume(
    path: Path,
    shape: Sequence[int],
    dtype: np.dtype,
    voxel_size_um: float | None,
    read: ReadSlices,
    chunks: Sequence[int] | None = None,
) -> Volume:
    """Make a `Volume` of (z, y, x) whose floats are known to be finite when they are read."""
    z, y, x = map(int, shape)
    native = np.dtype(dtype).newbyteorder("=")
    chunk = None if chunks is None else (int(chunks[0]), int(chunks[1]), int(chunks[2]))
    return Volume(path, (z, y, x), native, voxel_size_um, _finite(path, read) if native.kind == "f" else read, chunk)


def _finite(path: Path, read: Callable[[Sequence[int]], NDArray]) -> ReadSlices:
    def read_finite(z_indices: Sequence[int]) -> NDArray:
        slab_zyx = read(z_indices)
        for z, slice_yx in zip(z_indices, slab_zyx, strict=True):
            if not np.isfinite(slice_yx).all():
                what = "NaN" if np.isnan(slice_yx).any() else "infinite values"
                raise ValueError(f"needs finite grey values, slice {z + 1} of {path} holds {what}; replace them first")
        return slab_zyx

    return read_finite
