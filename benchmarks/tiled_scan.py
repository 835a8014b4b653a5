"""The scan of `large_scan.py`: a simulated block in mirrored tiles with fresh noise, of any size; and its comparison.

Mirrored tiles fit together without seams, and fresh noise in every slice lets the scan compress as badly as a real one.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from alsiseg import dataset, likeness, phantom, prediction, runs, training, volumes
from alsiseg.progress import steps
from alsiseg.training import TrainingConfig
from alsiseg.unet import UNetConfig

SEED = 0
VOXEL_SIZE_UM = 1.2
FRESH_NOISE = 0.3  # of the block's own noise, which then rises by 4 %
N_TRIED = 32  # slices whose segmentation is timed beforehand
SLAB_SLICES = 16
SHORT = TrainingConfig(unet=UNetConfig(stem_channels=8), epochs=3, batch=10, kept_every=3)


@dataclass(frozen=True, eq=False)
class Tiled:
    """A volume made of mirrored tiles of a block.

    Attributes
    ----------
    block_zyx : array
    shape : tuple of int
    noise : float
        Standard deviation of the noise that is added, in grey values.
    """

    block_zyx: NDArray[Any]
    shape: tuple[int, int, int]
    noise: float = 0.0

    def slice_yx(self, z: int) -> NDArray[Any]:
        """Make one slice; the same every time."""
        rows, columns = (mirrored(n, of)[None] for n, of in zip(self.shape[1:], self.block_zyx.shape[1:], strict=True))
        source = mirrored(self.shape[0], len(self.block_zyx))[z]
        tiled_yx = self.block_zyx[source][rows.T, columns]
        if not self.noise:
            return tiled_yx
        random = np.random.default_rng([SEED, z])
        noisy_yx = tiled_yx + self.noise * random.standard_normal(tiled_yx.shape, np.float32)
        return noisy_yx.round().clip(0, np.iinfo(np.uint16).max).astype(np.uint16)

    def slices(self, what: str) -> Iterator[NDArray[Any]]:
        """Make slice after slice, with progress."""
        return (self.slice_yx(z) for z in steps(range(self.shape[0]), what, unit=" slices"))


def mirrored(n: int, n_block: int) -> NDArray[np.int64]:
    """Indices into a block for `n` voxels: up, down again, up, ..."""
    there_and_back = np.arange(n) % (2 * n_block)
    return np.minimum(there_and_back, 2 * n_block - 1 - there_and_back)


def block(folder: Path, shape_zyx: tuple[int, int, int], n_angles: int) -> tuple[volumes.Volume, volumes.Volume]:
    """Simulate the block: its scan and its truth."""
    options: dict[str, Any] = {"seed": SEED, "voxel_size_um": VOXEL_SIZE_UM, "n_angles": n_angles}
    made = phantom.make(folder / "block", shape_zyx=shape_zyx, modalities=("synchrotron",), **options)
    return volumes.open(made["synchrotron"]), volumes.open(made["truth"])


def tiled_scan(grey: volumes.Volume, shape_zyx: tuple[int, int, int]) -> Tiled:
    """Tile the scan of the block and decide how much noise is added."""
    noise = likeness.grey_statistics(grey).noise * dataset.grey_scale(grey).spread
    return Tiled(grey[:], shape_zyx, FRESH_NOISE * noise)


def write_slices(folder: Path, scan: Tiled) -> int:
    """Write one TIFF a slice, as beamlines do, and count the bytes."""
    folder.mkdir()
    for z, slice_yx in enumerate(scan.slices("TIFF slices")):
        tifffile.imwrite(folder / f"slice_{z:05d}.tif", slice_yx)
    return bytes_in(folder)


def bytes_in(folder: Path) -> int:
    """Count the bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def tried_voxels_per_s(grey: volumes.Volume, run_dir: Path) -> float:
    """Time the network on some slices of the block, after others for warming up."""
    trained, grey_zyx = runs.load_network(run_dir), grey[:N_TRIED]
    prediction.segment(grey_zyx[:8], trained)
    began = time.perf_counter()
    prediction.segment(grey_zyx, trained)
    return grey_zyx.size / (time.perf_counter() - began)


def make(options: argparse.Namespace) -> None:
    """Simulate the block, train when there is no run, and write the scan in both formats."""
    folder, shape_zyx, run_dir = options.folder, options.shape, options.run
    grey, truth = block(folder, options.block, options.angles)
    if not runs.exists(run_dir):
        config = replace(SHORT, images_per_epoch=options.images)
        training.train(grey, truth, run_dir, config, voxel_size_um=VOXEL_SIZE_UM)
    scan, zarr = tiled_scan(grey, shape_zyx), folder / "scan.ome.zarr"
    on_disk = {"TIFF slices": write_slices(folder / "scan_slices", scan)}
    stated: dict[str, Any] = {"shape": shape_zyx, "dtype": np.uint16, "voxel_size_um": VOXEL_SIZE_UM}
    on_disk["OME-Zarr with its pyramid"] = bytes_in(volumes.write(zarr, scan.slices("OME-Zarr"), **stated))
    made = {
        "shape_zyx": shape_zyx,
        "block_zyx": options.block,
        "n_voxels": int(np.prod(shape_zyx)),
        "n_bytes": 2 * int(np.prod(shape_zyx)),
        "bytes_on_disk": on_disk,
        "stem_channels": runs.load_network(run_dir).network.config.stem_channels,
        "tried_voxels_per_s": tried_voxels_per_s(grey, run_dir),
        "versions": runs.versions(),
    }
    (folder / "made.json").write_text(json.dumps(made), encoding="utf-8")


def compare(folder: Path, pairs: list[list[str]], run_dir: Path) -> None:
    """Count the voxels whose labels differ between the formats, and those that are right; look for warnings."""
    truth = volumes.open(folder / "block" / "truth.tif")
    first, second = (volumes.open(folder / labels) for _, labels in pairs)
    true = Tiled(truth[:], first.shape)
    n_differing = n_right = 0
    for z in steps(range(0, len(first), SLAB_SLICES), "comparing"):
        ours_zyx = first[z : z + SLAB_SLICES]
        n_differing += int(np.count_nonzero(ours_zyx != second[z : z + SLAB_SLICES]))
        n_right += sum(int(np.count_nonzero(one == true.slice_yx(z + i))) for i, one in enumerate(ours_zyx))
    began = time.perf_counter()
    warned = [likeness.warnings(volumes.open(folder / scan), run_dir, voxel_size_um=VOXEL_SIZE_UM) for scan, _ in pairs]
    compared = {
        "differing_voxels": n_differing,
        "accuracy": n_right / int(np.prod(first.shape)),
        "likeness_s": (time.perf_counter() - began) / len(pairs),
        "warnings": warned[0],
        "same_warnings": warned[0] == warned[1],
    }
    (folder / "compared.json").write_text(json.dumps(compared), encoding="utf-8")


def sizes(text: str) -> tuple[int, int, int]:
    """Read Z,Y,X."""
    z, y, x = (int(n) for n in text.split(","))
    return z, y, x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["make", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", type=sizes)
    parser.add_argument("--block", type=sizes)
    parser.add_argument("--angles", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--pair", nargs=2, action="append")
    options = parser.parse_args()
    if options.step == "make":
        make(options)
    else:
        compare(options.folder, options.pair, options.run)


if __name__ == "__main__":
    main()
