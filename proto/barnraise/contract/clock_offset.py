"""How far the run's clock is from a local one: an estimate from signed heads. Pure.

A head states the run's time when it was signed. It can only be delayed, so its time minus the local time of
receipt is never above the true offset, and the largest of these bounds is the best one: its error is that
head's delay. Only the last ones count, as the run's clock goes back where its coordinator moves to another
machine, or the machine is a virtual one that was suspended.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from barnraise.core.ids import Millis

WINDOW_MS = 30_000
"""Age of the bounds that count: of six heads, where one is announced every 5 s."""
MEASURES = 64
"""Bounds that are kept at most."""


@dataclass(frozen=True)
class _Bound:
    received: int
    offset: int


@dataclass
class ClockOffset:
    """Milliseconds from a local clock, which never goes back, to the run's clock."""

    value: int
    """The estimate."""
    _bounds: deque[_Bound] = field(default_factory=lambda: deque(maxlen=MEASURES))

    def head_received(self, at: Millis, received: Millis, sent: Millis | None = None) -> None:
        """A head was signed at `at`, by the run's clock. received: the local time.

        sent: where the head answers a request, the local time before that: the coordinator read its clock
        between the two, so `at` minus `sent` is never below the true offset.
        """
        kept = [bound for bound in self._bounds if received - bound.received < WINDOW_MS]
        if sent is not None:
            kept = [bound for bound in kept if bound.offset <= at - sent]
        self._bounds.clear()
        self._bounds.extend([*kept, _Bound(received, at - received)])
        self.value = max(bound.offset for bound in self._bounds)

    def run_time(self, local: Millis) -> Millis:
        """The run's time at a local time."""
        return Millis(local + self.value)
