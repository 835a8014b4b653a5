"""Read volumes from HDF5 and NeXus files, and refuse what is damaged, unfinished or ambiguous."""

import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg.volumes import checks
from alsiseg.volumes.volume import Volume, read_by_ranges

KIND = "HDF5 file"
CREATOR = "alsiseg"  # root attribute by which files of ours are known
EXAMINE = "import sys; from alsiseg.volumes import hdf5; hdf5.examined(*sys.argv[1:])"
LONGEST_EXAMINATION_S = 60
MOST_DEFAULTS = 8  # a chain of NeXus defaults is entry, process, data; a longer one runs in a circle


def open_hdf5(
    path: Path, *, dataset: str | None = None, axes: str | None = None, voxel_size_um: float | None = None
) -> Volume:
    """Open a data set of an HDF5 or NeXus file; see `volumes.open`."""
    checks.library("h5py", f"reading {path}")
    _check_that_hdf5_survives(path, dataset)
    found = examined(path, dataset)
    where = Path(f"{path}{found.name}")
    checks.check_three_axes(where, "?" * len(found.shape), found.shape)
    order = checks.known_order(where, found.axes, axes, found.shape)
    checks.check_type(where, found.dtype)
    if found.problem:
        raise ValueError(f"{where} {found.problem}; copy or export it again")
    size_um = checks.agreed_size(where, checks.cubic(where, found.edges_um), voxel_size_um)
    read = _Dataset(path, found.name, found.dtype, order)
    in_order = [order.index(axis) for axis in "ZYX"]
    chunks_zyx = None if found.chunks is None else [found.chunks[axis] for axis in in_order]
    return checks.volume(path, [found.shape[axis] for axis in in_order], found.dtype, size_um, read, chunks_zyx)


@dataclass(frozen=True)
class Found:
    """What an HDF5 file says about a data set."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    chunks: tuple[int, ...] | None
    axes: str
    edges_um: Mapping[str, float | None] | None
    problem: str


def examined(path: str | Path, dataset: str | None = None) -> Found:
    """Find the data set and read what the file says about it."""
    path = Path(path)
    with _file(path) as file:
        array = _chosen(path, file, dataset)
        with checks.parsing(path, KIND):
            described = _axes(array), _edges_um(array), unwritten(path, array)
            return Found(array.name, array.shape, array.dtype, array.chunks, *described)


def _check_that_hdf5_survives(path: Path, dataset: str | None) -> None:
    """Examine a file of other programs in another process first: damaged bytes may let HDF5 hang or crash.

    Known to the HDF Group (hdf5 issue 1707). Files of ours have checksums on everything that is examined.
    """
    with _file(path) as file, checks.parsing(path, KIND):
        if CREATOR in file.attrs:
            return
    command = [sys.executable, "-c", EXAMINE, str(path), *([] if dataset is None else [dataset])]
    try:
        ended = subprocess.run(command, capture_output=True, timeout=LONGEST_EXAMINATION_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise checks.unreadable(path, KIND, f"reading about it takes over {LONGEST_EXAMINATION_S} s") from error
    if ended.returncode < 0:  # an error that Python reports comes again in this process
        raise checks.unreadable(path, KIND, "HDF5 crashes on it")


@dataclass(frozen=True)
class _Dataset:
    """A data set; called with slice indices, it reads them. The file is open for the time of a call only."""

    path: Path
    name: str
    dtype: np.dtype
    order: str

    def __call__(self, z_indices: Sequence[int]) -> NDArray:
        """Read the slices."""
        with _file(self.path) as file, checks.parsing(Path(f"{self.path}{self.name}"), KIND):
            array, before = file[self.name], (slice(None),) * self.order.index("Z")

            def read_range(start: int, stop: int) -> NDArray:
                return array[(*before, slice(start, stop))].transpose([self.order.index(axis) for axis in "ZYX"])

            return np.ascontiguousarray(read_by_ranges(z_indices, read_range), dtype=self.dtype.newbyteorder("="))


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    h5py = checks.library("h5py", f"reading {path}")
    with checks.parsing(path, KIND):
        file = h5py.File(path, "r")
    with file:
        yield file


def _chosen(path: Path, file: Any, dataset: str | None) -> Any:
    """Return the data set that was asked for, the default one of NeXus, or the only volume."""
    if dataset is None:
        with checks.parsing(path, KIND):
            found = _default_signal(file) or _volumes_in(file)
        described = {f"{array.name} {array.shape} {array.dtype}": array for array in found}
        return described[checks.choose(path, "three-dimensional data set", described, "dataset (option --dataset)")]
    try:
        array = file[dataset]
    except (KeyError, ValueError, OSError) as error:
        known = ", ".join(array.name for array in _volumes_in(file)) or "none"
        raise ValueError(f"{path} has no data set {dataset!r}; its three-dimensional ones are: {known}") from error
    if not hasattr(array, "shape"):
        raise ValueError(f"{dataset!r} in {path} is a group, not a data set; name the data set in it")
    return array


def _default_signal(file: Any) -> list[Any]:
    """Follow the NeXus attributes `default` and `signal` to the data set they name."""
    group = file
    for _ in range(MOST_DEFAULTS):
        if "signal" in group.attrs:
            array = group[_text(group.attrs["signal"])]
            return [array] if getattr(array, "ndim", 0) >= 3 else []
        if "default" not in group.attrs:
            return []
        group = group[_text(group.attrs["default"])]  # a link that leads nowhere is damage
    return []


def _volumes_in(file: Any) -> list[Any]:
    """Return three-dimensional data sets: the signals of NXdata groups when there are any, otherwise all."""
    signals, arrays = [], []

    def visit(_: str, node: Any) -> None:
        if _is_volume(node):
            arrays.append(node)
            parent = node.parent.attrs
            named = "signal" in parent and _text(parent["signal"]) == node.name.rsplit("/", 1)[-1]
            if named or _text(node.attrs.get("signal", "")) == "1":
                signals.append(node)

    file.visititems(visit)
    return signals or arrays


def _is_volume(node: Any) -> bool:
    return getattr(node, "ndim", 0) == 3 and node.dtype.kind in "iuf"


def _text(value: Any) -> str:
    """Text of an attribute, which may be bytes, a number, or an array of one of them."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _axis_names(array: Any) -> list[str]:
    """Names of the axes: labels of dimensions, the attribute `axes` of the NXdata group or of the data set."""
    labels = [dimension.label for dimension in array.dims]
    if all(labels):
        return labels
    for attributes in (array.parent.attrs, array.attrs):
        stated = np.atleast_1d(attributes.get("axes", []))
        names = [_text(name) for name in stated]
        names = names[0].replace(",", ":").strip("[]").split(":") if len(names) == 1 else names
        if len(names) == array.ndim:
            return names
    return []


def _axes(array: Any) -> str:
    """Order such as ZYX of axes named z or voxel_z, and so on; "" when they are named otherwise."""
    letters = [name.strip().rsplit("_", 1)[-1].upper() for name in _axis_names(array)]
    return "".join(letters) if sorted(letters) == ["X", "Y", "Z"] else ""


def _edges_um(array: Any) -> dict[str, float | None] | None:
    """Voxel edges from the attribute `element_size_um`, or from the NXdata axes and their units."""
    names, order = _axis_names(array), _axes(array).lower() or "zyx"
    sizes = np.ravel(array.attrs.get("element_size_um", []))
    if len(sizes) == 3:
        return {axis: float(size) for axis, size in zip(order, sizes, strict=True)}
    if not names:
        return None
    return {axis: _spacing_um(array.parent.get(name.strip())) for axis, name in zip(order, names, strict=False)}


def _spacing_um(positions: Any) -> float | None:
    """Even distance between the positions of an axis; None when they or their unit are not stated."""
    unit_um = None if positions is None else checks.MICROMETRES_PER_UNIT.get(_text(positions.attrs.get("units", "")))
    if unit_um is None or getattr(positions, "ndim", 0) != 1 or len(positions) < 2:
        return None
    steps = np.diff(positions[:].astype(float))
    return abs(float(steps.mean())) * unit_um if np.allclose(steps, steps[0], rtol=1e-2) else None


def unwritten(path: Path, array: Any) -> str:
    """Say which part of a data set was never written: HDF5 would give zeros for it."""
    if array.is_virtual:
        sources = {source.file_name for source in array.virtual_sources()} - {"."}
        missing = sorted(name for name in sources if not (path.parent / name).exists())
        return f"takes its voxels from {missing[0]}, which is missing" if missing else ""
    if array.chunks is not None:
        n_chunks = math.prod(-(-n // chunk) for n, chunk in zip(array.shape, array.chunks, strict=True))
        n_written = array.id.get_num_chunks()
        return "" if n_written == n_chunks else f"is incomplete: {n_written} of {n_chunks} chunks were written"
    external = [name for name, *_ in array.external or [] if not (path.parent / name).exists()]
    if external:
        return f"takes its voxels from {external[0]}, which is missing"
    return "" if array.id.get_storage_size() or not array.size else "was never written"
