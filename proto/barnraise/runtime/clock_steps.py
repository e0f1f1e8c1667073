"""When the machine's wall clock was set: it then disagrees with the clock that measures durations. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.reason import Reason

STEP_MS = 2_000
"""A smaller difference between two readings is drift, or network time that slews the clock."""


@dataclass(frozen=True)
class ClockSet(Reason):
    """The machine's wall clock was set, by a person or by network time."""

    seconds: float
    """How far forward; negative where it went back."""


def step_between(before: int, now: int) -> ClockSet | None:
    """before, now: milliseconds by which the wall clock was ahead of the other one at two readings."""
    return ClockSet((now - before) / 1000) if abs(now - before) >= STEP_MS else None
