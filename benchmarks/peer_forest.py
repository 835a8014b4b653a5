"""A random forest on multi-scale features, the Weka or ilastik way, for `peers.py`; it needs no minutes."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peering import Segment, take_part

from alsiseg import baselines


def train(
    grey_zyx: NDArray, labels_zyx: NDArray[np.uint8], _seconds: float, _folder: Path
) -> tuple[Segment, dict[str, Any]]:
    """Train `baselines.train_forest` with its own sizes."""
    started = time.perf_counter()
    forest = baselines.train_forest(grey_zyx, labels_zyx)
    return forest.segment, {"train_s": time.perf_counter() - started}


if __name__ == "__main__":
    take_part("forest", train)
