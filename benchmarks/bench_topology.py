"""Measure topology beside scikit-image and SciPy on one random-field network, in one run.

    python benchmarks/bench_topology.py --size 256

Every rate is the best of a few repeats on this machine; compare ratios, not machines.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from alsiseg import topology

SHARE = 0.2  # of the volume, near the silicon and aluminides of the alloy
FEATURE_VOXELS = 2.0
N_REPEATS = 3


def random_network(size: int) -> NDArray[np.bool_]:
    noise = np.random.default_rng(0).standard_normal((size, size, size), dtype=np.float32)
    field_zyx = ndimage.gaussian_filter(noise, FEATURE_VOXELS, output=np.float32)
    return field_zyx > np.quantile(field_zyx, 1 - SHARE)


def voxels_per_second(work: Callable, network_zyx: NDArray[np.bool_]) -> tuple[float, float]:
    seconds = []
    for _ in range(N_REPEATS):
        start = time.perf_counter()
        answer = work(network_zyx)
        seconds.append(time.perf_counter() - start)
    return network_zyx.size / min(seconds), answer


def comparisons(connectivity: topology.Connectivity) -> list[tuple[str, Callable, str, Callable]]:
    order = 3 if connectivity == 26 else 1
    structure = ndimage.generate_binary_structure(3, order)
    ours = [
        ("Euler number", lambda v: topology.euler_number(v, connectivity=connectivity)),
        ("components", lambda v: topology.components(v, connectivity=connectivity).n),
    ]
    peers = [
        ("Euler number", "scikit-image", lambda v: measure.euler_number(v, connectivity=order)),
        ("components", "scikit-image", lambda v: measure.label(v, connectivity=order).max()),
        ("components", "SciPy", lambda v: ndimage.label(v, structure)[1]),
    ]
    return [(what, work, peer, theirs) for what, work in ours for of, peer, theirs in peers if of == what]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="edge of the cube in voxels")
    network_zyx = random_network(parser.parse_args().size)
    print(f"{network_zyx.shape} voxels, {100 * network_zyx.mean():.0f} % network, 10^6 voxels per second")
    print(f"{'measure':<14}{'by':>4}{'alsiseg':>10}  {'peer':<14}{'rate':>8}{'ratio':>8}")
    for connectivity in (6, 26):
        for what, work, peer, theirs in comparisons(connectivity):
            rate, answer = voxels_per_second(work, network_zyx)
            peer_rate, peer_answer = voxels_per_second(theirs, network_zyx)
            if answer != peer_answer:
                raise SystemExit(f"{what} by {connectivity}: {answer} here, {peer_answer} by {peer}")
            row = f"{what:<14}{connectivity:>4}{rate / 1e6:>10.0f}  {peer:<14}{peer_rate / 1e6:>8.1f}"
            print(f"{row}{rate / peer_rate:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
