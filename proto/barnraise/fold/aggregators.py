"""How the contributions of a round combine: Σ factor_i · value_i, summed in fp32 in the close's order.

| aggregate      | factor                                                                        |
|----------------|-------------------------------------------------------------------------------|
| `mean`         | weight_i / Σ weights                                                          |
| `clipped_mean` | the same, times min(1, CLIP · reference · √tokens_i / norm_i)                  |

The reference is the median of norm / √tokens over the trusted contributions (over all where none is trusted),
so that a machine that trained on more tokens may send a larger update. The median counts heads, not weights:
more than half of the keys decide it, however much the others claim.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import Literal

import numpy as np

from barnraise.contract.state import Array
from barnraise.fold.codec import Decoder

Aggregate = Literal["mean", "clipped_mean"]

CLIP = 2.0
"""The norm per √token that counts at most, in references."""
MILLION = 10**6


@dataclass(frozen=True)
class Contribution:
    """One peer's part of a round: checked values, and what the close and the log say of them."""

    decoder: Decoder
    weight: int
    tokens: int
    """The claim that counts, as `barnraise.contract.weights` limits it."""
    trusted: bool = True

    @classmethod
    def unlimited(cls, decoder: Decoder, tokens: int) -> Contribution:
        """Of a trusted key below every limit."""
        return cls(decoder, tokens, tokens)

    @property
    def norm_per_root(self) -> float:
        """Norm per √token."""
        return self.decoder.norm() / math.sqrt(self.tokens)


def factors(aggregate: Aggregate, contributions: Sequence[Contribution]) -> list[np.float32]:
    """Of each contribution. At least one of them has a weight."""
    total = sum(contribution.weight for contribution in contributions)
    if aggregate == "mean":
        return [np.float32(contribution.weight / total) for contribution in contributions]
    most = _most(contributions)
    return [np.float32(each.weight * _clip(each, most) / total) for each in contributions]


def taken_of(aggregate: Aggregate, contributions: Sequence[Contribution]) -> tuple[int, ...]:
    """Millionths of each contribution that are left of it when its norm is clipped."""
    if aggregate == "mean":
        return (MILLION,) * len(contributions)
    most = _most(contributions)
    return tuple(round(MILLION * _clip(each, most)) for each in contributions)


def combine(values: Iterable[Array], factors: Sequence[np.float32]) -> Array:
    """values: one [n] array per contribution, which may be overwritten. Returns [n]."""
    pairs = zip(values, factors, strict=True)
    first, factor = next(pairs)
    total = np.multiply(first, factor, out=first)
    for value, factor in pairs:
        np.multiply(value, factor, out=value)
        np.add(total, value, out=total)
    return total


def _most(contributions: Sequence[Contribution]) -> float:
    """The norm per √token that counts at most."""
    counted = [contribution for contribution in contributions if contribution.weight]
    trusted = [contribution for contribution in counted if contribution.trusted]
    return CLIP * median_low(contribution.norm_per_root for contribution in trusted or counted)


def _clip(contribution: Contribution, most: float) -> float:
    """The share of a contribution that is taken."""
    if not contribution.weight:
        return 0.0
    found = contribution.norm_per_root
    return 1.0 if found <= most else most / found
