"""Random bits from a counter and a key: the same on every device, in every batch and on any number of processes."""

from torch import Tensor

GOLDEN_RATIO = 0x9E3779B9 - 2**32  # 2**32 / 1.618..., odd: neighbouring counters fall far apart


def random_int32(counter: Tensor, key: Tensor) -> Tensor:
    """Draw one int32 for each counter under each key, all values alike.

    The hash is "lowbias32" (C. Wellons, Prospecting for hash functions, 2018) of counter x golden ratio + key
    in wrapping 32-bit arithmetic.

    Parameters
    ----------
    counter, key : int32 tensors
        Of shapes that broadcast: one counter for each number wanted, one key for each image.
    """
    bits = counter * GOLDEN_RATIO + key
    for shift, multiplier in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        bits.bitwise_xor_(_shifted(bits, shift)).mul_(multiplier)
    return bits.bitwise_xor_(_shifted(bits, 16))


def _shifted(bits: Tensor, shift: int) -> Tensor:
    """Shift right logically; torch's own shift keeps the sign, so the bits that it fills in are cut off."""
    return (bits >> shift).bitwise_and_(2 ** (32 - shift) - 1)
