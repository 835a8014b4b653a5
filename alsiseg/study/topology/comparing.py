"""What a comparison of recipes consists of: families of networks, trained in equal time, and the specimens."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from alsiseg import devices, runs, training
from alsiseg.claims import HIGH_WEIGHTS, WITHOUT_WEIGHTS
from alsiseg.study import running, volumetric
from alsiseg.study.plan import UNSEEN_SEED, Condition, Study
from alsiseg.study.running import Pair
from alsiseg.study.topology import recipes, variants
from alsiseg.study.topology.recipes import Ballot
from alsiseg.study.topology.tested import VALIDATION, VALIDATION_SEED, Scene
from alsiseg.study.topology.variants import NAMES, PLAIN, VOLUMETRIC, Cost
from alsiseg.study.volumetric import VolumetricConfig
from alsiseg.weightmaps import PixelWeights

ALONE, WEIGHTED = PixelWeights(1.0, 1.0, 1.0), PixelWeights(1.0, 1.25, 1.5)
assert (str(ALONE), str(WEIGHTED)) == (WITHOUT_WEIGHTS, HIGH_WEIGHTS)


@dataclass(frozen=True)
class Plan(Study):
    """The study whose networks are compared, and how thoroughly.

    Attributes
    ----------
    brief : bool
        Only slices, three views and ensembles, without symmetries, tuning or filling of holes: on large specimens
        the others take a multiple of the time.
    """

    brief: bool = False


@dataclass(frozen=True)
class Family:
    """Networks that differ in nothing but their seed.

    Attributes
    ----------
    variant : str
        "plain", or one of `variants.NAMES`.
    difficulty : str
        Of the scans.
    weights : PixelWeights
    """

    variant: str
    difficulty: str
    weights: PixelWeights = ALONE

    @property
    def name(self) -> str:
        """A name for folders and files."""
        w = self.weights
        return f"{self.difficulty}_{self.variant}_{w.matrix:g}_{w.silicon:g}_{w.interface:g}".replace(" ", "-")

    def recipe(self, name: str) -> str:
        """Name a recipe of these networks: "7 slices + three views", or "three views" of plain ones."""
        if self.variant == PLAIN:
            return name
        return self.variant if name == recipes.SLICES else f"{self.variant} + {name}"


@dataclass(frozen=True)
class Comparison:
    """All that decides a comparison, and where it is kept.

    Attributes
    ----------
    study : Plan
        Sizes, seeds and difficulties; it gives the plain networks, trained on the truth.
    home : Path
        Folder of that study: its networks and specimens are read there.
    out : Path
        Folder of everything that is made here.
    variants : tuple of str
        Which of `variants.NAMES` are trained.
    device : str
    """

    study: Plan
    home: Path
    out: Path
    variants: tuple[str, ...] = NAMES
    device: str = "auto"

    @cached_property
    def on(self) -> devices.Device:
        """The device, chosen once."""
        return devices.choose(self.device)

    @property
    def families(self) -> Iterator[Family]:
        """All networks: first the plain ones, which cost no training."""
        for difficulty in self.study.difficulties:
            yield from (Family(PLAIN, difficulty), Family(PLAIN, difficulty, WEIGHTED))
        for difficulty in self.study.difficulties:
            yield from (Family(variant, difficulty) for variant in self.variants)

    def in_full(self, family: Family) -> bool:
        """Whether symmetries, thresholds and the filling of holes are tried: many times the work, so for one family."""
        return family.variant == PLAIN and family.weights == ALONE and not self.study.brief

    def scene(self, name: str, difficulty: str) -> Scene:
        """Open a specimen, made before if need be: an unseen one of the study, or the one for validation."""
        seed, casting = (VALIDATION_SEED, "slow") if name == VALIDATION else (UNSEEN_SEED, name)
        return Scene.of(name, self.specimen(casting, difficulty, seed), difficulty)

    def specimen(self, casting: str, difficulty: str, seed: int) -> Pair:
        """Open a specimen in the folder of the study, or make it in the own one."""
        there = self.home / "specimens" / f"{casting}_{seed}_{difficulty}" / "specimen.json"
        return running.specimen(self.study, self.home if there.is_file() else self.out, casting, difficulty, seed)


def trained(comparison: Comparison, family: Family) -> dict[int, Path]:
    """Find the networks of a family by seed: those that the study has finished, or variants, trained if need be."""
    if family.variant != PLAIN:
        return {seed: _train(comparison, family, seed) for seed in range(comparison.study.n_seeds)}
    conditions = [Condition(family.difficulty, "truth", family.weights, s) for s in range(comparison.study.n_seeds)]
    folders = {condition.seed: running.run_dir_of(comparison.home, condition) for condition in conditions}
    last = f"epoch_{comparison.study.profile.reported_epoch:04d}.safetensors"
    return {seed: folder for seed, folder in folders.items() if (folder / "checkpoints" / last).is_file()}


def training_seconds(comparison: Comparison) -> float:
    """What every network was trained for: images of a plain one times the cost of an image."""
    profile = comparison.study.profile
    return profile.n_images_per_epoch * profile.training.epochs * _cost(comparison, PLAIN).seconds


def votes(comparison: Comparison, family: Family, run_dir: Path, scene: Scene) -> dict[str, Ballot]:
    """Let a network vote on a specimen, for every recipe that is tried with its family."""
    grey_zyx, device = scene.pair.grey_zyx, comparison.on.name
    if family.variant != VOLUMETRIC:
        network = runs.load_network(run_dir, comparison.study.profile.reported_epoch)
        return recipes.ballots(grey_zyx, network, symmetries=comparison.in_full(family), device=device)
    started = recipes.clock(device)
    votes_czyx = volumetric.probabilities(grey_zyx, run_dir, device=device)
    return {recipes.SLICES: Ballot(votes_czyx, recipes.clock(device) - started)}


def _train(comparison: Comparison, family: Family, seed: int) -> Path:
    """Train one network of a variant in the time of a plain one."""
    profile, device = comparison.study.profile, comparison.on.name
    pair = comparison.specimen("slow", family.difficulty, profile.specimen_seed)
    folder = comparison.out / "runs" / f"{family.name}_seed{seed}"
    cost = _cost(comparison, family.variant)
    n_images = profile.n_images_per_epoch * cost.plain_seconds / cost.seconds
    if family.variant == VOLUMETRIC:
        n_cubes = max(1, round(n_images * profile.training.epochs))
        config = VolumetricConfig(weights=family.weights, n_cubes=n_cubes, seed=seed)
        return volumetric.train(pair.grey_zyx, pair.truth_zyx, folder, config, device=device)
    changed = variants.changed(family.variant, replace(profile.config(family.weights), seed=seed))
    changed = replace(changed, images_per_epoch=max(changed.batch, round(n_images)))
    size_um = pair.grey_zyx.voxel_size_um
    return training.train(
        pair.grey_zyx, pair.truth_zyx, folder, changed, voxel_size_um=size_um, resume=True, device=device
    )


def _cost(comparison: Comparison, variant: str) -> Cost:
    """Measure what a variant costs, once, on the specimen that is trained on."""
    profile = comparison.study.profile
    pair = comparison.specimen("slow", comparison.study.difficulties[0], profile.specimen_seed)
    grey_zyx, labels_zyx = pair.grey_zyx, pair.truth_zyx

    def measure(name: str) -> float:
        if name == VOLUMETRIC:
            config = VolumetricConfig(weights=ALONE)
            return volumetric.seconds_per_cube(grey_zyx, labels_zyx, config, device=comparison.on.name)
        changed = variants.changed(name, profile.config(ALONE))
        return variants.seconds_per_image(grey_zyx, labels_zyx, changed, comparison.on)

    return variants.cost(comparison.out / "costs.json", variant, measure, device=comparison.on.name)
