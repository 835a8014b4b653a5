"""What the commands share: types of options, and how volumes are opened from the command line."""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from alsiseg.volumes import Volume

PATH = click.Path(path_type=Path)
SIZES_AGREE_WITHIN = 1e-3  # formats keep voxel sizes as fractions or rounded texts


class Numbers(click.ParamType):
    """Comma-separated numbers, e.g. 160,160,192."""

    def __init__(self, kind: type, count: int, name: str) -> None:
        self.kind, self.count, self.name = kind, count, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        """Read the numbers, or say how many are needed."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != self.count:
            self.fail(f"needs {self.count} numbers separated by commas, got {value!r}", param, ctx)
        return numbers


class Words(click.ParamType):
    """Comma-separated words out of some, e.g. z,y,x."""

    def __init__(self, known: tuple[str, ...], name: str) -> None:
        self.known, self.name = known, name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        """Read the words, or say which ones there are."""
        if isinstance(value, tuple):
            return value
        words = tuple(value.split(","))
        if len(set(words) & set(self.known)) != len(words):
            self.fail(
                f"needs some of {', '.join(self.known)}, each once, separated by commas, got {value!r}", param, ctx
            )
        return words


@dataclass(frozen=True)
class Opening:
    """How the volumes on a command line are opened: the n-th value of an option is meant for the n-th volume.

    Attributes
    ----------
    axes, voxel_size_um, dataset, shape_zyx, dtype, offset_bytes : tuple
        Values of the options of `volumes.open` of these names, in the order of the command line.
    alike : bool
        Whether the volumes are scans of one kind, for which an option said once holds all.
    """

    axes: tuple[str, ...] = ()
    voxel_size_um: tuple[float, ...] = ()
    dataset: tuple[str, ...] = ()
    shape_zyx: tuple[tuple[int, int, int], ...] = ()
    dtype: tuple[str, ...] = ()
    offset_bytes: tuple[int, ...] = ()
    alike: bool = False

    def volume(self, path: Path, number: int = 0) -> "Volume":
        """Open a volume; `number` 0 is the first one on the command line.

        What a further volume states about its axes stands; where it states nothing they are those of the first.
        """
        from alsiseg import volumes

        options = self._options(number)
        if ("shape_zyx" in options) != ("dtype" in options) or ("offset_bytes" in options and "dtype" not in options):
            raise ValueError(f"{path} as a file of bare voxels needs --raw-shape and --raw-dtype; give both")
        try:
            return volumes.open(path, **options)
        except ValueError as error:
            if number == 0 or "axes" in options or not self.axes or "axes" not in str(error):
                raise
        return volumes.open(path, **options, axes=self.axes[0])

    def all_of(self, *paths: Path) -> list["Volume"]:
        """Open all volumes of a command, in their order."""
        for name, values in self._values().items():
            if len(values) > len(paths):
                raise ValueError(
                    f"{OPTION_NAMES[name]} may be said once per volume, got {len(values)} for {len(paths)}; "
                    "leave the others out"
                )
        return [self.volume(path, number) for number, path in enumerate(paths)]

    def _values(self) -> dict[str, tuple]:
        return {name: getattr(self, name) for name in OPTION_NAMES}

    def _options(self, number: int) -> dict[str, Any]:
        """Values meant for one volume."""
        values = self._values().items()
        if self.alike:
            return {name: given[min(number, len(given) - 1)] for name, given in values if given}
        return {name: given[number] for name, given in values if number < len(given)}


OPTION_NAMES = {
    "axes": "--axes",
    "voxel_size_um": "--voxel-size",
    "dataset": "--dataset",
    "shape_zyx": "--raw-shape",
    "dtype": "--raw-dtype",
    "offset_bytes": "--raw-offset",
}
_FROM_0 = click.IntRange(0)
_SETTINGS: dict[str, dict[str, Any]] = {
    "axes": {"metavar": "ZYX", "help": "Order of the axes, for a file that does not state it."},
    "voxel_size_um": {
        "type": float,
        "metavar": "UM",
        "help": "Edge of a voxel in micrometres, for a file that does not state it.",
    },
    "dataset": {"metavar": "NAME", "help": "Which volume of an HDF5 or zarr file that holds several."},
    "shape_zyx": {"type": Numbers(int, 3, "Z,Y,X"), "help": "Slices, rows and columns of a file of bare voxels."},
    "dtype": {"metavar": "TYPE", "help": "Type of its voxels: uint8, uint16, float32, ...; big endian: >u2."},
    "offset_bytes": {"type": _FROM_0, "metavar": "BYTES", "help": "Bytes before its first voxel. [default: 0]"},
}


def volume_options(*, alike: bool = False) -> Callable[[Callable], Callable]:
    """Give a command the options that say how volumes are opened, as its argument `opening`."""

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def with_opening(*arguments: Any, **options: Any) -> Any:
            given = {name: options.pop(name) for name in OPTION_NAMES}
            return command(*arguments, opening=Opening(**given, alike=alike), **options)

        for name in reversed(OPTION_NAMES):
            option = click.option(OPTION_NAMES[name], name, multiple=True, **_SETTINGS[name])
            with_opening = option(with_opening)
        return with_opening

    return decorate


device_option = click.option(
    "--device", default="auto", metavar="NAME", help="cpu, cuda, ... [default: a GPU if there is one]"
)
epoch_option = click.option("--epoch", type=int, default=None, metavar="N", help="A kept epoch. [default: the last]")
scheduler_option = click.option(
    "--scheduler",
    default=None,
    metavar="ADDRESS",
    help="Let the workers of this dask.distributed scheduler do it, e.g. tcp://node1:8786.",
)


def one_voxel_size(opened: Iterable["Volume"]) -> float | None:
    """Voxel size in micrometres that volumes agree on; None when none states one."""
    sizes = sorted({volume.voxel_size_um for volume in opened if volume.voxel_size_um is not None})
    if sizes and not math.isclose(sizes[0], sizes[-1], rel_tol=SIZES_AGREE_WITHIN):
        found = " and ".join(f"{size:g}" for size in sizes)
        raise ValueError(f"needs one voxel size, got {found} um; give volumes of one resolution")
    return next(iter(sizes), None)


def check_free(out: Path, overwrite: bool) -> None:
    """Refuse to replace a volume that was not meant."""
    from alsiseg import volumes

    volumes.check_output(out)
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists already; choose another name or say --overwrite")
