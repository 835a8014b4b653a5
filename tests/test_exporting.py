import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from alsiseg import cli, exporting, metrics, prediction, runs, training, unet, volumes
from alsiseg.dataset import GreyScale
from alsiseg.exporting import onnx_files
from alsiseg.exporting.limits import limits
from alsiseg.phases import PHASE_NAMES, Phase
from alsiseg.unet import UNetConfig

SHAPE_ZYX = (36, 40, 52)
CONFIG = training.TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=2, batch=4, images_per_epoch=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A scan, its labels, a trained run, and its network as ONNX."""
    place = tmp_path_factory.mktemp("exported")
    random = np.random.default_rng(0)
    labels_zyx = random.integers(0, 3, SHAPE_ZYX).astype(np.uint8)
    grey_zyx = (1000 + 400.0 * labels_zyx + random.normal(0, 50, SHAPE_ZYX)).astype(np.uint16)
    volumes.write(place / "grey.tif", grey_zyx, voxel_size_um=1.2)
    training.train(grey_zyx, labels_zyx, place / "run", CONFIG, voxel_size_um=1.2, device="cpu")
    exporting.export(place / "run", place / "net.onnx")
    return place


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    """The run, to be spoilt."""
    return Path(shutil.copytree(folder / "run", tmp_path / "run"))


def grey(folder: Path) -> np.ndarray:
    return volumes.open(folder / "grey.tif")[:]


def test_the_file_is_valid_and_gives_the_labels_of_the_network_at_any_size(folder):
    onnx.checker.check_model(str(folder / "net.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(folder / "net.onnx", providers=["CPUExecutionProvider"])
    network = runs.load_network(folder / "run").network
    for shape in ((1, 5, 16, 16), (3, 5, 160, 48), (7, 5, 16, 112)):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        (logits,) = session.run(["logits_bcyx"], {"grey_bcyx": images.numpy()})
        with torch.inference_mode():
            expected = network(images).numpy()
        assert logits.shape == (shape[0], 3, *shape[2:])
        np.testing.assert_allclose(logits, expected, atol=1e-4)
        np.testing.assert_array_equal(logits.argmax(axis=1), expected.argmax(axis=1))


def test_the_file_says_what_goes_in_and_what_comes_out(folder):
    model = onnx.load(folder / "net.onnx")
    sizes = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert sizes == ["batch", 5, "16*rows", "16*columns"]
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(said["phases"]) == [PHASE_NAMES[phase] for phase in Phase]
    assert (said["n_slices"], said["voxel_size_um"], said["epoch"]) == ("5", "1.2", "2")
    header = json.loads((folder / "run" / "checkpoints" / "epoch_0002.json").read_text())
    assert said["network_sha256"] == header["sha256"]
    assert json.loads(said["grey_scale_of_training"]) == header["grey_scale"]
    assert [opset.version for opset in model.opset_import] == [18]


def test_the_file_tells_nothing_of_the_machine_that_made_it(folder):
    content = (folder / "net.onnx").read_bytes()
    for trace in (b"site-packages", b"stack_trace", b"fx_node", str(Path(unet.__file__).parent).encode()):
        assert trace not in content


def test_the_check_counts_no_voxel_for_the_network_and_many_for_another(folder):
    trained = runs.load_network(folder / "run")
    assert exporting.check_onnx(folder / "net.onnx", trained, grey(folder)) == 0
    other = replace(trained, network=unet.build(CONFIG.unet, seed=7).eval())
    assert exporting.check_onnx(folder / "net.onnx", other, grey(folder)) > 1000
    found = exporting.compare((folder / "net.onnx").read_bytes(), other, grey(folder))
    assert found.shape_zyx == (8, 40, 52)
    with pytest.raises(ValueError, match="computes what the network computes, found logits that differ by"):
        found.refuse_another_function()


def test_a_file_that_is_no_such_network_is_refused(folder, tmp_path):
    trained = runs.load_network(folder / "run")
    (tmp_path / "cut.onnx").write_bytes((folder / "net.onnx").read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r"needs a readable ONNX network, onnxruntime says: .*export it again"):
        exporting.check_onnx(tmp_path / "cut.onnx", trained, grey(folder))
    thin = replace(trained, network=unet.build(UNetConfig(stem_channels=2, n_slices=3), seed=7).eval())
    with pytest.raises(ValueError, match=r"for 3 slices, found the inputs \[\('grey_bcyx', 5\)\]"):
        exporting.check_onnx(folder / "net.onnx", thin, grey(folder))


def test_the_command_writes_the_same_bytes_again_and_checks_a_scan(folder, tmp_path):
    arguments = ["export", str(folder / "run"), str(tmp_path / "net.onnx"), "--check", str(folder / "grey.tif")]
    ended = CliRunner().invoke(cli.commands, arguments)
    assert ended.exit_code == 0, ended
    written = [tmp_path / name for name in ("net.onnx", "net.card.json", "net.card.md")]
    assert ended.stdout.split() == [str(path) for path in written]
    assert "checked on a scan: 0 of 8 x 40 x 52 voxels differ between onnxruntime and alsiseg" in ended.stderr
    assert written[0].read_bytes() == (folder / "net.onnx").read_bytes()
    card = json.loads(written[1].read_text(encoding="utf-8"))
    assert card["file"]["checks"].pop("a scan")["n_differ"] == 0
    assert card == json.loads((folder / "net.card.json").read_text(encoding="utf-8"))
    assert "0 of 8 x 40 x 52 voxels differ" in written[2].read_text(encoding="utf-8")


def test_safetensors_are_the_kept_network_with_its_header(folder, tmp_path):
    out = exporting.export(folder / "run", tmp_path / "a" / "net.safetensors", epoch=2)
    kept = folder / "run" / "checkpoints" / "epoch_0002.safetensors"
    assert out.read_bytes() == kept.read_bytes()
    header, settings = json.loads(kept.with_suffix(".json").read_text()), runs.read_settings(folder / "run")
    assert runs.read_settings(out) == settings | {name: header[name] for name in header if name != "checksum"}
    exporting.export(folder / "run", tmp_path / "b" / "net.safetensors")
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "ab")
    assert len(first) == 4
    assert first == second


@pytest.mark.parametrize("name", ["net.onnx", "net.safetensors"])
def test_the_lines_of_python_in_the_card_give_the_labels_of_alsiseg(folder, tmp_path, monkeypatch, name):
    if name.endswith(".onnx"):
        tmp_path = folder
    else:
        exporting.export(folder / "run", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    card = json.loads(Path(name).with_suffix(".card.json").read_text(encoding="utf-8"))
    known: dict = {"grey_zyx": grey(folder)}
    exec("\n".join(card["use"]["With this file alone, in Python"]), known)
    options = prediction.Options(precision="float32" if name.endswith(".onnx") else "auto")
    expected = prediction.segment(grey(folder), folder / "run", device="cpu", options=options)
    assert (known["labels_zyx"] != expected).sum() <= 2  # ties that rounding decides


def test_the_card_holds_the_numbers_of_the_run(folder):
    card = exporting.model_card(folder / "run")
    settings, history = runs.read_settings(folder / "run"), runs.read_history(folder / "run")
    assert card["name"] == "run, epoch 2"
    assert card["data"]["shape_zyx"] == list(SHAPE_ZYX)
    assert card["data"]["voxel_size_um"] == pytest.approx(1.2)
    assert card["data"]["grey_sha256"] == runs.checksum(grey(folder)) == settings["data"]["grey_sha256"]
    assert card["settings"] == settings["config"] | {"crop_px": 32}
    assert card["versions"]["of the training"] == settings["versions"]
    assert card["measures"]["accuracy"] == history["accuracy"][2]
    assert card["measures"]["n_epochs_trained"] == 2
    truth_zyx, labels_zyx = runs.read_test(folder / "run", 2)
    expected = metrics.dice_per_phase(labels_zyx, truth_zyx)
    assert card["measures"]["dice"] == {PHASE_NAMES[phase]: value for phase, value in expected.items()}
    true, found = (metrics.measure_networks(volume) for volume in (truth_zyx, labels_zyx))
    for name, network in card["measures"]["networks"].items():
        for what, values in network.items():
            assert values == {"found": getattr(found[name], what), "truth": getattr(true[name], what)}
    assert card["licence_of_the_code"] == "BSD-3-Clause"
    assert card["cite"] == ["https://doi.org/10.1038/s41598-019-56008-7"]


def test_the_card_reads_well(folder):
    text = (folder / "net.card.md").read_text(encoding="utf-8")
    card = json.loads((folder / "net.card.json").read_text(encoding="utf-8"))
    titles = [line for line in text.splitlines() if line.startswith("#")]
    assert titles[:4] == ["# run, epoch 2", "## Limits", "## Measures of the test section", "## How to use it"]
    for sentence in card["limits"]:
        assert f"* {sentence}\n" in text
    euler = card["measures"]["networks"]["silicon"]["euler_number"]
    assert f"| silicon: Euler number | {euler['found']} | {euler['truth']} |" in text
    assert "* voxel size: 1.2 um\n" in text
    assert ": None" not in text


def made_card(**measures: object) -> dict:
    numbers = {"accuracy": 0.93, "interface_accuracy": 0.8, "n_epochs_trained": 50, "networks": {}}
    numbers |= {"euler_numbers_of_epochs": {"first": 46, "last": 50, "silicon": [-120, -80]}}
    data = {"shape_zyx": [100, 64, 64], "voxel_size_um": 1.2, "likeness": None, "test_section_zyx": [30, 64, 64]}
    data |= {"slices": {"train": [41, 100], "test": [1, 30]}, "specimens": None, "further_volumes": []}
    learned = {"data": data, "settings": {"epochs": 100}, "parent": None, "validation": None}
    return {**learned, "measures": numbers | measures}


@pytest.mark.parametrize(
    ("found", "true", "words"),
    [
        (-90, -120, "was -90, the true one -120: 25 % off, so do not trust smaller differences between specimens."),
        (-119, -120, "0.8 % off"),
        (-120, -120, "was -120, as in the truth."),
        (7, 0, "was 7, the true one 0: do not trust differences between specimens of 7 or less."),
        (7, None, "was 7; the true one was not recorded"),
    ],
)
def test_an_euler_number_is_trusted_as_far_as_it_was_right(found, true, words):
    sentences = limits(made_card(networks={"silicon": {"euler_number": {"found": found, "truth": true}}}))
    assert any(f"The Euler number of the silicon network {words}" in s or words in s for s in sentences)


def test_limits_say_what_was_seen_and_what_was_not():
    sentences = limits(made_card())
    assert sentences[0].startswith("It learned from one volume of 100 x 64 x 64 voxels with an edge of 1.2 um, ")
    assert "30 x 64 x 64 voxels of the same volume, kept from training" in sentences[1]
    assert sentences[2] == (
        "7.0 % of the voxels had a wrong phase there, near interfaces of silicon and aluminides 20.0 %."
    )
    assert "Over epochs 46 to 50 the Euler numbers ranged from -120 to -80 (silicon)." in sentences
    assert sentences[-1] == "The training was stopped after 50 of 100 epochs."


def test_limits_name_the_network_whose_fractions_were_worst():
    networks = {
        name: {
            "volume_fraction_pct": {"found": found_pct, "truth": 15.0},
            "interconnectivity": {"found": connected, "truth": 0.95},
            "euler_number": {"found": 1, "truth": 1},
        }
        for name, found_pct, connected in (("silicon", 14.0, 0.5), ("aluminides", 17.5, 0.9))
    }
    assert (
        "Volume fractions were off by up to 2.50 percentage points (aluminides), interconnectivities by up to 45.0 "
        "(silicon)." in limits(made_card(networks=networks))
    )


def test_measures_of_slices_that_were_learned_from_are_called_so():
    card = made_card()
    card["data"]["slices"] = {"train": [10, 40], "test": [10, 40]}
    card["parent"] = {"run": "../first", "epoch": 4, "sha256": "0"}
    assert limits(card)[1] == "It began with a network trained before (run ../first), whose limits hold too."
    assert "that it learned from itself: unknown slices are worse" in limits(card)[2]


def test_a_run_without_truth_and_measures_has_a_card_that_says_so(tmp_path):
    runs.start(tmp_path / "run", {}, {})
    network = unet.build(UNetConfig(stem_channels=2), seed=3)
    runs.save_network(tmp_path / "run", network, GreyScale(0.0, 1.0, 1.0), 1)
    card = exporting.model_card(tmp_path / "run")
    assert card["measures"] is None
    assert "of unrecorded shape with an unrecorded edge" in card["limits"][0]
    assert card["limits"][-1].startswith("No measures of this epoch were recorded")
    out = exporting.export(tmp_path / "run", tmp_path / "net.safetensors")
    assert "* voxel size: not recorded\n" in out.with_suffix(".card.md").read_text(encoding="utf-8")


def test_a_run_without_truth_has_its_measures_and_no_verdict(copied):
    (copied / "truth.json").unlink()
    card = exporting.model_card(copied)
    assert card["measures"]["networks"]["hybrid"]["euler_number"]["truth"] is None
    assert sum("nothing is known about its error" in sentence for sentence in card["limits"]) == 3


def test_a_test_section_without_interfaces_has_no_accuracy_there(tmp_path):
    labels_zyx = np.zeros(SHAPE_ZYX, np.uint8)
    labels_zyx[15:, ::2] = Phase.SILICON
    labels_zyx[15:, 1::4] = Phase.ALUMINIDE
    config = replace(CONFIG, epochs=1)
    grey_zyx = np.random.default_rng(0).integers(0, 60_000, SHAPE_ZYX).astype(np.uint16)
    training.train(grey_zyx, labels_zyx, tmp_path / "run", config, device="cpu")
    card = exporting.model_card(tmp_path / "run")
    assert card["measures"]["interface_accuracy"] is None
    assert any(s.endswith("% of the voxels had a wrong phase there.") for s in card["limits"])
    assert "aluminides: no such voxels\n" in exporting.as_markdown(card)
    exporting.export(tmp_path / "run", tmp_path / "net.safetensors")


def test_a_training_that_was_stopped_is_exported_from_its_last_state(copied, tmp_path):
    shutil.rmtree(copied / "checkpoints")
    exporting.export(copied, tmp_path / "net.safetensors")
    header = json.loads((copied / "resume" / "epoch_0002.json").read_text())
    card = json.loads((tmp_path / "net.card.json").read_text(encoding="utf-8"))
    assert card["network"]["sha256"] == header["sha256"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("name", ["settings.json", "truth.json", "history.csv", "checkpoints/epoch_0002.safetensors"])
def test_a_damaged_run_is_refused_and_nothing_is_written(copied, tmp_path, name):
    _cut(copied / name)
    with pytest.raises(ValueError, match=Path(name).stem):
        exporting.export(copied, tmp_path / "new" / "net.safetensors")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"config": [1]},
        {"data": "grey.tif"},
        {"data": {"shape_zyx": 5}},
        {"split": [1, 2]},
        {"split": {"train": [1, 2]}},
        {"likeness": "alike"},
        {"likeness": {"voxel_size_um": "large"}},
        {"parent": "run"},
        {"parent": {"epoch": 3}},
        {"correction": 3},
        {"versions": 3},
    ],
)
def test_settings_of_another_hand_are_refused_in_a_sentence(copied, tmp_path, entry):
    settings = runs.read_settings(copied) | entry
    (copied / "settings.json").write_text(json.dumps(settings))  # as the first version did, without a checksum
    with pytest.raises(ValueError, match=r"settings\.json is damaged or was not written by alsiseg"):
        exporting.export(copied, tmp_path / "net.safetensors")
    assert not list(tmp_path.glob("net*"))


def test_a_network_of_other_classes_is_refused(tmp_path):
    runs.start(tmp_path / "run", {}, {})
    network = unet.build(UNetConfig(stem_channels=2, n_classes=4), seed=3)
    runs.save_network(tmp_path / "run", network, GreyScale(0.0, 1.0, 1.0), 1)
    with pytest.raises(ValueError, match="3 phases, this one tells 4 classes apart"):
        exporting.model_card(tmp_path / "run")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_what_installs_it(folder, tmp_path, monkeypatch, package):
    there = onnx_files.import_module

    def without(name: str) -> object:
        if name == package:
            raise ImportError(name)
        return there(name)

    monkeypatch.setattr(onnx_files, "import_module", without)
    with pytest.raises(ImportError, match=rf'package {package}, .* pip install "alsiseg\[export\]"'):
        exporting.export(folder / "run", tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
    exporting.export(folder / "run", tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", ["net.safetensors", "net.json", "net.card.json", "net.card.md"])
def test_what_exists_is_kept_unless_said_otherwise(folder, tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(ValueError, match=f"{name} exists already; choose another name or say --overwrite"):
        exporting.export(folder / "run", tmp_path / "net.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"
    exporting.export(folder / "run", tmp_path / "net.safetensors", overwrite=True)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_full_disk_leaves_nothing(folder, tmp_path, monkeypatch):
    write_bytes: Callable = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name.endswith("net.card.md"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="needs a working disk with space"):
        exporting.export(folder / "run", tmp_path / "new" / "net.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_other_endings_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.onnx or \.safetensors, got .*net\.pt"):
        exporting.export(folder / "run", tmp_path / "net.pt")
    with pytest.raises(ValueError, match="only ONNX files are checked with a scan"):
        exporting.export(folder / "run", tmp_path / "net.safetensors", check_with=grey(folder))
    assert list(tmp_path.iterdir()) == []
