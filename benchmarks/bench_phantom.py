"""Time the specimen, its scans and their labels, and projection beside scikit-image, in one run.

    python benchmarks/bench_phantom.py --shape 48,160,160 --angles 360

One core each. The specimen's rates are of a single pass; the peers project and reconstruct the same slices at the same
angles with the same filter, and must agree. Compare ratios, not machines. Writes `benchmarks/RESULTS_phantom.md`.
"""

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.transform import iradon, radon

from alsiseg import ground_truth
from alsiseg.phantom import imaging, materials, microstructure, tomography
from alsiseg.phantom.microstructure import Microstructure

RESULTS = Path(__file__).parent / "RESULTS_phantom.md"
MARGIN_PX = 2
N_SLICES = 32  # reconstructed by both
LARGEST_DIFFERENCE = 0.05  # of the standard deviation of the grey values inside the circle


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = work()
    return time.perf_counter() - start, answer


def specimen_rates(shape_zyx: tuple[int, int, int], n_angles: int) -> tuple[dict[str, float], Microstructure]:
    """Seconds per million voxels of growing, scanning and labelling a specimen."""
    million = np.prod(shape_zyx) / 1e6
    took, grown = seconds(lambda: microstructure.grow(shape_zyx))
    rates = {"microstructure": took / million}
    scans = []
    for modality in imaging.MODALITIES:
        settings = imaging.DIFFICULTIES["clean"][modality].with_angles(n_angles)
        took, grey_zyx = seconds(lambda m=modality, s=settings: imaging.scan(grown, m, s))
        scans.append(grey_zyx)
        rates[f"scan {modality}"] = took / million
        rates[f"scan {modality}, per 100 angles"] = took / million / n_angles * 100
    rates["labels"] = seconds(lambda: ground_truth.label_scans(*scans))[0] / million
    return rates, grown


def inside_circle(n: int, margin: int) -> NDArray[np.bool_]:
    offset = np.arange(n) - n // 2
    return np.hypot(offset[:, None], offset) < n // 2 - margin


def by_alsiseg(slices_zyx: NDArray[np.float32], angles_rad: NDArray[np.floating]) -> NDArray[np.float32]:
    n_z, n_y, n_x = slices_zyx.shape
    slices_pz = torch.from_numpy(np.ascontiguousarray(slices_zyx.reshape(n_z, -1).T))
    found_pz = torch.zeros_like(slices_pz)
    for views in tomography.ParallelBeam(n_y, n_x).all_views(angles_rad):
        found_pz += views.back_project(tomography.ramp_filter(views.project(slices_pz)))
    return found_pz.T.reshape(slices_zyx.shape).numpy() * np.float32(np.pi / len(angles_rad))


def by_scikit_image(slices_zyx: NDArray[np.float32], angles_rad: NDArray[np.floating]) -> NDArray[np.float32]:
    angles_deg = np.rad2deg(angles_rad)
    return np.stack([iradon(radon(one, angles_deg), angles_deg, filter_name="ramp") for one in slices_zyx])


def reconstruction_ratio(grown: Microstructure, n_angles: int) -> dict[str, float]:
    """Projection and filtered back-projection of the same slices by both, and how far they differ."""
    n = min(grown.labels_zyx.shape[1:]) // 2 * 2 + 1
    n = n if n <= min(grown.labels_zyx.shape[1:]) else n - 2  # odd: both turn about the middle pixel
    part = grown.box(slice(N_SLICES), slice(n), slice(n))
    circle = inside_circle(n, MARGIN_PX)
    # Smoothed over a pixel: what is finer than that, each interpolates in its own way.
    slices_zyx = gaussian_filter(1e4 * part.mixed(materials.attenuation_table_per_um()), (0, 1, 1)) * circle
    angles_rad = tomography.angles_rad(n_angles)
    ours_s, ours = seconds(lambda: by_alsiseg(slices_zyx, angles_rad))
    theirs_s, theirs = seconds(lambda: by_scikit_image(slices_zyx, angles_rad))
    core = inside_circle(n, 3 * MARGIN_PX)
    difference = np.sqrt(((ours - theirs)[:, core] ** 2).mean()) / slices_zyx[:, core].std()
    if difference > LARGEST_DIFFERENCE:
        raise SystemExit(f"the reconstructions differ by {difference:.2f} of their spread")
    return {"ours_s": ours_s, "scikit_image_s": theirs_s, "ratio": theirs_s / ours_s, "difference": difference}


def main() -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="48,160,160", help="voxels of the specimen, Z,Y,X")
    parser.add_argument("--angles", type=int, default=360)
    options = parser.parse_args()
    shape_zyx = tuple(int(n) for n in options.shape.split(","))
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    rates, grown = specimen_rates(shape_zyx, options.angles)  # type: ignore[arg-type]
    beside = reconstruction_ratio(grown, options.angles)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20
    lines = [
        "# The specimen and its scans, measured by `make bench`\n",
        f"{shape_zyx} voxels, {options.angles} angles, one core; load when the run began: {load:.1f}.\n",
        "| what | seconds per 10⁶ voxels |",
        "|---|---|",
        *(f"| {what} | {rate:.2f} |" for what, rate in rates.items()),
        f"\nProjection and filtered back-projection of {N_SLICES} slices: alsiseg {beside['ours_s']:.2f} s, "
        f"scikit-image {beside['scikit_image_s']:.2f} s, **ratio {beside['ratio']:.1f}**; "
        f"they differ by {100 * beside['difference']:.1f} % of the grey values' spread. Peak memory {peak:.0f} MiB.",
    ]
    print("\n".join(lines))
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rates | beside | {"peak_MiB": peak}


if __name__ == "__main__":
    main()
