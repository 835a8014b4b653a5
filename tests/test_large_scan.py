"""The benchmark of a large scan: its tiles, and the whole of it at a tiny size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import large_scan
import tiled_scan

TINY = ["--shape", "40,72,96", "--block", "36,64,80", "--angles", "60", "--images", "40"]


def test_tiles_are_mirrored_so_that_neighbours_stay_neighbours():
    assert tiled_scan.mirrored(10, 4).tolist() == [0, 1, 2, 3, 3, 2, 1, 0, 0, 1]
    block_zyx = np.arange(2 * 3 * 4, dtype=np.uint16).reshape(2, 3, 4)
    tiled = tiled_scan.Tiled(block_zyx, (5, 7, 9))
    whole_zyx = np.stack(list(tiled.slices("slices")))
    assert whole_zyx.shape == (5, 7, 9)
    np.testing.assert_array_equal(whole_zyx[:2, :3, :4], block_zyx)
    np.testing.assert_array_equal(whole_zyx[:4], whole_zyx[3::-1])
    np.testing.assert_array_equal(whole_zyx[:, :6], whole_zyx[:, 5::-1])


def test_noise_is_fresh_in_every_slice_and_the_same_every_time():
    flat_zyx = np.full((1, 200, 200), 30_000, np.uint16)
    tiled = tiled_scan.Tiled(flat_zyx, (3, 400, 400), noise=100.0)
    first_yx, second_yx = tiled.slice_yx(0), tiled.slice_yx(1)
    assert first_yx.std() == pytest.approx(100, rel=0.02)
    assert abs(np.corrcoef(first_yx.ravel(), second_yx.ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(first_yx[:200].ravel(), first_yx[200:].ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(tiled.slice_yx(0), first_yx)


def test_a_folder_that_is_there_is_not_touched(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(SystemExit, match="needs a folder of its own"), large_scan.scratch(tmp_path, 1, keep=False):
        pass
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="asks the system for the memory of a child process")
def test_both_formats_give_the_same_labels_and_measures(tmp_path):
    folders = ["--folder", str(tmp_path / "scratch"), "--results", str(tmp_path / "results")]
    command = [sys.executable, str(Path(large_scan.__file__)), *TINY, *folders]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "scratch").exists()
    found = json.loads((tmp_path / "results" / "large_scan.json").read_text())
    assert found["shape_zyx"] == [40, 72, 96]
    assert found["differing_voxels"] == 0
    assert found["same_measures"]
    assert found["same_warnings"]
    assert found["accuracy"] > 0.5
    assert [step["what"].split()[0] for step in found["steps"]] == [
        "simulate",
        "segment",
        "measure",
        "segment",
        "measure",
        "compare",
    ]
    assert all(step["seconds"] > 0 and step["peak_mib"] > 50 for step in found["steps"])
    assert "0 voxels differ; measures are the same" in (tmp_path / "results" / "large_scan.md").read_text()
