import ast
import errno
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from alsiseg import metrics, runs, unet
from alsiseg.dataset import GreyScale
from alsiseg.runs import files as files_of_runs
from alsiseg.runs import networks as networks_of_runs
from alsiseg.unet import UNet, UNetConfig

SCALE = GreyScale(mean=3.5, spread=2.25, range=9.0)
SETTINGS = {
    "config": {"epochs": 4, "kept_every": 2, "seed": 0, "unet": {"stem_channels": 2}, "loss": {"soft_dice": 0.0}},
    "data": {"sha": "a"},
    "grey_scale": asdict(SCALE),
}


def network(seed: int = 0) -> UNet:
    return unet.build(UNetConfig(stem_channels=2), seed=seed)


@pytest.fixture
def run_dir(tmp_path) -> Path:
    labels_zyx = np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8)
    runs.start(tmp_path / "run", SETTINGS, metrics.measure_networks(labels_zyx, voxel_size_um=1.2))
    return tmp_path / "run"


def trained_a_step(seed: int = 0) -> tuple[UNet, torch.optim.Adam]:
    one = network(seed)
    optimiser = torch.optim.Adam(one.parameters(), lr=0.003, weight_decay=1e-4, amsgrad=True)
    one(torch.randn(2, 5, 32, 32, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
    optimiser.step()
    return one, optimiser


def save_epoch(run_dir: Path, epoch: int, *, accuracy: float = 0.5, euler: int = 0, keep: bool = False) -> UNet:
    """What a training leaves after an epoch, with made-up measures."""
    one, optimiser = trained_a_step(epoch)
    numbers = {f"{name}_euler_number": euler for name in runs.read_truth(run_dir)}
    row = {"epoch": epoch, "accuracy": accuracy, **numbers, "images_per_s": 10.0 + epoch}
    runs.record(run_dir, row, np.array([accuracy, accuracy]))
    if keep:
        runs.save_network(run_dir, one, SCALE, epoch)
    runs.save_state(run_dir, one, optimiser, epoch)
    runs.record_best(run_dir)
    return one


def rewritten(path: Path, **changed: object) -> None:
    """Change a JSON file as somebody would who knows its format."""
    content = files_of_runs.read_json(path)
    files_of_runs.write_json(path, content | changed)


def loaded(run_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    return runs.load_network(run_dir, epoch).network.state_dict()


def resumed_epoch(run_dir: Path) -> int:
    one = network(7)
    return runs.load_state(run_dir, one, torch.optim.Adam(one.parameters(), amsgrad=True))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_keeps_its_settings_truth_and_versions(run_dir):
    settings = runs.read_settings(run_dir)
    assert runs.exists(run_dir)
    assert {key: settings[key] for key in SETTINGS} == SETTINGS
    assert settings["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"python", "alsiseg", "numpy", "scipy", "scikit-image"} <= set(settings["versions"])
    labels_zyx = np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8)
    assert runs.read_truth(run_dir) == metrics.measure_networks(labels_zyx, voxel_size_um=1.2)


def test_a_folder_without_a_run_says_so(tmp_path):
    assert not runs.exists(tmp_path)
    for read in (runs.read_settings, runs.read_history, runs.read_truth, runs.load_network):
        with pytest.raises(FileNotFoundError, match=r"needs a run.*train first"):
            read(tmp_path)


def test_changed_settings_are_named_and_the_number_of_epochs_may_grow(run_dir):
    same = {**SETTINGS, "config": {**SETTINGS["config"], "epochs": 9, "kept_every": 1}}
    assert runs.differences(run_dir, same) == []
    changed = {"seed": 1, "unet": {"stem_channels": 4}, "loss": {"soft_dice": 0.5}}
    other = {**SETTINGS, "config": {**SETTINGS["config"], **changed}, "data": {"sha": "b"}}
    assert sorted(runs.differences(run_dir, other)) == [
        "config.loss.soft_dice 0.0 -> 0.5",
        "config.seed 0 -> 1",
        "config.unet.stem_channels 2 -> 4",
        "data.sha a -> b",
    ]


def test_a_continued_run_enters_its_new_number_of_epochs_and_nothing_else(run_dir):
    before = runs.read_settings(run_dir)
    runs.extend(run_dir, {**SETTINGS, "config": {**SETTINGS["config"], "epochs": 9, "seed": 5}})
    assert runs.read_settings(run_dir) == before | {"config": {**SETTINGS["config"], "epochs": 9}}


def test_a_run_that_is_set_aside_is_kept_under_another_name(run_dir):
    before = files(run_dir)
    aside = runs.set_aside(run_dir)
    assert not run_dir.exists()
    assert files(aside) == before
    run_dir.mkdir()
    assert runs.set_aside(run_dir) != aside


def test_histories_are_read_as_they_were_recorded(run_dir):
    for epoch, accuracy in ((0, [0.25, 0.5]), (1, [0.75, 1 / 3])):
        runs.record(run_dir, {"epoch": epoch, "test_loss": 1.1 / (epoch + 1)}, np.array(accuracy))
    history = runs.read_history(run_dir)
    assert history["epoch"].tolist() == [0, 1]
    assert history["test_loss"].tolist() == [1.1, 0.55]
    epochs, accuracy_ez = runs.read_accuracy_per_slice(run_dir)
    assert epochs.tolist() == [0, 1]
    assert accuracy_ez.tolist() == [[0.25, 0.5], [0.75, 1 / 3]]


def test_an_epoch_recorded_again_replaces_itself_and_what_came_after(run_dir):
    for epoch in (0, 1, 2, 3, 1):
        runs.record(run_dir, {"epoch": epoch, "test_loss": float(epoch)}, np.array([0.5]))
    assert runs.read_history(run_dir)["epoch"].tolist() == [0, 1]
    assert runs.read_accuracy_per_slice(run_dir)[0].tolist() == [0, 1]


def test_a_kept_network_comes_back_with_its_grey_scale(run_dir):
    saved, _ = trained_a_step()
    runs.save_network(run_dir, saved, SCALE, 2)
    runs.save_network(run_dir, network(1), SCALE, 4)
    assert runs.kept_epochs(run_dir) == [2, 4]
    trained = runs.load_network(run_dir, 2)
    assert (trained.epoch, trained.grey_scale, trained.run_dir) == (2, SCALE, run_dir)
    assert trained.network.config == saved.config
    assert not trained.network.training
    for name, tensor in saved.state_dict().items():
        assert torch.equal(trained.network.state_dict()[name], tensor)
    assert runs.load_network(str(run_dir)).epoch == 4


def test_an_epoch_that_was_not_kept_is_refused_with_those_that_were(run_dir):
    with pytest.raises(FileNotFoundError, match=r"needs the network of any epoch, .* has kept none"):
        runs.load_network(run_dir)
    runs.save_network(run_dir, network(), SCALE, 2)
    with pytest.raises(FileNotFoundError, match=r"needs the network of epoch 0, .* has kept 2"):
        runs.load_network(run_dir, 0)


def test_strange_files_beside_the_checkpoints_do_no_harm(run_dir):
    runs.save_network(run_dir, network(), SCALE, 2)
    (run_dir / "checkpoints" / "notes.json").write_text("{}")
    (run_dir / "checkpoints" / "epoch_best.json").write_text("{}")
    assert runs.kept_epochs(run_dir) == [2]


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "missing", "exchanged"])
def test_a_damaged_network_is_refused(run_dir, damage):
    path = runs.save_network(run_dir, network(), SCALE, 2)
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[len(content) // 2] ^= 1
    elif damage == "cut":
        content = content[:-5]
    elif damage == "empty":
        content = bytearray()
    elif damage == "exchanged":
        content = bytearray(runs.save_network(run_dir, network(1), SCALE, 3).read_bytes())
    path.write_bytes(content)
    if damage == "missing":
        path.unlink()
    with pytest.raises(ValueError, match="missing or damaged"):
        runs.load_network(run_dir, 2)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": "another 7"}',
        '{"format": "alsiseg run 1"}',
        '{"format": "alsiseg run 1", "unet": {"n_wheels": 4}, "grey_scale": {}, "sha256": ""}',
    ],
)
def test_a_foreign_or_damaged_header_is_refused_in_one_sentence(run_dir, header):
    path = runs.save_network(run_dir, network(), SCALE, 2).with_suffix(".json")
    path.write_text(header)
    with pytest.raises(ValueError, match=r"epoch_0002\.json") as refusal:
        runs.load_network(run_dir)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_network_are_refused(run_dir):
    path = runs.save_network(run_dir, network(), SCALE, 2).with_suffix(".json")
    rewritten(path, unet=asdict(UNetConfig(stem_channels=4)))
    with pytest.raises(ValueError, match="size mismatch") as refusal:
        runs.load_network(run_dir)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["settings.json", "truth.json", "history.csv", "accuracy_per_slice.csv"])
@pytest.mark.parametrize("content", ["", "{", "[1]", "epoch,a\nx,y\n"])
def test_a_damaged_table_or_setting_is_named(run_dir, name, content):
    (run_dir / name).write_text(content)
    read = {
        "settings.json": runs.read_settings,
        "truth.json": runs.read_truth,
        "history.csv": runs.read_history,
        "accuracy_per_slice.csv": runs.read_accuracy_per_slice,
    }[name]
    with pytest.raises(ValueError, match=f"{name} is damaged or was not written by alsiseg"):
        read(run_dir)


def test_network_and_optimiser_resume_exactly_where_they_were(run_dir):
    saved, optimiser = trained_a_step()
    runs.save_state(run_dir, saved, optimiser, 2)
    resumed = network(7)
    again = torch.optim.Adam(resumed.parameters(), lr=0.003, weight_decay=1e-4, amsgrad=True)
    assert runs.load_state(run_dir, resumed, again) == 2
    for one, optimised in ((saved, optimiser), (resumed, again)):
        torch.manual_seed(3)  # dropout
        for _ in range(2):
            optimised.zero_grad()
            one(torch.ones(2, 5, 32, 32)).square().mean().backward()
            optimised.step()
    for name, tensor in saved.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_the_state_of_the_optimiser_is_laid_out_like_its_parameters(run_dir):
    saved = network().to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(saved.parameters(), amsgrad=True)
    saved(torch.ones(2, 5, 32, 32)).square().mean().backward()
    optimiser.step()
    runs.save_state(run_dir, saved, optimiser, 1)
    resumed = network().to(memory_format=torch.channels_last)
    again = torch.optim.Adam(resumed.parameters(), amsgrad=True)
    runs.load_state(run_dir, resumed, again)
    for before, after in zip(saved.parameters(), resumed.parameters(), strict=True):
        for name, tensor in optimiser.state[before].items():
            assert again.state[after][name].stride() == tensor.stride()


def test_without_a_state_training_starts_at_the_beginning(run_dir):
    one, optimiser = trained_a_step()
    assert runs.load_state(run_dir, one, optimiser) == -1


@pytest.mark.parametrize("name", ["epoch_0001.json", "epoch_0001.safetensors"])
def test_a_damaged_state_without_one_before_it_is_refused(run_dir, name, capsys):
    one, optimiser = trained_a_step()
    runs.save_state(run_dir, one, optimiser, 1)
    (run_dir / "resume" / name).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="needs a whole state to continue, found none"):
        runs.load_state(run_dir, one, optimiser)
    assert f"{name} is" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["epoch_0003.json", "epoch_0003.safetensors"])
@pytest.mark.parametrize("damage", ["bit", "cut", "missing"])
def test_a_damaged_state_gives_way_to_the_one_before_and_says_so(run_dir, name, damage, capsys):
    for epoch in range(4):
        save_epoch(run_dir, epoch)
    path = run_dir / "resume" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "bit" else content[:-9])
    if damage == "missing":
        path.unlink()
    assert resumed_epoch(run_dir) == 2
    said = capsys.readouterr().out
    assert ("the state of epoch 3 cannot be used" in said) == (path.exists() or name.endswith("safetensors"))
    runs.extend(run_dir, SETTINGS)
    assert runs.read_history(run_dir)["epoch"].tolist() == [0, 1, 2]
    assert sorted(files(run_dir / "resume")) == ["epoch_0002.json", "epoch_0002.safetensors"]
    capsys.readouterr()
    save_epoch(run_dir, 3)
    assert resumed_epoch(run_dir) == 3
    assert capsys.readouterr().out == ""


def test_the_last_two_states_are_kept(run_dir):
    for epoch in range(4):
        save_epoch(run_dir, epoch)
    names = [f"epoch_000{epoch}.{suffix}" for epoch in (2, 3) for suffix in ("json", "safetensors")]
    assert sorted(files(run_dir / "resume")) == names


def test_a_state_of_another_run_is_refused(run_dir, tmp_path):
    save_epoch(run_dir, 0)
    other = tmp_path / "other"
    runs.start(other, {**SETTINGS, "data": {"sha": "b"}}, runs.read_truth(run_dir))
    shutil.copytree(run_dir / "resume", other / "resume")
    with pytest.raises(ValueError, match="belongs to another run"):
        resumed_epoch(other)


@pytest.mark.parametrize("change", ["names", "shapes", "types", "no optimiser", "half an optimiser", "more"])
def test_a_foreign_state_is_refused_in_one_sentence(run_dir, change):
    save_epoch(run_dir, 0)
    save_epoch(run_dir, 1)
    path = run_dir / "resume" / "epoch_0001.safetensors"
    tensors = load_file(path)
    kept = {
        "names": {name.replace("stem", "root"): tensor for name, tensor in tensors.items()},
        "shapes": {name: tensor[..., None] for name, tensor in tensors.items()},
        "types": {name: tensor.half() for name, tensor in tensors.items()},
        "no optimiser": {name: tensor for name, tensor in tensors.items() if name.startswith("network.")},
        "half an optimiser": {name: tensor for name, tensor in tensors.items() if not name.endswith("max_exp_avg_sq")},
        "more": tensors | {"optimiser.99.step": torch.zeros(())},
    }[change]
    rewritten(path.with_suffix(".json"), sha256=files_of_runs.write_tensors(path, kept))
    with pytest.raises(ValueError, match=r"tensor .* (is missing|is not part|needs)") as refusal:
        resumed_epoch(run_dir)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epoch", "../../../evil"),
        ("epoch", -1),
        ("epoch", 2**70),
        ("epoch", float("nan")),
        ("epoch", True),
        ("epoch", None),
        ("epoch", 3),
        ("sha256", 5),
        ("unet", []),
        ("unet", {"stem_channels": "../2"}),
        ("unet", {"stem_channels": -2}),
        ("unet", {"stem_channels": 2.5}),
        ("unet", {"stem_channels": 2**38}),
        ("unet", {"stem_channels": 2**14}),
        ("unet", {"stem_channels": 2, "n_slices": 2**39 + 1}),
        ("unet", {"stem_channels": 2, "dropout": float("nan")}),
        ("grey_scale", {}),
        ("grey_scale", {"mean": 0.0, "spread": float("inf"), "range": 1.0}),
        ("grey_scale", {"mean": 0.0, "spread": 0.0, "range": 1.0}),
        ("grey_scale", {"mean": "0", "spread": 1.0, "range": 1.0}),
        ("grey_scale", {"mean": 0.0, "spread": 1.0, "range": 1.0, "file": "/etc/passwd"}),
    ],
)
def test_values_of_a_checkpoint_that_make_no_sense_are_refused_in_one_sentence(run_dir, name, value):
    path = runs.save_network(run_dir, network(), SCALE, 2).with_suffix(".json")
    rewritten(path, **{name: value})
    with pytest.raises(ValueError, match=r"epoch_0002\.(json|safetensors) is") as refusal:
        runs.load_network(run_dir, 2)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "tables",
    [
        {"../../evil.csv": ["a", "b", "c"]},
        {"/tmp/evil.csv": ["a", "b", "c"]},
        {"history.csv": ["epoch"]},
        {"history.csv": "abc"},
        {"history.csv": [1, 2, 3]},
        ["history.csv"],
    ],
)
def test_a_state_writes_nothing_but_the_tables_of_its_run(run_dir, tmp_path, tables):
    save_epoch(run_dir, 0)
    save_epoch(run_dir, 1)
    before = files(tmp_path)
    rewritten(run_dir / "resume" / "epoch_0001.json", tables=tables)
    runs.extend(run_dir, SETTINGS)
    assert set(files(tmp_path)) <= set(before)
    assert resumed_epoch(run_dir) == 0


def read_or_refusal(path: Path) -> dict | str:
    try:
        return files_of_runs.read_header(path)
    except ValueError as error:
        return str(error)


def test_a_flipped_bit_in_any_byte_of_a_header_is_found(run_dir):
    path = runs.save_network(run_dir, network(), SCALE, 2).with_suffix(".json")
    content, meant = path.read_bytes(), files_of_runs.read_header(path)
    for byte, bit in enumerate(np.random.default_rng(0).integers(0, 8, len(content))):
        damaged = bytearray(content)
        damaged[byte] ^= 1 << bit
        path.write_bytes(damaged)
        found = read_or_refusal(path)
        if isinstance(found, dict):  # the bit was of the name of the checksum
            assert {key: found[key] for key in meant} == meant
        else:
            assert "\n" not in found


def test_a_stop_while_the_state_is_saved_leaves_the_previous_one(run_dir, monkeypatch):
    saved, optimiser = trained_a_step()
    runs.save_state(run_dir, saved, optimiser, 1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    other, other_optimiser = trained_a_step(1)
    with monkeypatch.context() as patched:
        patched.setattr(networks_of_runs, "write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            runs.save_state(run_dir, other, other_optimiser, 2)
    resumed = network(7)
    assert runs.load_state(run_dir, resumed, torch.optim.Adam(resumed.parameters(), amsgrad=True)) == 1
    assert torch.equal(resumed.state_dict()["stem.0.weight"], saved.state_dict()["stem.0.weight"])


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_is_named_in_one_sentence_and_leaves_the_previous_network(run_dir, monkeypatch, function):
    runs.save_network(run_dir, network(), SCALE, 2)
    before = files(run_dir)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match=r"needs a working disk with space for .*epoch_0002.*; make room") as failure:
        runs.save_network(run_dir, network(1), SCALE, 2)
    assert failure.value.errno == errno.ENOSPC
    assert files(run_dir) == before


def test_a_disk_that_keeps_something_else_is_found(run_dir, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: path.write_text("other"))
    with pytest.raises(OSError, match="came back changed"):
        runs.save_network(run_dir, network(), SCALE, 2)
    assert runs.kept_epochs(run_dir) == []


def test_test_labels_come_back_per_kept_epoch(run_dir):
    truth_zyx, prediction_zyx = np.random.default_rng(0).integers(0, 3, (2, 5, 6, 7)).astype(np.uint8)
    runs.save_test_truth(run_dir, truth_zyx, 1.2)
    runs.save_prediction(run_dir, prediction_zyx, 3, None)
    for read, expected in zip(runs.read_test(run_dir, 3), (truth_zyx, prediction_zyx), strict=True):
        np.testing.assert_array_equal(read, expected)


def test_the_checksum_is_of_the_values():
    array = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    assert runs.checksum(array) == runs.checksum(np.asfortranarray(array))
    changed = array.copy()
    changed[1, 2, 3] += 1
    assert runs.checksum(changed) != runs.checksum(array)


def test_what_a_stop_left_unfinished_goes_when_the_run_is_continued(run_dir):
    for epoch in range(3):
        save_epoch(run_dir, epoch)
    before = files(run_dir)
    row = {name: 0.5 for name in runs.read_history(run_dir)}
    runs.record(run_dir, row | {"epoch": 3}, np.array([0.5, 0.5]))
    for folder, name in (("resume", "epoch_0003"), ("checkpoints", "epoch_0007")):
        (run_dir / folder / f"{name}.safetensors").write_bytes(b"no JSON beside it")
    others = {name: b"of somebody else" for name in ("checkpoints/epoch_best.safetensors", ".partial-5-a.csv")}
    for name, content in others.items():
        (run_dir / name).write_bytes(content)
    before |= others
    for folder in ("", "resume", "test"):
        (run_dir / folder).mkdir(exist_ok=True)
        (run_dir / folder / ".partial-123-history.csv").write_text("half")
    runs.extend(run_dir, SETTINGS)
    assert files(run_dir) == before


def edited(path: Path, *, row: int, text: str | None = None) -> None:
    lines = path.read_bytes().split(b"\r\n")
    lines[row] = lines[row][: len(lines[row]) // 2] if text is None else text.encode()
    path.write_bytes(b"\r\n".join(lines))


@pytest.mark.parametrize("name", ["history.csv", "accuracy_per_slice.csv"])
@pytest.mark.parametrize("damage", ["torn", "edited", "cut", "shorter", "missing"])
def test_a_damaged_history_is_found_and_restored_when_the_run_is_continued(run_dir, name, damage, capsys):
    for epoch in range(3):
        save_epoch(run_dir, epoch, accuracy=0.25 * epoch)
    path = run_dir / name
    whole = runs.read_history(run_dir), runs.read_accuracy_per_slice(run_dir)
    content = path.read_bytes()
    if damage == "edited":
        path.write_bytes(content.replace(b"0.25", b"0.95"))
    else:
        path.write_bytes({"torn": content[:-20] + content[-9:], "cut": content[:-4], "missing": b""}.get(damage, b""))
    if damage == "shorter":
        path.write_bytes(b"\r\n".join(content.split(b"\r\n")[:3]) + b"\r\n")
    if damage == "missing":
        path.unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=name):
        runs.read_history(run_dir) if name == "history.csv" else runs.read_accuracy_per_slice(run_dir)
    runs.extend(run_dir, SETTINGS)
    assert f"{name} was not what the run recorded; restored up to epoch 2" in capsys.readouterr().out
    history, (epochs, accuracy_ez) = runs.read_history(run_dir), runs.read_accuracy_per_slice(run_dir)
    for column in set(history) - {"images_per_s"}:
        np.testing.assert_array_equal(history[column], whole[0][column])
    assert epochs.tolist() == whole[1][0].tolist()
    np.testing.assert_array_equal(accuracy_ez, whole[1][1])


def test_a_row_is_recorded_after_the_one_before_it(run_dir):
    with pytest.raises(ValueError, match="the row of epoch 1 must follow"):
        runs.record(run_dir, {"epoch": 1, "test_loss": 0.5}, np.array([0.5]))
    runs.record(run_dir, {"epoch": 0, "test_loss": 0.5}, np.array([0.5]))
    with pytest.raises(ValueError, match="the same columns"):
        runs.record(run_dir, {"epoch": 1, "other_loss": 0.5}, np.array([0.5]))
    with pytest.raises(ValueError, match="the row of epoch 1 must end"):
        runs.save_state(run_dir, *trained_a_step(), 1)


def test_trained_epochs_without_a_state_are_not_trained_over(run_dir):
    for epoch in range(3):
        save_epoch(run_dir, epoch)
    shutil.rmtree(run_dir / "resume")
    with pytest.raises(ValueError, match="needs a state to continue from"):
        runs.extend(run_dir, SETTINGS)
    (run_dir / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"needs a folder without a run, found checkpoints"):
        runs.start(run_dir, SETTINGS, {})


MEASURES_OF_EPOCHS = ((0.99, 0), (0.5, -100), (0.7, -60), (0.7, -60), (0.6, -10))  # accuracy, Euler number


@pytest.fixture
def measured(run_dir) -> Path:
    truth = {name: replace(one, euler_number=-20) for name, one in runs.read_truth(run_dir).items()}
    files_of_runs.write_json(run_dir / "truth.json", {name: asdict(one) for name, one in truth.items()})
    return run_dir


def test_the_best_epochs_are_trained_ones_and_the_first_of_equals(measured):
    save_epoch(measured, 0, accuracy=0.99)
    assert runs.record_best(measured) is None
    with pytest.raises(ValueError, match="needs a trained epoch"):
        runs.best_epochs(measured)
    for epoch, (accuracy, euler) in list(enumerate(MEASURES_OF_EPOCHS))[1:]:
        save_epoch(measured, epoch, accuracy=accuracy, euler=euler)
    assert runs.best_epochs(measured) == runs.BestEpochs(accuracy=2, topology=4)
    np.testing.assert_allclose(runs.topology_error(measured), [1, 4, 2, 2, 0.5])


def test_the_networks_of_the_best_epochs_are_kept_as_long_as_they_are_best(measured):
    kept, saved = [], {}
    for epoch, (accuracy, euler) in enumerate(MEASURES_OF_EPOCHS):
        saved[epoch] = save_epoch(measured, epoch, accuracy=accuracy, euler=euler, keep=epoch == 3).state_dict()
        kept.append(runs.kept_epochs(measured))
    assert kept == [[], [1], [2], [2, 3], [2, 3, 4]]
    for epoch in (2, 4):
        assert all(torch.equal(tensor, saved[epoch][name]) for name, tensor in loaded(measured, epoch).items())
    best = files_of_runs.read_header(measured / "best.json")
    assert best["accuracy"] == {"epoch": 2, "accuracy": 0.7}
    assert best["topology"] == {"epoch": 4, "topology_error": 0.5}


def test_a_kept_network_stays_when_it_was_the_best_and_is_no_longer(measured):
    for epoch, (accuracy, euler) in enumerate(MEASURES_OF_EPOCHS[:3]):
        save_epoch(measured, epoch, accuracy=accuracy, euler=euler, keep=epoch == 1)
    assert runs.kept_epochs(measured) == [1, 2]


def test_a_stop_before_the_best_is_recorded_loses_it_not(measured, monkeypatch):
    for epoch, (accuracy, euler) in enumerate(MEASURES_OF_EPOCHS):
        save_epoch(measured, epoch, accuracy=accuracy, euler=euler)
    whole = files(measured)
    for name in ("best.json", "checkpoints/epoch_0004.json", "checkpoints/epoch_0004.safetensors"):
        (measured / name).unlink()
    runs.extend(measured, SETTINGS)
    assert files(measured) == whole


PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_nothing_in_the_package_reads_or_writes_pickles():
    for path in Path(runs.__file__).parent.parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)]
            modules = [*names, getattr(node, "module", None) or ""]
            assert not {module.split(".")[0] for module in modules} & PICKLES, path
            assert ast.unparse(node) not in ("torch.load", "torch.save") if isinstance(node, ast.Attribute) else True
            assert not (isinstance(node, ast.keyword) and ast.unparse(node) == "allow_pickle=True"), path


def test_nothing_in_a_run_is_pickled(run_dir):
    saved, optimiser = trained_a_step()
    runs.save_network(run_dir, saved, SCALE, 1)
    runs.save_state(run_dir, saved, optimiser, 1)
    assert {Path(name).suffix for name in files(run_dir)} <= {".json", ".safetensors"}
    for name, content in files(run_dir).items():
        assert not content.startswith((b"PK", b"\x80")), name
