"""The fold: state[r + 1] = fold(state[r], contributions[r]). Pure and bit-exact on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from barnraise.contract.spec import RunSpec
from barnraise.contract.state import TrainState
from barnraise.fold.aggregators import Contribution, combine, factors
from barnraise.fold.codec import chunks
from barnraise.fold.outer import outer_for


def fold(
    state: TrainState, contributions: Sequence[Contribution], spec: RunSpec, factor: float = 1.0
) -> TrainState:
    """Fold a round's contributions, in the order of its close, into a new state.

    factor: of the outer learning rate (`barnraise.contract.schedule`).

    Extra memory: the new state and a few chunks. `state` does not change.
    """
    found = zip(contributions, factors(spec.aggregate, contributions), strict=True)
    counted = [(contribution.decoder, factor) for contribution, factor in found if factor]
    shares = [factor for _, factor in counted]
    outer = outer_for(spec.outer, state.step, factor)
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
            update = (
                combine((decoder.values(name, start, stop) for decoder, _ in counted), shares)
                if counted
                else np.zeros(stop - start, np.float32)
            )
            outer.step(
                flat[start:stop], update, {kind: buffer[start:stop] for kind, buffer in flat_buffers.items()}
            )
    return TrainState(params=params, buffers=buffers, step=state.step + 1)
