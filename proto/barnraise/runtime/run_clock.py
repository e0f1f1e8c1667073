"""The run's clock in this process: a local clock that never goes back, and the offset from it to the run's.

The wall clock is read once, at the start. Setting it later changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from barnraise.contract.clock_offset import ClockOffset
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis
from barnraise.runtime.clock_steps import ClockSet, step_between
from barnraise.runtime.machine_clocks import elapsed_ms, wall_ms


@dataclass
class RunClock:
    """Called for the run's time. Begins as the machine's wall clock: a coordinator's defines the run's."""

    elapsed: Callable[[], Millis] = elapsed_ms
    wall: Callable[[], Millis] = wall_ms

    def __post_init__(self) -> None:
        self._wall_ahead = self.wall() - self.elapsed()
        self._offset = ClockOffset(self._wall_ahead)

    def __call__(self) -> Millis:
        return self._offset.run_time(self.elapsed())

    def head_received(self, at: Millis, sent: Millis | None = None) -> None:
        """As `ClockOffset.head_received`, now. sent: as `elapsed` gave it."""
        self._offset.head_received(at, self.elapsed(), sent)

    def not_before(self, at: Millis) -> float:
        """Continue from `at` where the clock is earlier. Returns the seconds that it was behind, else 0."""
        behind = max(0.0, seconds_between(self(), at))
        if behind:
            self._offset = ClockOffset(at - self.elapsed())
        return behind

    def wall_set(self) -> ClockSet | None:
        """How the wall clock was set since the last call; None where it was not."""
        before, self._wall_ahead = self._wall_ahead, self.wall() - self.elapsed()
        return step_between(before, self._wall_ahead)
