"""The history of a run for TensorBoard, beside the run folder's own."""

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any


class Scalars:
    """Writes every column of a row as a curve over the epochs; does nothing unless `wanted`.

    Parameters
    ----------
    run_dir : Path
        The log goes to its folder `tensorboard`.
    after : int
        Last complete epoch: curves of later ones, from before a stop, are left out.
    """

    def __init__(self, run_dir: Path, *, after: int, wanted: bool) -> None:
        self.writer: Any = None
        if wanted:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=after + 1)

    @staticmethod
    def check(wanted: bool) -> None:
        """Refuse at once, not after an epoch, when the package is missing."""
        if wanted and find_spec("tensorboard") is None:
            raise ImportError(
                "a TensorBoard log needs the package tensorboard, found none; "
                "pip install 'alsiseg[tensorboard]' or leave --tensorboard out"
            )

    def write(self, row: dict[str, float]) -> None:
        """Add the numbers of one epoch."""
        if self.writer is None:
            return
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, int(row["epoch"]))
        self.writer.flush()

    def __enter__(self) -> "Scalars":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writer is not None:
            self.writer.close()
