"""Everything that decides a training."""

from dataclasses import dataclass, field

from alsiseg.dataset import Augmentation
from alsiseg.loss import LossConfig
from alsiseg.unet import UNetConfig
from alsiseg.weightmaps import PixelWeights


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
        Use only so many of the epoch's images, drawn anew each epoch; None uses all (28,560 as published).
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
    kept_every: int = 10
    seed: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "kept_every", "images_per_epoch"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"the seed must be a whole number from 0 to 4294967295, got {self.seed}")
