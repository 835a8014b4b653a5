"""Reading and writing slabs takes the memory of slabs, whatever the size of the volume."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from alsiseg import volumes

SHAPE_ZYX = (2048, 512, 512)  # 512 MiB of 8 bits; sparse on disk where the format allows
MOST_MIB = 128  # slabs are of 8 MiB; zarr and its threads hold several at once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")

MEASURED = """
import sys
from alsiseg import volumes
path, written = sys.argv[1:3]
options = {{"shape_zyx": {shape}, "dtype": "uint8"}} if path.endswith(".raw") else {{}}
def peak_mib():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
volume = volumes.open(path, **options)
volume[:1]
{before}
before = peak_mib()
{action}
print(peak_mib() - before)
"""
READ = "for z in range(0, 2048, 32): volume[z:z + 32]"
WRITE = "volumes.write(written, volume)"
WARM = "volumes.write(written, volume[:64])"


def grown_mib(path: Path, action: str, *, written: Path = Path("none"), before: str = "") -> float:
    """Growth of the peak memory of a fresh process, in MiB."""
    code = MEASURED.format(shape=SHAPE_ZYX, action=action, before=before)
    command = [sys.executable, "-c", code, str(path), str(written)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


def sparse(path: Path) -> Path:
    """Make a volume that takes little disk: holes, or chunks of one value."""
    if path.suffix == ".raw":
        with path.open("wb") as file:
            file.truncate(int(np.prod(SHAPE_ZYX)))
    elif path.name == "turned.tif":
        tifffile.imwrite(path, None, shape=SHAPE_ZYX[::-1], dtype=np.uint8, metadata={"axes": "XYZ"}, photometric=1)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, None, shape=SHAPE_ZYX, dtype=np.uint8, metadata={"axes": "ZYX"}, photometric=1)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            array = file.create_dataset("v", SHAPE_ZYX, np.uint8, chunks=(32, 512, 512), compression="lzf")
            array.attrs["axes"] = "z:y:x"
            for z in range(0, SHAPE_ZYX[0], 32):
                array[z : z + 32] = 1
    else:
        array = zarr.create_array(path, shape=SHAPE_ZYX, dtype="u1", chunks=(32, 256, 256), dimension_names=list("zyx"))
        for z in range(0, SHAPE_ZYX[0], 32):
            array[z : z + 32] = 1
    return path


@pytest.mark.parametrize("name", ["v.tif", "v.raw", "v.h5", "v.zarr"])
def test_reading_slab_by_slab_takes_a_small_part_of_its_memory(tmp_path, name):
    assert grown_mib(sparse(tmp_path / name), READ) < MOST_MIB


def test_a_volume_whose_slices_are_not_first_is_mapped_for_a_slab_only(tmp_path):
    path = sparse(tmp_path / "turned.tif")
    assert volumes.open(path).shape == SHAPE_ZYX
    assert grown_mib(path, "volume[1000:1032]") < MOST_MIB


@pytest.mark.parametrize("suffix", [".tif", ".h5", ".zarr"])
def test_writing_slab_by_slab_takes_a_small_part_of_its_memory(tmp_path, suffix):
    path = sparse(tmp_path / "v.tif")
    assert grown_mib(path, WRITE, written=tmp_path / f"w{suffix}", before=WARM) < MOST_MIB
    assert volumes.open(tmp_path / f"w{suffix}").shape == SHAPE_ZYX
