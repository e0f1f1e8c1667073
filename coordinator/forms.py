"""Whether a run can be had in every form that its spec asks for: found out before work starts."""

from __future__ import annotations

from pathlib import Path

from barnraise.errors import SpecError, UserError
from barnraise.spec import RunSpec


def check_forms(spec: RunSpec, base: Path) -> None:
    """Raises SpecError where the model in `base` cannot be written as GGUF though that is asked for.

    Raises ModelUnavailable.
    """
    if spec.checkpoint.gguf is None:
        return
    from barnraise.edge import gguf_export  # it brings torch, which few runs need this early

    try:
        gguf_export.check(base)
    except UserError as error:
        raise SpecError(
            f"checkpoint.gguf is {spec.checkpoint.gguf!r}, but {error.problem}",
            fix=f"Leave `gguf` out of [checkpoint], or take another base model. {error.fix}",
        ) from None
