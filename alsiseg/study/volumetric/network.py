"""The 3-D network of `volumetric`, and its file: the weights, and what was spent on them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from alsiseg import runs
from alsiseg.devices import Device
from alsiseg.phases import Phase
from alsiseg.runs.files import check_layouts, contents_of, layouts, read_header, read_tensors, write_json, write_tensors

MULTIPLE_PX = 16  # of the edges of an image: four poolings halve them
NETWORK = "network.json"
LAST_STEPS = 50  # that the loss is averaged over, later ones with more weight


@dataclass(frozen=True)
class Spent:
    """What a training took.

    Attributes
    ----------
    n_cubes : int
    seconds : float
        Of the processor, all threads together, or of the clock on a GPU; without reading and checking the data.
    loss : float
        Mean over the last steps, per voxel.
    """

    n_cubes: int
    seconds: float
    loss: float


class Volumetric(nn.Module):
    """MONAI's `BasicUNet`, and what was spent on its training: in one module, so that a state holds both.

    Raises
    ------
    ImportError
        When MONAI is not installed.
    """

    n_cubes: Tensor
    seconds: Tensor
    n_steps: Tensor
    recent_loss: Tensor

    def __init__(self, features: Sequence[int]) -> None:
        super().__init__()
        self.unet = monai("networks.nets").BasicUNet(3, 1, len(Phase), tuple(features), norm="batch")
        for name in ("n_cubes", "n_steps"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        for name in ("seconds", "recent_loss"):
            self.register_buffer(name, torch.zeros(()))

    def forward(self, grey_b1zyx: Tensor) -> Tensor:
        """Map normalised grey (B, 1, Z, Y, X) to logits (B, classes, Z, Y, X); edges are multiples of 16."""
        return self.unet(grey_b1zyx)

    def note(self, n_cubes: int, seconds: float, step_loss: float) -> None:
        """Add a step to what was spent."""
        self.n_steps += 1
        self.n_cubes += n_cubes
        self.seconds += seconds
        self.recent_loss += (step_loss - self.recent_loss) / self.n_steps.clamp(max=LAST_STEPS)

    @property
    def spent(self) -> Spent:
        """What was spent on it."""
        return Spent(int(self.n_cubes), float(self.seconds), float(self.recent_loss))


def build(features: Sequence[int], *, seed: int) -> Volumetric:
    """Make a network with random weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Volumetric(features)


def autocast(on: Device, edges_px: Sequence[int]) -> AbstractContextManager:
    """Run the block's convolutions in the precision of the device, for small cubes always in float32.

    In bfloat16 torch's gradients of 3-D convolutions over two voxels contain memory that nobody wrote, NaN at times
    (found in torch 2.13 on a CPU): the deepest level must have three or more.
    """
    return (on if min(edges_px) >= 3 * MULTIPLE_PX else replace(on, bfloat16=False)).autocast()


def placed(network: Volumetric, on: Device) -> Volumetric:
    """Move a network to the device, channels last, as the convolutions want it."""
    return network.to(on.name).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


def keep(run_dir: Path, network: Volumetric, features: Sequence[int]) -> None:
    """Write the weights of a finished network, and what was spent in the JSON beside; the JSON last."""
    digest = write_tensors((run_dir / NETWORK).with_suffix(".safetensors"), network.unet.state_dict())
    header = {"format": runs.FORMAT, "features": list(features), "spent": asdict(network.spent)}
    write_json(run_dir / NETWORK, {**header, "sha256": digest})


def load(run_dir: Path) -> Volumetric:
    """Read a finished network; nothing from the files is run.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ValueError
        When a file is damaged.
    """
    path, header = _header(run_dir)
    with contents_of(path):
        tensors = read_tensors(path.with_suffix(".safetensors"), header["sha256"])
        network = Volumetric(header["features"])
        check_layouts(tensors, layouts(network.unet.state_dict()))
        network.unet.load_state_dict(tensors)
        return network


def spent(run_dir: str | Path) -> Spent:
    """Read what a finished training took.

    Raises
    ------
    FileNotFoundError
        When there is none.
    ValueError
        When its JSON is damaged.
    """
    path, header = _header(Path(run_dir))
    with contents_of(path):
        return Spent(**header["spent"])


def _header(run_dir: Path) -> tuple[Path, dict[str, Any]]:
    path = run_dir / NETWORK
    if not path.is_file():
        raise FileNotFoundError(f"needs a finished 3-D training, found no {NETWORK} in {run_dir}; train first")
    return path, read_header(path)


def monai(part: str) -> Any:
    """Import a part of MONAI, an extra that takes seconds to load."""
    try:
        return import_module(f"monai.{part}")
    except ImportError as error:
        raise ImportError(
            "the 3-D network needs MONAI, found none; pip install 'alsiseg[bench]' or leave the 3-D network out"
        ) from error
