"""Tell whether a scan is like the one that a network was trained on.

A network knows what it has seen. A scan with larger voxels, more noise, another sharpness or another grey distribution
may still come out as neat labels that are wrong. `warnings` compares what training recorded of its scan
(`dataset.grey_statistics`, the entry "likeness" of the run's `settings.json`) with the scan to be segmented.

A difference counts when it is larger than what random halves of the two scans differ by (`Statistics.limits`; root mean
square of both, where the new scan counts with at most three times the limit of training, so that an uneven scan cannot
excuse itself). Chosen by hand is only what is never worth a word, which decides for large and even scans: 10 % of
noise, lengths and voxel sizes, 0.02 of the spread between quantiles of grey, one per cent of blank voxels.

Tried on simulated scans, each against each: 48 x 96 x 96 and 128 x 160 x 160 voxels of `slow`, `clean` (four seeds),
`slow`, `hard` and `fast`, `clean` (two each). Scans of one kind gave a warning in 2 of 80 pairs, both times a small
scan beside a large one. A network trained on `slow`, `clean` would have warned of `hard`, whose noise is a quarter
higher, in 28 of 32 pairs, and of `fast`, whose structure is finer, in 32 of 32.

No warning is no proof: a scan of another alloy may have the same grey. A warning is no proof of the reverse either; it
says where to look.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import runs
from alsiseg.dataset import Statistics, grey_statistics
from alsiseg.volumes import Volume

__all__ = ["Statistics", "differences", "grey_statistics", "recorded", "warnings"]

SMALLEST_RATIO = 1.1
SMALLEST_GREY_DISTANCE = 0.02
SMALLEST_BLANK_PCT = 1.0
LARGEST_EXCUSE = 3.0


def warnings(grey_zyx: NDArray[Any] | Volume, run_dir: str | Path, *, voxel_size_um: float | None = None) -> list[str]:
    """Say in which ways a scan is unlike the one that a run was trained on; seconds for a scan of any size.

    Parameters
    ----------
    grey_zyx : (Z, Y, X)
        Anything with `shape` that can be sliced.
    run_dir
        The run folder.
    voxel_size_um
        Of a scan that does not say it itself.

    Returns
    -------
    list of str
        One sentence for each difference; empty when the scan is alike. A run of a version that recorded nothing
        gives one sentence that says so.

    Raises
    ------
    ValueError
        When the scan has one grey value only, or the run cannot be read.
    OSError
        When there is no run in `run_dir`.
    """
    training = recorded(run_dir)
    if training is None:
        return [
            f"the run in {run_dir} does not say what its training scan looked like (it is of an earlier version), so "
            "this scan could not be compared with it: continue the run with the same scan and labels (alsiseg train "
            "... --resume), which adds that record without training anew"
        ]
    return differences(training, grey_statistics(grey_zyx, voxel_size_um=voxel_size_um))


def recorded(run_dir: str | Path) -> Statistics | None:
    """Read what the scan of a run looked like; None when the run has no record of it that this version knows."""
    try:
        record = runs.read_settings(Path(run_dir))["likeness"]
        return Statistics(**{**record, "grey_quantiles": tuple(record["grey_quantiles"])})
    except (KeyError, TypeError):
        return None


def differences(training: Statistics, scan: Statistics) -> list[str]:
    """Say in which ways a scan is unlike the training scan, one sentence each."""
    size, blank = _voxel_size(training.voxel_size_um, scan.voxel_size_um), _blank(training, scan)
    found = [size, blank]
    if not blank:  # which would be in all other numbers
        found += [_grey(training, scan), _noise(training, scan)]
        found += [_length(name, training, scan) for name in ("length_px", "length_z_px")]
    return [sentence for sentence in found if sentence]


def _voxel_size(training_um: float | None, scan_um: float | None) -> str:
    if training_um is None:
        return ""
    if scan_um is None:
        return (
            f"the scan does not state its voxel size; the network learned at {training_um:g} um: make sure "
            "that they agree"
        )
    if max(training_um / scan_um, scan_um / training_um) <= SMALLEST_RATIO:
        return ""
    return (
        f"voxels are {scan_um:g} um, the network learned at {training_um:g} um: rescale the scan to {training_um:g} um "
        "or train anew"
    )


def _blank(training: Statistics, scan: Statistics) -> str:
    if scan.blank_pct - training.blank_pct <= max(_limit("blank_pct", training, scan), SMALLEST_BLANK_PCT):
        return ""
    return (
        f"{scan.blank_pct:.1f} % of the voxels are saturated or blank (padding, a mask?), in training "
        f"{training.blank_pct:.1f} %: crop the scan to the specimen, for its grey is normalised over all of it "
        "(grey, noise and sharpness were not compared)"
    )


def _grey(training: Statistics, scan: Statistics) -> str:
    apart, limit = _grey_distance(training, scan), max(_limit("grey_quantiles", training, scan), SMALLEST_GREY_DISTANCE)
    if apart <= limit:
        return ""
    inverted = replace(scan, grey_quantiles=tuple(-q for q in reversed(scan.grey_quantiles)))
    if _grey_distance(training, inverted) <= limit:
        return "dark and bright look exchanged beside the training scan: invert the grey values of the scan"
    return (
        "the grey values are distributed otherwise than in the training scan: their quantiles differ by "
        f"{apart:.2f} of the spread on average, halves of the training scan by at most "
        f"{training.limits['grey_quantiles']:.2f}; another material, contrast or field of view?"
    )


def _grey_distance(first: Statistics, second: Statistics) -> float:
    """Earth mover's distance of two normalised grey distributions."""
    return float(np.abs(np.subtract(first.grey_quantiles, second.grey_quantiles)).mean())


def _noise(training: Statistics, scan: Statistics) -> str:
    if not _far("noise", training, scan):
        return ""
    size = f"noise {scan.noise:.3f} of the grey spread against {training.noise:.3f}"
    if scan.noise > training.noise:
        return f"the scan is {_times(scan.noise, training.noise)} x noisier than the training scan ({size})"
    return f"the scan has {_times(training.noise, scan.noise)} x less noise than the training scan ({size})"


def _length(name: str, training: Statistics, scan: Statistics) -> str:
    across = name == "length_z_px"
    if across and scan.n_slab_slices < training.n_slab_slices:
        return ""  # too few slices to know
    if not _far(name, training, scan):
        return ""
    theirs, ours = getattr(training, name), getattr(scan, name)
    where = " across slices" if across else " within slices"
    size = f"correlation length {ours:.1f} voxels against {theirs:.1f}"
    if ours > theirs:
        return f"the scan is {_times(ours, theirs)} x blurrier or coarser{where} than the training scan ({size})"
    return (
        f"the scan is {_times(theirs, ours)} x finer{where} than the training scan ({size}): a finer structure, larger "
        "voxels, or binned?"
    )


def _far(name: str, training: Statistics, scan: Statistics) -> bool:
    theirs, ours = getattr(training, name), getattr(scan, name)
    apart = abs(ours - theirs)
    return apart > _limit(name, training, scan) and apart > (SMALLEST_RATIO - 1) * theirs


def _limit(name: str, training: Statistics, scan: Statistics) -> float:
    theirs = training.limits[name]
    return float(np.hypot(theirs, min(scan.limits[name], LARGEST_EXCUSE * theirs)) / np.sqrt(2))


def _times(larger: float, smaller: float) -> str:
    return f"{larger / smaller:.1f}" if smaller else "many"
