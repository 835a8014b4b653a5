"""Networks of a run: those kept for use, and the last complete states to resume from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from alsiseg.dataset import GreyScale
from alsiseg.runs.files import (
    FORMAT,
    check_layouts,
    contents_of,
    is_whole,
    layouts,
    network_from,
    numbered,
    read_header,
    read_tensors,
    settings_from,
    whole_number,
    write_json,
    write_tensors,
)
from alsiseg.runs.histories import HISTORY, TABLES, as_lines
from alsiseg.runs.places import NETWORK_SUFFIX, header_of, located
from alsiseg.runs.records import identity, read_settings
from alsiseg.unet import UNet, UNetConfig
from alsiseg.volumes import failures_of_disk

STEP = torch.zeros(())  # how Adam counts its steps
N_STATES = 2  # the last complete one, and the one before, should the last be damaged


@dataclass(frozen=True)
class Trained:
    """A network as a run left it.

    Attributes
    ----------
    network : UNet
        In evaluation mode, on the CPU.
    grey_scale : GreyScale
        Of the volume it was trained on.
    epoch : int
    run_dir : Path
        Its run folder, or the file that it was exported to.
    """

    network: UNet
    grey_scale: GreyScale
    epoch: int
    run_dir: Path


def save_network(
    run_dir: Path, network: UNet, grey_scale: GreyScale, epoch: int, *, only_while_best: bool = False
) -> Path:
    """Keep the network of one epoch for use: safetensors, and a JSON with what rebuilds it.

    Parameters
    ----------
    only_while_best
        `record_best` removes it when another epoch becomes the best.
    """
    path = run_dir / "checkpoints" / f"epoch_{epoch:04d}.safetensors"
    digest = write_tensors(path, network.state_dict())
    header = {"format": FORMAT, "epoch": epoch, "unet": asdict(network.config), "grey_scale": asdict(grey_scale)}
    write_json(path.with_suffix(".json"), {**header, "only_while_best": only_while_best, "sha256": digest})
    return path


def kept_epochs(run_dir: str | Path) -> list[int]:
    """List the epochs whose network was kept whole, for good or as the best so far."""
    return list(numbered(located(run_dir) / "checkpoints"))


def load_network(run_dir: str | Path, epoch: int | None = None) -> Trained:
    """Load the network of a kept epoch, or of the last complete one (also of a training that was stopped).

    Parameters
    ----------
    run_dir
        A run folder, a .safetensors file that `exporting.export` wrote, or the name of a network that comes with
        alsiseg (`shipped`).

    Raises
    ------
    FileNotFoundError
        When there is no run or no such epoch; the message lists the epochs there are.
    ValueError
        When the file is damaged, foreign or of another format.
    """
    run_dir = located(run_dir)
    if run_dir.suffix == NETWORK_SUFFIX and run_dir.is_file():
        return _load_file(run_dir, epoch)
    read_settings(run_dir)
    kept, states = numbered(run_dir / "checkpoints"), numbered(run_dir / "resume")
    usable = sorted({*kept, *list(states)[-1:]} - {0})
    if not usable or (epoch is not None and epoch not in usable):
        wanted, found = "any epoch" if epoch is None else f"epoch {epoch}", ", ".join(map(str, usable)) or "none"
        raise FileNotFoundError(f"needs the network of {wanted}, {run_dir} has kept {found}; ask for a kept one")
    epoch = usable[-1] if epoch is None else epoch
    network, scale = _read_epoch(kept[epoch]) if epoch in kept else _read_from_state(run_dir, epoch)
    return Trained(network.eval(), scale, epoch, run_dir)


def _load_file(path: Path, epoch: int | None) -> Trained:
    """Load a network from a file; what it is stands in the JSON beside it, and in the run folder it may lie in."""
    header = read_settings(path)
    with contents_of(header_of(path)):
        found = whole_number(header, "epoch")
    if epoch not in (None, found):
        raise FileNotFoundError(f"needs the network of epoch {epoch}, {path} has kept {found}; ask for that one")
    network, scale = _read_kept(header_of(path), header)
    lies_in_run = path.parent.name == "checkpoints" and header_of(path.parent.parent).is_file()
    return Trained(network.eval(), scale, found, path.parent.parent if lies_in_run else path)


def _read_epoch(path: Path) -> tuple[UNet, GreyScale]:
    header = read_header(path)
    with contents_of(path):
        _check_epoch(header, path)
    return _read_kept(path, header)


def _read_kept(path: Path, header: dict[str, Any]) -> tuple[UNet, GreyScale]:
    with contents_of(path):
        tensors = read_tensors(path.with_suffix(NETWORK_SUFFIX), header["sha256"])
        return network_from(settings_from(UNetConfig, header["unet"]), tensors), _scale(header)


def _read_from_state(run_dir: Path, epoch: int) -> tuple[UNet, GreyScale]:
    settings, state = read_settings(run_dir), _read_state(run_dir, epoch)
    with contents_of(run_dir / "settings.json"):
        config, scale = settings_from(UNetConfig, settings["config"]["unet"]), _scale(settings)
    with contents_of(_state_path(run_dir, epoch)):
        return network_from(config, _network_part(state)), scale


def _scale(header: dict[str, Any]) -> GreyScale:
    scale = settings_from(GreyScale, header["grey_scale"])
    if not scale.spread > 0:
        raise ValueError(f"the spread of the grey scale must be above 0, found {scale.spread}")
    return scale


def _check_epoch(header: dict[str, Any], path: Path) -> None:
    if (epoch := whole_number(header, "epoch")) != int(path.stem.removeprefix("epoch_")):
        raise ValueError(f"it holds epoch {epoch}")


def save_state(run_dir: Path, network: UNet, optimiser: torch.optim.Optimizer, epoch: int) -> None:
    """Keep the state to resume from; a stop at any moment leaves the previous or the new one.

    Tensors and JSON go to files of their own per epoch, the JSON last: with it the state is complete. It
    vouches for the rows of the histories up to its epoch, which are recorded before. The state before it
    stays; those before that go when the new one is whole on disk.
    """
    tables = as_lines(run_dir)
    if HISTORY in tables and len(tables[HISTORY]) != epoch + 2:
        raise ValueError(f"the row of epoch {epoch} must end {run_dir / HISTORY} before its state is saved; record it")
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    path = _state_path(run_dir, epoch)
    digest = write_tensors(path.with_suffix(".safetensors"), tensors)
    header = {"format": FORMAT, "run": identity(run_dir), "epoch": epoch, "sha256": digest}
    write_json(path, {**header, "tables": tables})
    drop_older_states(run_dir, epoch)


def drop_older_states(run_dir: Path, epoch: int) -> None:
    """Keep of the states before that of an epoch the last one only."""
    for old in sorted(e for e in numbered(run_dir / "resume") if e < epoch)[: 1 - N_STATES]:
        remove(run_dir / "resume", old)


def remove(folder: Path, epoch: int) -> None:
    """Remove a network or a state; its JSON first, for without it there is none."""
    path = folder / f"epoch_{epoch:04d}.json"
    with failures_of_disk(path):
        path.unlink(missing_ok=True)
        path.with_suffix(".safetensors").unlink(missing_ok=True)


def load_state(run_dir: Path, network: UNet, optimiser: torch.optim.Optimizer) -> int:
    """Bring network and optimiser to the last complete epoch and return its number; -1 when there is none.

    When the last state is damaged the one before is taken, with a line that says so.

    Raises
    ------
    ValueError
        When no state is whole, or the last whole one is of another run or network.
    """
    epoch = last_whole_state(run_dir)
    if epoch < 0:
        return -1
    tensors = _read_state(run_dir, epoch)
    with contents_of(_state_path(run_dir, epoch)):
        weights = _network_part(tensors)
        check_layouts(weights, layouts(network.state_dict()))
        moments = _moments(tensors, network, optimiser, trained=epoch > 0)
        network.load_state_dict(weights)
        optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    return epoch


def last_whole_state(run_dir: Path) -> int:
    """Epoch of the last state that is whole on disk, -1 when none was ever kept; says which are damaged."""
    states = numbered(run_dir / "resume")
    for epoch, path in reversed(states.items()):
        try:
            header = _state_header(path)
            if is_whole(path.with_suffix(".safetensors"), header["sha256"]):
                break
            reason = f"{path.with_suffix('.safetensors')} is missing or damaged (its checksum differs)"
        except ValueError as error:
            reason = str(error)
        tqdm.write(f"the state of epoch {epoch} cannot be used: {reason}")
    else:
        if states:
            raise ValueError(f"needs a whole state to continue, found none in {run_dir / 'resume'}; {_LOST}")
        return -1
    if header["run"] != identity(run_dir):
        raise ValueError(f"{path} belongs to another run than {run_dir}; {_LOST}")
    return epoch


_LOST = "restore it from a copy or choose another folder"


def _state_header(path: Path) -> dict[str, Any]:
    header = read_header(path)
    with contents_of(path):
        _check_epoch(header, path)
        for name, lines in header["tables"].items():  # names of files to be written
            rows_are_lines = type(lines) is list and all(type(line) is str for line in lines)
            if name not in TABLES or not rows_are_lines or len(lines) != header["epoch"] + 2:
                raise ValueError(f"it has no table {str(name)[:40]!r} of {header['epoch'] + 1} epochs")
        return {name: header[name] for name in ("run", "sha256", "tables")}


def vouched_tables(run_dir: Path, epoch: int) -> dict[str, list[str]]:
    """Rows of the histories up to the epoch of a state, without their speeds."""
    return _state_header(_state_path(run_dir, epoch))["tables"]


def network_of_state(run_dir: Path, epoch: int) -> tuple[UNet, GreyScale] | None:
    """Network and grey scale of a state, None when that epoch has none."""
    return _read_from_state(run_dir, epoch) if epoch in numbered(run_dir / "resume") else None


def _state_path(run_dir: Path, epoch: int) -> Path:
    return run_dir / "resume" / f"epoch_{epoch:04d}.json"


def _read_state(run_dir: Path, epoch: int) -> dict[str, Tensor]:
    path = _state_path(run_dir, epoch)
    return read_tensors(path.with_suffix(".safetensors"), _state_header(path)["sha256"])


def _network_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("network."): t for name, t in tensors.items() if name.startswith("network.")}


def _moments(
    tensors: dict[str, Tensor], network: nn.Module, optimiser: torch.optim.Optimizer, *, trained: bool
) -> dict[int, dict[str, Tensor]]:
    """Adam's running means per parameter, laid out in memory as the parameter is.

    In another layout the same steps would round differently.
    """
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("network.")}
    if not tensors and not trained:  # the optimiser has made no step yet
        return {}
    parameters = list(network.parameters())
    names = ["step", "exp_avg", "exp_avg_sq", *["max_exp_avg_sq"] * optimiser.param_groups[0]["amsgrad"]]
    likes = {
        f"optimiser.{i}.{name}": (p if name != "step" else STEP) for i, p in enumerate(parameters) for name in names
    }
    check_layouts(tensors, layouts(likes))
    moments: dict[int, dict[str, Tensor]] = {index: {} for index in range(len(parameters))}
    for name, tensor in tensors.items():
        _, index, key = name.split(".")
        like = parameters[int(index)]
        moments[int(index)][key] = torch.empty_like(like, dtype=tensor.dtype).copy_(tensor) if tensor.ndim else tensor
    return moments
