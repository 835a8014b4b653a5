"""`alsiseg segment` in a process of its own: its options, Ctrl-C, and what a user can mend."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alsiseg import runs, unet, volumes
from alsiseg.dataset import GreyScale
from alsiseg.unet import UNetConfig

pytestmark = pytest.mark.slow  # every process loads torch anew


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a scan and a run."""
    grey_zyx = np.random.default_rng(0).integers(0, 60_000, (24, 300, 300)).astype(np.uint16)
    volumes.write(tmp_path / "grey.tif", grey_zyx, voxel_size_um=1.2)
    volumes.write(tmp_path / "small.tif", grey_zyx[:9, :40, :40], voxel_size_um=1.2)
    runs.start(tmp_path / "run", {}, {})
    network = unet.build(UNetConfig(stem_channels=4), seed=3)
    runs.save_network(tmp_path / "run", network, GreyScale(0.0, 1.0, 1.0), 1)
    return tmp_path


def started(place: Path, *arguments: str) -> subprocess.Popen:
    line = [sys.executable, "-m", "alsiseg", "segment", *arguments, "--run", "run", "--device", "cpu"]
    return subprocess.Popen(line, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(place: Path, *arguments: str) -> tuple[int, str, str]:
    process = started(place, *arguments)
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def test_every_option_has_its_file(place):
    options = "--three-views", "--symmetries", "--uncertainty", "doubt.tif", "--spread", "spread.json"
    status, out, err = ended(place, "small.tif", "labels.tif", *options, "--precision", "float32", "--tile", "64")
    assert status == 0, err
    assert out.split() == ["labels.tif", "doubt.tif", "spread.json"]
    assert "9 x 40 x 40 voxels on cpu, float32" in err
    for name in ("labels.tif", "doubt.tif"):
        volume = volumes.open(place / name)
        assert (volume.shape, volume.voxel_size_um) == ((9, 40, 40), 1.2)
    found = json.loads((place / "spread.json").read_text())["networks"]["silicon"]["volume_fraction_pct"]
    assert list(found["of_members"]) == ["view z", "view y", "view x"]
    assert found["low"] <= found["value"] <= found["high"]


def test_ctrl_c_keeps_finished_slabs_for_the_next_call(place):
    status, _, err = ended(place, "grey.tif", "whole.tif")
    assert status == 0, err
    process = started(place, "grey.tif", "labels.tif", "--symmetries")
    journal = place / "labels.tif.partial" / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > 0):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "alsiseg: stopped; what was finished is kept"
    assert "Traceback" not in err
    assert not (place / "labels.tif").exists()
    status, _, err = ended(place, "grey.tif", "labels.tif")
    assert status == 2
    assert "other settings (symmetries True -> False)" in err
    assert len(err.splitlines()) == 1
    status, _, err = ended(place, "grey.tif", "labels.tif", "--symmetries")
    assert status == 0, err
    assert "were finished before" in err
    assert not journal.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["small.tif", "labels.tif", "--spread", "s.json"], "several views or passes"),
        (["small.tif", "small.tif"], "exists already"),
        (["small.tif", "labels.tif", "--uncertainty", "labels.tif"], "a name of its own"),
        (["small.tif", "run/settings.json/labels.tif"], "in place of a folder"),
    ],
)
def test_what_a_user_can_mend_is_one_line(place, arguments, sentence):
    before = sorted(path.name for path in place.iterdir())
    status, _, err = ended(place, *arguments)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert sentence in err
    assert sorted(path.name for path in place.iterdir()) == before
