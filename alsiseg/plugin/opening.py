"""Open volumes of every format as layers, and the specimen to try things out with."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alsiseg import phantom, volumes
from alsiseg.phases import Phase
from alsiseg.plugin.layers import LayerData
from alsiseg.viewer import window
from alsiseg.volumes import Volume

SAMPLE_SHAPE_ZYX = (40, 96, 96)
SAMPLE_ANGLES = 180
READABLE = (*volumes.TIFF_SUFFIXES, *volumes.HDF5_SUFFIXES, *volumes.ZARR_SUFFIXES)


@dataclass(frozen=True)
class Statement:
    """What a user says about a file that does not say it itself; see `volumes.open`."""

    axes: str = ""
    dataset: str = ""
    voxel_size_um: float = 0.0
    raw_shape_zyx: str = ""
    raw_dtype: str = ""
    raw_offset_bytes: int = 0

    def open(self, path: Path) -> Volume:
        """Open the volume with what is stated.

        Raises
        ------
        ValueError, TypeError, OSError
            As `volumes.open` does.
        """
        return volumes.open(
            path,
            axes=self.axes.upper() or None,
            dataset=self.dataset or None,
            voxel_size_um=self.voxel_size_um or None,
            shape_zyx=_numbers(self.raw_shape_zyx),
            dtype=self.raw_dtype or None,
            offset_bytes=self.raw_offset_bytes,
        )


def _numbers(text: str) -> tuple[int, ...] | None:
    """Read "400, 512, 512"; None for nothing."""
    parts = text.replace(",", " ").split()
    if not all(part.isdigit() for part in parts) or len(parts) not in (0, 3):
        raise ValueError(
            f"the shape needs three whole numbers (slices, rows, columns), got {text!r}; e.g. 400, 512, 512"
        )
    return tuple(map(int, parts)) or None


def reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Give napari what reads these files; None for what is no volume.

    A folder is taken when it is a zarr or holds TIFF slices.
    """
    paths = [Path(one) for one in ([path] if isinstance(path, str) else path)]
    return read if all(map(_is_volume, paths)) else None


def _is_volume(path: Path) -> bool:
    if path.suffix.lower() in READABLE:
        return True
    if not path.is_dir():
        return False
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray")) or any(
        child.suffix.lower() in volumes.TIFF_SUFFIXES for child in path.iterdir()
    )


def read(path: str | Sequence[str]) -> list[LayerData]:
    """Open volumes as layers, lazily; raises as `volumes.open` does."""
    return [layer_of(volumes.open(one), Path(one).stem) for one in ([path] if isinstance(path, str) else path)]


def layer_of(volume: Volume, name: str) -> LayerData:
    """Make a layer: of phases when the middle slice holds nothing else, otherwise a grey one."""
    size_um = volume.voxel_size_um
    if holds_phases(volume[len(volume) // 2]):
        return *window.labels_layer(volume, name, voxel_size_um=size_um), "labels"
    return *window.grey_layer(volume, name=name, voxel_size_um=size_um), "image"


def holds_phases(slice_yx: NDArray) -> bool:
    """Whether a slice holds small whole numbers that are phases, and more than one of them."""
    if slice_yx.dtype.kind not in "iu" or slice_yx.max() > max(Phase):
        return False
    return bool(slice_yx.min() >= min(Phase)) and len(np.unique(slice_yx)) > 1


def specimen() -> list[LayerData]:
    """Make a small specimen and its synchrotron scan; the same every time, in some seconds."""
    with tempfile.TemporaryDirectory(prefix="alsiseg-") as folder:
        paths = phantom.make(
            folder, shape_zyx=SAMPLE_SHAPE_ZYX, modalities=("synchrotron",), n_angles=SAMPLE_ANGLES, n_processes=1
        )
        opened = {name: volumes.open(paths[name]) for name in ("synchrotron", "truth")}
        size_um = opened["truth"].voxel_size_um
        grey, truth = (np.asarray(opened[name]) for name in ("synchrotron", "truth"))
    return [
        (*window.grey_layer(grey, name="specimen", voxel_size_um=size_um), "image"),
        (*window.labels_layer(truth, "truth", voxel_size_um=size_um), "labels"),
    ]
