import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import dataset, metrics, runs, training, unet, volumes
from alsiseg.training import TrainingConfig, train
from alsiseg.unet import UNetConfig
from alsiseg.weightmaps import PixelWeights

SHAPE_ZYX = (36, 40, 52)
TINY = TrainingConfig(unet=UNetConfig(stem_channels=2), epochs=3, batch=8, images_per_epoch=20, kept_every=2)
MEASURES = [
    f"{network}_{measure}"
    for network in ("silicon", "aluminides", "hybrid")
    for measure in ("volume_fraction_pct", "interconnectivity", "euler_number")
]
COLUMNS = ["epoch", "train_loss", "test_loss", "accuracy", "interface_accuracy", *MEASURES, "images_per_s"]


def specimen(seed: int = 0) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Blobs of three phases whose grey values hardly overlap."""
    random = np.random.default_rng(seed)
    field_zyx = ndimage.gaussian_filter(random.normal(size=SHAPE_ZYX), 2.5, mode="wrap")
    labels_zyx = np.digitize(field_zyx, np.quantile(field_zyx, [0.6, 0.8])).astype(np.uint8)
    grey_zyx = 1000 + 400.0 * labels_zyx + random.normal(0, 60, SHAPE_ZYX)
    return grey_zyx.astype(np.uint16), labels_zyx


def contents(run_dir: Path) -> dict[str, bytes]:
    """Every file of a run, the history without its speeds."""
    files = {str(p.relative_to(run_dir)): p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    with (run_dir / "history.csv").open(newline="") as file:
        rows = [{key: value for key, value in row.items() if key != "images_per_s"} for row in csv.DictReader(file)]
    return files | {"history.csv": repr(rows).encode()}


def stop_in(monkeypatch: pytest.MonkeyPatch, room: object, name: str, *, call: int, error: type) -> None:
    """Raise `error` instead of the given call of a function, then let it work again."""
    function, n_calls = getattr(room, name), 0

    def interrupted(*arguments, **options):
        nonlocal n_calls
        n_calls += 1
        if n_calls == call:
            raise error
        return function(*arguments, **options)

    monkeypatch.setattr(room, name, interrupted)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> Path:
    return train(*specimen(), tmp_path_factory.mktemp("whole") / "run", TINY, voxel_size_um=1.2, device="cpu")


def test_the_history_has_the_documented_columns_and_starts_untrained(whole_run):
    with (whole_run / "history.csv").open() as file:
        assert next(csv.reader(file)) == COLUMNS
    history = runs.read_history(whole_run)
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    assert history["images_per_s"][0] == 0
    assert (history["images_per_s"][1:] > 0).all()
    for name in ("accuracy", "interface_accuracy", *(n for n in MEASURES if n.endswith("interconnectivity"))):
        assert ((history[name] >= 0) & (history[name] <= 1)).all()


def test_every_row_is_what_the_kept_labels_measure(whole_run):
    epochs, accuracy_ez = runs.read_accuracy_per_slice(whole_run)
    history = runs.read_history(whole_run)
    assert runs.kept_epochs(whole_run) == [2, 3]
    for epoch in (2, 3):
        truth_zyx, prediction_zyx = runs.read_test(whole_run, epoch)
        np.testing.assert_allclose(accuracy_ez[epoch], (truth_zyx == prediction_zyx).mean(axis=(1, 2)))
        assert history["accuracy"][epoch] == pytest.approx(accuracy_ez[epoch].mean())
        for network, measure in metrics.measure_networks(prediction_zyx).items():
            assert history[f"{network}_euler_number"][epoch] == measure.euler_number
            assert history[f"{network}_volume_fraction_pct"][epoch] == pytest.approx(measure.volume_fraction_pct)
    assert epochs.tolist() == [0, 1, 2, 3]


def test_the_truth_is_that_of_the_test_section(whole_run):
    _, labels_zyx = specimen()
    expected_zyx = dataset.test_section(labels_zyx, 32)
    np.testing.assert_array_equal(runs.read_test(whole_run, 2)[0], expected_zyx)
    assert runs.read_truth(whole_run) == metrics.measure_networks(expected_zyx, voxel_size_um=1.2)
    assert volumes.open(whole_run / "test" / "truth.tif").voxel_size_um == 1.2


def test_the_reported_loss_is_that_of_the_kept_network(whole_run):
    task = training.prepare(*specimen(), TINY)
    trained = runs.load_network(whole_run, 3)
    device = training.devices.choose("cpu")
    row, _, prediction_zyx = training.evaluate(device.place(trained.network), task, device)
    history = runs.read_history(whole_run)
    assert row["test_loss"] == pytest.approx(history["test_loss"][3], rel=1e-6)
    assert row["train_loss"] == pytest.approx(history["train_loss"][3], rel=1e-6)
    np.testing.assert_array_equal(prediction_zyx, runs.read_test(whole_run, 3)[1])


def test_a_training_is_the_plain_loop_with_the_published_optimiser(tmp_path):
    config = replace(TINY, epochs=1, images_per_epoch=50, unet=UNetConfig(stem_channels=2, dropout=0.0))
    run_dir = train(*specimen(), tmp_path / "run", config, device="cpu")
    task, device = training.prepare(*specimen(), config), training.devices.choose("cpu")
    network = device.place(unet.build(config.unet, seed=0)).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.003, weight_decay=1e-4, amsgrad=True)
    for draws in task.draws(1).batches(8):
        grey, labels, weight = dataset.training_batch(
            task.volume, draws, crop=32, n_slices=5, normalised_range=task.scale.normalised_range
        )
        with device.autocast():
            logits = network(device.images(grey))
        pixel_loss = torch.nn.functional.cross_entropy(logits.float(), labels.long(), reduction="none") * weight
        optimiser.zero_grad()
        (pixel_loss.sum() / len(grey)).backward()
        optimiser.step()
    kept = runs.load_network(run_dir).network.state_dict()
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(kept[name], tensor, rtol=1e-3, atol=1e-5)


def test_means_over_a_section_weigh_every_slice_alike():
    task = training.prepare(*specimen(), TINY)
    device = training.devices.Device("cpu", bfloat16=False)
    network = device.place(unet.build(TINY.unet, seed=0))
    losses = [training.predict_section(network, task.test, batch, device)[0] for batch in (1, 3, 100)]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


def test_the_same_seed_gives_the_same_bytes(whole_run, tmp_path):
    again = train(*specimen(), tmp_path / "run", TINY, voxel_size_um=1.2, device="cpu")
    assert contents(again) == contents(whole_run)


def test_another_seed_gives_another_network(whole_run, tmp_path):
    other = train(*specimen(), tmp_path / "run", replace(TINY, seed=1, epochs=1), device="cpu")
    assert runs.read_history(other)["test_loss"][0] != runs.read_history(whole_run)["test_loss"][0]


@pytest.mark.parametrize(
    ("room", "name", "call", "error"),
    [
        (training.loss, "weighted_nll", 5, KeyboardInterrupt),  # before the first row
        (training.runs, "record", 3, KeyboardInterrupt),  # epoch 2 is trained, not recorded
        (training.runs, "save_network", 1, RuntimeError),  # recorded, not kept
        (training.runs, "save_prediction", 1, OSError),  # the network kept, its labels not
        (training.runs, "save_state", 3, KeyboardInterrupt),  # all but the state
        (training, "train_epoch", 3, MemoryError),  # between two epochs
        (training.runs, "save_test_truth", 1, KeyboardInterrupt),  # the folder just made
    ],
)
def test_a_stopped_training_resumes_as_if_nothing_had_happened(
    whole_run, tmp_path, monkeypatch, room, name, call, error
):
    run_dir = tmp_path / "run"
    with monkeypatch.context() as patched:
        stop_in(patched, room, name, call=call, error=error)
        with pytest.raises(error):
            train(*specimen(), run_dir, TINY, voxel_size_um=1.2, device="cpu")
    train(*specimen(), run_dir, TINY, voxel_size_um=1.2, resume=True, device="cpu")
    assert contents(run_dir) == contents(whole_run)


def test_more_epochs_continue_a_finished_run(whole_run, tmp_path):
    run_dir = train(*specimen(), tmp_path / "run", replace(TINY, epochs=2), voxel_size_um=1.2, device="cpu")
    train(*specimen(), run_dir, TINY, voxel_size_um=1.2, resume=True, device="cpu")
    assert contents(run_dir) == contents(whole_run)


def test_a_finished_run_is_left_as_it_is(whole_run, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in whole_run.rglob("*.safetensors")}
    stop_in(monkeypatch, training, "train_epoch", call=1, error=AssertionError)
    train(*specimen(), whole_run, TINY, voxel_size_um=1.2, resume=True, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in whole_run.rglob("*.safetensors")} == before


def test_a_run_is_not_overwritten_without_being_asked(whole_run):
    before = contents(whole_run)
    with pytest.raises(ValueError, match="already holds a run; continue it"):
        train(*specimen(), whole_run, TINY, device="cpu")
    assert contents(whole_run) == before


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 3}, r"config\.seed 0 -> 3"),
        ({"weights": PixelWeights(1, 1, 1)}, r"config\.weights\.silicon 1\.25 -> 1"),
        ({"unet": UNetConfig(stem_channels=4)}, r"config\.unet\.stem_channels 2 -> 4"),
        ({"learning_rate": 0.001}, r"config\.learning_rate 0\.003 -> 0\.001"),
    ],
)
def test_a_run_is_not_continued_with_other_settings(whole_run, changed, named):
    before = contents(whole_run)
    with pytest.raises(ValueError, match=named):
        train(*specimen(), whole_run, replace(TINY, **changed), resume=True, device="cpu")
    assert contents(whole_run) == before


def test_a_run_is_not_continued_with_other_data(whole_run):
    grey_zyx, labels_zyx = specimen()
    labels_zyx[20, 20, 20] = (labels_zyx[20, 20, 20] + 1) % 3
    with pytest.raises(ValueError, match=r"data\.labels_sha256"):
        train(grey_zyx, labels_zyx, whole_run, TINY, resume=True, device="cpu")


def test_a_changed_run_can_be_set_aside_and_made_anew(tmp_path):
    run_dir = train(*specimen(), tmp_path / "run", replace(TINY, epochs=1), device="cpu")
    before = contents(run_dir)
    train(*specimen(), run_dir, replace(TINY, epochs=1, seed=1), resume=True, set_aside_changed=True, device="cpu")
    assert contents(tmp_path / "run.before-1") == before
    assert runs.read_settings(run_dir)["config"]["seed"] == 1


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path, monkeypatch):
    networks = []

    def spoiled(logits_bcyx, *rest):
        value = original(logits_bcyx, *rest)
        return value * float("nan") if len(networks) and logits_bcyx.requires_grad else value

    original, build = training.loss.weighted_nll, training.unet.build

    def watched(*arguments, **options):
        networks.append(build(*arguments, **options))
        return networks[-1]

    monkeypatch.setattr(training.unet, "build", watched)
    monkeypatch.setattr(training.loss, "weighted_nll", spoiled)
    with pytest.raises(FloatingPointError, match="the loss is nan on a batch from the slices"):
        train(*specimen(), tmp_path / "run", TINY, device="cpu")
    untrained = build(TINY.unet, seed=0)
    for before, after in zip(untrained.parameters(), networks[0].parameters(), strict=True):
        assert torch.equal(before, after)
    assert runs.read_history(tmp_path / "run")["epoch"].tolist() == [0]


def test_a_network_learns_what_is_plain_to_see(tmp_path):
    config = replace(TINY, unet=UNetConfig(stem_channels=4, dropout=0.0), epochs=6, images_per_epoch=96, kept_every=6)
    run_dir = train(*specimen(), tmp_path / "run", config, device="cpu")
    history = runs.read_history(run_dir)
    truth_zyx, _ = runs.read_test(run_dir, 6)
    majority = np.bincount(truth_zyx.ravel()).max() / truth_zyx.size
    assert history["accuracy"][0] < 0.8
    assert history["accuracy"][-1] > majority + 0.15
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]


def test_training_reads_volumes_on_disk_and_leaves_arrays_as_they_were(whole_run, tmp_path):
    grey_zyx, labels_zyx = specimen()
    grey = volumes.open(volumes.write(tmp_path / "grey.tif", grey_zyx))
    labels = volumes.open(volumes.write(tmp_path / "labels.tif", labels_zyx))
    run_dir = train(grey, labels, tmp_path / "run", TINY, voxel_size_um=1.2, device="cpu")
    assert contents(run_dir) == contents(whole_run)
    np.testing.assert_array_equal(grey_zyx, specimen()[0])


def test_the_settings_repeat_the_run(whole_run):
    settings = runs.read_settings(whole_run)
    assert settings["crop_px"] == 32
    assert settings["split"] == {"train": [14, 34], "test": [0, 10]}
    assert settings["data"]["grey_sha256"] == runs.checksum(specimen()[0])
    config = settings["config"]
    again = TrainingConfig(
        **config
        | {
            "weights": PixelWeights(**config["weights"]),
            "unet": UNetConfig(**config["unet"]),
            "augmentation": dataset.Augmentation(
                **config["augmentation"] | {"quarter_turns": tuple(config["augmentation"]["quarter_turns"])}
            ),
        }
    )
    assert again == TINY


def _wrong(what: str) -> tuple:
    grey_zyx, labels_zyx = specimen()
    return {
        "shape": (grey_zyx, labels_zyx[:, 1:]),
        "values": (grey_zyx, 2 * labels_zyx),
        "few": (grey_zyx[:29], labels_zyx[:29]),
        "small": (grey_zyx[:, :31], labels_zyx[:, :31]),
        "flat": (np.full_like(grey_zyx, 7), labels_zyx),
        "two axes": (grey_zyx[0], labels_zyx[0]),
        "device": (grey_zyx, labels_zyx),
    }[what]


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("shape", "grey and labels must have the same shape"),
        ("values", "labels must be 0"),
        ("few", "at least 30 slices, found 29"),
        ("small", "at least 32 x 32 pixels"),
        ("flat", "with contrast"),
        ("two axes", "three axes"),
        ("device", "is not available here"),
    ],
)
def test_data_that_do_not_fit_leave_no_run_behind(tmp_path, what, sentence):
    with pytest.raises(ValueError, match=sentence):
        train(*_wrong(what), tmp_path / "new" / "run", TINY, device="cuda:99" if what == "device" else "cpu")
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_no_whole_numbers_are_refused(tmp_path):
    grey_zyx, labels_zyx = specimen()
    with pytest.raises(TypeError, match="whole numbers"):
        train(grey_zyx, labels_zyx.astype(np.float32), tmp_path / "run", TINY, device="cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changed", [{"epochs": 0}, {"batch": 0}, {"kept_every": 0}, {"images_per_epoch": 0}, {"seed": -1}, {"seed": 2**32}]
)
def test_settings_that_make_no_sense_are_refused(changed):
    with pytest.raises(ValueError, match=f"{next(iter(changed))} must be"):
        replace(TINY, **changed)


def test_crops_larger_than_the_slices_are_refused():
    with pytest.raises(ValueError, match="crops of 48 pixels do not fit"):
        training.prepare(*specimen(), replace(TINY, crop_px=48))


def test_a_stopped_training_can_be_used_before_any_checkpoint_was_kept(tmp_path, monkeypatch):
    stop_in(monkeypatch, training, "train_epoch", call=3, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        train(*specimen(), tmp_path / "run", replace(TINY, kept_every=100), device="cpu")
    assert runs.kept_epochs(tmp_path / "run") == []

    stopped = runs.load_network(tmp_path / "run")
    kept = runs.load_network(train(*specimen(), tmp_path / "whole", replace(TINY, epochs=2), device="cpu"))
    assert stopped.epoch == kept.epoch == 2
    assert stopped.grey_scale == kept.grey_scale
    for name, tensor in kept.network.state_dict().items():
        assert torch.equal(stopped.network.state_dict()[name], tensor), name
