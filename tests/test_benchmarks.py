"""The benchmarks that measure training: what they count, what they notice, what they write."""

import copy
import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import bench_training
import gpu
import gpu_checks
import gpu_learning
import gpu_report
import gpu_specimen
import measuring
import random_phases
import steps

from alsiseg import devices, unet
from alsiseg.topology import tensors
from alsiseg.unet import UNetConfig
from alsiseg.weightmaps import PixelWeights

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CPU = devices.Device("cpu", bfloat16=False)


def run_gpu(out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the CPU, whatever this machine has."""
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), "--out", str(out), *options],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def task():
    grey_zyx, labels_zyx = random_phases.phases_with_noise((36, 64, 80), seed=1)
    scanned = gpu_specimen.Scanned(grey_zyx, labels_zyx)
    return gpu_learning.task(scanned, gpu_specimen.SIZES["tiny"], PixelWeights(), width=2, seed=0)


@pytest.mark.slow
def test_without_a_gpu_every_part_is_tried_at_a_tiny_size(tmp_path):
    ended = run_gpu(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("no CUDA GPU here")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["failed"] == []
    assert found["machine"]["dry_run"]
    assert all(check["passed"] for check in found["checks"])
    assert len(found["checks"]) >= 15
    for width in (4, 2):
        measured = [row for row in found[f"training at width {width}"] if "left_out" not in row]
        assert (
            len(measured) == len(steps.GPU_VARIANTS) + 1
        )  # the library's loop twice beside them, a CUDA graph left out
        assert all(row["images_per_s"] > 0 for row in measured)
    assert {row["what"] for row in found["inference"]} == {"sections", "whole slices", "prediction.segment"}
    files = sorted(path.name for path in tmp_path.iterdir())
    predictions = ["predicted_1_1.15_1.2.tif", "predicted_1_1.25_1.5.tif", "predicted_1_1_1.tif"]
    assert files == ["gpu.json", "gpu.md", "histories.csv", *predictions, "truth.tif"]
    rows = list(csv.DictReader((tmp_path / "histories.csv").read_text().splitlines()))
    assert [(row["weights"], row["epoch"]) for row in rows] == [
        (weights, epoch) for weights in ("1, 1, 1", "1, 1.15, 1.2", "1, 1.25, 1.5") for epoch in ("0", "1")
    ]
    truth_zyx, predicted_zyx = (tifffile.imread(tmp_path / name) for name in ("truth.tif", predictions[0]))
    assert truth_zyx.dtype == predicted_zyx.dtype == np.uint8
    assert truth_zyx.shape == predicted_zyx.shape == (10, 48, 48)
    assert found["learning"]["truth"] == gpu_learning.network_measures(torch.from_numpy(truth_zyx))


@pytest.mark.slow
def test_a_call_ends_soon_after_its_time_with_what_it_has(tmp_path):
    begun_too_late = str((2 - gpu.GRACE_S) / 60)
    ended = run_gpu(tmp_path, "--minutes", begun_too_late)
    assert ended.returncode == 1
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert "ended after its time" in found["failed"]
    assert "machine" in found
    assert "learning" not in found


def test_the_checks_pass_on_a_cpu_and_notice_a_wrong_count(monkeypatch):
    on = devices.Device("cpu", bfloat16=devices.choose("cpu").bfloat16)
    checks = list(gpu_checks.all_checks(on, seed=3))
    assert [check.name for check in checks if not check.passed] == []
    right = tensors.euler_number_on_device
    monkeypatch.setattr(tensors, "euler_number_on_device", lambda mask, by: right(mask, by) + (by == 26))
    wrong = [check.name for check in gpu_checks.check_topology(on, seed=3) if not check.passed]
    assert [name.split(":")[0] for name in wrong] == [
        f"Euler number of {network} by 26" for network in ("silicon", "aluminides", "hybrid")
    ]


def test_the_checks_notice_a_network_that_drops_other_pixels(monkeypatch):
    def forward(network, grey, keys=None):
        return original(network, grey, keys if keys is None or keys.dtype != torch.int32 or not shift else keys + 1)

    original, shift = unet.UNet.forward, False
    monkeypatch.setattr(unet.UNet, "forward", forward)
    little = gpu_checks.Little.drawn(0)
    assert all(check.passed for check in gpu_checks.check_network(little, CPU, seed=0))
    reference = gpu_checks._pass

    def wrong_when_float32(network, on, batch):
        nonlocal shift
        shift = next(network.parameters()).dtype == torch.float32
        return reference(network, on, batch)

    monkeypatch.setattr(gpu_checks, "_pass", wrong_when_float32)
    assert not any(check.passed for check in gpu_checks.check_network(little, CPU, seed=0))


def test_a_check_that_cannot_be_made_has_failed_and_the_others_go_on(monkeypatch):
    def deterministic(**_):
        raise RuntimeError("no such\n kernel")

    monkeypatch.setattr(devices, "kernels", deterministic)
    failed = [check.name for check in gpu_checks.all_checks(CPU, seed=0) if not check.passed]
    assert failed == ["deterministic training: RuntimeError, no such kernel"]


def test_nan_never_passes_a_check():
    assert not gpu_checks.Check("a", float("nan"), 1.0).passed
    assert gpu_checks.Check("a", 0, 0).passed


def test_a_failed_check_and_a_failed_part_are_written_down(tmp_path, monkeypatch):
    session = gpu.Session(tmp_path, CPU, gpu_specimen.SIZES["tiny"], minutes=1, seed=0)
    monkeypatch.setattr(gpu_checks, "all_checks", lambda on, seed: iter([gpu_checks.Check("sums", 2.0, 1.0)]))
    session.part("checks", lambda: gpu.checks(session))
    session.part("ceilings", lambda: 1 / 0)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["failed"] == ["sums", "ceilings"]
    assert found["ceilings"] == {"failed": "ZeroDivisionError: division by zero"}
    table = (tmp_path / "gpu.md").read_text()
    assert "Failed: sums, ceilings." in table
    assert "| sums | 2 | 1 | **failed** |" in table


def test_the_published_network_needs_321_gflop_for_a_slice_and_three_times_that_to_learn_from_it():
    with torch.device("meta"):
        network, image = unet.UNet(UNetConfig()), torch.empty(5, 256, 256)
        forward, training = measuring.forward_flops(network, image), measuring.training_flops(network, image)
    assert round(forward / 1e9) == 321  # shared/PAPER.md
    stem = 2 * 25 * 5 * 64 * 256**2  # no gradient is needed for the images
    assert training == 3 * forward - stem


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-40GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA A10G", None),
    ],
)
def test_the_datasheet_peak_is_found_by_the_whole_name_of_the_card(card, peak):
    assert measuring.datasheet_tflops(card) == peak


def test_every_variant_takes_the_same_first_step(task):
    variants = [steps.OURS, steps.PLAIN, *(v for v in steps.GPU_VARIANTS if v.padded and v.compiled is None)]
    losses = [float(steps.Steps(task, "cpu", variant).step(steps.unmarked).detach()) for variant in variants]
    np.testing.assert_allclose(losses, losses[0], rtol=0.02)


def test_a_padded_stem_gives_the_same_numbers():
    network = unet.build(UNetConfig(stem_channels=2), seed=0).eval()
    wide = copy.deepcopy(network)
    steps.pad_stem(wide)
    grey = torch.randn(1, 5, 32, 32)
    filled = torch.nn.functional.pad(grey, (0, 0, 0, 0, 0, 3), value=7.0)
    torch.testing.assert_close(wide(filled), network(grey))


def test_a_step_is_the_sum_of_its_parts(task):
    taken = steps.measure(steps.Steps(task, "cpu", steps.PLAIN), n=2, n_warm_up=1)
    assert tuple(taken.parts_s) == steps.PARTS
    assert taken.step.n == 2
    assert taken.step.least_s <= taken.step.median_s <= taken.step.most_s
    assert 0 < taken.data_share < 1


def test_scipy_finds_the_small_pieces_where_cc3d_is_missing(monkeypatch):
    with_cc3d, _ = gpu_specimen.grow_block((24, 48, 48), seed=2)
    monkeypatch.delitem(sys.modules, "cc3d")
    monkeypatch.setattr(gpu_specimen, "find_spec", lambda name: None)
    with_scipy, _ = gpu_specimen.grow_block((24, 48, 48), seed=2)
    assert sys.modules["cc3d"].__spec__ is None  # it was the stand-in
    monkeypatch.delitem(sys.modules, "cc3d")
    for name in ("labels_zyx", "silicon_share_zyx", "aluminide_share_zyx", "aluminides_zyx"):
        np.testing.assert_array_equal(getattr(with_scipy, name), getattr(with_cc3d, name))


def test_the_blocks_of_the_paper_size_meet_outside_the_test_slices():
    paper = gpu_specimen.SIZES["paper"]
    assert 302 < paper.block_ends[0] < 401
    assert paper.block_ends[-1] == paper.shape_zyx[0] == 1000
    assert sorted(set(paper.block_ends)) == paper.block_ends


def test_a_scan_that_would_take_too_long_has_fewer_angles():
    size = replace(gpu_specimen.SIZES["tiny"], n_angles=64, shape_zyx=(16, 32, 32))

    class Grown:
        def __init__(self):
            self.size, self.seed = size, 0

        def result(self):
            return gpu_specimen.grow_block(size.shape_zyx, 0)[0], {}

    _, facts = gpu_specimen.scan(Grown(), CPU, longest_s=0.0)
    assert facts["n_angles"] == 16


def measured(images_per_s: float, precision: str = "float32") -> dict:
    parts_s = dict.fromkeys(steps.PARTS, 0.2)
    took = {"step_s": 4 / images_per_s, "processor_s": 3 / images_per_s, "parts_s": parts_s}
    return took | {"precision": precision, "extra_bytes": 250_000_000}


def test_the_table_of_training_gives_ratios_and_shares_of_the_peak():
    setting = bench_training.Setting(width=2, crop_px=64, batch=4, n_steps=2)
    found = {
        "matmul": [{"bfloat16": 0.4, "float32": 0.2}],
        "alsiseg": [measured(30, "bfloat16"), measured(34, "bfloat16"), measured(32, "bfloat16")],
        "alsiseg parts": [measured(32)],
        "plain": [measured(8), measured(8), measured(9)],
    }
    lines = list(bench_training.report(setting, found, load=0.5))
    gflop = bench_training.training_gflop(setting)
    (ours,) = [line for line in lines if "`training.train_epoch` | bfloat16" in line]
    share = f"{100 * 32 * gflop / 400:.0f} %"
    assert ours.split(" | ")[2:] == ["32.00", "30.00 to 34.00", "1.00", "1.00", share, "250 MB |"]
    (plain,) = [line for line in lines if "plain loop" in line and "float32 |" in line]
    assert plain.split(" | ")[2:6] == ["8.00", "8.00 to 9.00", "4.00", "4.00"]
    assert any("MONAI" in line and "not installed" in line for line in lines)
    assert "| plain loop | 200 | 200 | 200 | 200 | 200 |" in lines


def test_the_report_says_whether_the_aims_are_reached():
    rows = [
        {"variant": "slow", "of_datasheet_peak": 0.3, "data_share": 0.01},
        {"variant": "fast", "of_datasheet_peak": 0.46, "data_share": 0.03},
        {"variant": "no parts", "of_datasheet_peak": 0.1},
        {"variant": "none", "left_out": "no time left for it"},
    ]
    (line,) = gpu_report.aims({"training at width 64": rows})
    assert line == (
        "Aims at the published width: 45 % of the card's bfloat16 peak, reached 46.0 % (fast); "
        "less than 2 % of a step for its images, missed 3.0 % (fast).\n"
    )
    assert list(gpu_report.aims({})) == []


def test_a_report_is_written_from_whatever_has_been_found():
    assert "unknown card" in gpu_report.as_markdown({})
    rows = [{"variant": "a", "left_out": "RuntimeError: a | b\n c"}]
    table = gpu_report.as_markdown({"training at width 64": rows, "euler": {"failed": "OSError: none"}})
    assert "| a | - | left out: RuntimeError: a / b c |" in table
    assert "Euler" not in table
