"""Aggregation: the values of many contributions to one value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from barnraise.contract.state import Array


class Aggregator(Protocol):
    """Combines a chunk of every contribution, in the close's order, bit-exactly."""

    def weights(self, tokens: Sequence[int]) -> list[np.float32]:
        """tokens: of each contribution."""
        ...

    def combine(self, values: Iterable[Array], weights: Sequence[np.float32]) -> Array:
        """values: one [n] array per contribution. Returns [n]; the inputs may be overwritten."""
        ...


class TokenWeightedMean:
    """Σ (tokens_i / Σ tokens) · value_i, summed in fp32 in the close's order."""

    def weights(self, tokens: Sequence[int]) -> list[np.float32]:
        total = sum(tokens)
        return [np.float32(count / total) for count in tokens]

    def combine(self, values: Iterable[Array], weights: Sequence[np.float32]) -> Array:
        pairs = zip(values, weights, strict=True)
        first, weight = next(pairs)
        total = np.multiply(first, weight, out=first)
        for value, weight in pairs:
            np.multiply(value, weight, out=value)
            np.add(total, value, out=total)
        return total
