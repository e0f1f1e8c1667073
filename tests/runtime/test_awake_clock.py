"""A clock that leaves pauses out, driven by hand."""

from __future__ import annotations

from barnraise.core.ids import Millis
from barnraise.runtime.awake_clock import AwakeClock
from barnraise.runtime.pauses import PAUSE_MS, Paused


class Machine:
    """Its clocks, in milliseconds."""

    def __init__(self) -> None:
        self.elapsed, self.running = Millis(100_000), Millis(50_000)

    def awake_clock(self) -> AwakeClock:
        return AwakeClock(lambda: self.elapsed, lambda: self.running)

    def run(self, ms: int, *, asleep: bool = False) -> None:
        self.elapsed = Millis(self.elapsed + ms)
        self.running = Millis(self.running + (0 if asleep else ms))


def test_time_that_passes_in_ticks_is_awake() -> None:
    machine = Machine()
    clock = machine.awake_clock()
    began = clock()
    for _ in range(40):
        machine.run(250)
        clock()
    assert (clock() - began, clock.pauses()) == (10_000, [])


def test_a_stopped_process_is_not_awake() -> None:
    machine = Machine()
    clock = machine.awake_clock()
    began = clock()
    machine.run(60_250)
    assert clock() - began == 250
    assert clock.pauses() == [Paused(60.0, asleep=False)]
    assert clock.pauses() == []


def test_a_sleeping_machine_is_not_awake() -> None:
    machine = Machine()
    clock = machine.awake_clock()
    machine.run(3_600_000, asleep=True)
    machine.run(250)
    assert clock.pauses() == [Paused(3600.0, asleep=True)]


def test_a_busy_machine_is_awake() -> None:
    machine = Machine()
    clock = machine.awake_clock()
    began = clock()
    machine.run(PAUSE_MS - 1)
    assert (clock() - began, clock.pauses()) == (PAUSE_MS - 1, [])
