"""The run's clock in a process, driven by hand."""

from __future__ import annotations

from barnraise.core.ids import Millis
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.run_clock import RunClock


class Machine:
    """Its clocks, in milliseconds."""

    def __init__(self) -> None:
        self.elapsed, self.wall = Millis(100_000), Millis(1_000_000)

    def run_clock(self) -> RunClock:
        return RunClock(lambda: self.elapsed, lambda: self.wall)

    def run(self, seconds: float) -> None:
        self.elapsed = Millis(self.elapsed + round(1000 * seconds))
        self.set_wall(seconds)

    def set_wall(self, by: float) -> None:
        self.wall = Millis(self.wall + round(1000 * by))


def test_setting_the_wall_clock_changes_nothing_and_is_noticed() -> None:
    machine = Machine()
    clock = machine.run_clock()
    assert clock() == 1_000_000
    for seconds in (600.0, -1200.0):
        machine.run(3)
        machine.set_wall(seconds)
        assert clock.wall_set() == ClockSet(seconds)
    machine.set_wall(1.9)
    assert clock.wall_set() is None, "network time slews it"
    assert clock() == 1_006_000


def test_a_restart_never_goes_back_before_what_was_signed() -> None:
    machine = Machine()
    clock = machine.run_clock()
    assert clock.not_before(Millis(400_000)) == 0.0
    assert clock.not_before(Millis(1_600_000)) == 600.0
    machine.run(1)
    assert clock() == 1_601_000


def test_a_volunteer_follows_signed_heads() -> None:
    machine = Machine()
    clock, sent = machine.run_clock(), Millis(99_000)
    clock.head_received(Millis(7_000_000), sent)
    assert clock() == 7_000_000
    machine.run(5)
    machine.set_wall(-600)
    assert clock() == 7_005_000
    clock.head_received(Millis(7_605_000))
    assert clock() == 7_605_000
