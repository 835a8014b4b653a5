"""Networks trained otherwise than in the paper, in the same time as the plain one.

Nothing of them is tuned: sizes are the next larger ones, factors 1.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch

from alsiseg import training, unet
from alsiseg.devices import Device, clock
from alsiseg.training import TrainingConfig
from alsiseg.volumes import Volume, written_whole

PLAIN, VOLUMETRIC = "plain", "3-D U-Net"
N_STEPS, N_REPEATS = 4, 3  # training steps that are timed, and how often; the quickest counts

Change = Callable[[TrainingConfig], TrainingConfig]


def _seeing(n_slices: int) -> Change:
    return lambda config: replace(config, unet=replace(config.unet, n_slices=n_slices))


def _losing(term: str, factor: float) -> Change:
    return lambda config: replace(config, loss=replace(config.loss, **{term: factor}))  # type: ignore[arg-type]


# The terms that know of topology weigh as much as the pixels do: a factor of 1, see `loss.LossConfig`.
VARIANTS: Mapping[str, Change] = MappingProxyType(
    {
        "7 slices": _seeing(7),
        "9 slices": _seeing(9),
        "three directions": lambda config: replace(config, directions=("z", "y", "x")),
        "clDice": _losing("cl_dice", 1.0),
        "soft Euler": _losing("soft_euler", 1.0),
    }
)


NAMES = (*VARIANTS, VOLUMETRIC)


def check(names: Iterable[str]) -> None:
    """Refuse names that are not among `NAMES`."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"variants must be among {', '.join(NAMES)}, got {', '.join(unknown)}")


def changed(name: str, config: TrainingConfig) -> TrainingConfig:
    """Change a configuration as a variant does; "plain" changes nothing."""
    return config if name == PLAIN else VARIANTS[name](config)


def seconds_per_image(grey_zyx: Volume, labels_zyx: Volume, config: TrainingConfig, on: Device) -> float:
    """Time what a training takes for one image: the quickest of some short runs, after a first that warms up."""
    few = replace(config, images_per_epoch=N_STEPS * config.batch)
    task = training.prepare(grey_zyx, labels_zyx, few).to(on.name)
    network = on.place(unet.build(few.unet, seed=few.seed))
    optimiser = training.adam(network, few, on)
    seconds = []
    for repeat in range(N_REPEATS + 1):
        started = clock(on.name)
        training.train_epoch(network, optimiser, task, repeat + 1, on)
        seconds.append(clock(on.name) - started)
    return min(seconds[1:]) / (N_STEPS * config.batch)


@dataclass(frozen=True)
class Cost:
    """Seconds of training for an image (or a cube) of a variant, and right beside it for one of the plain network."""

    seconds: float
    plain_seconds: float


def cost(path: Path, name: str, measure: Callable[[str], float], *, device: str = "cpu") -> Cost:
    """Read what a variant costs, or measure and keep it.

    Parameters
    ----------
    path
        JSON file. What stands in it counts, also when the machine is busier now: so a training that was begun can
        be continued.
    name
        Of the variant, or "plain".
    measure
        Times one of them, in seconds; called for the variant, then for the plain network.
    device
        Written down beside the seconds.
    """
    kept = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if name not in kept:
        kept[name] = asdict(Cost(measure(name), measure(PLAIN))) | {
            "device": device,
            "threads": torch.get_num_threads(),
        }
        with written_whole(path) as partial:
            partial.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return Cost(kept[name]["seconds"], kept[name]["plain_seconds"])
