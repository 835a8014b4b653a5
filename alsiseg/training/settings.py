"""Everything that decides a training."""

from dataclasses import asdict, dataclass, field
from typing import Any

from alsiseg.dataset import AXES, Augmentation
from alsiseg.loss import LossConfig
from alsiseg.unet import UNetConfig
from alsiseg.weightmaps import PixelWeights

LATER, LATER_IN_LOSS = ("directions",), ("cl_dice", "soft_euler")  # settings that the first runs did not have


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides a training; the defaults are the published values.

    Attributes
    ----------
    weights : PixelWeights
        Weights of matrix, silicon and interface in the loss.
    unet : UNetConfig
    augmentation : Augmentation
    loss : LossConfig
        Options beside the pixel weights; the paper has none.
    epochs : int
        The paper trains 100 and reports epoch 50.
    batch : int
        Images per step, on all processes together.
    learning_rate, weight_decay : float
        Of Adam with amsgrad; the weight decay is coupled, as in torch's Adam.
    crop_px : int or None
        Edge of the training crops and of the central test section; None takes the largest multiple of 16
        that fits, up to the published 256.
    images_per_epoch : int or None
        Use only so many of the epoch's images, drawn anew each epoch; None uses all (28,560 as published), those
        along z of all volumes together.
    directions : tuple of str
        Axes along which training windows are cut: "z" as published, to which "y" and "x" may be added. The number of
        images stays, an equal share from each direction (and from each volume, where there are several); crops are
        then no larger than the training part is high. Tested is along z.
    kept_every : int
        A checkpoint is kept every so many epochs, and after the last.
    seed : int
        Decides the initial weights, the draws and the dropout.
    deterministic : bool
        Let torch use only kernels that give the same bytes every time: slower on a GPU, and no change on a CPU,
        where the same number of threads gives the same bytes anyway.
    """

    weights: PixelWeights = field(default_factory=PixelWeights)
    unet: UNetConfig = field(default_factory=UNetConfig)
    augmentation: Augmentation = field(default_factory=Augmentation)
    loss: LossConfig = field(default_factory=LossConfig)
    epochs: int = 100
    batch: int = 25
    learning_rate: float = 0.003
    weight_decay: float = 1e-4
    crop_px: int | None = None
    images_per_epoch: int | None = None
    directions: tuple[str, ...] = ("z",)
    kept_every: int = 10
    seed: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "directions", tuple(self.directions))  # JSON knows lists only
        for name in ("epochs", "batch", "kept_every", "images_per_epoch"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"the seed must be a whole number from 0 to 4294967295, got {self.seed}")
        if self.directions[:1] != ("z",) or len(set(self.directions) & set(AXES)) != len(self.directions):
            raise ValueError(f"directions must be z, to which y and x may be added, got {', '.join(self.directions)!r}")

    def record(self) -> dict[str, Any]:
        """Everything that is set, for `settings.json`.

        What came after the first runs is left out while it is at its default: those runs know nothing of it, and
        can be continued.
        """
        config, standard = asdict(self), asdict(TrainingConfig())
        config["loss"] = _without(LATER_IN_LOSS, config["loss"], standard["loss"])
        return _without(LATER, config, standard)


def _without(names: tuple[str, ...], values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Leave out those of the named values that are the defaults."""
    return {name: value for name, value in values.items() if name not in names or value != defaults[name]}
