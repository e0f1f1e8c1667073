"""How a child program can fail (`barnraise.runtime.child_process`). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import assert_never

from barnraise.core.reason import Reason
from barnraise.core.units import format_bytes


@dataclass(frozen=True)
class ChildTimedOut(Reason):
    """The program took too long and was killed."""

    seconds: float


@dataclass(frozen=True)
class ChildDied(Reason):
    """The program ended with another status than 0."""

    module: str
    status: int
    """Its exit status; minus the number of a signal that ended it."""
    last_line: str
    """Of its standard error."""


@dataclass(frozen=True)
class ChildTooLarge(Reason):
    """The program took more memory than it may and was killed."""

    limit: int
    """Bytes."""


ChildFailure = ChildTimedOut | ChildDied | ChildTooLarge


def child_message(reason: ChildFailure) -> str:
    """Renders a failure, for the messages of both programs."""
    match reason:
        case ChildTimedOut(seconds):
            return f"it took more than {seconds / 60:.0f} minutes"
        case ChildTooLarge(limit):
            return f"it took more than {format_bytes(limit)} of memory"
        case ChildDied(module, status, last_line):
            return f"{module} ended with status {status}: {last_line}"
        case _:
            assert_never(reason)
