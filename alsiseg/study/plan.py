"""What a study trains and on what it tests: every condition, every seed, all fixed before a result is seen."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType

from alsiseg.phantom import DIFFICULTIES
from alsiseg.prediction import Options
from alsiseg.profiles import TRAINED_ON, Profile
from alsiseg.weightmaps import PixelWeights

# Specimens that serve for nothing but the test: nothing was ever tuned on a seed from here on.
UNSEEN_SEED = 1000
RECIPES: Mapping[str, Options] = MappingProxyType({"slices": Options(), "three views": Options(three_views=True)})


@dataclass(frozen=True)
class Condition:
    """One training of a study.

    Attributes
    ----------
    difficulty : str
        Of all scans of this condition: "clean" or "hard".
    labels : str
        What the network learns from: "truth", or the labels of the "procedure".
    weights : PixelWeights
    seed : int
        Of the training: initial weights, draws and dropout.
    """

    difficulty: str
    labels: str
    weights: PixelWeights
    seed: int

    @property
    def name(self) -> str:
        """A name for its folder."""
        w = self.weights
        return f"{self.difficulty}_{self.labels}_{w.matrix:g}_{w.silicon:g}_{w.interface:g}_seed{self.seed}"

    def __str__(self) -> str:
        return f"{self.difficulty}, labels from the {self.labels}, weights ({self.weights}), seed {self.seed}"


@dataclass(frozen=True)
class Study:
    """All that decides a study.

    Attributes
    ----------
    profile : Profile
        Sizes of specimens, network and training.
    n_seeds : int
        Trainings of every condition; intervals need two, and three are little.
    difficulties, labels : tuple of str
    recipes : mapping
        Ways to segment the unseen specimens, by name.
    min_voxels : int
        Particles with fewer voxels are removed from prediction and truth alike for the "cleaned" rows.
    """

    profile: Profile
    n_seeds: int = 3
    difficulties: tuple[str, ...] = ("clean", "hard")
    labels: tuple[str, ...] = tuple(TRAINED_ON)
    recipes: Mapping[str, Options] = field(default_factory=lambda: RECIPES)
    min_voxels: int = 40

    def __post_init__(self) -> None:
        for what, chosen, known in (
            ("difficulties", self.difficulties, DIFFICULTIES),
            ("labels", self.labels, TRAINED_ON),
        ):
            unknown = [name for name in chosen if name not in known]
            if unknown or not chosen:
                raise ValueError(f"{what} must be among {', '.join(known)}, got {', '.join(unknown) or 'none'}")
        if self.n_seeds < 1 or self.min_voxels < 1:
            raise ValueError(f"a study needs 1 seed and 1 voxel at least, got {self.n_seeds} and {self.min_voxels}")

    @property
    def conditions(self) -> list[Condition]:
        """Every training, the seeds outermost: a study that is stopped has compared all settings by some seeds."""
        weights = self.profile.weight_settings
        every = product(range(self.n_seeds), self.difficulties, self.labels, weights)
        return [Condition(difficulty, labels, weight, seed) for seed, difficulty, labels, weight in every]

    @property
    def whole(self) -> "Study":
        """The same under every difficulty and with labels of both kinds."""
        return replace(self, difficulties=tuple(DIFFICULTIES), labels=tuple(TRAINED_ON))

    @property
    def unseen(self) -> dict[str, tuple[int, int, int]]:
        """Shape (Z, Y, X) of the specimens that every network is tested on, by casting."""
        return {"slow": self.profile.slow_shape_zyx, "fast": self.profile.fast_shape_zyx}
