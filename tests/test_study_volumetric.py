import shutil
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from alsiseg import dataset, runs
from alsiseg.dataset import Augmentation
from alsiseg.devices import Device
from alsiseg.study import volumetric
from alsiseg.study.volumetric import VolumetricConfig
from alsiseg.study.volumetric.cubes import Cube, batch_of, draw
from alsiseg.study.volumetric.network import Volumetric, autocast, build
from alsiseg.weightmaps import PixelWeights, weight_map

pytest.importorskip("monai", reason="MONAI is not installed")

SMALL = VolumetricConfig(features=(4, 4, 4, 4, 4, 4), cube_px=16, n_cubes=4)
PLAIN_GREY = Augmentation(contrast=0, brightness=0, noise=0)


def specimen(shape_zyx=(34, 32, 40), seed=0):
    """Blocks of three phases, each with its own grey, and some noise."""
    random = np.random.default_rng(seed)
    blocks = random.choice(3, [-(-n // 8) for n in shape_zyx]).astype(np.uint8)
    labels = blocks.repeat(8, 0).repeat(8, 1).repeat(8, 2)[tuple(map(slice, shape_zyx))]
    grey = np.array([100, 120, 160])[labels] + random.normal(0, 2, shape_zyx)
    return grey.astype(np.uint16), labels.copy()


def volume(weights=None):
    grey, labels = specimen()
    return dataset.labelled_volume(grey, labels, weights or PixelWeights(), dataset.grey_scale(grey))


def cube(**changes):
    standard = {"corner_zyx": (3, 5, 7), "axes": (0, 1, 2), "flipped": (), "contrast": 1.0, "brightness": 0.0}
    return Cube(**{**standard, "noise": 0.0, "noise_key": 1, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return volumetric.train(*specimen(), tmp_path_factory.mktemp("volumetric") / "run", SMALL, device="cpu")


def test_a_cube_is_cut_where_it_was_drawn_with_labels_and_the_weights_of_whole_slices():
    whole = volume(PixelWeights(0.5, 1.15, 1.2))
    grey, labels, weight = batch_of(whole, [cube()], edge_px=16, normalised_range=1.0)
    place = (slice(3, 19), slice(5, 21), slice(7, 23))
    assert torch.equal(grey[0, 0], whole.grey_zyx[place])
    assert torch.equal(labels[0], whole.labels_zyx[place])
    of_slices = weight_map(whole.labels_zyx.numpy(), PixelWeights(0.5, 1.15, 1.2))
    assert np.array_equal(weight[0].numpy(), of_slices[place])


def test_grey_and_labels_of_a_cube_are_turned_together_and_mirrored_along_the_axes_drawn():
    whole = volume()
    turned = cube(axes=(2, 0, 1), flipped=(1,))
    grey, labels, _ = batch_of(whole, [turned], edge_px=16, normalised_range=1.0)
    expected = whole.labels_zyx[3:19, 5:21, 7:23].numpy().transpose(2, 0, 1)[:, ::-1]
    assert np.array_equal(labels[0].numpy(), expected)
    assert np.array_equal(grey[0, 0].numpy(), whole.grey_zyx[3:19, 5:21, 7:23].numpy().transpose(2, 0, 1)[:, ::-1])


def test_all_48_orientations_of_a_cube_are_drawn_and_every_corner_lies_in_the_volume():
    drawn = [draw((18, 17, 19), 16, Augmentation(), seed=1, number=number) for number in range(1000)]
    assert len({(cube.axes, cube.flipped) for cube in drawn}) == 48
    corners = {cube.corner_zyx for cube in drawn}
    assert corners == set(product(range(3), range(2), range(4)))


def test_a_cube_depends_on_seed_and_number_alone():
    def drawn(seed, number):
        return draw((20, 18, 30), 16, Augmentation(), seed=seed, number=number)

    assert drawn(3, 7) == drawn(3, 7)
    assert len({drawn(3, 7), drawn(3, 8), drawn(4, 7)}) == 3


def test_grey_is_changed_within_the_ranges_of_the_augmentation_and_labels_are_not():
    whole = volume()
    before, labels, _ = batch_of(whole, [cube()], edge_px=16, normalised_range=2.0)
    changed = cube(contrast=1.2, brightness=-0.1)
    after, same_labels, _ = batch_of(whole, [changed], edge_px=16, normalised_range=2.0)
    assert torch.allclose(after, before * 1.2 - 0.2)
    noisy, _, _ = batch_of(whole, [cube(noise=0.05)], edge_px=16, normalised_range=2.0)
    difference = noisy - before
    assert 0.09 < difference.abs().max() <= 0.1
    assert abs(float(difference.mean())) < 0.005
    assert torch.equal(labels, same_labels)
    assert torch.equal(whole.grey_zyx, volume().grey_zyx)


def test_the_network_has_about_as_many_weights_as_the_quick_one_of_the_paper():
    network = Volumetric(VolumetricConfig().features)
    assert 0.8e6 < sum(p.numel() for p in network.parameters()) < 1.0e6


@pytest.mark.parametrize(
    ("edges_px", "enabled"), [([48], True), ([96, 48, 64], True), ([32], False), ([96, 16, 96], False)]
)
def test_small_cubes_are_never_computed_in_bfloat16(edges_px, enabled):
    with autocast(Device("cpu", bfloat16=True), edges_px):
        assert torch.is_autocast_enabled("cpu") == enabled


def test_a_training_keeps_what_it_took_and_returns_at_once_when_it_is_finished(trained):
    took = volumetric.spent(trained)
    assert took.n_cubes == 4
    assert took.seconds > 0
    assert 0 < took.loss < 10
    assert sorted(path.name for path in trained.iterdir()) == ["network.json", "network.safetensors", "settings.json"]
    written = (trained / "network.json").stat().st_mtime_ns
    assert volumetric.train(*specimen(), trained, SMALL, device="cpu") == trained
    assert (trained / "network.json").stat().st_mtime_ns == written


def test_the_same_seed_gives_the_same_network(trained, tmp_path):
    again = volumetric.train(*specimen(), tmp_path / "again", SMALL, device="cpu")
    other = volumetric.train(*specimen(), tmp_path / "other", replace(SMALL, seed=1), device="cpu")
    networks = [(run_dir / "network.safetensors").read_bytes() for run_dir in (trained, again, other)]
    assert networks[0] == networks[1] != networks[2]


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(trained, tmp_path, monkeypatch):
    step, first_cubes = volumetric._step, []

    def stopped_once(*given, first):
        first_cubes.append(first)
        if first_cubes == [0, 2]:
            raise KeyboardInterrupt
        return step(*given, first=first)

    monkeypatch.setattr(volumetric, "STEPS_PER_STATE", 1)
    monkeypatch.setattr(volumetric, "_step", stopped_once)
    with pytest.raises(KeyboardInterrupt):
        volumetric.train(*specimen(), tmp_path, SMALL, device="cpu")
    with pytest.raises(FileNotFoundError, match="needs a finished 3-D training, found no network"):
        volumetric.spent(tmp_path)
    volumetric.train(*specimen(), tmp_path, SMALL, device="cpu")
    assert first_cubes == [0, 2, 2]
    assert volumetric.spent(tmp_path).n_cubes == 4
    assert (tmp_path / "network.safetensors").read_bytes() == (trained / "network.safetensors").read_bytes()


def test_a_limit_of_time_ends_a_training_at_the_first_step_after_it(tmp_path):
    limited = replace(SMALL, n_cubes=10_000, seconds=1e-6)
    took = volumetric.spent(volumetric.train(*specimen(), tmp_path, limited, device="cpu"))
    assert took.n_cubes == 2
    assert took.seconds > 1e-6


def test_a_network_learns_phases_that_differ_in_grey(tmp_path):
    config = replace(SMALL, n_cubes=120, augmentation=PLAIN_GREY)
    grey, labels = specimen()
    run_dir = volumetric.train(grey, labels, tmp_path, config, device="cpu")
    found = volumetric.probabilities(grey[:13], run_dir, device="cpu").argmax(axis=0)
    assert (found == labels[:13]).mean() > 0.9


def test_only_the_upper_slices_are_trained_on(trained, tmp_path):
    grey, labels = specimen()
    below = dataset.split(len(labels), n_context=0).train.start
    labels[:below] = 0
    other = volumetric.train(grey, labels, tmp_path, SMALL, device="cpu")
    assert (other / "network.safetensors").read_bytes() == (trained / "network.safetensors").read_bytes()


@pytest.mark.parametrize("shape_zyx", [(16, 16, 16), (7, 20, 33)])
def test_every_voxel_has_probabilities_that_add_up_to_one(trained, shape_zyx):
    grey, _ = specimen(shape_zyx, seed=1)
    found = volumetric.probabilities(grey, trained, device="cpu")
    assert found.shape == (3, *shape_zyx)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_a_volume_of_one_window_is_what_the_network_says_of_it(trained):
    grey, _ = specimen((32, 16, 48), seed=1)
    found = volumetric.probabilities(grey, trained, device="cpu")
    network = build(SMALL.features, seed=5)
    network.unet.load_state_dict(volumetric.load(trained).unet.state_dict())
    normal = torch.from_numpy(dataset.grey_scale(grey).normalise(grey))
    with torch.inference_mode():
        expected = network.eval()(normal[None, None]).softmax(dim=1)[0].numpy()
    assert np.abs(found - expected).max() < 0.05  # the network may run in bfloat16


def test_overlapping_windows_agree_with_one_window_away_from_their_rims(trained, monkeypatch):
    grey, _ = specimen((16, 16, 96), seed=1)
    whole = volumetric.probabilities(grey, trained, device="cpu")
    monkeypatch.setattr(volumetric, "WINDOW_PX", 48)
    tiled = volumetric.probabilities(grey, trained, device="cpu")
    assert not np.array_equal(tiled, whole)
    assert np.abs(tiled - whole).mean() < 0.05


def test_windows_are_counted_as_monai_lays_them():
    from monai.data.utils import dense_patch_slices

    for n, edge in product((16, 47, 96, 97, 144, 145, 300), (16, 96)):
        laid = len(dense_patch_slices([max(n, edge)], [edge], [edge // 2]))
        assert volumetric._n_windows(n, edge) == laid


def test_a_folder_with_another_training_is_refused(trained):
    with pytest.raises(ValueError, match=r"made with other settings or data .*seed 0 -> 1"):
        volumetric.train(*specimen(), trained, replace(SMALL, seed=1), device="cpu")
    grey, labels = specimen()
    with pytest.raises(ValueError, match=r"made with other settings or data .*grey_sha256"):
        volumetric.train(grey + 1, labels, trained, SMALL, device="cpu")


@pytest.mark.parametrize("name", ["network.json", "network.safetensors"])
def test_a_damaged_network_is_refused(trained, tmp_path, name):
    shutil.copytree(trained, tmp_path / "run")
    damaged = bytearray((tmp_path / "run" / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "run" / name).write_bytes(damaged)
    with pytest.raises(ValueError, match="damaged"):
        volumetric.probabilities(specimen()[0], tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": (8, 8)}, "features must be six numbers"),
        ({"cube_px": 40}, "cube_px must be a multiple of 16, got 40"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"n_cubes": 0}, "n_cubes must be at least 1"),
        ({"seconds": 0.0}, "seconds must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        VolumetricConfig(**changes)


def test_volumes_that_hold_no_cube_are_refused(tmp_path):
    grey, labels = specimen((34, 12, 40))
    with pytest.raises(ValueError, match=r"cubes of 16 voxels need .* found 21 slices of \(12, 40\)"):
        volumetric.train(grey, labels, tmp_path, SMALL, device="cpu")
    assert not runs.exists(tmp_path)
    with pytest.raises(ValueError, match="three axes"):
        volumetric.probabilities(grey[0], tmp_path, device="cpu")


def test_a_missing_monai_is_said_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(ImportError, match="needs MONAI, found none; pip install"):
        volumetric.train(*specimen(), tmp_path, SMALL, device="cpu")


def test_the_time_of_a_cube_is_measured():
    assert volumetric.seconds_per_cube(*specimen(), SMALL, device="cpu") > 0
