"""What is measured of a segmented specimen, against its truth and against what the scan could show of it."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from alsiseg import metrics
from alsiseg.phantom import DIFFICULTIES
from alsiseg.study import rows as tidy
from alsiseg.study.rows import WHOLE, Row
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

    def truths(self) -> dict[str, Labels]:
        """Both truths of the slices that are judged, by what stands behind the name of the specimen."""
        truth_zyx = self.pair.truth_zyx[:]
        seen_zyx = resolvable_truth(truth_zyx, DIFFICULTIES[self.difficulty]["synchrotron"])
        return {"": truth_zyx[self.judged], RESOLVABLE: seen_zyx[self.judged]}

    def tunings(self, ballot: Ballot, min_voxels: int, *, thresholds: bool) -> dict[str, Tuning]:
        """Choose smoothing, and perhaps thresholds, on the slices meant for it."""
        votes_czyx, truth_zyx = ballot.votes_czyx[:, self.fitted], self.pair.truth_zyx[self.fitted]
        return recipes.tuned(votes_czyx, truth_zyx, min_voxels=min_voxels, thresholds=thresholds)


@dataclass(frozen=True)
class Tester:
    """Measures labels of one scene; the truths are made once.

    Attributes
    ----------
    scene : Scene
    truths : dict
        See `Scene.truths`.
    min_voxels : int
        Specks and holes with fewer voxels are cleaned away for the cleaned rows, in labels and truth alike.
    key : Row
        Names difficulty, labels, weights and seed; everything else is replaced.
    """

    scene: Scene
    truths: dict[str, Labels]
    min_voxels: int
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
        for behind, truth_zyx in self.truths.items():
            for value in tidy.values_of(labels_zyx, truth_zyx):
                yield self._row(behind, recipe, False, value)
            found_zyx, true_zyx = (metrics.without_specks(each, self.min_voxels) for each in (labels_zyx, truth_zyx))
            for value in tidy.values_of(found_zyx, true_zyx):
                yield self._row(behind, recipe, True, value)
            if holes:
                filled = (recipes.without_holes(each, self.min_voxels) for each in (found_zyx, true_zyx))
                for value in tidy.values_of(*filled):
                    yield self._row(behind, recipe + HOLES, True, value)

    def of_truth(self) -> Iterator[Row]:
        """Measure what the scan could show as if it were a segmentation, against the truth."""
        one = replace(self, truths={"": self.truths[""]}, key=replace(self.key, weights="none"))
        return one.of_labels(self.truths[RESOLVABLE], TRUTH_ITSELF)

    def _row(self, behind: str, recipe: str, cleaned: bool, value: tidy.Value) -> Row:
        what: dict[str, Any] = dict(zip(("of", "quantity", "value", "truth"), value, strict=True))
        return replace(self.key, specimen=self.scene.name + behind, recipe=recipe, cleaned=cleaned, **what)


def key_of(difficulty: str, weights: str, seed: int) -> Row:
    """Name a training that learned from the truth; the rest of the row is empty."""
    return Row(difficulty, "truth", weights, seed, "", "", False, "", "", np.nan, np.nan)
