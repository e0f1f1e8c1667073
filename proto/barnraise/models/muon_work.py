"""What Muon's orthogonalization takes, and how it is spread over the steps of a CPU."""

from __future__ import annotations

import math
from collections.abc import Iterable

MOST_TURNS = 3
"""One step in three cost 0.1 % of the loss at a rate that suits (docs/PERFORMANCE.md, *Muon on a CPU*)."""
_WORK_OF_A_STEP = 120e9
"""Operations: about a second of one core."""


def operations(shapes: Iterable[tuple[int, ...]]) -> int:
    """Operations that orthogonalize each matrix once on a CPU (`peer.training.muon`).

    For m x n, m <= n: 2 m²n for the products of the rows, as many for the last product, and two inverses,
    which take the time of 2 m³ each.
    """
    return sum(4 * min(shape) ** 2 * (shape[0] + shape[1]) for shape in shapes)


def turns(shapes: Iterable[tuple[int, ...]]) -> int:
    """A CPU steps each of these matrices once in this many steps, by as many times the learning rate."""
    return min(MOST_TURNS, max(1, math.ceil(operations(shapes) / _WORK_OF_A_STEP)))
