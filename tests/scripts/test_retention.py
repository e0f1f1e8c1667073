"""Training survives faults, in the simulator."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from barnraise.contract.spec import RoundSpec
from scripts.simulation.retention import LEAST, Plan, Victim, measure

SPEC = RoundSpec(seconds=20.0, grace=10.0, min_contributions=1)
PLAN = Plan(volunteers=8, round=SPEC, faults=12, fault_seconds=10.0, every=60.0, seed=0)


@pytest.mark.parametrize("victims", [tuple(Victim), (Victim.COORDINATOR,)])
def test_almost_all_training_survives_faults(victims: tuple[Victim, ...]) -> None:
    plan = replace(PLAN, victims=victims)
    found, without = measure(plan), measure(replace(plan, fault_seconds=0.0))
    assert found.injected.total() == plan.faults
    assert without.injected == Counter()
    assert found.rate >= LEAST * without.rate


def test_a_killed_volunteer_lives_less() -> None:
    found = measure(replace(PLAN, victims=(Victim.KILLED,)))
    whole = measure(replace(PLAN, victims=(Victim.CUT_OFF,)))
    assert found.injected == {Victim.KILLED: 12}
    assert found.lived < whole.lived


def test_the_same_seed_gives_the_same_figures() -> None:
    assert measure(PLAN) == measure(PLAN)
