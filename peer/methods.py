"""The two ways to train in a round, behind one interface: DiLoCo's inner steps, and a plain gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from barnraise.errors import StateError
from barnraise.shards import Sample
from barnraise.spec import InnerSpec, TrainSpec
from barnraise.state import Array, Tensors
from peer.device import memory_limit
from peer.local_model import LocalModel, Loss, as_array, diverged, trained_tokens

Saved = Mapping[str, npt.NDArray[Any]]
"""An inner optimizer's state as plain arrays, for a safetensors file."""

_STEPS = "steps"
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Method(Protocol):
    def step(self, samples: Sequence[Sample]) -> Loss:
        """Train on `samples` (one batch)."""

    def update(self, base: Tensors, tokens: int) -> dict[str, Array]:
        """What the local work since `base` adds up to, over `tokens` trained tokens; fp32."""

    def restart(self) -> None:
        """Forget the work of the unfinished round."""

    def merge(self, before: Tensors, after: Tensors) -> None:
        """Go over from `before` to `after`, and keep the work done since `before`."""

    def export_inner(self) -> dict[str, npt.NDArray[Any]]:
        """The state that lives across rounds."""

    def import_inner(self, saved: Saved) -> None:
        """Take up an exported state. Raises StateError where it is not of this model."""


def method_for(train: TrainSpec, model: LocalModel) -> Method:
    return DilocoMethod(model, train.inner) if train.method == "diloco" else GradientMethod(model)


class DilocoMethod:
    """Inner AdamW steps; the update is the pseudo-gradient (Douillard et al. 2023, algorithm 1)."""

    def __init__(self, model: LocalModel, inner: InnerSpec) -> None:
        self._model = model
        self._inner = inner
        self._steps = 0
        self._optimizer = torch.optim.AdamW(
            list(model.params.values()),
            lr=inner.lr,
            betas=(inner.beta1, inner.beta2),
            eps=inner.eps,
            weight_decay=inner.weight_decay,
        )

    def step(self, samples: Sequence[Sample]) -> Loss:
        """One AdamW step on the mean loss of the batch's trained tokens."""
        tokens = trained_tokens(samples)
        if tokens == 0:
            return Loss(0.0, 0)
        self._model.clear_gradients()
        loss = self._model.backward(samples, divisor=tokens)
        if self._inner.clip_norm > 0:
            norm = torch.nn.utils.clip_grad_norm_(self._model.params.values(), self._inner.clip_norm)
            if not torch.isfinite(norm):
                raise diverged("the gradient is not finite")
        self._steps += 1
        for group in self._optimizer.param_groups:
            group["lr"] = self._inner.lr * min(1.0, self._steps / max(1, self._inner.warmup_steps))
        with memory_limit(self._model.device, "the inner optimizer"):
            self._optimizer.step()
        return loss

    def update(self, base: Tensors, tokens: int) -> dict[str, Array]:
        """base − local: an outer SGD step with rate 1 lands on the local parameters."""
        return {name: base[name] - as_array(local) for name, local in self._model.params.items()}

    def restart(self) -> None:
        self._model.clear_gradients()

    def merge(self, before: Tensors, after: Tensors) -> None:
        """local ← after + (local − before): exactly `after` where nothing moved."""
        self._model.shift(before, after)

    def export_inner(self) -> dict[str, npt.NDArray[Any]]:
        """`steps` (int64 [1]) and, once there are any, `exp_avg/NAME` and `exp_avg_sq/NAME` (fp32).

        Where training is on the CPU these are the optimizer's own arrays: save them before the next step.
        """
        saved: dict[str, npt.NDArray[Any]] = {_STEPS: np.array([self._steps], np.int64)}
        for name, parameter in self._model.params.items():
            moments = self._optimizer.state.get(parameter, {})
            saved |= {f"{kind}/{name}": _shared(moments[kind]) for kind in _MOMENTS if kind in moments}
        return saved

    def import_inner(self, saved: Saved) -> None:
        steps = int(saved[_STEPS][0]) if _STEPS in saved and saved[_STEPS].size == 1 else 0
        shapes = dict(self._model.layout)
        expected = {f"{kind}/{name}": shape for kind in _MOMENTS for name, shape in shapes.items() if steps}
        found = {name: tuple(array.shape) for name, array in saved.items() if name != _STEPS}
        if found != expected or _STEPS not in saved or steps < 0:
            raise StateError(
                "the saved inner optimizer does not belong to this run's model",
                fix="Remove it; the optimizer then starts anew, which costs a few steps.",
            )
        self._steps = steps
        self._optimizer.state.clear()
        for name, parameter in self._model.params.items():
            if steps:
                moments = {
                    kind: torch.tensor(saved[f"{kind}/{name}"], device=parameter.device) for kind in _MOMENTS
                }
                self._optimizer.state[parameter] = {"step": torch.tensor(float(steps)), **moments}


def _shared(tensor: torch.Tensor) -> Array:
    """`tensor` as an array, fp32: its own memory where it is on the CPU."""
    array: Array = tensor.detach().to("cpu", torch.float32).numpy()
    return array


class GradientMethod:
    """Accumulates the gradient; the update is its mean over trained tokens. The fold takes the step."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model

    def step(self, samples: Sequence[Sample]) -> Loss:
        """Add the gradient of the summed loss, so that means of any two peers combine by their tokens."""
        return self._model.backward(samples, divisor=1)

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

    def import_inner(self, saved: Saved) -> None:
        if saved:
            raise StateError(
                "there is a saved inner optimizer, but this run trains by plain gradients",
                fix="Remove it; this run does not need it.",
            )
