"""The three phases of the alloy, their colours, and the networks they form."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Phase(IntEnum):
    """Labels of the segmented volumes: alpha-Al matrix, silicon, aluminides."""

    MATRIX = 0
    SILICON = 1
    ALUMINIDE = 2


# The hybrid network is silicon and aluminides together (paper, section Material).
NETWORKS: dict[str, tuple[Phase, ...]] = {
    "silicon": (Phase.SILICON,),
    "aluminides": (Phase.ALUMINIDE,),
    "hybrid": (Phase.SILICON, Phase.ALUMINIDE),
}

# Green silicon and red aluminides as in Fig. 1 of the paper. Matrix, silicon and aluminides step
# down in lightness, so that grey print and colour-blind readers tell them apart too.
PHASE_COLOURS: dict[Phase, str] = {
    Phase.MATRIX: "#e9e9e9",
    Phase.SILICON: "#35b779",
    Phase.ALUMINIDE: "#b2182b",
}
NETWORK_COLOURS: dict[str, str] = {
    "silicon": PHASE_COLOURS[Phase.SILICON],
    "aluminides": PHASE_COLOURS[Phase.ALUMINIDE],
    "hybrid": "#0072b2",
}
PHASE_NAMES: dict[Phase, str] = {
    Phase.MATRIX: "α-Al matrix",
    Phase.SILICON: "silicon",
    Phase.ALUMINIDE: "aluminides",
}


def network_mask(labels: NDArray[np.uint8], network: str) -> NDArray[np.bool_]:
    """Mark the voxels of `network` ("silicon", "aluminides" or "hybrid")."""
    if network not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {network!r}")
    first, *others = NETWORKS[network]
    mask = labels == first
    for phase in others:
        mask |= labels == phase
    return mask


def check_labels(labels: NDArray, what: str = "labels") -> None:
    """Refuse a label array that is not made of the integers 0, 1 and 2.

    Raises
    ------
    TypeError
        When the array does not hold integers.
    ValueError
        When it holds other values; the message lists them.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"{what} must hold whole numbers (0 matrix, 1 silicon, 2 aluminide), "
            f"got {labels.dtype}; give the label volume, not a grey one"
        )
    if labels.size and (labels.min() < Phase.MATRIX or labels.max() > Phase.ALUMINIDE):
        found = np.unique(labels)
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        raise ValueError(
            f"{what} must be 0 (matrix), 1 (silicon) and 2 (aluminide), found {shown}; "
            "renumber the phases or give the label volume"
        )
