"""Whether checkpoints can be had and evaluated as the spec asks for: found out before work starts."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.spec import RunSpec
from barnraise.core.errors import SpecError, UserError
from coordinator.setup.licences import NotRedistributable, Redistributable, check_licence


def check_forms(spec: RunSpec, base: Path) -> None:
    """Raises SpecError where the model in `base` cannot be written as GGUF though that is asked for, or
    where evaluators are named and the held-out text may not be shown to them.

    Raises ModelUnavailable.
    """
    if spec.checkpoint.evaluators:
        match check_licence(spec.data.licence, "data.licence"):
            case NotRedistributable(reason):
                raise SpecError(
                    f"checkpoint.evaluators need the held-out text, but {reason}",
                    fix="Name the text's licence in [data], or leave `evaluators` out of [checkpoint].",
                )
            case Redistributable():
                pass
    if spec.checkpoint.gguf is None:
        return
    from barnraise.models import gguf_export  # it brings torch, which few runs need this early

    try:
        gguf_export.check(base)
    except UserError as error:
        raise SpecError(
            f"checkpoint.gguf is {spec.checkpoint.gguf!r}, but {error.problem}",
            fix=f"Leave `gguf` out of [checkpoint], or take another base model. {error.fix}",
        ) from None
