"""The networks that come with alsiseg: how they are made, what is in their folders, and those that are there."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import pretrain

from alsiseg import cli, exporting, likeness, prediction, runs, training, volumes
from alsiseg.exporting.limits import limits
from alsiseg.phases import PHASE_NAMES
from alsiseg.runs import places
from alsiseg.study.plan import UNSEEN_SEED
from alsiseg.unet import UNetConfig

SHAPE_ZYX = (36, 40, 52)
CONFIG = training.TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=2, batch=4, images_per_epoch=8, kept_every=1)
FILES = {
    "accuracy_per_slice.csv",
    "card.json",
    "card.md",
    "checkpoints/epoch_0002.json",
    "checkpoints/epoch_0002.safetensors",
    "history.csv",
    "settings.json",
    "truth.json",
    "validation.json",
}
LARGEST_BYTES = 8 * 10**6


def scan(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels_zyx = random.integers(0, 3, SHAPE_ZYX).astype(np.uint8)
    return (1000 + 400.0 * labels_zyx + random.normal(0, 50, SHAPE_ZYX)).astype(np.uint16), labels_zyx


def network(found: int, truth: int) -> dict:
    share = {"found": 0.5, "truth": 0.5}
    euler = {"found": found, "truth": truth}
    return {"volume_fraction_pct": share, "interconnectivity": share, "euler_number": euler}


def validated(one: pretrain.Specimen, accuracy: float, *euler_numbers: tuple[int, int]) -> dict:
    names = ("silicon", "aluminides", "hybrid")
    networks = {name: network(*numbers) for name, numbers in zip(names, euler_numbers, strict=True)}
    shown = {"recipe": "slices", "accuracy": accuracy, "interface_accuracy": accuracy / 2, "networks": networks}
    return {**vars(one), **shown}


@pytest.fixture(scope="module")
def trained_dir(tmp_path_factory) -> Path:
    grey, labels = zip(scan(0), scan(1), strict=True)
    run_dir = tmp_path_factory.mktemp("trained") / "run"
    return training.train(grey, labels, run_dir, CONFIG, voxel_size_um=1.2, device="cpu")


@pytest.fixture
def shipped(trained_dir, tmp_path, monkeypatch) -> Path:
    """The run packed among the networks that come with alsiseg, in another folder than theirs."""
    monkeypatch.setattr(places, "SHIPPED", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    first, second, third = pretrain.specimens(3, 0, SHAPE_ZYX, 90)
    rows = [
        validated(second, 0.9, (-90, -100), (-50, -50), (5, 0)),
        validated(replace(third, seed=505), 0.8, (-80, -100), (-51, -50), (0, 0)),
    ]
    given = {"specimens": [vars(first), vars(second)], "validation": rows, "epoch_chosen_by": "the weather"}
    return exporting.pack(trained_dir, tmp_path / "shipped" / "tiny-net", **given)


def test_a_packed_network_has_what_it_needs_to_be_used_and_nothing_large(shipped, trained_dir):
    assert {path.relative_to(shipped).as_posix() for path in shipped.rglob("*") if path.is_file()} == FILES
    assert sorted(path.name for path in shipped.parent.iterdir()) == ["tiny-net"]
    labels_zyx = prediction.segment(scan(2)[0], "tiny-net", device="cpu")
    np.testing.assert_array_equal(labels_zyx, prediction.segment(scan(2)[0], trained_dir, device="cpu"))


def test_a_network_is_packed_into_the_same_bytes_again(shipped, trained_dir):
    before = {path.name: path.read_bytes() for path in shipped.rglob("*") if path.is_file()}
    given = {name: runs.read_settings("tiny-net")[name] for name in ("specimens", "epoch_chosen_by")}
    given["validation"] = exporting.model_card("tiny-net")["validation"]
    with pytest.raises(ValueError, match="exists already"):
        exporting.pack(trained_dir, shipped, **given)
    exporting.pack(trained_dir, shipped, **given, overwrite=True)
    assert {path.name: path.read_bytes() for path in shipped.rglob("*") if path.is_file()} == before


def test_a_run_that_cannot_be_read_leaves_the_packed_one_as_it_was(shipped, tmp_path):
    before = (shipped / "card.md").read_bytes()
    with pytest.raises(FileNotFoundError, match="none-such"):
        exporting.pack(tmp_path / "none-such", shipped, overwrite=True)
    assert (shipped / "card.md").read_bytes() == before


def test_the_card_says_what_it_learned_from_and_how_often_it_was_right_elsewhere(shipped, trained_dir):
    text = (shipped / "card.md").read_text(encoding="utf-8")
    card = json.loads((shipped / "card.json").read_text(encoding="utf-8"))
    assert card == exporting.model_card("tiny-net")
    assert text.startswith("# tiny-net, epoch 2\n")
    assert card["limits"][0].startswith(
        "It learned from 2 synthetic specimens of 36 x 40 x 52 voxels (slow, clean; fast, clean) with an edge of 1.2 um"
    )
    assert "no other alloy, cooling, voxel size, scan or orientation, and no real specimen" in card["limits"][0]
    assert "10.0 to 20.0 % of the voxels had a wrong phase (most: slow, hard, slices)." in card["limits"][1]
    assert "up to 20 % (silicon), 2.0 % (aluminides), 500 % (hybrid)" in card["limits"][2]
    assert "| slow, hard, seed 505, slices | 80.00 % | 40.00 % | -80 (-100) | -51 (-50) | 0 (0) |" in text
    assert "* synthetic specimens: slow, clean, seed 0; fast, clean, seed 1\n" in text
    assert "* epoch chosen by: the weather\n" in text
    assert card["data"]["test_section_zyx"] == exporting.model_card(trained_dir)["data"]["test_section_zyx"]
    assert "alsiseg segment SCAN LABELS.zarr --run tiny-net" in text


def test_a_network_of_all_directions_is_not_said_to_know_one(shipped):
    card = exporting.model_card("tiny-net")
    card["settings"]["directions"] = ["z", "y", "x"]
    assert "in slices along z, y, x. It has seen no other alloy, cooling, voxel size or scan," in limits(card)[0]


def test_a_run_of_several_volumes_has_a_card_that_counts_them(trained_dir):
    card = exporting.model_card(trained_dir)
    assert card["limits"][0].startswith("It learned from 2 volumes of 36 x 40 x 52 voxels with an edge of 1.2 um")
    assert "of the first volume, kept from training" in card["limits"][1]
    assert "* volume 2: 36 x 40 x 52 voxels (z, y, x)\n" in exporting.as_markdown(card)


def test_the_commands_list_it_and_segment_with_it(shipped, tmp_path):
    ended = CliRunner().invoke(cli.commands, ["networks"])
    assert ended.exit_code == 0, ended
    (line,) = ended.stdout.splitlines()
    assert line.startswith("tiny-net: 56,107 parameters, 0.")
    assert "learned from 2 synthetic specimens, 80.0 to 90.0 % of the voxels right on others; card: " in line
    assert Path(line.partition("card: ")[2]).is_file()
    volumes.write(tmp_path / "grey.tif", scan(0)[0], voxel_size_um=1.2)
    ended = CliRunner().invoke(cli.commands, ["segment", "grey.tif", "out.tif", "--run", "tiny-net", "--device", "cpu"])
    assert ended.exit_code == 0, ended
    expected = prediction.segment(scan(0)[0], shipped, device="cpu")
    np.testing.assert_array_equal(volumes.open(tmp_path / "out.tif")[:], expected)


def test_an_exported_file_segments_as_its_run_does(shipped, tmp_path):
    volumes.write(tmp_path / "grey.tif", scan(0)[0], voxel_size_um=1.2)
    exporting.export("tiny-net", tmp_path / "net.safetensors")
    for name in ("tiny-net", "net.safetensors"):
        arguments = ["segment", "grey.tif", f"{name}.tif", "--run", name, "--device", "cpu"]
        ended = CliRunner().invoke(cli.commands, arguments)
        assert ended.exit_code == 0, ended
        assert "earlier version" not in ended.stderr
    first, second = (volumes.open(f"{name}.tif")[:] for name in ("tiny-net", "net.safetensors"))
    np.testing.assert_array_equal(first, second)


def test_specimens_are_of_every_kind_in_turn_and_none_is_of_the_test():
    found = pretrain.specimens(5, 0, SHAPE_ZYX, 90)
    assert [(one.casting, one.difficulty, one.seed) for one in found] == [
        ("slow", "clean", 0),
        ("fast", "clean", 1),
        ("slow", "hard", 2),
        ("fast", "hard", 3),
        ("slow", "clean", 4),
    ]
    n_kinds = len(pretrain.KINDS)
    assert pretrain.CHOOSING_SEED + n_kinds <= pretrain.REPORTED_SEED <= 599 - n_kinds < UNSEEN_SEED


@pytest.mark.slow
def test_a_network_is_pretrained_chosen_measured_and_packed(tmp_path, monkeypatch):
    sizes = ["--shape", "36,48,48", "--angles", "12", "--specimens", "2", "--processes", "1"]
    brief = ["--width", "2", "--epochs", "2", "--images", "8", "--batch", "4", "--kept", "2", "--directions", "z"]
    call = ["pretrain.py", "--out", str(tmp_path / "net"), "--home", str(tmp_path / "home"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*call, *sizes, *brief])
    pretrain.main()
    card = exporting.model_card(tmp_path / "net")
    assert [row["seed"] for row in card["validation"]] == [seed for seed in range(504, 508) for _ in range(2)]
    assert {row["recipe"] for row in card["validation"]} == {"slices", "three views"}
    assert [one["seed"] for one in card["data"]["specimens"]] == [0, 1]
    with pytest.raises(SystemExit, match="exists already"):
        pretrain.main()


@pytest.mark.parametrize("name", runs.shipped())
def test_a_network_that_comes_with_alsiseg_is_whole_small_and_usable(name):
    folder = runs.located(name)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    now = exporting.model_card(name)
    assert {key: card[key] for key in ("network", "data", "validation", "measures", "limits")} == {
        key: now[key] for key in ("network", "data", "validation", "measures", "limits")
    }
    assert (folder / "card.md").read_text(encoding="utf-8").startswith(f"# {card['name']}\n")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < LARGEST_BYTES
    assert len(runs.kept_epochs(name)) == 1
    assert likeness.recorded(name) is not None
    assert {row["seed"] < UNSEEN_SEED for row in [*card["validation"], *card["data"]["specimens"]]} == {True}
    assert set(np.unique(prediction.segment(scan(0)[0], name, device="cpu"))) <= set(range(len(PHASE_NAMES)))
