import pytest
import torch

from alsiseg import devices
from alsiseg.devices import Device


def test_auto_takes_the_gpu_where_there_is_one():
    name = devices.choose("auto").name
    assert name == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "quantum", "meta", ""])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match="is not available here; use auto or cpu"):
        devices.choose(name)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_device_names_its_precision_and_computes_in_it(bfloat16):
    device = Device("cpu", bfloat16)
    assert str(device) == ("cpu, bfloat16" if bfloat16 else "cpu, float32")
    convolution = device.place(torch.nn.Conv2d(1, 2, 3))
    with device.autocast():
        result = convolution(device.images(torch.zeros(1, 1, 8, 8)))
    assert result.dtype == (torch.bfloat16 if bfloat16 else torch.float32)
    assert convolution.weight.dtype == torch.float32


def test_networks_and_images_are_laid_out_channels_last():
    device = Device("cpu", bfloat16=False)
    weight = device.place(torch.nn.Conv2d(4, 8, 3)).weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert device.images(torch.zeros(2, 5, 8, 8)).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_choice_of_kernels_is_undone_after_the_block(before, deterministic, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    benchmark, asked = torch.backends.cudnn.benchmark, []

    def interrupted() -> None:
        with devices.kernels(deterministic=deterministic):
            asked.extend([torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark])
            raise KeyboardInterrupt

    torch.use_deterministic_algorithms(before)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert torch.are_deterministic_algorithms_enabled() == before
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked == [before or deterministic, not (before or deterministic)]
    assert torch.backends.cudnn.benchmark == benchmark


def test_a_device_knows_its_kind_without_its_number():
    assert Device("cuda:3", bfloat16=True).type == "cuda"
    assert Device("cpu", bfloat16=False).type == "cpu"
