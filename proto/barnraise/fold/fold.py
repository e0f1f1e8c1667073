"""The fold: state[r + 1] = fold(state[r], contributions[r]). Pure and bit-exact on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from barnraise.contract.spec import RunSpec
from barnraise.contract.state import TrainState
from barnraise.fold.aggregate import Aggregator, TokenWeightedMean
from barnraise.fold.codec import Decoder, chunks
from barnraise.fold.outer import outer_for


@dataclass(frozen=True)
class Contribution:
    """One peer's part of a round: checked values, and their weight."""

    decoder: Decoder
    tokens: int


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
