import numpy as np
import pytest
import torch

from alsiseg import hashing


def lowbias32(bits: int) -> int:
    """The hash in Python's whole numbers of any size."""
    for shift, multiplier in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ bits >> shift) * multiplier % 2**32
    return bits ^ bits >> 16


@pytest.mark.parametrize("counter", [0, 1, 2**31 - 1, -1])
@pytest.mark.parametrize("key", [0, 7, -(2**31), 2**31 - 1])
def test_the_bits_are_those_of_lowbias32(counter, key):
    drawn = hashing.random_int32(torch.tensor([counter], dtype=torch.int32), torch.tensor([key], dtype=torch.int32))
    assert drawn.dtype == torch.int32
    assert int(drawn) % 2**32 == lowbias32((counter * 0x9E3779B9 + key) % 2**32)


def test_every_bit_is_set_half_the_time_and_neighbours_have_nothing_in_common():
    counter = torch.arange(2**16, dtype=torch.int32)
    keys = torch.tensor([[3], [4]], dtype=torch.int32)
    bits = hashing.random_int32(counter, keys).numpy().view(np.uint32)
    set_bits = (bits[..., None] >> np.arange(32, dtype=np.uint32)) & 1
    assert abs(set_bits.mean(axis=1) - 0.5).max() < 0.01  # five standard deviations of 65,536 coins
    assert abs((set_bits[:, 1:] == set_bits[:, :-1]).mean(axis=(0, 1)) - 0.5).max() < 0.01
    assert abs((set_bits[0] == set_bits[1]).mean(axis=0) - 0.5).max() < 0.01


def test_nothing_given_is_changed():
    counter, key = torch.arange(5, dtype=torch.int32), torch.tensor([9], dtype=torch.int32)
    hashing.random_int32(counter, key)
    assert counter.tolist() == [0, 1, 2, 3, 4]
    assert key.tolist() == [9]
