"""The two instructions on machine words that neither Python nor Numba has a name for.

Numba keeps compiled loops on disk until the file of the loop changes; it does not notice a change
here. Touch `kernels` and `runs` too, and let neither of the two call a function of the other.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

NONE = np.uint64(0)
ONE = np.uint64(1)
TOP = np.uint64(63)  # from the lowest bit to the highest
ALL = np.uint64(2**64 - 1)


def _ones(typing_context, word):
    """Count the bits set in a word."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


def _lowest(typing_context, word):
    """Position of the lowest bit set in a word that is not 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(types.boolean, True))

    return types.uint64(types.uint64), generate


# Any: they are called with the word alone, the typing context is Numba's own.
ones: Any = intrinsic(_ones)
lowest: Any = intrinsic(_lowest)
