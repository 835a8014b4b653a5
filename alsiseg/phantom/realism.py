"""Is a simulated scan hard for the reasons a real one is? Numbers on a scan whose truth is known.

What the paper says of its scans (sections Introduction and Generation of ground truth data) is turned into
quantities: silicon is as grey as the matrix inside and differs at its edges; aluminides stand out, and the
dark fringe beside them can be taken for silicon; the noise is that of filtered back-projection; bad detector
columns leave rings.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg.phantom.materials import Variant
from alsiseg.phantom.microstructure import Microstructure
from alsiseg.phases import Phase

INTERIOR_VOXEL = 2.0  # deeper than the fringes and the partial volume of a phase's surface reach
RIM_VOXEL = 1.5
N_BINS = 100
N_SECTORS = 8


@dataclass(frozen=True)
class Check:
    """One number of a scan beside what it must be; `limit` is on the side that `aim` says."""

    what: str
    value: float
    aim: str
    limit: float

    @property
    def met(self) -> bool:
        """Whether the value is on the right side; NaN never is."""
        return bool(self.value < self.limit if self.aim == "below" else self.value > self.limit)


@dataclass(frozen=True)
class Realism:
    """What `measure` finds in one scan.

    Attributes
    ----------
    silicon_cnr
        Mean grey of silicon more than two voxels inside, less that of the matrix, over the standard
        deviation of the matrix there; NaN when no silicon is that thick.
    aluminide_cnr
        The same for every variant that is thick enough.
    silicon_edge_cnr
        The same for the outermost voxels of silicon: what makes it visible at all.
    rim_cnr
        The same for the matrix within 1.5 voxels of aluminides: negative is a dark rim.
    rim_overlap
        Share of the grey-value distribution of that rim that silicon has too, 0..1.
    ring_strength
        Largest deviation on an arc about the axis of rotation, over the standard deviation of the matrix.
    """

    silicon_cnr: float
    aluminide_cnr: dict[str, float]
    silicon_edge_cnr: float
    rim_cnr: float
    rim_overlap: float
    ring_strength: float

    def checks(self) -> list[Check]:
        """Hold every number against its aim."""
        brightest = max(self.aluminide_cnr.values(), default=float("nan"))
        return [
            Check("silicon inside, contrast to noise (size)", abs(self.silicon_cnr), "below", 0.5),
            Check("silicon at its edges, contrast to noise", self.silicon_edge_cnr, "below", -0.5),
            Check("brightest aluminide, contrast to noise", brightest, "above", 3.0),
            Check("rim of aluminides, contrast to noise", self.rim_cnr, "below", 0.0),
            Check("share of the rim as grey as silicon", self.rim_overlap, "above", 0.5),
            Check("strongest ring, over the noise", self.ring_strength, "above", 1.0),
        ]


def table(checks: list[Check]) -> str:
    """Write checks as a table to read."""
    width = max(len(check.what) for check in checks)
    lines = [
        f"{check.what:<{width}} {check.value:>9.3f}  {check.aim} {check.limit:g}".ljust(width + 26)
        + ("met" if check.met else "NOT met")
        for check in checks
    ]
    return "\n".join(lines)


def measure(grey_zyx: NDArray, specimen: Microstructure) -> Realism:
    """Measure a synchrotron scan of `specimen`; both (z, y, x).

    Raises
    ------
    ValueError
        When shapes differ, or the scan holds no matrix or no aluminide away from surfaces.
    """
    labels_zyx = specimen.labels_zyx
    if grey_zyx.shape != labels_zyx.shape:
        raise ValueError(f"needs a scan of the specimen's shape {labels_zyx.shape}, got {grey_zyx.shape}; crop both")
    grey_zyx = grey_zyx.astype(np.float32)
    depth = {phase: ndimage.distance_transform_edt(labels_zyx == phase) for phase in Phase}
    matrix = grey_zyx[depth[Phase.MATRIX] > INTERIOR_VOXEL]
    if not matrix.size:
        raise ValueError("needs matrix two voxels away from other phases, found none; give a larger specimen")

    def cnr(greys: NDArray[np.float32]) -> float:
        return float((greys.mean() - matrix.mean()) / matrix.std()) if greys.size else float("nan")

    inside = depth[Phase.ALUMINIDE] > INTERIOR_VOXEL
    thick = {v.name: grey_zyx[inside & (specimen.variants_zyx == v)] for v in Variant if v > Variant.SI}
    rim = grey_zyx[rim_mask(labels_zyx)]
    silicon = labels_zyx == Phase.SILICON
    edge = silicon & (depth[Phase.SILICON] <= 1) & ~_near(labels_zyx == Phase.ALUMINIDE)
    return Realism(
        silicon_cnr=cnr(grey_zyx[depth[Phase.SILICON] > INTERIOR_VOXEL]),
        aluminide_cnr={name: cnr(greys) for name, greys in thick.items() if greys.size},
        silicon_edge_cnr=cnr(grey_zyx[edge]),
        rim_cnr=cnr(rim),
        rim_overlap=overlap(rim, grey_zyx[silicon]),
        ring_strength=_ring_strength(grey_zyx, labels_zyx) / float(matrix.std()),
    )


def grey_groups(grey_zyx: NDArray, specimen: Microstructure) -> dict[str, NDArray]:
    """Grey values of the voxels of each phase, and of the matrix beside aluminides, to draw their distributions."""
    labels_zyx = specimen.labels_zyx
    rim = rim_mask(labels_zyx)
    return {
        "matrix": grey_zyx[(labels_zyx == Phase.MATRIX) & ~rim],
        "silicon": grey_zyx[labels_zyx == Phase.SILICON],
        "aluminides": grey_zyx[labels_zyx == Phase.ALUMINIDE],
        "matrix beside aluminides": grey_zyx[rim],
    }


def rim_mask(labels_zyx: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark the matrix within 1.5 voxels of aluminides, where the dark fringe lies."""
    return (labels_zyx == Phase.MATRIX) & _near(labels_zyx == Phase.ALUMINIDE)


def _near(mask_zyx: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ndimage.distance_transform_edt(~mask_zyx) < RIM_VOXEL


def overlap(first: NDArray, second: NDArray) -> float:
    """Share of two grey-value distributions that they have in common, 0..1; 0 when one is empty."""
    if not (first.size and second.size):
        return 0.0
    edges = np.histogram_bin_edges(np.concatenate([first, second]), N_BINS)
    shares = [np.histogram(one, edges)[0] / one.size for one in (first, second)]
    return float(np.minimum(*shares).sum())


def _ring_strength(grey_zyx: NDArray[np.float32], labels_zyx: NDArray[np.uint8]) -> float:
    """Largest mean deviation of the matrix on an arc of a circle one voxel wide from the circles beside it.

    Rings run through all slices, so the mean over the slices shows them; half rings, because the scan is over
    half a turn, so an arc is an eighth of a circle.
    """
    matrix = labels_zyx == Phase.MATRIX
    n_y, n_x = labels_zyx.shape[1:]
    y, x = np.mgrid[:n_y, :n_x]
    y, x = y - (n_y - 1) / 2, x - (n_x - 1) / 2
    radius = np.hypot(y, x).round().astype(int)
    sector = ((np.arctan2(y, x) / np.pi + 1) * N_SECTORS / 2).astype(int) % N_SECTORS
    arc = np.broadcast_to(sector * (radius.max() + 1) + radius, labels_zyx.shape)[matrix]
    n_arcs = N_SECTORS * (radius.max() + 1)
    counts = np.bincount(arc, minlength=n_arcs).reshape(N_SECTORS, -1)
    sums = np.bincount(arc, grey_zyx[matrix], n_arcs).reshape(N_SECTORS, -1)
    profile = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    beside = (np.roll(profile, 3, 1) + np.roll(profile, -3, 1)) / 2
    enough = np.minimum(counts, np.minimum(np.roll(counts, 3, 1), np.roll(counts, -3, 1))) > 0.2 * counts.max()
    inner = slice(8, min(n_y, n_x) // 2 - 4)
    deviation = np.abs(profile - beside)[:, inner][enough[:, inner]]
    return float(deviation.max()) if deviation.size else 0.0


def noise_power_spectrum(
    first_zyx: NDArray, second_zyx: NDArray, *, n_rings: int = 24
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """In-plane noise power against frequency, from two scans that differ only in their noise.

    Returns
    -------
    frequency : (n_rings,)
        Cycles per voxel, up to 0.5.
    power : (n_rings,)
        Mean power of the noise of one scan, grey values squared times square voxels.

    Notes
    -----
    The ramp filter of filtered back-projection makes it rise in proportion to the frequency before
    interpolation rolls it off (Kak and Slaney 1988, chapter 5); white noise would be flat.
    """
    noise_zyx = (first_zyx.astype(np.float64) - second_zyx.astype(np.float64)) / np.sqrt(2)
    noise_zyx -= noise_zyx.mean(axis=(1, 2), keepdims=True)
    n_y, n_x = noise_zyx.shape[1:]
    window = np.outer(np.hanning(n_y), np.hanning(n_x))
    power_yx = (np.abs(np.fft.fft2(noise_zyx * window)) ** 2).mean(0) / (window**2).sum()
    frequency_yx = np.hypot(*np.meshgrid(np.fft.fftfreq(n_y), np.fft.fftfreq(n_x), indexing="ij"))
    ring = np.minimum((frequency_yx * 2 * n_rings).astype(int), n_rings).ravel()
    counts = np.bincount(ring, minlength=n_rings + 1)[:n_rings]
    power = np.bincount(ring, power_yx.ravel(), n_rings + 1)[:n_rings] / np.maximum(counts, 1)
    return (np.arange(n_rings) + 0.5) / (2 * n_rings), power


def ramp_likeness(frequency: NDArray[np.float64], power: NDArray[np.float64]) -> float:
    """Correlation of a noise power spectrum with the ramp up to a quarter cycle per voxel, at most 1."""
    low = frequency <= 0.25
    return float(np.corrcoef(frequency[low], power[low])[0, 1])
