"""What happened to the coordinator's clock."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.reason import Reason


@dataclass(frozen=True)
class ClockBehind(Reason):
    """At a start, the machine's clock was behind the run's records: the run's clock continues from these."""

    seconds: float
