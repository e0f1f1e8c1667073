"""The fold: state[r + 1] = fold(state[r], contributions[r]). Pure and bit-exact on every machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from barnraise.contract.spec import RunSpec
from barnraise.contract.state import Array, TrainState
from barnraise.fold.codec import Decoder, chunks
from barnraise.fold.outer import outer_for


@dataclass(frozen=True)
class Contribution:
    """One peer's part of a round: checked values, and their weight."""

    decoder: Decoder
    tokens: int


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


def fold(
    state: TrainState,
    contributions: Sequence[Contribution],
    spec: RunSpec,
    aggregator: Aggregator | None = None,
) -> TrainState:
    """Fold a round's contributions, in the order of its close, into a new state.

    Extra memory: the new state and a few chunks. `state` does not change.
    """
    aggregator = aggregator or TokenWeightedMean()
    weights = aggregator.weights([contribution.tokens for contribution in contributions])
    outer = outer_for(spec.outer, state.step)
    params = {name: array.copy() for name, array in state.params.items()}
    buffers = {
        kind: {
            name: state.buffers[kind][name].copy() if kind in state.buffers else np.zeros_like(array)
            for name, array in params.items()
        }
        for kind in outer.buffer_names
    }
    for name, array in params.items():
        flat = array.reshape(-1)
        flat_buffers = {kind: tensors[name].reshape(-1) for kind, tensors in buffers.items()}
        for start, stop in chunks(spec.codec, flat.size):
            update = aggregator.combine(
                (contribution.decoder.values(name, start, stop) for contribution in contributions), weights
            )
            outer.step(
                flat[start:stop], update, {kind: buffer[start:stop] for kind, buffer in flat_buffers.items()}
            )
    return TrainState(params=params, buffers=buffers, step=state.step + 1)
