"""Tell whether a scan is like the one that a network was trained on.

A network knows what it has seen. A scan with larger voxels, more noise, another sharpness or another grey distribution
may still come out as neat labels that are wrong. `warnings` compares what training recorded of its scan
(`dataset.grey_statistics`, the entry "likeness" of the run's `settings.json`) with the scan to be segmented.

A difference counts when it is larger than what random halves of the two scans differ by (`Statistics.limits`; root mean
square of both, where the new scan counts with at most three times the limit of training, so that an uneven scan cannot
excuse itself). Chosen by hand is only what is never worth a word, which decides for large and even scans: 10 % of
noise, lengths and voxel sizes, 0.02 of the spread between quantiles of grey, one per cent of blank voxels.

Tried on simulated scans, each against each: `slow` and `fast`, `clean` and `hard`, of 48 x 96 x 96, 64 x 128 x 128
and 128 x 160 x 160 voxels, 15 of each kind, none of which chose a statistic
(`benchmarks/results/likeness_pairs.txt`). Scans of one kind gave a warning in 10 of 840 pairs, most of them a small
scan beside a large one. A network trained on `slow`, `clean` would have warned of `slow`, `hard` in 212 of 225 pairs,
always of noise and almost always of that between slices, for within them rings and structure hide the dose; of
`fast`, `clean` in 211 and of `fast`, `hard` in 219 of 225, of their grey. What went unnoticed were small scans.

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

    Of several training scans the nearest counts, that with the fewest differences.

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
    trainings = recorded_of_all(run_dir)
    if not trainings:
        return [
            f"the run in {run_dir} does not say what its training scan looked like (it is of an earlier version), so "
            "this scan could not be compared with it: continue the run with the same scan and labels (alsiseg train "
            "... --resume), which adds that record without training anew"
        ]
    scan = grey_statistics(grey_zyx, voxel_size_um=voxel_size_um)
    return min((differences(training, scan) for training in trainings), key=len)


def recorded(run_dir: str | Path) -> Statistics | None:
    """Read what the first scan of a run looked like; None when the run has no record of it that this version knows."""
    return next(iter(recorded_of_all(run_dir)), None)


def recorded_of_all(run_dir: str | Path) -> list[Statistics]:
    """Read what each scan of a run looked like; nothing when the run has no record that this version knows."""
    settings = runs.read_settings(run_dir)
    try:
        records = [settings["likeness"], *settings.get("further_likeness", {}).values()]
        return [Statistics(**{**record, "grey_quantiles": tuple(record["grey_quantiles"])}) for record in records]
    except (KeyError, TypeError):
        return []


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
    """Compare noise within slices, and between them, which tells dose better; one sentence for both."""
    for name, where in (("noise", ""), ("noise_z", " between slices")):
        theirs, ours = getattr(training, name), getattr(scan, name)
        if theirs is None or ours is None or not _far(name, training, scan):
            continue
        size = f"noise{where} {ours:.3f} of the grey spread against {theirs:.3f}"
        if ours > theirs:
            return f"the scan is {_times(ours, theirs)} x noisier than the training scan ({size})"
        return f"the scan has {_times(theirs, ours)} x less noise than the training scan ({size})"
    return ""


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
