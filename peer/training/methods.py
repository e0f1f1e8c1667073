"""The two ways to train in a round, behind one interface: DiLoCo's inner steps, and a plain gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from barnraise.contract.shards import Sample
from barnraise.contract.spec import InnerSpec, TrainSpec
from barnraise.contract.state import Array, Tensors
from barnraise.core.errors import NotFinite, StateError
from peer.training.device import memory_limit
from peer.training.inner_optimizer import InnerOptimizer, OptimizerState
from peer.training.local_model import LocalModel, Loss, as_array, diverged, trained_tokens


class Method(Protocol):
    """How a peer turns batches into the update of a round: one class per `train.method`."""

    can_share: bool
    """Whether a share of an update can be sent, and the rest later."""

    def step(self, samples: Sequence[Sample], factor: float) -> Loss:
        """Train on `samples` (one batch). factor: of the learning rate. Raises NotFinite, with nothing
        changed."""

    def update(self, base: Tensors, tokens: int) -> dict[str, Array]:
        """The update for the local work since `base`, over `tokens` trained tokens; fp32."""

    def restart(self) -> None:
        """Drop the work of the unfinished round."""

    def merge(self, before: Tensors, after: Tensors) -> None:
        """Move from `before` to `after`, and keep the work done since `before`."""

    def export_inner(self) -> dict[str, npt.NDArray[Any]]:
        """The state that lives across rounds."""

    def import_inner(self, saved: OptimizerState) -> None:
        """Restore an exported state. Raises StateError if it is not of this model."""

    def forget_inner(self) -> None:
        """Start the state that lives across rounds again."""


def method_for(train: TrainSpec, model: LocalModel) -> Method:
    return DilocoMethod(model, train.inner) if train.method == "diloco" else GradientMethod(model)


class DilocoMethod:
    """Inner steps; the update is the pseudo-gradient (Douillard et al. 2023, algorithm 1)."""

    can_share = True

    def __init__(self, model: LocalModel, inner: InnerSpec) -> None:
        self._model = model
        self._clip_norm = inner.clip_norm
        self._inner = inner
        self._optimizer = InnerOptimizer(model, inner)

    def step(self, samples: Sequence[Sample], factor: float) -> Loss:
        """One step on the mean loss of the batch's trained tokens."""
        tokens = trained_tokens(samples)
        if tokens == 0:
            return Loss(0.0, 0)
        self._model.clear_gradients()
        loss = self._model.backward(samples, divisor=tokens)
        norm = self._model.clip_gradients(self._clip_norm or float("inf"))
        if not torch.isfinite(norm):
            raise diverged("the gradient is not finite")
        with memory_limit(self._model.device, "the inner optimizer"):
            self._optimizer.step(factor)
        return loss

    def update(self, base: Tensors, tokens: int) -> dict[str, Array]:
        """base − local: an outer SGD step with rate 1 lands on the local parameters."""
        params = self._model.params
        return {name: base[name] - as_array(local) for name, local in params.items()}

    def restart(self) -> None:
        self._model.clear_gradients()

    def merge(self, before: Tensors, after: Tensors) -> None:
        """local ← after + (local − before): exactly `after` for parameters that did not move."""
        self._model.shift(before, after)

    def export_inner(self) -> dict[str, npt.NDArray[Any]]:
        """See `InnerOptimizer.export`."""
        return self._optimizer.export()

    def import_inner(self, saved: OptimizerState) -> None:
        self._optimizer.restore(saved)

    def forget_inner(self) -> None:
        self._optimizer = InnerOptimizer(self._model, self._inner)


class GradientMethod:
    """Accumulates the gradient; the update is its mean over trained tokens. The outer optimizer steps."""

    can_share = False

    def __init__(self, model: LocalModel) -> None:
        self._model = model

    def step(self, samples: Sequence[Sample], factor: float) -> Loss:
        """Add the gradient of the summed loss, so that the means of two peers combine by their tokens. The
        fold has the rate, and its factor."""
        aside = self._model.set_gradients_aside()
        try:
            loss = self._model.backward(samples, divisor=1)
            if not self._model.gradients_are_finite():
                raise diverged("the gradient is not finite")
        except NotFinite:
            self._model.clear_gradients()
            raise
        finally:
            self._model.add_gradients(aside)
        return loss

    def update(self, base: Tensors, tokens: int) -> dict[str, Array]:
        sums = self._model.gradients()
        if not all(np.isfinite(array).all() for array in sums.values()):
            raise diverged("the gradient is not finite")
        for array in sums.values():
            np.divide(array, np.float32(max(1, tokens)), out=array)
        return sums

    def restart(self) -> None:
        self._model.clear_gradients()

    def merge(self, before: Tensors, after: Tensors) -> None:
        """The gradient so far stays in the sum, one round stale."""
        self._model.load(after)

    def export_inner(self) -> dict[str, npt.NDArray[Any]]:
        """Nothing: the outer optimizer is in the shared state."""
        return {}

    def import_inner(self, saved: OptimizerState) -> None:
        if saved:
            raise StateError(
                "there is a saved inner optimizer, but this run trains by plain gradients",
                fix="Remove it; this run does not need it.",
            )

    def forget_inner(self) -> None:
        """Nothing: see `export_inner`."""
