"""Why a checkpoint gets no held-out loss on a machine, and these reasons in words for both programs. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import assert_never

from barnraise.core.reason import Reason
from barnraise.core.units import format_bytes
from barnraise.runtime.child_failures import ChildDied, ChildTimedOut, ChildTooLarge, child_message

PROGRAM = "barnraise.evaluation.program"
"""The module that evaluates."""


@dataclass(frozen=True)
class EvaluationDisabled(Reason):
    """The spec sets `checkpoint.held_out_tokens` to 0."""


@dataclass(frozen=True)
class NoHeldOutText(Reason):
    """The spec sets `data.held_out` to 0, or the dataset is too small."""


@dataclass(frozen=True)
class NotEnoughMemory(Reason):
    """The model does not fit into this machine's free memory."""

    needed: int
    """Bytes."""
    free: int
    """Bytes."""


@dataclass(frozen=True)
class LossNotFinite(Reason):
    """The checkpoint diverged."""

    loss: str
    """`nan` or `inf`."""


@dataclass(frozen=True)
class UnreadableReply(Reason):
    """The program printed something else than a reply."""

    line: str


EvaluationFailure = (
    EvaluationDisabled
    | NoHeldOutText
    | NotEnoughMemory
    | LossNotFinite
    | UnreadableReply
    | ChildTimedOut
    | ChildDied
    | ChildTooLarge
)


def failure_message(reason: EvaluationFailure) -> str:
    """Why the checkpoint has no held-out loss."""
    match reason:
        case EvaluationDisabled():
            return "the run spec asks for no evaluation"
        case NoHeldOutText():
            return "the run holds no text out"
        case NotEnoughMemory(needed, free):
            return f"it takes {format_bytes(needed)} of memory, {format_bytes(free)} are free"
        case LossNotFinite(loss):
            return f"its held-out loss is {loss}"
        case UnreadableReply(line):
            return f"{PROGRAM} printed {line[:100]!r}"
        case ChildTimedOut() | ChildDied() | ChildTooLarge():
            return child_message(reason)
        case _:
            assert_never(reason)
