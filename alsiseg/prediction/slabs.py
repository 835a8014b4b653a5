"""Slabs of a volume: which slices they need, and the images of each view on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alsiseg.dataset import GreyScale
from alsiseg.prediction.tiles import Cut, aligned, cuts, mirrored, parts
from alsiseg.volumes import Volume

AXES = {"z": 0, "y": 1, "x": 2}
Grey = NDArray[Any] | Volume  # Any: whatever whole numbers or floats a scan has


@dataclass(frozen=True)
class Slab:
    """Slices that are segmented together.

    Attributes
    ----------
    core : range
        The slices that get their labels.
    z_of_windows : int array
        Slice numbers for the windows around each slice of the core; beyond the ends the outermost is repeated.
    z_of_rows : int array
        Slice numbers of the rows of images along y and x: the core with its halo, mirrored beyond the end.
    core_rows : slice
        Which of those rows are the core.
    """

    core: range
    z_of_windows: NDArray[np.int64]
    z_of_rows: NDArray[np.int64]
    core_rows: slice

    @property
    def read(self) -> range:
        """The slices that must be read."""
        needed = np.concatenate([self.z_of_windows, self.z_of_rows])
        return range(int(needed.min()), int(needed.max()) + 1)


def slabs_of(n_z: int, *, n_slices: int, slab_slices: int, halo: int | None) -> list[Slab]:
    """Cut a volume into slabs; with a halo they serve views along y and x too."""
    if halo is None:
        cores = [range(z, min(z + slab_slices, n_z)) for z in range(0, n_z, slab_slices)]
        return [_slab(core, core, n_z, n_slices) for core in cores]
    found = []
    for part in parts(aligned(n_z), aligned(slab_slices) + 2 * halo, halo):
        core = range(part.core_start, min(part.core_stop, n_z))
        found.append(_slab(core, range(part.start, part.stop), n_z, n_slices))
    return found


def _slab(core: range, window: range, n_z: int, n_slices: int) -> Slab:
    around = np.arange(core.start - n_slices // 2, core.stop + n_slices // 2)
    rows = mirrored(np.arange(window.start, window.stop), n_z)
    return Slab(core, around.clip(0, n_z - 1), rows, slice(core.start - window.start, core.stop - window.start))


class SlabReader:
    """Reads the slices of one slab after the other; what two slabs share is read once."""

    def __init__(self, grey_zyx: Grey) -> None:
        self.grey_zyx = grey_zyx
        self._kept = range(0)
        self._kept_zyx: NDArray[Any] | None = None

    def read(self, z: range) -> NDArray[Any]:
        """Read the slices `z`, which begin no earlier than those read before."""
        kept = self._kept_zyx
        if kept is None or not self._kept.start <= z.start < self._kept.stop:
            slab_zyx = np.asarray(self.grey_zyx[z.start : z.stop])
        else:
            fresh = range(self._kept.stop, max(z.stop, self._kept.stop))
            shared = kept[z.start - self._kept.start : z.stop - self._kept.start]
            slab_zyx = np.concatenate([shared, self.grey_zyx[fresh.start : fresh.stop]]) if len(fresh) else shared
        check_finite(slab_zyx, z)
        self._kept, self._kept_zyx = z, slab_zyx
        return slab_zyx


def check_finite(slab_zyx: NDArray[Any], z: range) -> None:
    """Refuse grey values that are no numbers; `z` says which slices these are."""
    if slab_zyx.dtype.kind == "f" and not np.isfinite(slab_zyx).all():
        raise ValueError(
            f"needs finite grey values, found NaN or infinite ones in slices {z.start + 1} to {z.stop}; mend the scan"
        )


def normalised(slab_zyx: NDArray[Any], scale: GreyScale) -> Tensor:
    """Normalised grey, float32, with rows and columns mirrored up to the next multiple of 16."""
    n_y, n_x = slab_zyx.shape[1:]
    grey_zyx = scale.normalise(slab_zyx)
    if n_y % 16 or n_x % 16:
        rows, columns = (mirrored(np.arange(aligned(n)), n) for n in (n_y, n_x))
        grey_zyx = grey_zyx[:, rows[:, None], columns]
    return torch.from_numpy(grey_zyx)


@dataclass(frozen=True)
class ViewImages:
    """The images of one view on a slab.

    Attributes
    ----------
    axis : int
        0, 1, 2: along z, y, x.
    volume_dhw : float32 tensor
        The images one behind the other, with their neighbours where they come from outside.
    sources : int array
        For image i, entries i to i + n_slices - 1 are the images of its window.
    rows, columns
        The windows of an image that the network sees.
    """

    axis: int
    volume_dhw: Tensor
    sources: NDArray[np.int64]
    rows: list[Cut]
    columns: list[Cut]
    n_slices: int

    @property
    def n_images(self) -> int:
        """Images to be segmented."""
        return len(self.sources) - self.n_slices + 1

    @property
    def window_px(self) -> int:
        """Pixels of a window."""
        rows, columns = self.rows[0].window, self.columns[0].window
        return (rows.stop - rows.start) * (columns.stop - columns.start)

    def windows(self, images: range) -> Tensor:
        """Windows (B, n_slices, H, W) around images: a view, since neighbouring windows share slices."""
        needed = self.sources[images.start : images.stop + self.n_slices - 1]
        if (np.diff(needed) == 1).all():
            images_dhw = self.volume_dhw[int(needed[0]) : int(needed[-1]) + 1]
        else:
            images_dhw = self.volume_dhw[torch.from_numpy(needed).to(self.volume_dhw.device)]
        return images_dhw.unfold(0, self.n_slices, 1).permute(0, 3, 1, 2)

    def tiles(self) -> Iterator[tuple[Cut, Cut]]:
        """Pair every window of rows with every window of columns."""
        return ((rows, columns) for rows in self.rows for columns in self.columns)


def view_images(
    view: str, slab: Slab, grey_zyx: Tensor, shape_zyx: tuple[int, ...], *, n_slices: int, tile_px: int, halo: int
) -> ViewImages:
    """Arrange the grey of a slab, as `normalised` gives it for `slab.read`, as images of a view."""
    axis, first = AXES[view], slab.read.start
    _, n_y, n_x = shape_zyx
    if axis == 0:
        rows, columns = (cuts(n, window_edge(n, tile_px, halo), halo) for n in (n_y, n_x))
        return ViewImages(0, grey_zyx, slab.z_of_windows - first, rows, columns, n_slices)
    selected = grey_zyx[torch.from_numpy(slab.z_of_rows - first).to(grey_zyx.device)]
    n_images, n_columns = (n_y, n_x) if axis == 1 else (n_x, n_y)
    around = np.arange(-(n_slices // 2), n_images + n_slices // 2).clip(0, n_images - 1)
    whole = Cut(slice(0, len(slab.z_of_rows)), slab.core_rows, slice(0, len(slab.core)))
    columns = cuts(n_columns, window_edge(n_columns, tile_px, halo), halo)
    return ViewImages(axis, selected.movedim(axis, 0), around, [whole], columns, n_slices)


def window_edge(n: int, tile_px: int, halo: int) -> int:
    """Edge of the windows of an axis of `n` pixels: all of it, or `tile_px` as far as halo and alignment allow."""
    return min(aligned(n), max(tile_px // 16 * 16, 2 * halo + 16))
