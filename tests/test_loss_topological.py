"""Losses that look at how pixels hang together: against topology's own counts, and by small examples."""

from importlib.metadata import PackageNotFoundError
from itertools import product

import numpy as np
import pytest
import torch
from test_training import TINY, specimen
from torch.nn import functional

from alsiseg import loss, runs, topology, training
from alsiseg.loss import LossConfig, topological
from alsiseg.phases import NETWORKS, Phase, network_mask

SAME_IN_SPACE = {4: 6, 8: 26}  # what a connectivity of pixels is for voxels


def expected_euler(probability_yx: torch.Tensor, connectivity: int) -> torch.Tensor:
    return topological.euler_of_windows(probability_yx, connectivity=connectivity).sum(dim=(-2, -1))


def exact(network_yx: np.ndarray, connectivity: int) -> int:
    return topology.euler_number(network_yx[None], connectivity=SAME_IN_SPACE[connectivity])


def logits_of(labels: np.ndarray, *, sure: float = 50.0) -> torch.Tensor:
    return sure * functional.one_hot(torch.from_numpy(labels).long(), 3).movedim(-1, 1).float()


def picture(*rows: str) -> np.ndarray:
    """Labels from text: # silicon, o aluminide, . matrix, with matrix around."""
    phases = {".": Phase.MATRIX, "#": Phase.SILICON, "o": Phase.ALUMINIDE}
    return np.pad(np.array([[phases[sign] for sign in row] for row in rows], np.uint8), 2)[None]


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("shape_yx", [(1, 1), (3, 40), (32, 32), (33, 97), (70, 64)])
def test_of_a_segmentation_it_is_the_euler_number_of_the_slice(shape_yx, connectivity):
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        network_yx = np.random.default_rng(7).random(shape_yx) < share
        found = expected_euler(torch.from_numpy(network_yx).float(), connectivity)
        assert found.item() == exact(network_yx, connectivity)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_of_probabilities_it_is_the_mean_over_all_segmentations(connectivity):
    probability = np.random.default_rng(1).random((3, 3))
    mean = 0.0
    for drawn in product([False, True], repeat=9):
        network_yx = np.reshape(drawn, (3, 3))
        chance = np.where(network_yx, probability, 1 - probability).prod()
        mean += chance * exact(network_yx, connectivity)
    found = expected_euler(torch.from_numpy(probability), connectivity)
    assert found.item() == pytest.approx(mean, abs=1e-9)


def test_the_windows_are_about_32_pixels_wide_and_an_object_counts_in_one():
    slice_yx = torch.zeros(70, 130)
    assert topological.euler_of_windows(slice_yx, connectivity=4).shape == (2, 4)
    slice_yx[5, 40] = slice_yx[60, 120] = 1
    found = topological.euler_of_windows(slice_yx, connectivity=8)
    assert found.flatten().tolist() == [0, 1, 0, 0, 0, 0, 0, 1]


def test_the_loss_counts_objects_and_loops_of_the_three_networks():
    truth, other = np.zeros((1, 20, 20), np.uint8), np.zeros((1, 20, 20), np.uint8)
    other[0, 4:9, 4:9] = Phase.SILICON
    other[0, 14, 3], other[0, 14, 14] = Phase.ALUMINIDE, Phase.ALUMINIDE
    wrong = sum(abs(exact(network_mask(other[0], network), 4)) - 0.5 for network in NETWORKS)  # 1, 2 and 3 objects
    found = loss.soft_euler_loss(logits_of(other), torch.from_numpy(truth))
    assert wrong == 4.5
    assert found.item() == pytest.approx(wrong / 3 / 20**2, rel=1e-5)


def test_an_object_too_many_does_not_hide_one_too_few_elsewhere():
    truth, other = np.zeros((1, 64, 64), np.uint8), np.zeros((1, 64, 64), np.uint8)
    truth[0, 10, 10], other[0, 50, 50] = Phase.SILICON, Phase.SILICON
    assert exact(truth[0] > 0, 8) == exact(other[0] > 0, 8)
    found = loss.soft_euler_loss(logits_of(other), torch.from_numpy(truth))
    assert found.item() == pytest.approx(2 / 3 * 2 * 0.5 / 64**2, rel=1e-5)  # silicon and hybrid, two windows


BROKEN = picture("###.###", "###.###"), picture("#######", "#######")
CRUMB = picture("###....", "###..#.", "###...."), picture("###....", "###....", "###....")
HOLE = picture("#####", "##.##", "#####"), picture("#####", "#####", "#####")
FILLED = picture("#####", "#####", "#####"), picture("#####", "##.##", "#####")


@pytest.mark.parametrize(("predicted", "truth"), [BROKEN, CRUMB, HOLE, FILLED], ids=["gap", "crumb", "hole", "filled"])
def test_a_step_down_the_loss_mends_what_hangs_together_wrongly(predicted, truth):
    logits = logits_of(predicted, sure=3.0)
    logits[:, :, *np.nonzero((predicted != truth)[0])] *= 0.1  # in doubt
    logits.requires_grad_()
    labels = torch.from_numpy(truth)
    before = loss.soft_euler_loss(logits, labels)
    (slope,) = torch.autograd.grad(before, logits)
    silicon_slope = (slope[:, Phase.SILICON] - slope[:, Phase.MATRIX])[0].numpy()
    wrong_yx = (predicted != truth)[0]
    wanted = np.where(truth[0] == Phase.SILICON, -1, 1)[wrong_yx]
    assert (np.sign(silicon_slope[wrong_yx]) == wanted).all()
    assert loss.soft_euler_loss(logits - 5 * slope / slope.abs().max(), labels) < before


def test_descending_the_euler_loss_alone_closes_a_gap():
    predicted, truth = BROKEN
    logits = logits_of(predicted, sure=1.0).requires_grad_()
    for _ in range(60):
        (slope,) = torch.autograd.grad(loss.soft_euler_loss(logits, torch.from_numpy(truth)), logits)
        logits = (logits - 20 * slope).detach().requires_grad_()
    found_yx = logits.argmax(dim=1)[0].numpy() == Phase.SILICON
    assert [exact(found_yx, connectivity) for connectivity in (4, 8)] == [1, 1]
    assert [exact(predicted[0] == Phase.SILICON, connectivity) for connectivity in (4, 8)] == [2, 2]


def test_a_sure_and_right_network_loses_nothing():
    labels = np.random.default_rng(0).integers(0, 3, (2, 40, 36)).astype(np.uint8)
    assert loss.soft_euler_loss(logits_of(labels), torch.from_numpy(labels)).item() == pytest.approx(0, abs=1e-6)


def test_extreme_and_half_precise_scores_stay_finite():
    labels = np.random.default_rng(0).integers(0, 3, (2, 16, 16)).astype(np.uint8)
    logits = (1e6 * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))).requires_grad_()
    value = loss.soft_euler_loss(logits, torch.from_numpy(labels))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    half = loss.soft_euler_loss((logits / 1e6).bfloat16(), torch.from_numpy(labels))
    assert half.dtype == torch.float32


def test_the_factor_is_errors_of_objects_per_image():
    labels, other = torch.zeros(1, 20, 20, dtype=torch.uint8), np.zeros((1, 20, 20), np.uint8)
    other[0, 4:9, 4:9] = Phase.SILICON
    logits, weight = logits_of(other), torch.ones(1, 20, 20)
    with_it, without = (loss.total(logits, labels, weight, LossConfig(soft_euler=factor)) for factor in (3.0, 0.0))
    assert (with_it - without).item() == pytest.approx(3 * (0.5 + 0.5) / 3, rel=1e-3)  # silicon and hybrid of three


def cl_dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    pytest.importorskip("monai")
    return loss.cl_dice_loss(logits_of(predicted), torch.from_numpy(truth)).item()


def test_cl_dice_is_nothing_when_right_and_grows_with_what_is_missing():
    predicted, truth = BROKEN
    nothing = np.zeros_like(truth)
    assert cl_dice(truth, truth) == pytest.approx(0, abs=1e-3)
    assert 0.01 < cl_dice(predicted, truth) < cl_dice(nothing, truth) < 1


def test_cl_dice_of_a_batch_is_the_mean_over_its_images():
    pytest.importorskip("monai")
    labels = np.random.default_rng(0).integers(0, 3, (3, 24, 24)).astype(np.uint8)
    logits, labels = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(1)), torch.from_numpy(labels)
    parts = [loss.cl_dice_loss(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(loss.cl_dice_loss(logits, labels), torch.stack(parts).mean())


@pytest.mark.parametrize("found", ["none", "1.5.2"])
def test_cl_dice_without_monai_is_refused_before_a_run_is_started(tmp_path, monkeypatch, found):
    def installed(name: str) -> str:
        if found == "none":
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(topological, "version", installed)
    with pytest.raises(ImportError, match=f"cl_dice needs the package monai 1.6 or newer, found {found}; pip install"):
        training.train(*specimen(), tmp_path / "run", tiny_with(cl_dice=0.5), device="cpu")
    assert list(tmp_path.iterdir()) == []


def tiny_with(**factors: float) -> training.TrainingConfig:
    return training.TrainingConfig(**vars(TINY) | {"epochs": 1, "loss": LossConfig(**factors)})


def test_the_euler_loss_is_trained_and_recorded(tmp_path):
    run_dir = training.train(*specimen(), tmp_path / "run", tiny_with(soft_euler=2.0), device="cpu")
    assert runs.read_settings(run_dir)["config"]["loss"]["soft_euler"] == 2.0
    task = training.prepare(*specimen(), tiny_with())
    plain = training.evaluate(runs.load_network(run_dir).network, task, training.devices.choose("cpu"))[0]["test_loss"]
    assert runs.read_history(run_dir)["test_loss"][1] > plain + 1e-4  # what is reported has the term in it
