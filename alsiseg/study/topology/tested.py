"""What is measured of a segmented specimen, against its truth and against what the scan could show of it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from alsiseg import metrics
from alsiseg.phantom import DIFFICULTIES
from alsiseg.study import rows as tidy
from alsiseg.study.rows import WHOLE, Counted, Row
from alsiseg.study.running import Pair
from alsiseg.study.topology import recipes
from alsiseg.study.topology.recipes import HOLES, Ballot, Labels, Tuning
from alsiseg.study.topology.resolvable import resolvable_truth

VALIDATION, VALIDATION_SEED = "validation", 500
RESOLVABLE = ", as the scan could show it"  # after the name of a specimen: what is then taken for the truth
TRUTH_ITSELF = "resolvable truth"  # in the place of a recipe
NOTHING = float("nan")


@dataclass(frozen=True, eq=False)
class Scene:
    """A specimen that recipes are tested on.

    Attributes
    ----------
    name : str
        "validation", "slow" or "fast".
    pair : Pair
        Its synchrotron scan and truth.
    difficulty : str
    fitted, judged : slice
        Slices on which a recipe may be tuned, none of an unseen specimen, and slices that are measured.
    """

    name: str
    pair: Pair
    difficulty: str
    fitted: slice
    judged: slice

    @classmethod
    def of(cls, name: str, pair: Pair, difficulty: str) -> "Scene":
        """Take an unseen specimen whole; halve the validation specimen: one half to fit, the other to judge."""
        n_z = pair.truth_zyx.shape[0]
        if name == VALIDATION:
            return cls(name, pair, difficulty, slice(0, n_z // 2), slice(n_z // 2, n_z))
        return cls(name, pair, difficulty, slice(0, 0), slice(0, n_z))

    def truths(self, min_voxels: int) -> "dict[str, Versions]":
        """Both truths of the slices that are judged, by what stands behind the name of the specimen."""
        truth_zyx = self.pair.truth_zyx[:]
        seen_zyx = resolvable_truth(truth_zyx, DIFFICULTIES[self.difficulty]["synchrotron"])
        both = {"": truth_zyx, RESOLVABLE: seen_zyx}
        return {behind: Versions(labels_zyx[self.judged], min_voxels) for behind, labels_zyx in both.items()}

    def tunings(self, ballot: Ballot, min_voxels: int, *, thresholds: bool) -> dict[str, Tuning]:
        """Choose smoothing, and perhaps thresholds, on the slices meant for it."""
        votes_czyx, truth_zyx = ballot.votes_czyx[:, self.fitted], self.pair.truth_zyx[self.fitted]
        return recipes.tuned(votes_czyx, truth_zyx, min_voxels=min_voxels, thresholds=thresholds)


@dataclass(frozen=True, eq=False)
class Versions:
    """Labels as they are, without specks, and without specks and holes; each is made and counted once.

    Attributes
    ----------
    labels_zyx : uint8 (Z, Y, X)
    min_voxels : int
        Specks and holes with fewer voxels are cleaned away.
    """

    labels_zyx: Labels
    min_voxels: int

    @cached_property
    def as_they_are(self) -> Counted:
        """The labels."""
        return Counted(self.labels_zyx)

    @cached_property
    def cleaned(self) -> Counted:
        """Without specks."""
        return Counted(metrics.without_specks(self.labels_zyx, self.min_voxels))

    @cached_property
    def filled(self) -> Counted:
        """Without specks and then without holes."""
        return Counted(recipes.without_holes(self.cleaned.labels_zyx, self.min_voxels))


@dataclass(frozen=True)
class Tester:
    """Measures labels of one scene.

    Attributes
    ----------
    scene : Scene
    truths : dict
        See `Scene.truths`; what is measured is cleaned as they are.
    key : Row
        Names difficulty, labels, weights and seed; everything else is replaced.
    """

    scene: Scene
    truths: dict[str, Versions]
    key: Row

    def of_ballot(
        self, ballot: Ballot, recipe: str, tunings: Mapping[str, Tuning], *, training_s: float, holes: bool
    ) -> Iterator[Row]:
        """Measure the labels of a recipe by every tuning, and what they cost.

        With `holes`, those without tuning are measured with small holes filled, too.
        """
        for behind, tuning in tunings.items():
            started = time.process_time()
            labels_zyx = recipes.labels_of(ballot.votes_czyx, tuning)
            seconds = ballot.seconds + time.process_time() - started
            filled = holes and not behind
            yield from self.of_labels(labels_zyx[self.scene.judged], recipe + behind, holes=filled)
            paid = {"training_s": training_s, "inference_s_per_mvoxel": 1e6 * seconds / labels_zyx.size}
            for name in (recipe + behind, recipe + HOLES) if filled else (recipe + behind,):
                for quantity, value in (paid | asdict(tuning)).items():
                    yield self._row("", name, False, (WHOLE, quantity, value, NOTHING))

    def of_labels(self, labels_zyx: Labels, recipe: str, *, holes: bool = False) -> Iterator[Row]:
        """Measure labels as they are, without specks, and perhaps without specks and holes."""
        found = Versions(labels_zyx, self.truths[""].min_voxels)
        for behind, true in self.truths.items():
            for value in tidy.values_of(found.as_they_are, true.as_they_are):
                yield self._row(behind, recipe, False, value)
            for value in tidy.values_of(found.cleaned, true.cleaned):
                yield self._row(behind, recipe, True, value)
            if holes:
                for value in tidy.values_of(found.filled, true.filled):
                    yield self._row(behind, recipe + HOLES, True, value)

    def of_truth(self) -> Iterator[Row]:
        """Measure what the scan could show as if it were a segmentation, against the truth."""
        one = replace(self, truths={"": self.truths[""]}, key=replace(self.key, weights="none"))
        return one.of_labels(self.truths[RESOLVABLE].labels_zyx, TRUTH_ITSELF)

    def _row(self, behind: str, recipe: str, cleaned: bool, value: tidy.Value) -> Row:
        what: dict[str, Any] = dict(zip(("of", "quantity", "value", "truth"), value, strict=True))
        return replace(self.key, specimen=self.scene.name + behind, recipe=recipe, cleaned=cleaned, **what)


def key_of(difficulty: str, weights: str, seed: int) -> Row:
    """Name a training that learned from the truth; the rest of the row is empty."""
    return Row(difficulty, "truth", weights, seed, "", "", False, "", "", np.nan, np.nan)
