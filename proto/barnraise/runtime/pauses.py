"""When a gap between two readings of a clock is a pause of the program. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.reason import Reason

TICK_MS = 250
"""Between two readings: the error of a pause's length."""
PAUSE_MS = 5_000
"""A gap this long is a pause. A machine that is merely busy runs a waiting thread sooner."""


@dataclass(frozen=True)
class Paused(Reason):
    """This program did not run."""

    seconds: float
    asleep: bool
    """The machine slept; else the process was stopped, or the host of a virtual machine suspended it."""


def pause_in(gap: int, running: int) -> Paused | None:
    """The pause in `gap` milliseconds between two readings, `running` of them with the machine awake."""
    if gap < PAUSE_MS:
        return None
    return Paused((gap - TICK_MS) / 1000, asleep=gap - running >= gap / 2)
