"""Training survives faults, in the simulator."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from barnraise.contract.spec import RoundSpec
from scripts.simulation.retention import (
    ALONE,
    LEAST,
    SHARED,
    TAKEOVER,
    FaultyWorld,
    Plan,
    Victim,
    measure,
    victims_of,
)
from tests.support.world import TICK

SPEC = RoundSpec(seconds=20.0, grace=10.0, min_contributions=1)
PLAN = Plan(
    volunteers=8, round=SPEC, faults=12, fault_seconds=10.0, every=60.0, seed=0, victims=victims_of(ALONE)
)


@pytest.mark.parametrize("closers", [ALONE, SHARED])
@pytest.mark.parametrize("one", [None, Victim.COORDINATOR])
def test_almost_all_training_survives_faults(closers: int, one: Victim | None) -> None:
    plan = replace(PLAN, closers=closers, victims=victims_of(closers) if one is None else (one,))
    found, without = measure(plan), measure(replace(plan, fault_seconds=0.0))
    assert found.injected.total() == plan.faults
    assert without.injected == Counter()
    assert found.rate >= LEAST * without.rate


def test_a_killed_volunteer_lives_less() -> None:
    found = measure(replace(PLAN, victims=(Victim.KILLED,)))
    whole = measure(replace(PLAN, victims=(Victim.CUT_OFF,)))
    assert found.injected == {Victim.KILLED: 12}
    assert found.lived < whole.lived


def closed(*victims: Victim) -> int:
    """Rounds that three closers close in ten minutes without `victims`."""
    world = FaultyWorld(SPEC, closers=SHARED)
    peer = world.join()
    for victim in victims:
        world.take_away(victim, peer)
    for _ in range(600_000 // TICK):
        world.tick()
    return world.round


def test_two_of_three_closers_close_rounds() -> None:
    whole = closed()
    assert whole > 20
    assert closed(Victim.CLOSER) == whole
    late = TAKEOVER / 1000 / SPEC.seconds + 1
    assert whole - late <= closed(Victim.COORDINATOR) <= whole
    assert closed(Victim.COORDINATOR, Victim.CLOSER) == 0
    assert closed(Victim.CLOSER, Victim.CLOSER) == 0


def test_the_same_seed_gives_the_same_figures() -> None:
    assert measure(PLAN) == measure(PLAN)
