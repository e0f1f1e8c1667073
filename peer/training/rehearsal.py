"""One step before the first: for a run whose coordinator could not try it."""

from __future__ import annotations

from typing import Literal

from barnraise.contract.spec import Lora, RunSpec
from barnraise.core.errors import NotFinite
from barnraise.rehearsal.isolation import FP32, REDUCED, Isolated, judge, measure
from barnraise.rehearsal.outcomes import NAMED, Fault, LossNotFinite, NoGradient, StepFailed
from barnraise.rehearsal.samples import RehearsalSamples
from peer.training.device import out_of_memory
from peer.training.local_model import LocalModel, trained_tokens

_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)
"""What model code raises for inputs that it cannot take."""


def rehearse(model: LocalModel, spec: RunSpec, samples: RehearsalSamples, *, exact: bool) -> Isolated | Fault:
    """One forward and backward pass, and whether documents affect each other; no parameter changes.

    exact: all products are in fp32. Raises TooLargeForMemory, which says nothing about the run.
    """
    packing: Literal["always", "never"] = "never" if spec.data.packing == "never" else "always"
    try:
        found = judge(measure(model.token_losses, samples.isolation), FP32 if exact else REDUCED, packing)
        if not isinstance(found, Isolated):
            return found
        return _backward(model, spec, samples) or found
    except _ERRORS as error:
        if out_of_memory(error):
            raise
        return StepFailed("the forward pass", (str(error).splitlines() or [type(error).__name__])[0][:300])
    finally:
        model.clear_gradients()


def _backward(model: LocalModel, spec: RunSpec, samples: RehearsalSamples) -> Fault | None:
    try:
        model.backward([samples.step], max(1, trained_tokens([samples.step])))
    except NotFinite:
        return LossNotFinite("not finite")
    idle = model.without_gradient()
    if idle and isinstance(spec.train.target, Lora):
        return NoGradient(tuple(idle[:NAMED]), len(idle))
    return None
