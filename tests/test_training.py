import csv
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import cli, dataset, metrics, runs, training, unet, volumes
from alsiseg.loss import LossConfig
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
    assert {2, 3} <= set(runs.kept_epochs(whole_run))
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
    optimiser = torch.optim.Adam(network.parameters(), lr=0.003, weight_decay=1e-4, amsgrad=True, fused=True)
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
    losses = [training.predict_section(network, task, task.test, device, n_images=n)[0] for n in (1, 3, 100)]
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


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.fixture
def watched_networks(monkeypatch) -> list[unet.UNet]:
    """Networks that are built, in order: the first is the one that is trained."""
    networks, build = [], unet.build

    def watched(*arguments, **options):
        networks.append(build(*arguments, **options))
        return networks[-1]

    monkeypatch.setattr(unet, "build", watched)
    return networks


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_slice(tmp_path, watched_networks, spoilt):
    task = training.prepare(*specimen(), TINY)
    middle = int(task.draws(1).z[9])  # in the second step
    task.volume.weight_of_region[:] = spoilt
    task.volume.region_zyx[:] = 0
    task.volume.weight_of_region[0] = 1
    task.volume.region_zyx[middle] = 1
    network, device = (
        training.devices.choose("cpu").place(unet.build(TINY.unet, seed=0)),
        training.devices.choose("cpu"),
    )
    optimiser = training.adam(network, TINY, device)
    met = next(step for step, draws in enumerate(task.draws(1).batches(8)) if middle in draws.z)
    before = {}
    optimiser.register_step_post_hook(lambda *_: before.update(weights_of(network)))
    sentence = f"none in step {met + 1} of epoch 1 on an image from slice {middle + 1} "
    with pytest.raises(FloatingPointError, match=sentence):
        training.train_epoch(network, optimiser, task, 1, device)
    assert_same(weights_of(network), before or weights_of(unet.build(TINY.unet, seed=0)))


def test_steps_after_a_failure_are_left_out_until_it_is_read(monkeypatch):
    """As on a GPU, where the loss is read seldom: the weights stay those before the failure."""
    task, device = training.prepare(*specimen(), TINY), training.devices.choose("cpu")
    network = device.place(unet.build(TINY.unet, seed=0))
    optimiser = training.adam(network, TINY, device)
    monkeypatch.setattr(training.loop.Watch, "is_due", lambda *_: False)
    calls, after_step = [], []
    original = training.loss.total

    def spoilt_once(logits_bcyx, *rest):
        calls.append(None)
        value = original(logits_bcyx, *rest)
        return value * float("nan") if len(calls) == 2 else value

    monkeypatch.setattr(training.loss, "total", spoilt_once)
    optimiser.register_step_post_hook(lambda *_: after_step.append(weights_of(network)))
    with pytest.raises(FloatingPointError, match="found none in step 2 of epoch 1"):
        training.train_epoch(network, optimiser, task, 1, device)
    assert len(after_step) == 3
    assert_same(after_step[1], after_step[0])
    assert_same(after_step[2], after_step[0])


def test_a_training_that_failed_keeps_its_last_complete_epoch(tmp_path, monkeypatch):
    original = training.loss.total
    monkeypatch.setattr(
        training.loss,
        "total",
        lambda logits, *rest: original(logits, *rest) * (float("nan") if logits.requires_grad else 1),
    )
    with pytest.raises(FloatingPointError, match="needs a finite loss, found none in step 1 of epoch 1"):
        train(*specimen(), tmp_path / "run", TINY, device="cpu")
    assert runs.read_history(tmp_path / "run")["epoch"].tolist() == [0]


def small_memory(network: unet.UNet, *, n_images: int) -> list[int]:
    """Let the network run out of memory above so many images, and list how many it gets at a time."""
    sizes = []

    def limited(_, given):
        sizes.append(len(given[0]))
        if len(given[0]) > n_images:
            raise torch.OutOfMemoryError(f"no memory for {len(given[0])} images")

    network.register_forward_pre_hook(limited)
    return sizes


def first_gradient(config: TrainingConfig, *, n_images: int) -> tuple[torch.Tensor, list[int], int]:
    """Gradient of the first batch with batch norms that do not depend on the batch, and the sizes of its parts."""
    task, device = training.prepare(*specimen(), config), training.devices.Device("cpu", bfloat16=False)
    network = unet.build(config.unet, seed=0).eval()
    sizes = small_memory(network, n_images=n_images)
    first = next(task.draws(1).batches(config.batch))
    _, n_parts = training.loop.backward(network, task, first, device, training.ALONE, 1)
    return torch.cat([p.grad.reshape(-1) for p in network.parameters()]), sizes, n_parts


def test_a_batch_beyond_the_memory_is_cut_and_its_gradient_stays_that_of_the_whole(capsys):
    config = replace(TINY, batch=15, loss=LossConfig(class_balance=True, soft_dice=0.5))
    whole, _, _ = first_gradient(config, n_images=15)
    cut, sizes, n_parts = first_gradient(config, n_images=4)
    assert (sizes, n_parts) == ([15, 7, 3, 4, 4, 4], 4)
    assert float((cut - whole).norm() / whole.norm()) < 1e-5
    said = capsys.readouterr().out.splitlines()
    assert said == [f"cpu has not the memory for the batch at once: it is cut into {n} parts" for n in (2, 4)]


def test_a_training_beyond_the_memory_goes_on_in_smaller_parts(tmp_path, monkeypatch, capsys):
    build = unet.build

    def limited(*arguments, **options):
        network = build(*arguments, **options)
        small_memory(network, n_images=3)
        return network

    monkeypatch.setattr(unet, "build", limited)
    run_dir = train(*specimen(), tmp_path / "run", replace(TINY, epochs=2), device="cpu")
    assert runs.read_history(run_dir)["epoch"].tolist() == [0, 1, 2]
    assert capsys.readouterr().out.count("is cut into 4 parts") == 1  # and not once more in epoch 2


def test_a_network_too_large_for_one_image_is_refused_in_one_sentence(tmp_path, monkeypatch):
    network, device = unet.build(TINY.unet, seed=0), training.devices.choose("cpu")
    small_memory(network, n_images=0)
    with pytest.raises(ValueError, match="memory for one image; use a smaller --width"):
        training.train_epoch(
            network, training.adam(network, TINY, device), training.prepare(*specimen(), TINY), 1, device
        )
    with pytest.raises(ValueError, match="memory for one image; use a smaller --width"):
        training.evaluate(network, training.prepare(*specimen(), TINY), device)


def test_the_loss_options_are_trained_and_reported(whole_run, tmp_path):
    config = replace(TINY, epochs=1, loss=LossConfig(class_balance=True, soft_dice=0.5))
    run_dir = train(*specimen(), tmp_path / "run", config, device="cpu")
    assert runs.read_settings(run_dir)["config"]["loss"] == {"class_balance": True, "soft_dice": 0.5}
    task = training.prepare(*specimen(), config)
    labels_zyx = specimen()[1][14:34]
    expected = labels_zyx.size / (3 * np.bincount(labels_zyx.ravel()))
    np.testing.assert_allclose(task.class_weight, expected, rtol=1e-6)
    assert training.prepare(*specimen(), TINY).class_weight is None
    assert runs.read_history(run_dir)["test_loss"][0] > runs.read_history(whole_run)["test_loss"][0] + 0.1


def test_phases_that_cannot_be_balanced_leave_no_run_behind(tmp_path):
    grey_zyx, labels_zyx = specimen()
    labels_zyx[labels_zyx == 2] = 1
    with pytest.raises(ValueError, match="class_balance needs every phase"):
        train(grey_zyx, labels_zyx, tmp_path / "run", replace(TINY, loss=LossConfig(class_balance=True)), device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_deterministic_kernels_are_used_for_the_run_and_change_nothing_on_a_cpu(whole_run, tmp_path, monkeypatch):
    asked, original = [], training.train_epoch

    def asking(*arguments, **options):
        asked.append(torch.are_deterministic_algorithms_enabled())
        return original(*arguments, **options)

    monkeypatch.setattr(training, "train_epoch", asking)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    run_dir = train(*specimen(), tmp_path / "run", replace(TINY, deterministic=True), voxel_size_um=1.2, device="cpu")
    assert asked == [True, True, True]
    assert not torch.are_deterministic_algorithms_enabled()
    assert runs.read_settings(run_dir)["config"]["deterministic"] is True
    for name in ("history.csv", "checkpoints/epoch_0003.safetensors"):
        assert contents(run_dir)[name] == contents(whole_run)[name]


def test_the_best_epochs_are_recorded(whole_run):
    best = runs.best_epochs(whole_run)
    history = runs.read_history(whole_run)
    assert history["accuracy"][best.accuracy] == history["accuracy"][1:].max()
    assert {best.accuracy, best.topology} <= set(runs.kept_epochs(whole_run))
    assert (whole_run / "best.json").is_file()


def test_tensorboard_gets_every_column_once_an_epoch_also_after_a_stop(tmp_path, monkeypatch):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with monkeypatch.context() as patched:
        stop_in(patched, training.runs, "save_state", call=3, error=KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            train(*specimen(), tmp_path / "run", TINY, device="cpu", tensorboard=True)
    run_dir = train(*specimen(), tmp_path / "run", TINY, device="cpu", resume=True, tensorboard=True)
    log = event_accumulator.EventAccumulator(str(run_dir / "tensorboard")).Reload()
    history = runs.read_history(run_dir)
    assert set(log.Tags()["scalars"]) == set(COLUMNS) - {"epoch"}
    for name in ("test_loss", "silicon_euler_number"):
        events = log.Scalars(name)
        assert [event.step for event in events] == [0, 1, 2, 3]
        np.testing.assert_allclose([event.value for event in events], history[name], rtol=1e-6)


def test_a_missing_tensorboard_is_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(training.scalars, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match="needs the package tensorboard, found none; pip install"):
        train(*specimen(), tmp_path / "run", TINY, device="cpu", tensorboard=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, when it loads its compiler
@pytest.mark.parametrize(
    ("plain_s", "compiled_s", "n_steps", "used", "said"),
    [
        (0.2, 0.1, 10**6, True, "torch.compile is used: 100 ms a step with it, 200 ms without\n"),
        (0.1, 0.2, 10**6, False, "torch.compile is not used: 200 ms a step with it, 100 ms without\n"),
        (0.2, 0.1, 100, False, ""),  # too short to earn the compiling back
        (0.2, RuntimeError("no compiler"), 10**6, False, "torch.compile is not used: RuntimeError, no compiler\n"),
    ],
)
def test_the_network_is_compiled_where_that_is_faster(monkeypatch, capsys, plain_s, compiled_s, n_steps, used, said):
    def timed(network, *_):
        if network._compiled_call_impl is None:
            return plain_s
        if isinstance(compiled_s, Exception):
            raise compiled_s
        return compiled_s

    monkeypatch.setattr(training.compiling, "seconds_per_step", timed)
    task, device = training.prepare(*specimen(), TINY), training.devices.choose("cpu")
    network = unet.build(TINY.unet, seed=0)
    draws = next(task.draws(1).batches(8))
    training.compiling.compile_if_faster(network, task, draws, device, n_steps=n_steps)
    assert (network._compiled_call_impl is not None) == used
    assert capsys.readouterr().out == said


def test_timing_a_step_leaves_the_weights_alone_and_a_cpu_is_not_compiled_for():
    task, device = training.prepare(*specimen(), TINY), training.devices.choose("cpu")
    network = device.place(unet.build(TINY.unet, seed=0))
    draws = next(task.draws(1).batches(2))
    assert training.compiling.seconds_per_step(network, task, draws, device) > 0
    training.compiling.compile_where_it_pays(network, task, device, training.ALONE, n_images=10**9)
    assert network._compiled_call_impl is None
    assert_same(weights_of(network), weights_of(unet.build(TINY.unet, seed=0)))


def test_training_needs_no_launcher_and_no_lightning():
    code = (
        "import sys; sys.modules['lightning_fabric'] = None\n"
        "import test_training as t; from alsiseg import training\n"
        "device = training.join('cpu')[1]; task = training.prepare(*t.specimen(), t.TINY)\n"
        "network = device.place(training.unet.build(t.TINY.unet, seed=0))\n"
        "training.train_epoch(network, training.adam(network, t.TINY, device), task, 1, device)\n"
        "print(training.evaluate(network, task, device)[0]['test_loss'] > 0)"
    )
    folder = Path(__file__).parent
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout == "True\n"


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
            "loss": LossConfig(**config["loss"]),
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
    shutil.rmtree(tmp_path / "run" / "checkpoints")

    stopped = runs.load_network(tmp_path / "run")
    kept = runs.load_network(train(*specimen(), tmp_path / "whole", replace(TINY, epochs=2), device="cpu"))
    assert stopped.epoch == kept.epoch == 2
    assert stopped.grey_scale == kept.grey_scale
    for name, tensor in kept.network.state_dict().items():
        assert torch.equal(stopped.network.state_dict()[name], tensor), name


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run ``alsiseg train`` on the specimen with a training that does what is given; return status and words."""
    scans = [volumes.write(tmp_path / f"{n}.tif", v) for n, v in zip(("grey", "labels"), specimen(), strict=True)]

    def run(training_of: object, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(training, "train", training_of)
        monkeypatch.setattr(sys, "argv", ["alsiseg", "train", *map(str, [*scans, tmp_path / "my run"]), *options])
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return run


def test_the_command_passes_every_option_on(command):
    given = {}
    options = "--weights 1,2,3 --epochs 7 --width 4 --batch 9 --images-per-epoch 11 --class-balance --soft-dice 0.25"
    switches = "--seed 5 --device cpu --deterministic --tensorboard --resume"

    def noted(_grey, _labels, run_dir, config, **others):
        given.update(others, config=config, run_dir=run_dir)

    status, said, _ = command(noted, *options.split(), *switches.split())
    assert (status, said) == (0, f"{given['run_dir']}\n")
    assert given["config"] == TrainingConfig(
        weights=PixelWeights(1, 2, 3),
        unet=UNetConfig(stem_channels=4),
        loss=LossConfig(class_balance=True, soft_dice=0.25),
        epochs=7,
        batch=9,
        images_per_epoch=11,
        seed=5,
        deterministic=True,
    )
    assert (given["device"], given["resume"], given["tensorboard"]) == ("cpu", True, True)


def raising(error: type[BaseException]) -> object:
    def stopped(*_, **__):
        raise error("another process stopped")

    return stopped


@pytest.mark.parametrize("options", [(), ("--resume",)])
def test_ctrl_c_says_with_which_command_to_go_on(command, options):
    status, said, told = command(raising(KeyboardInterrupt), "--weights", "1,1.15,1.2", *options)
    assert (status, said, told.count("\n")) == (130, "", 1)
    assert told.startswith("alsiseg: stopped; every finished epoch is kept, go on with: alsiseg train ")
    assert told.endswith("my run' --weights 1,1.15,1.2 --resume\n")


@pytest.mark.parametrize(
    ("error", "rank", "status", "words"),
    [
        (training.StoppedElsewhere, 0, 2, ""),
        (training.ConnectionLost, 0, 2, "alsiseg: another process stopped, go on with --resume\n"),
        (training.ConnectionLost, 1, 2, ""),
        (KeyboardInterrupt, 1, 130, ""),
    ],
)
def test_of_several_processes_only_one_speaks(command, monkeypatch, error, rank, status, words):
    monkeypatch.setenv("RANK", str(rank))
    assert command(raising(error)) == (status, "", words)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--soft-dice", "-1"], "soft_dice must be a finite factor"),
        (["--batch", "0"], "'--batch': 0 is not in the range"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(command, options, sentence):
    status, _, told = command(raising(AssertionError), *options)
    assert status == 2
    assert told.count("\n") == 1
    assert sentence in told


@pytest.mark.parametrize(
    ("device", "n_images", "sentence"),
    [
        ("cpu", 199, ""),
        ("cpu", 300, "about 15 minutes"),
        ("cpu", 28_560, "about 23.8 hours"),
        ("cuda", 28_560, ""),
    ],
)
def test_a_long_training_without_a_gpu_is_announced(monkeypatch, device, n_images, sentence):
    monkeypatch.setattr(training.outlook, "_seconds_forward", lambda *_: 1.0)
    on = training.devices.Device(device, bfloat16=False)
    said = training.outlook.without_gpu(unet.build(TINY.unet, seed=0), None, on, n_images=n_images)
    assert sentence in said
    assert bool(said) == bool(sentence)


def test_timing_an_image_leaves_the_network_as_it_is():
    task, on = training.prepare(*specimen(), TINY), training.devices.choose("cpu")
    network = on.place(unet.build(TINY.unet, seed=0)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert training.outlook._seconds_forward(network, task, on) > 0
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
