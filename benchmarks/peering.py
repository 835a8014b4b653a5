"""What every peer of `peers.py` does: read the training slices, train for some minutes, segment the unseen scans.

Needs only numpy and tifffile: nnU-Net runs it in an environment of its own.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

Segment = Callable[[NDArray], NDArray[np.uint8]]
# Scan, labels, seconds of training, folder -> how to segment, and what to say about it.
Train = Callable[[NDArray, NDArray[np.uint8], float, Path], tuple[Segment, dict[str, Any]]]


def take_part(name: str, train: Train, *, three_views: Train | None = None) -> None:
    """Train and segment as the command line asks; write labels and what they cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--three-views", action="store_true")
    chosen = parser.parse_args()
    if chosen.three_views and three_views is not None:
        name, train = f"{name}_three_views", three_views
    folder: Path = chosen.folder
    grey_zyx, labels_zyx = (tifffile.imread(folder / f"train_{what}.tif") for what in ("grey", "labels"))
    segment, said = train(grey_zyx, labels_zyx, 60 * chosen.minutes, folder)
    seconds, n_voxels = 0.0, 0
    for path in sorted(folder.glob("unseen_*.tif")):
        unseen_zyx = tifffile.imread(path)
        started = time.perf_counter()
        found_zyx = segment(unseen_zyx)
        seconds += time.perf_counter() - started
        n_voxels += unseen_zyx.size
        tifffile.imwrite(folder / path.name.replace("unseen", name), found_zyx.astype(np.uint8))
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cost = {"voxels_per_s": n_voxels / seconds, "peak_mib": peak / 1024}
    (folder / f"peer_{name}.json").write_text(json.dumps({**said, **cost}, indent=1))
