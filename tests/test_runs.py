import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from alsiseg import metrics, runs, unet
from alsiseg.dataset import GreyScale
from alsiseg.unet import UNet, UNetConfig

SCALE = GreyScale(mean=3.5, spread=2.25, range=9.0)
SETTINGS = {"config": {"epochs": 4, "kept_every": 2, "seed": 0, "unet": {"stem_channels": 2}}, "data": {"sha": "a"}}


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
    other = {"config": {**SETTINGS["config"], "seed": 1, "unet": {"stem_channels": 4}}, "data": {"sha": "b"}}
    assert sorted(runs.differences(run_dir, other)) == [
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
    header = json.loads(path.read_text())
    path.write_text(json.dumps(header | {"unet": asdict(UNetConfig(stem_channels=4))}))
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
    runs.save_state(run_dir, saved, optimiser, 1)
    runs.save_state(run_dir, saved, optimiser, 2)
    assert sorted(path.name for path in (run_dir / "resume").iterdir()) == ["epoch_0002.safetensors", "state.json"]
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


@pytest.mark.parametrize("name", ["state.json", "epoch_0001.safetensors"])
def test_a_damaged_state_is_refused(run_dir, name):
    one, optimiser = trained_a_step()
    runs.save_state(run_dir, one, optimiser, 1)
    (run_dir / "resume" / name).write_bytes(b"damaged")
    with pytest.raises(ValueError, match="damaged"):
        runs.load_state(run_dir, one, optimiser)


def test_a_stop_while_the_state_is_saved_leaves_the_previous_one(run_dir, monkeypatch):
    saved, optimiser = trained_a_step()
    runs.save_state(run_dir, saved, optimiser, 1)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    other, other_optimiser = trained_a_step(1)
    with monkeypatch.context() as patched:
        patched.setattr(runs, "_write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            runs.save_state(run_dir, other, other_optimiser, 2)
    resumed = network(7)
    assert runs.load_state(run_dir, resumed, torch.optim.Adam(resumed.parameters(), amsgrad=True)) == 1
    assert torch.equal(resumed.state_dict()["stem.0.weight"], saved.state_dict()["stem.0.weight"])


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


def test_nothing_in_a_run_is_pickled(run_dir):
    saved, optimiser = trained_a_step()
    runs.save_network(run_dir, saved, SCALE, 1)
    runs.save_state(run_dir, saved, optimiser, 1)
    assert {Path(name).suffix for name in files(run_dir)} <= {".json", ".safetensors"}
    for name, content in files(run_dir).items():
        assert not content.startswith((b"PK", b"\x80")), name
