import json
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from alsiseg import dataset, devices, metrics, prediction, runs, unet, volumes
from alsiseg.dataset import GreyScale
from alsiseg.devices import Device
from alsiseg.prediction import planning
from alsiseg.prediction.inference import Inference, entropy_uint8
from alsiseg.prediction.options import Options, Plan
from alsiseg.runs import Trained
from alsiseg.unet import UNetConfig

FLOAT32 = Device("cpu", bfloat16=False)


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """Exact comparisons between batches of different size need the same rounding everywhere."""
    monkeypatch.setattr(devices, "choose", lambda name="auto": FLOAT32)


@pytest.fixture
def trained() -> Trained:
    """An untrained network whose batch norms have seen some images, so that its labels vary."""
    network = unet.build(UNetConfig(stem_channels=2), seed=3).train()
    with torch.no_grad():
        for step in range(10):
            network(torch.randn(4, 5, 32, 32, generator=torch.Generator().manual_seed(step)))
    return Trained(network.eval(), GreyScale(0.0, 1.0, 1.0), 1, Path("run"))


def grey(*shape_zyx: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 60_000, shape_zyx).astype(np.uint16)


def slice_by_slice(trained: Trained, grey_zyx: np.ndarray) -> np.ndarray:
    """The obvious way: five slices at a time, mirrored by hand to a multiple of 16."""
    scale = dataset.grey_scale(grey_zyx)
    n_z, n_y, n_x = grey_zyx.shape
    labels = []
    for z in range(n_z):
        window = np.stack([grey_zyx[min(max(z + shift, 0), n_z - 1)] for shift in (-2, -1, 0, 1, 2)])
        padding = ((0, 0), (0, -n_y % 16), (0, -n_x % 16))
        image = scale.normalise(window)
        for axis, n in ((1, n_y), (2, n_x)):
            only_this = [pad if number == axis else (0, 0) for number, pad in enumerate(padding)]
            image = np.pad(image, only_this, mode="reflect" if -n % 16 < n else "edge")
        image = torch.from_numpy(image)[None]
        with torch.no_grad():
            logits = trained.network(image.to(memory_format=torch.channels_last))[0, :, :n_y, :n_x]
        labels.append(logits.argmax(dim=0).numpy())
    return np.stack(labels).astype(np.uint8)


@pytest.mark.parametrize(
    "shape_zyx", [(7, 32, 48), (6, 33, 47), (5, 20, 100), (4, 9, 70), (4, 3, 5), (1, 40, 40), (2, 40, 40)]
)
def test_a_volume_of_any_size_is_segmented_as_slice_by_slice(trained, shape_zyx):
    grey_zyx = grey(*shape_zyx)
    labels_zyx = prediction.segment(grey_zyx, trained)
    assert labels_zyx.dtype == np.uint8
    assert labels_zyx.shape == shape_zyx
    np.testing.assert_array_equal(labels_zyx, slice_by_slice(trained, grey_zyx))


def test_the_labels_vary(trained):
    assert len(np.unique(prediction.segment(grey(4, 64, 64), trained))) > 1


@pytest.mark.parametrize("n_slices", [1, 3, 7, 9])
def test_networks_of_other_slice_counts_have_windows_of_theirs(n_slices):
    network = unet.build(UNetConfig(stem_channels=2, n_slices=n_slices), seed=3).eval()
    scale = GreyScale(0.0, 1.0, 1.0)
    labels_zyx = prediction.segment(grey(4, 32, 32), Trained(network, scale, 1, Path("run")))
    around = np.arange(1 - n_slices // 2, 1 + n_slices // 2 + 1).clip(0, 3)
    window = dataset.grey_scale(grey(4, 32, 32)).normalise(grey(4, 32, 32)[around])
    with torch.no_grad():
        expected = network(torch.from_numpy(window)[None])[0].argmax(dim=0)
    np.testing.assert_array_equal(labels_zyx[1], expected)


def test_the_size_of_slabs_and_batches_does_not_matter(trained, monkeypatch):
    grey_zyx = grey(13, 40, 50)
    whole = prediction.segment(grey_zyx, trained)
    for n_slices in (1, 2, 3, 5, 12, 100):
        monkeypatch.setattr(planning, "BATCH_PX", {"cpu": n_slices * 48 * 64})
        monkeypatch.setattr(planning, "SLAB_VOXELS", {"cpu": (n_slices + 4) * 40 * 50})
        np.testing.assert_array_equal(prediction.segment(grey_zyx, trained), whole)


def watched_volume(grey_zyx: np.ndarray, n_read: list[int], *, fail_at: int | None = None) -> volumes.Volume:
    def read(z_indices) -> np.ndarray:
        n_read.append(len(z_indices))
        if fail_at is not None and len(z_indices) > 1 and fail_at in z_indices:
            raise ValueError("the disk is gone")
        return grey_zyx[list(z_indices)]

    return volumes.Volume(Path("v.tif"), grey_zyx.shape, grey_zyx.dtype, None, read)


def test_only_a_slab_is_read_at_a_time_and_every_slice_once(trained, monkeypatch):
    grey_zyx, n_read = grey(200, 32, 32), []
    monkeypatch.setattr(planning, "SLAB_VOXELS", {"cpu": 4 * 32 * 32})
    labels_zyx = np.stack(list(prediction.segmented_slices(watched_volume(grey_zyx, n_read), trained)))
    n_sampled = 32
    assert n_read[:n_sampled] == [1] * n_sampled
    assert max(n_read) <= 4 + 2
    assert sum(n_read[n_sampled:]) == 200
    np.testing.assert_array_equal(labels_zyx, prediction.segment(grey_zyx, trained))


def test_windows_share_the_memory_of_the_slab(trained):
    from alsiseg.prediction.slabs import slabs_of, view_images

    (slab,) = slabs_of(9, n_slices=5, slab_slices=20, halo=None)
    slab_zyx = torch.rand(9, 32, 48)
    images = view_images("z", slab, slab_zyx, (9, 32, 48), n_slices=5, tile_px=64, halo=80)
    windows = images.windows(range(2, 7))
    assert windows.shape == (5, 5, 32, 48)
    assert windows.untyped_storage().data_ptr() == slab_zyx.untyped_storage().data_ptr()
    for image in range(5):
        assert torch.equal(windows[image], slab_zyx[image : image + 5])


def test_an_error_while_reading_ends_the_work_with_that_error(trained, monkeypatch):
    monkeypatch.setattr(planning, "SLAB_VOXELS", {"cpu": 4 * 32 * 32})
    volume = watched_volume(grey(40, 32, 32), [], fail_at=22)
    slices = prediction.segmented_slices(volume, trained)
    with pytest.raises(ValueError, match="the disk is gone"):
        list(slices)
    assert not [thread for thread in threading.enumerate() if "alsiseg" in thread.name]


def test_a_caller_that_stops_early_ends_the_threads(trained, monkeypatch):
    monkeypatch.setattr(planning, "SLAB_VOXELS", {"cpu": 4 * 32 * 32})
    slices = prediction.segmented_slices(grey(200, 32, 32), trained)
    next(slices)
    assert [thread for thread in threading.enumerate() if "alsiseg" in thread.name]
    slices.close()
    assert not [thread for thread in threading.enumerate() if "alsiseg" in thread.name]


@pytest.mark.parametrize("how", ["torch.OutOfMemoryError", "a CPU without memory"])
def test_work_goes_on_in_smaller_pieces_when_memory_runs_out(trained, monkeypatch, how, capfd):
    grey_zyx = grey(9, 200, 210)
    whole = prediction.segment(grey_zyx, trained)
    logits, n_seen = Inference.logits, []

    def scarce(inference, grey_bcyx, keys_b=None):
        n_seen.append(grey_bcyx[:, 0].numel())
        if n_seen[-1] > 176 * 192:
            if how == "a CPU without memory":
                torch.empty(2**61, dtype=torch.uint8)  # torch itself says that this cannot be had
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return logits(inference, grey_bcyx, keys_b)

    monkeypatch.setattr(Inference, "logits", scarce)
    np.testing.assert_array_equal(prediction.segment(grey_zyx, trained), whole)
    assert n_seen[0] > 176 * 192 >= n_seen[-1]
    lines = [line for line in capfd.readouterr().err.splitlines() if "memory ran out" in line]
    assert len(lines) == sum(n > 176 * 192 for n in n_seen)


def test_memory_that_is_short_for_the_smallest_tile_ends_in_one_sentence(trained, monkeypatch):
    def scarce(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Inference, "logits", scarce)
    with pytest.raises(ValueError, match="smallest tile; close other programs"):
        prediction.segment(grey(3, 40, 40), trained)


def test_another_error_of_the_network_is_not_taken_for_short_memory(trained, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("expected 5 channels")

    monkeypatch.setattr(Inference, "logits", broken)
    with pytest.raises(RuntimeError, match="expected 5 channels"):
        prediction.segment(grey(3, 40, 40), trained)


def plan_with(free_bytes: int, monkeypatch, *, stem_channels: int = 64, options: Options | None = None) -> Plan:
    monkeypatch.setattr(planning, "free_bytes", lambda device: (free_bytes, free_bytes))
    network = unet.build(UNetConfig(stem_channels=stem_channels), seed=0)
    return planning.choose((1833, 1833, 1833), network, options or Options(), FLOAT32, 80)[0]


def test_pieces_shrink_with_the_memory_until_it_is_refused(monkeypatch):
    plans = [plan_with(gib * 2**30, monkeypatch, stem_channels=16) for gib in (64, 8, 4, 2)]
    assert plans[0].tile_px >= 1840
    tiles = [plan.tile_px for plan in plans]
    assert tiles == sorted(tiles, reverse=True)
    assert tiles[-1] < 1840
    with pytest.raises(ValueError, match=r"needs .* may use 100 MiB .*; close other programs"):
        plan_with(100 * 2**20, monkeypatch)


def test_inputs_of_convolutions_stay_under_two_to_the_31(monkeypatch):
    monkeypatch.setattr(planning, "free_bytes", lambda device: (2**50, 2**50))
    network, shape_zyx = unet.build(UNetConfig(stem_channels=8), seed=0), (10, 9000, 9000)
    plan, _ = planning.choose(shape_zyx, network, Options(), FLOAT32, 80)
    assert 0 < planning.largest_window_px(shape_zyx, Options(), plan, 80) * 8 * 8 < 2**31
    assert plan.tile_px < 9008


def test_the_memory_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert planning._free_in_group(tmp_path) == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert planning._free_in_group(tmp_path) == math.inf
    assert planning._free_in_group(tmp_path / "none") == math.inf


def by_hand(trained: Trained, grey_zyx: np.ndarray, axis: int) -> np.ndarray:
    """Probabilities (3, Z, Y, X) of slices along an axis, in multiples of 16, one slice at a time."""
    stack = np.moveaxis(dataset.grey_scale(grey_zyx).normalise(grey_zyx), axis, 0)
    found = []
    for image in range(len(stack)):
        window = stack[np.arange(image - 2, image + 3).clip(0, len(stack) - 1)]
        with torch.no_grad():
            found.append(trained.network(torch.from_numpy(window)[None])[0].softmax(dim=0).numpy())
    return np.moveaxis(np.stack(found, axis=1), 1, axis + 1)


def test_three_views_average_the_probabilities_of_slices_along_z_y_and_x(trained):
    grey_zyx = grey(32, 48, 16)
    options = Options(three_views=True, uncertainty=True, members=True)
    found = prediction.predict(grey_zyx, trained, options=options)
    each = [by_hand(trained, grey_zyx, axis) for axis in range(3)]
    average = np.mean(each, axis=0)
    assert np.mean(found.labels_zyx == average.argmax(axis=0)) > 0.9999  # ties of the last bit
    entropy = -(average * np.log(average)).sum(axis=0) / np.log(3) * 255
    assert np.abs(found.uncertainty_zyx - entropy).max() < 0.51
    assert list(found.members) == ["view z", "view y", "view x"]
    for member, probabilities in zip(found.members.values(), each, strict=True):
        assert np.mean(member == probabilities.argmax(axis=0)) > 0.9999
    assert len({member.tobytes() for member in found.members.values()}) == 3


def test_symmetries_make_the_prediction_turn_with_the_scan(trained):
    grey_zyx = grey(6, 32, 48)
    options = Options(symmetries=True)
    labels_zyx = prediction.segment(grey_zyx, trained, options=options)
    turned = prediction.segment(np.rot90(grey_zyx, axes=(1, 2)), trained, options=options)
    assert np.mean(np.rot90(labels_zyx, axes=(1, 2)) == turned) > 0.999
    plain = prediction.segment(grey_zyx, trained)
    plain_turned = prediction.segment(np.rot90(grey_zyx, axes=(1, 2)), trained)
    assert np.mean(np.rot90(plain, axes=(1, 2)) == plain_turned) < 0.999


def test_dropout_passes_differ_and_can_be_repeated(trained, monkeypatch):
    grey_zyx = grey(9, 32, 48)
    options = Options(dropout_passes=3, members=True)
    found = prediction.predict(grey_zyx, trained, options=options)
    assert list(found.members) == ["view z, pass 1", "view z, pass 2", "view z, pass 3"]
    assert len({member.tobytes() for member in found.members.values()}) == 3
    monkeypatch.setattr(planning, "SLAB_VOXELS", {"cpu": 5 * 32 * 48})
    monkeypatch.setattr(planning, "BATCH_PX", {"cpu": 2 * 32 * 48})
    again = prediction.predict(grey_zyx, trained, options=options)
    np.testing.assert_array_equal(again.labels_zyx, found.labels_zyx)
    for name, member in found.members.items():
        np.testing.assert_array_equal(again.members[name], member)


def test_entropy_runs_from_one_sure_phase_to_three_equally_likely_ones():
    third, half = 1 / 3, 1 / 2
    probabilities = torch.tensor([[1.0, 0, 0], [third] * 3, [half, half, 0]]).T
    assert entropy_uint8(probabilities).tolist() == [0, 255, round(255 * math.log(2) / math.log(3))]


def test_the_spread_of_the_measures_holds_every_member(trained, tmp_path):
    scan = volumes.open(volumes.write(tmp_path / "grey.tif", grey(20, 33, 41), voxel_size_um=1.2))
    options = Options(three_views=True)
    paths = {"uncertainty": tmp_path / "doubt.tif", "spread_json": tmp_path / "spread.json"}
    out = prediction.segment_to_file(scan, trained, tmp_path / "labels.tif", options=options, **paths)
    whole = prediction.predict(scan, trained, options=Options(three_views=True, uncertainty=True, members=True))
    np.testing.assert_array_equal(volumes.open(out)[:], whole.labels_zyx)
    np.testing.assert_array_equal(volumes.open(paths["uncertainty"])[:], whole.uncertainty_zyx)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["doubt.tif", "grey.tif", "labels.tif", "spread.json"]
    written = json.loads(paths["spread_json"].read_text())
    assert "not a confidence interval" in written["meaning"]
    for network, measure in metrics.measure_networks(whole.labels_zyx, voxel_size_um=1.2).items():
        of = written["networks"][network]["euler_number"]
        expected = {
            name: metrics.measure_networks(member)[network].euler_number for name, member in whole.members.items()
        }
        assert of["value"] == measure.euler_number
        assert of["of_members"] == expected
        assert (of["low"], of["high"]) == (min(of["value"], *expected.values()), max(of["value"], *expected.values()))
        assert "euler_density_per_mm3" in written["networks"][network]


def test_the_plan_is_said_before_the_work(trained, tmp_path):
    scan = volumes.open(volumes.write(tmp_path / "grey.tif", grey(6, 33, 47)))
    said: list[str] = []
    prediction.segment_to_file(scan, trained, tmp_path / "labels.tif", say=said.append)
    assert len(said) == 1
    assert "6 x 33 x 47 voxels on cpu, float32, whole slices, slabs of 6 slices; needs about" in said[0]


def test_another_gain_of_the_detector_does_not_matter(trained):
    grey_zyx = grey(5, 32, 32).astype(np.float32)
    other_zyx = prediction.segment(0.5 * grey_zyx + 300, trained)
    assert np.mean(other_zyx == prediction.segment(grey_zyx, trained)) > 0.999


def test_a_file_of_labels_keeps_the_voxel_size(trained, tmp_path):
    volume = volumes.open(volumes.write(tmp_path / "grey.tif", grey(6, 33, 47), voxel_size_um=1.2))
    out = prediction.segment_to_file(volume, trained, tmp_path / "new" / "labels.tif")
    labels = volumes.open(out)
    assert (labels.dtype, labels.voxel_size_um) == (np.uint8, 1.2)
    np.testing.assert_array_equal(labels[:], prediction.segment(grey(6, 33, 47), trained))


def test_a_memory_map_is_segmented(trained, tmp_path):
    np.save(tmp_path / "grey.npy", grey(6, 32, 32))
    mapped_zyx = np.load(tmp_path / "grey.npy", mmap_mode="r")
    np.testing.assert_array_equal(prediction.segment(mapped_zyx, trained), prediction.segment(grey(6, 32, 32), trained))


def test_a_run_folder_stands_for_its_last_network(trained, tmp_path):
    runs.start(tmp_path / "run", {}, {})
    runs.save_network(tmp_path / "run", unet.build(UNetConfig(stem_channels=2), seed=8), trained.grey_scale, 1)
    runs.save_network(tmp_path / "run", trained.network, trained.grey_scale, 2)
    expected = prediction.segment(grey(4, 32, 32), trained)
    np.testing.assert_array_equal(prediction.segment(grey(4, 32, 32), tmp_path / "run"), expected)
    np.testing.assert_array_equal(prediction.segment(grey(4, 32, 32), str(tmp_path / "run")), expected)


def test_a_stopped_segmentation_leaves_no_file(trained, tmp_path):
    grey_zyx = grey(6, 32, 32)

    def read(z_indices) -> np.ndarray:
        if len(z_indices) > 1:  # not the single slices of the grey scale
            raise KeyboardInterrupt
        return grey_zyx[list(z_indices)]

    volume = volumes.Volume(Path("v.tif"), grey_zyx.shape, grey_zyx.dtype, None, read)
    with pytest.raises(KeyboardInterrupt):
        prediction.segment_to_file(volume, trained, tmp_path / "new" / "labels.tif")
    assert list(tmp_path.iterdir()) == []


NAN_ZYX = np.random.default_rng(0).random((40, 16, 16), np.float32)
NAN_ZYX[1, 3, 3] = np.nan


@pytest.mark.parametrize(
    ("grey_zyx", "error", "sentence"),
    [
        (np.zeros((8, 8), np.uint8), ValueError, "three axes"),
        (np.zeros((4, 8, 8, 3), np.uint8), ValueError, "three axes"),
        (np.zeros((0, 8, 8), np.uint8), ValueError, "at least one voxel"),
        (np.full((4, 16, 16), 9, np.uint8), ValueError, "with contrast"),
        (np.full((4, 16, 16), np.nan, np.float32), ValueError, "finite"),
        (NAN_ZYX[2:20], ValueError, None),
        (NAN_ZYX, ValueError, "finite grey values"),
        (np.zeros((4, 16, 16), complex), TypeError, "grey values"),
        (np.zeros((4, 16, 16), bool), TypeError, "grey values"),
    ],
)
def test_what_is_no_scan_is_refused(trained, grey_zyx, error, sentence):
    if sentence is None:
        assert prediction.segment(grey_zyx, trained).shape == grey_zyx.shape
        return
    with pytest.raises(error, match=sentence) as refused:
        prediction.segment(grey_zyx, trained)
    assert "\n" not in str(refused.value)


def test_a_network_for_other_classes_is_refused():
    network = unet.build(UNetConfig(stem_channels=2, n_classes=4), seed=0).eval()
    with pytest.raises(ValueError, match="needs a network for the 3 phases, this one tells 4 classes apart"):
        prediction.segment(grey(4, 32, 32), Trained(network, GreyScale(0.0, 1.0, 1.0), 1, Path("run")))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"members": True}, "several views or passes"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"dropout_passes": -1}, "must be 0"),
        ({"tile_px": 0}, "above 0"),
    ],
)
def test_options_that_say_nothing_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Options(**options)


def test_two_outputs_need_two_names(trained, tmp_path):
    scan = volumes.open(volumes.write(tmp_path / "grey.tif", grey(4, 32, 32)))
    with pytest.raises(ValueError, match="a name of its own"):
        prediction.segment_to_file(scan, trained, tmp_path / "a.tif", uncertainty=tmp_path / "a.tif")
