"""`benchmarks/peers.py`: what a peer gets, what it leaves, how it is scored."""

import json
import sys
from pathlib import Path

import pytest
import tifffile

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import peer_alsiseg
import peering
import peers
import random_phases

from alsiseg import volumes


@pytest.fixture
def folder(tmp_path):
    """What `peers.prepare` writes, of random phases."""
    grey_zyx, labels_zyx = random_phases.phases_with_noise((32, 48, 48), seed=1)
    for name, array in (("train_grey", grey_zyx), ("train_labels", labels_zyx), ("unseen_slow_7", grey_zyx[:8])):
        volumes.write(tmp_path / f"{name}.tif", array, voxel_size_um=1.2)
    tifffile.imwrite(tmp_path / "truth_slow_7.tif", labels_zyx[:8])
    return tmp_path


def test_a_peer_labels_every_unseen_scan_and_says_what_it_cost(folder, monkeypatch):
    monkeypatch.setattr("sys.argv", ["peer", str(folder), "--minutes", "0.0001"])
    peering.take_part("alsiseg", peer_alsiseg.train)
    said = json.loads((folder / "peer_alsiseg.json").read_text())
    assert said["n_images"] == peer_alsiseg.IMAGES_PER_EPOCH
    assert min(said["train_s"], said["voxels_per_s"], said["peak_mib"]) > 0
    assert tifffile.imread(folder / "alsiseg_slow_7.tif").shape == (8, 48, 48)


def test_labels_that_are_the_truth_score_without_fault(folder):
    truth_zyx = tifffile.imread(folder / "truth_slow_7.tif")
    tifffile.imwrite(folder / "forest_slow_7.tif", truth_zyx)
    (row,) = peers.score(folder, "forest", {"slow_7": truth_zyx})
    assert (row["accuracy_pct"], row["casting"]) == (100, "slow")
    assert all(found == true for found, true in row["networks"].values())
    cost = {"train_s": 1.0, "voxels_per_s": 2e6, "peak_mib": 300.0}
    rows = [row, {**row, "casting": "fast"}]
    first, second, third = peers.table(rows, {"forest": cost}).splitlines()
    assert "right %" in first
    assert second.split()[:3] == ["forest", "slow", "100.00"]
    assert third.split()[1:3] == ["fast", "100.00"]


def test_peers_that_are_not_installed_are_named(capsys, monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda _: None)
    assert list(peers.available(None)) == ["alsiseg", "alsiseg_three_views", "forest"]
    said = capsys.readouterr().out
    assert "MONAI is left out" in said
    assert "nnU-Net is left out" in said
