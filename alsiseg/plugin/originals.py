"""Find what a network was first trained on, so that it does not forget that while it learns from corrections."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alsiseg import runs, volumes
from alsiseg.correcting import folder

Pair = tuple[NDArray, NDArray]


def from_files(scan: Path, labels: Path) -> Pair | None:
    """Open the scan and the labels that a user names; None where neither is named.

    Raises
    ------
    ValueError, OSError
        When only one is named, or a file holds no volume.
    """
    named = [path for path in (scan, labels) if str(path) not in ("", ".")]
    if not named:
        return None
    if len(named) == 1:
        raise ValueError(
            f"needs the scan and the labels that the network was trained on, found only {named[0]}; name both or none"
        )
    return np.asarray(volumes.open(scan)), np.asarray(volumes.open(labels))


def among(volumes_zyx: Sequence[Any], run_dir: Path) -> Pair | None:
    """Choose from open volumes those that the first of a line of runs was trained on; None where one is missing.

    They are told by their checksums; only volumes of the right shape are read.
    """
    trained_on = folder.origin(run_dir)
    if "grey_sha256" not in trained_on:  # trained on several scans
        return None
    shape_zyx = tuple(trained_on["shape_zyx"])
    fitting = [np.asarray(volume) for volume in volumes_zyx if tuple(volume.shape) == shape_zyx]
    by_checksum = {runs.checksum(volume): volume for volume in fitting}
    grey_zyx, labels_zyx = (by_checksum.get(trained_on[name]) for name in ("grey_sha256", "labels_sha256"))
    return None if grey_zyx is None or labels_zyx is None else (grey_zyx, labels_zyx)
