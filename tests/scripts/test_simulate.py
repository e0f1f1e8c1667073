"""A simulated run whose volunteers come and go, as `scripts/simulate` prints it, but a small one."""

from __future__ import annotations

from scripts.simulation.__main__ import problems_of, simulate
from scripts.simulation.sizes import Size


def test_rounds_close_and_nothing_grows_while_half_of_the_volunteers_leave_every_hour() -> None:
    found = simulate(100, hours=1.0, seed=0, seconds=300.0, half_life=3600.0)
    assert problems_of(found, 300.0) == []
    assert found.rounds >= 8
    assert found.keys > 140


def test_what_exceeds_its_bound_is_a_problem() -> None:
    found = simulate(10, hours=0.2, seed=0, seconds=300.0, half_life=3600.0)
    found.sizes["heartbeats"] = Size(2, 1)
    assert any("heartbeats" in problem for problem in problems_of(found, 300.0))
