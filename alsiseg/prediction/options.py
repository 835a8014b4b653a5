"""What a user may choose, and how the work is cut up."""

from dataclasses import asdict, dataclass

MAIN_VIEW = ("z",)
THREE_VIEWS = ("z", "y", "x")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Options:
    """How a volume is segmented; the defaults are the paper's way, one pass over the slices.

    Attributes
    ----------
    three_views : bool
        Segment slices along z, y and x with the same network and average the three probabilities. The network
        was trained on slices along z: this suits specimens without a preferred direction.
    symmetries : bool
        Average over the eight rotations and reflections of every slice (test-time augmentation).
    dropout_passes : int
        Average over this many passes in which dropout stays on; 0 for a pass without dropout.
    uncertainty : bool
        Give the uncertainty of every voxel too: the entropy of its averaged probabilities, uint8,
        0 for one sure phase to 255 for three equally likely ones.
    members : bool
        Keep the labels of every view and pass too, from which `spread` tells how far the measures differ.
    precision : str
        "bfloat16", "float32", or "auto": bfloat16 where the device has instructions for it.
    tile_px : int or None
        Longest edge of what the network sees at once; None for as much as memory allows, whole slices if possible.
    """

    three_views: bool = False
    symmetries: bool = False
    dropout_passes: int = 0
    uncertainty: bool = False
    members: bool = False
    precision: str = "auto"
    tile_px: int | None = None

    def __post_init__(self) -> None:
        if self.dropout_passes < 0:
            raise ValueError(f"the number of dropout passes must be 0 (none) or more, got {self.dropout_passes}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.tile_px is not None and self.tile_px < 1:
            raise ValueError(f"tile_px must be a length above 0, got {self.tile_px}; leave it out to choose by memory")
        if self.members and len(self.member_names) < 2:
            raise ValueError("members need several views or passes, found one; ask for three_views or dropout_passes")

    @property
    def views(self) -> tuple[str, ...]:
        """The axes along which slices are taken."""
        return THREE_VIEWS if self.three_views else MAIN_VIEW

    @property
    def member_names(self) -> tuple[str, ...]:
        """Name every pass over the volume, as in "view y, pass 2"."""
        passes = [f", pass {number}" for number in range(1, self.dropout_passes + 1)] or [""]
        return tuple(f"view {view}{which}" for view in self.views for which in passes)

    @property
    def maps(self) -> tuple[str, ...]:
        """Name what a slab gives: labels, uncertainty, and the labels of the members."""
        kept = ("labels", *(("uncertainty",) if self.uncertainty else ()))
        return (*kept, *(self.member_names if self.members else ()))


@dataclass(frozen=True)
class Plan:
    """How the work is cut up so that it fits into memory.

    Attributes
    ----------
    tile_px : int
        Longest edge of what the network sees at once.
    batch_px : int
        Pixels that it sees at once, one image at least.
    slab_slices : int
        Slices that are read, segmented and written together.
    chunk_slices : int
        Slabs begin at multiples of this, so that workers which write into one zarr share none of its chunks.
    """

    tile_px: int
    batch_px: int
    slab_slices: int
    chunk_slices: int = 1

    def slab_halo(self, halo: int) -> int:
        """Slices that views along y and x need around a slab, in whole chunks."""
        return -(-halo // self.chunk_slices) * self.chunk_slices

    def as_dict(self) -> dict[str, int]:
        """Make a plain dictionary that JSON can hold."""
        return asdict(self)
