"""Renders the reasons of admission and closing."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.core.errors import RefusedError
from coordinator.rounds.admission import ClockOff, WrongRun


def refused_claim(reason: WrongRun | ClockOff) -> RefusedError:
    """The answer to a claim to join that is not accepted."""
    match reason:
        case WrongRun(run, claimed):
            return RefusedError(f"this is the run {run}, not {claimed}", fix="Ask for this run's invite.")
        case ClockOff(seconds):
            side = "behind" if seconds > 0 else "ahead of"
            return RefusedError(
                f"your clock is {abs(seconds):.0f} s {side} the coordinator's",
                fix="Set this machine's clock (turn network time on) and join again.",
            )
        case _:
            assert_never(reason)
