"""What a failed evaluation of the base model says about the run: pure."""

from __future__ import annotations

import signal

from typing_extensions import assert_never

from barnraise.core.errors import BarnraiseError, MachineError, SpecError
from barnraise.evaluation.failures import (
    EvaluationDisabled,
    EvaluationFailure,
    LossNotFinite,
    NoHeldOutText,
    NotEnoughMemory,
    UnreadableReply,
    failure_message,
)
from barnraise.runtime.child_failures import ChildDied, ChildTimedOut, ChildTooLarge

_NO_EVALUATION = "To run without evaluations, set `held_out_tokens = 0` under [checkpoint]."


def base_error(failure: EvaluationFailure) -> BarnraiseError | None:
    """Why volunteers must not be invited; None where the run can work.

    A coordinator may be too small for the model: its checkpoints then have no held-out loss.
    """
    match failure:
        case EvaluationDisabled() | NoHeldOutText() | NotEnoughMemory() | ChildTooLarge():
            return None
        case ChildDied(status=status) if status == -signal.SIGKILL:  # by the system, for lack of memory
            return None
        case LossNotFinite(loss):
            return SpecError(
                f"the base model's held-out loss is {loss}: its weights are damaged, or do not fit its code",
                fix="Get the complete model again, or set another `source` under [model] in run.toml.",
            )
        case ChildTimedOut():
            return MachineError(
                f"the base model cannot be evaluated: {failure_message(failure)}",
                fix=f"Use a faster machine. {_NO_EVALUATION}",
            )
        case ChildDied() | UnreadableReply():
            return MachineError(
                f"the base model cannot be evaluated: {failure_message(failure)}",
                fix=f"Run again with --debug, and report it. {_NO_EVALUATION}",
            )
        case _:
            assert_never(failure)
