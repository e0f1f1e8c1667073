"""Renders why an evaluation failed, for the messages of both programs."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.core.units import format_bytes
from barnraise.evaluation import runner
from barnraise.runtime.child_process import ChildDied, ChildTimedOut, child_message


def failure_message(reason: runner.EvaluationFailure) -> str:
    """Why the checkpoint has no held-out loss."""
    match reason:
        case runner.EvaluationDisabled():
            return "the run spec asks for no evaluation"
        case runner.NoHeldOutText():
            return "the run holds no text out"
        case runner.NotEnoughMemory(needed, free):
            return f"it takes {format_bytes(needed)} of memory, {format_bytes(free)} are free"
        case runner.LossNotFinite(loss):
            return f"its held-out loss is {loss}"
        case runner.UnreadableReply(line):
            return f"{runner.PROGRAM} printed {line[:100]!r}"
        case ChildTimedOut() | ChildDied():
            return child_message(reason)
        case _:
            assert_never(reason)
