"""Contributions that repeat others: by sketches, which are a few thousand of a contribution's values.

Two contributions are alike where the angle between their sketches is far smaller than the usual one to
trusted contributions: a copy with little noise is, and large batches, whose gradients are all near each
other, are not. Others do not count for what is usual: three of eight that point the other way would raise
it until honest ones are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from barnraise.contract.audit_figures import Finding

SKETCH_VALUES = 4096
KEPT = 512
"""Sketches of earlier contributions that are kept: 8 MB."""
FEWEST = 16
"""Values of a sketch that are not 0, without which nothing is said."""
NEAR = 0.02
"""Share of the usual distance (1 - cosine) below which two contributions are alike."""
EXACT = 1e-6
"""Distance below which two are equal; it counts where no usual distance is known."""
FEWEST_TRUSTED = 3
"""Others by trusted keys without which no usual distance is known."""

Sketch = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Candidate:
    """A contribution of the round."""

    sketch: Sketch
    norm: float
    seen: int | None
    trusted: bool


def findings(round: Sequence[Candidate], earlier: Sequence[Sketch]) -> list[Finding]:
    """What each contribution of a round is, in their order."""
    units = [_unit(each.sketch) for each in round]
    between = _distances(units, units)
    before = _distances(units, [_unit(each) for each in earlier])
    return [_finding(place, round, between[place], before[place]) for place in range(len(round))]


def _finding(
    place: int,
    round: Sequence[Candidate],
    between: npt.NDArray[np.float64],
    before: npt.NDArray[np.float64],
) -> Finding:
    own = round[place]
    if own.norm == 0:
        return "empty"
    usual = _usual(place, round, between)
    limit = EXACT if usual is None else max(EXACT, NEAR * usual)
    if before.size and bool((before <= limit).any()):
        return "replay"
    for other, distance in enumerate(between):
        if other != place and distance <= limit and _is_later(own, round[other]):
            return "copy"
    return "tried"


def _is_later(one: Candidate, other: Candidate) -> bool:
    return one.seen is not None and other.seen is not None and one.seen > other.seen


def _usual(place: int, round: Sequence[Candidate], between: npt.NDArray[np.float64]) -> float | None:
    """The median distance from one contribution to the other trusted ones; None where these are too few."""
    others = [distance for other, distance in enumerate(between) if other != place and round[other].trusted]
    known = [distance for distance in others if np.isfinite(distance)]
    return float(np.median(known)) if len(known) >= FEWEST_TRUSTED else None


def _unit(sketch: Sketch) -> npt.NDArray[np.float64] | None:
    """None where too few values are not 0."""
    values = sketch.astype(np.float64)
    if np.count_nonzero(values) < FEWEST:
        return None
    unit: npt.NDArray[np.float64] = values / np.sqrt(np.sum(values * values))
    return unit


def _distances(
    ones: Sequence[npt.NDArray[np.float64] | None], others: Sequence[npt.NDArray[np.float64] | None]
) -> npt.NDArray[np.float64]:
    """1 - cosine of each pair; infinity where a sketch says nothing."""
    found = np.full((len(ones), len(others)), np.inf)
    for i, one in enumerate(ones):
        for j, other in enumerate(others):
            if one is not None and other is not None:
                found[i, j] = max(0.0, 1 - float(np.dot(one, other)))
    return found


def positions(
    sizes: Mapping[str, int], seed: int, values: int = SKETCH_VALUES
) -> dict[str, npt.NDArray[np.int64]]:
    """Which values of each tensor a sketch has, in proportion to their sizes. The seed is a secret."""
    random, total = np.random.default_rng(seed), sum(sizes.values())
    if total <= values:
        return {name: np.arange(size) for name, size in sizes.items()}
    return {
        name: np.sort(random.integers(0, size, -(-values * size // total))) for name, size in sizes.items()
    }
