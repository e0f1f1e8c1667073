"""Renders what happened to the coordinator's clock."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.runtime.clock_steps import ClockSet
from coordinator.reasons.clock import ClockBehind


def clock_message(reason: ClockBehind | ClockSet) -> str:
    """What happened, and what it means for the run."""
    match reason:
        case ClockBehind(seconds):
            return (
                f"this machine's clock is {seconds:.0f} s behind the run's records: the run's clock continues"
                " from the newest. Turn network time on"
            )
        case ClockSet(seconds):
            way = "forward" if seconds > 0 else "back"
            return f"this machine's clock was set {way} by {abs(seconds):.0f} s; the run's stays as it is"
        case _:
            assert_never(reason)
