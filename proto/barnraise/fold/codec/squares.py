"""Sums of squares that have the same bits on every machine.

numpy's own sums add in an order that depends on the processor. These add elementwise, one half of an array to
the other, in fp64; sums of integers are exact in any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from barnraise.contract.state import Array

Doubles = npt.NDArray[np.float64]

GROUP = 1 << 15
"""Values whose squares are added at once: small enough for the processor's cache. Part of the result."""


def ordered_sum(values: Doubles) -> float:
    """The sum of [n], n ≥ 0, which overwrites `values`."""
    size = values.size
    while size > 1:
        half = -(-size // 2)
        values[: size - half] += values[half:size]
        size = half
    return float(values[0]) if size else 0.0


def sum_of_squares(read: Callable[[int, int], Array], size: int) -> float:
    """Of values [0, size); read(start, stop): a part of them in fp32."""
    return math.fsum(
        ordered_sum(_squares(read(start, min(start + GROUP, size)))) for start in range(0, size, GROUP)
    )


def _squares(values: Array) -> Doubles:
    """Each exact: fp64 holds the product of two fp32 numbers."""
    exact = values.astype(np.float64)
    return np.multiply(exact, exact, out=exact)
