"""Read folders of TIFF slices, one two-dimensional image each, in natural order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from alsiseg.volumes import checks, tiff
from alsiseg.volumes.volume import Volume

SLICE_SUFFIXES = (".tif", ".tiff")


def open_folder(folder: Path, *, voxel_size_um: float | None = None) -> Volume:
    """Open a folder of two-dimensional TIFF slices; see `volumes.open`."""
    paths = _slices(folder)
    layouts = [_slice_layout(path) for path in paths]
    for (path, layout), (other_path, other) in pairwise(zip(paths, layouts, strict=True)):
        if layout != other:
            raise ValueError(
                f"needs slices of one size and type, {path} is {layout} and {other_path.name} {other}; "
                "take out what does not belong to the stack"
            )
    shape_yx, dtype = layouts[0]
    read = _Slices(tuple(paths), shape_yx, dtype)
    read([0])  # a compression that cannot be read is met now, not an hour later
    with tifffile.TiffFile(paths[0]) as first:
        size_um = checks.agreed_size(folder, tiff.voxel_size(paths[0], first), voxel_size_um)
    return checks.volume(folder, (len(paths), *shape_yx), dtype, size_um, read)


@dataclass(frozen=True)
class _Slices:
    """Files of slices; called with slice indices, it reads them."""

    paths: tuple[Path, ...]
    shape_yx: tuple[int, ...]
    dtype: np.dtype

    def __call__(self, z_indices: Sequence[int]) -> NDArray:
        """Read the slices."""
        slab_zyx = np.empty((len(z_indices), *self.shape_yx), self.dtype)
        for slice_yx, z in zip(slab_zyx, z_indices, strict=True):
            with checks.parsing(self.paths[z], "TIFF"):
                image = tifffile.imread(self.paths[z])
                if image.shape != self.shape_yx or image.dtype != self.dtype:
                    raise ValueError(f"it is {image.dtype} of {image.shape} now")
            slice_yx[:] = image
        return slab_zyx


def _natural_order(path: Path) -> list[str | int]:
    return [int(part) if odd % 2 else part for odd, part in enumerate(re.split(r"(\d+)", path.name))]


def _slices(folder: Path) -> list[Path]:
    """Slices of a folder in natural order, without what an operating system leaves behind."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    paths = sorted((path for path in visible if path.suffix.lower() in SLICE_SUFFIXES), key=_natural_order)
    if not paths:
        raise ValueError(f"needs a folder of TIFF slices, found none in {folder}; give the folder that holds them")
    _check_no_gap(folder, paths)
    return paths


def _slice_layout(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of one slice, after checking that it is one whole grey image."""
    with tiff.parsed(path) as (file, series):
        if series.ndim != 2 or len(file.series) > 1:
            raise ValueError(
                f"needs one two-dimensional grey image per slice, {path} has the axes {series.axes} with shape "
                f"{series.shape}; give a folder of single slices, or the stack as one file"
            )
        checks.check_type(path, series.dtype)
        tiff.check_complete(path, file)
        return series.shape, series.dtype.newbyteorder("=")


def _check_no_gap(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse numbered slices with a number missing or doubled.

    The slice number is the last number of the name that differs between slices (not the 8 of "s_0001_8bit").
    """
    found = [re.findall(r"\d+", path.stem) for path in paths]
    if not any(found) or len(paths) == 1:
        return  # not numbered: the order of names is all there is
    if len({len(digits) for digits in found}) > 1:
        odd = next(path for path, digits in zip(paths, found, strict=True) if len(digits) != len(found[0]))
        raise ValueError(f"needs slices named alike with one number each, found {paths[0].name} beside {odd.name}")
    columns = [[int(number) for number in column] for column in zip(*found, strict=True)]
    numbers = next((column for column in reversed(columns) if min(column) != max(column)), columns[-1])
    by_number = sorted(zip(numbers, paths, strict=True))
    for (number, path), (after, next_path) in pairwise(by_number):
        if after != number + 1:
            what = f"number {number} occurs twice" if after == number else f"number {number + 1} is missing"
            raise ValueError(
                f"needs consecutively numbered slices, {what} in {folder} ({path.name}, {next_path.name}); "
                "complete the folder"
            )
