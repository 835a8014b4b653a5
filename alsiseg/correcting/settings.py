"""How a network is corrected."""

import math
from dataclasses import dataclass

LARGEST_BATCH = 8


@dataclass(frozen=True)
class CorrectingConfig:
    """How a network is corrected; loss, weights and augmentation are those of its run.

    Attributes
    ----------
    epoch : int or None
        Which network of the run to begin with; None takes the last one kept.
    learning_rate : float
        A third of the published one. Adam's first steps are as long as the learning rate in every weight, however
        small the gradient: too long ones would blur what the network knows before it has seen the corrections.
    batch : int or None
        Images per step; None takes those of the run, at most 8, so that minutes are enough for many steps.
    reach_px : float
        What lies within so many pixels of a corrected voxel of its slice counts: whoever mends a region has looked
        at its surroundings, but not at the rest of the slice, which is as wrong as before.
    original_share : float
        Share of the images that come from the first training, when its data are given, so that it is not forgotten.
    """

    epoch: int | None = None
    learning_rate: float = 1e-3
    batch: int | None = None
    reach_px: float = 8.0
    original_share: float = 0.5

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"the learning rate must be above 0, got {self.learning_rate}; 0.001 is usual")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"the batch must hold at least 1 image, got {self.batch}; leave it out")
        if not self.reach_px >= 0:
            raise ValueError(f"the reach round a correction must be 0 pixels or more, got {self.reach_px}; 8 is usual")
        if not 0 <= self.original_share < 1:
            raise ValueError(
                f"the share of the first training must be from 0 to below 1, got {self.original_share}; "
                "the corrections need the rest"
            )
