"""Whether a run can learn, and its checkpoints be written and evaluated, as the spec asks: checked before any
work starts.
"""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.spec import RunSpec
from barnraise.core.errors import SpecError, UserError
from barnraise.models.causal_lm import model_shape
from coordinator.messages.objections import refusal_fix, refusal_problem
from coordinator.messages.setup import not_redistributable
from coordinator.reasons.setup import NotRedistributable
from coordinator.setup.licences import check_licence
from coordinator.setup.objections import find_refusal


def check_forms(spec: RunSpec, base: Path) -> None:
    """Raises SpecError where evaluators are named and the held-out text may not be redistributed, where the
    learning rate is hopeless for the model in `base`, or where the spec asks for GGUF and the model has no
    such form; ModelUnavailable.
    """
    _check_evaluators(spec)
    _check_rate(spec, base)
    if spec.checkpoint.gguf is not None:
        _check_gguf(spec.checkpoint.gguf, base)


def _check_evaluators(spec: RunSpec) -> None:
    licence = check_licence(spec.data.licence, "data.licence")
    if spec.checkpoint.evaluators and isinstance(licence, NotRedistributable):
        raise SpecError(
            f"checkpoint.evaluators need the held-out text, but {not_redistributable(licence)}",
            fix="Name the text's licence in [data], or leave `evaluators` out of [checkpoint].",
        )


def _check_rate(spec: RunSpec, base: Path) -> None:
    refusal = find_refusal(spec, model_shape(base))
    if refusal is not None:
        raise SpecError(refusal_problem(refusal), fix=refusal_fix(refusal))


def _check_gguf(precision: str, base: Path) -> None:
    from barnraise.models import gguf_export  # it imports torch, which few runs need this early

    try:
        gguf_export.check(base)
    except UserError as error:
        raise SpecError(
            f"checkpoint.gguf is {precision!r}, but {error.problem}",
            fix=f"Leave `gguf` out of [checkpoint], or use another base model. {error.fix}",
        ) from None
