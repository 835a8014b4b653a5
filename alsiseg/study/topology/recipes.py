"""Ways to make labels of what networks say: whose votes are added, smoothed, weighed; small holes filled.

A network is run once over a specimen for every view; all recipes are made of the same probabilities.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import metrics, prediction, topology
from alsiseg.devices import clock
from alsiseg.phases import NETWORKS, Phase, network_mask
from alsiseg.prediction import Options
from alsiseg.prediction.slabs import Grey
from alsiseg.runs import Trained

SLICES, THREE_VIEWS, SYMMETRIES = "slices", "three views", "symmetries"
ENSEMBLE = "ensemble"
SMOOTHED, THRESHOLD, HOLES = " + smoothed", " + threshold", " + holes filled"

# On silicon's votes before the largest wins: from a quarter to four times, 1 in the middle.
FACTORS = tuple(float(factor) for factor in 2 ** np.linspace(-2, 2, 17))
# Standard deviation of the Gaussian that votes are smoothed with, in voxels: to about twice the point spread.
SIGMAS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)

Labels = NDArray[np.uint8]
Votes = NDArray[np.float32]  # (phases, Z, Y, X), a sum of probabilities


@dataclass(frozen=True, eq=False)
class Ballot:
    """Probabilities added up over views, symmetries or networks.

    Attributes
    ----------
    votes_czyx : float32 (phases, Z, Y, X)
        Their sum; only its proportions matter.
    seconds : float
        What the networks took for it: of the CPU (all threads together), or of the clock on another device.
    """

    votes_czyx: Votes
    seconds: float

    def __add__(self, other: "Ballot") -> "Ballot":
        """Let both vote."""
        return Ballot(self.votes_czyx + other.votes_czyx, self.seconds + other.seconds)


@dataclass(frozen=True)
class Tuning:
    """What is done to votes before the phase with most of them wins.

    Attributes
    ----------
    sigma_voxel : float
        Standard deviation of the Gaussian that smooths the votes of every phase; 0 for none.
    silicon_factor : float
        On the votes for silicon then; 1 for none.
    """

    sigma_voxel: float = 0.0
    silicon_factor: float = 1.0


def ballots(grey_zyx: Grey, trained: Trained, *, symmetries: bool, device: str = "cpu") -> dict[str, Ballot]:
    """Run a network along every axis and add up what the recipes of a single network need.

    Parameters
    ----------
    grey_zyx
        A scan (Z, Y, X).
    trained
        The network.
    symmetries
        Make the recipes with test-time symmetries too: eight times the work.
    device
        "cpu", "cuda", ...; "auto" counts seconds of the clock.

    Returns
    -------
    dict
        By the name of the recipe. The seconds of a view are a third of those of three.
    """
    found: dict[str, Ballot] = {}
    for turned in (False, True) if symmetries else (False,):
        started = clock(device)
        options = Options(three_views=True, symmetries=turned)
        views = prediction.probabilities(grey_zyx, trained, device=device, options=options)
        seconds = clock(device) - started
        one, three = (SYMMETRIES, f"{THREE_VIEWS} + {SYMMETRIES}") if turned else (SLICES, THREE_VIEWS)
        found[one] = Ballot(views["view z"], seconds / len(views))
        found[three] = Ballot(np.sum(list(views.values()), axis=0), seconds)
    return found


def added(total: Mapping[str, Ballot], found: Mapping[str, Ballot]) -> dict[str, Ballot]:
    """Add the ballots of one more network to those of others, recipe by recipe."""
    return {name: total[name] + ballot if name in total else ballot for name, ballot in found.items()}


def ensemble_of(recipe: str) -> str:
    """Name the ensemble of a recipe: that of plain slices is just an ensemble."""
    return ENSEMBLE if recipe == SLICES else f"{ENSEMBLE} + {recipe}"


def labels_of(votes_czyx: Votes, tuning: Tuning = Tuning()) -> Labels:
    """Give every voxel the phase with most votes.

    Returns
    -------
    labels_zyx : uint8 (Z, Y, X)
    """
    return _winning(smoothed(votes_czyx, tuning.sigma_voxel), tuning.silicon_factor)


def smoothed(votes_czyx: Votes, sigma_voxel: float) -> Votes:
    """Smooth the votes of every phase by a Gaussian; beyond the faces of the volume lie mirror images."""
    if not sigma_voxel:
        return votes_czyx
    return np.stack([ndimage.gaussian_filter(votes_zyx, sigma_voxel) for votes_zyx in votes_czyx])


def _winning(votes_czyx: Votes, silicon_factor: float) -> Labels:
    if silicon_factor != 1:
        votes_czyx = votes_czyx.copy()
        votes_czyx[Phase.SILICON] *= silicon_factor
    return votes_czyx.argmax(axis=0).astype(np.uint8)


def tuned(votes_czyx: Votes, truth_zyx: Labels, *, min_voxels: int, thresholds: bool = True) -> dict[str, Tuning]:
    """Choose smoothing and factors by a truth: one that serves for nothing else.

    All by 26-connectivity, without particles under `min_voxels` voxels in labels and truth alike. Of equally good
    values the one that changes least is taken.

    Returns
    -------
    dict
        By what is added to the name of the recipe; "" for no tuning. The factor is that of `FACTORS` whose Euler
        number of silicon comes closest to the truth, the smoothing that of `SIGMAS` whose Euler numbers of all
        networks have the least mean error, as a share of the truth.
    """
    truth = _euler_numbers(truth_zyx, min_voxels)

    def miss(labels_zyx: Labels, networks: Iterable[str]) -> float:
        found = _euler_numbers(labels_zyx, min_voxels)
        return float(np.mean([abs(found[name] - truth[name]) / max(abs(truth[name]), 1) for name in networks]))

    def factor(votes_czyx: Votes) -> float:
        found = {f: (miss(_winning(votes_czyx, f), ["silicon"]), abs(np.log(f))) for f in FACTORS}
        return min(found, key=lambda f: found[f])

    sigma = min(SIGMAS, key=lambda sigma: miss(_winning(smoothed(votes_czyx, sigma), 1.0), NETWORKS))
    found = {"": Tuning(), SMOOTHED: Tuning(sigma)}
    if thresholds:
        found[THRESHOLD] = Tuning(silicon_factor=factor(votes_czyx))
        found[SMOOTHED + THRESHOLD] = Tuning(sigma, factor(smoothed(votes_czyx, sigma)))
    return found


def _euler_numbers(labels_zyx: Labels, min_voxels: int) -> dict[str, int]:
    """Euler number (26) of every network without specks."""
    cleaned_zyx = metrics.without_specks(labels_zyx, min_voxels)
    return {name: topology.euler_number(network_mask(cleaned_zyx, name), connectivity=26) for name in NETWORKS}


def without_holes(labels_zyx: Labels, min_voxels: int) -> Labels:
    """Fill regions of matrix with fewer than `min_voxels` voxels by the phase with most faces against them.

    The counterpart of `metrics.without_specks`: apply it to the prediction and to the truth. A hole hangs together
    by faces (6), as the background of a network of 26 does. Of equal phases silicon wins. A region that reaches a
    face of the volume is filled too, as specks at a face are removed.

    Raises
    ------
    ValueError
        When `min_voxels` is below 1.
    """
    import cc3d

    if min_voxels < 1:
        raise ValueError(f"min_voxels must be 1 (nothing is filled) or more, got {min_voxels}")
    regions_zyx = cc3d.connected_components(labels_zyx == Phase.MATRIX, connectivity=6)
    small = np.bincount(regions_zyx.ravel()) < min_voxels
    small[0] = False
    holes_zyx = np.where(small[regions_zyx], regions_zyx, 0)
    filling = _filling(labels_zyx, holes_zyx, len(small))
    return np.where(holes_zyx > 0, filling[holes_zyx], labels_zyx)


def _filling(labels_zyx: Labels, holes_zyx: NDArray[np.uint32], n: int) -> NDArray[np.uint8]:
    """Phase with most faces against each hole, by the hole's number; matrix where it has none but the volume's."""
    faces = np.zeros((n, len(Phase)), np.int64)
    for axis in range(3):
        lower = (slice(None),) * axis + (slice(None, -1),)
        upper = (slice(None),) * axis + (slice(1, None),)
        for hole, beside in ((lower, upper), (upper, lower)):
            at = (holes_zyx[hole] > 0) & (labels_zyx[beside] != Phase.MATRIX)
            np.add.at(faces, (holes_zyx[hole][at], labels_zyx[beside][at]), 1)
    return faces.argmax(axis=1).astype(np.uint8)  # of equal ones the first, and matrix has no faces
