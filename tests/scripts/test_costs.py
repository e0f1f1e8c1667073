"""`scripts/bench costs`: what audits take follows from the coordinator's budget, at any cost of one."""

from __future__ import annotations

import pytest

from coordinator.audits.choose import STEP_COSTS
from scripts.benchmarks.costs import Audit, simulated, volunteer_table


@pytest.mark.parametrize("target", ["lora", "full"])
@pytest.mark.parametrize("audited", [1, 3, 8])
@pytest.mark.parametrize("fixed", [0.0, 9.0, 300.0])
@pytest.mark.parametrize("length", [25.0, 300.0])
def test_audits_take_a_tenth_of_one_volunteer_at_most(
    target: str, audited: int, fixed: float, length: float
) -> None:
    each = 0.5
    step = STEP_COSTS[target] * each
    often, share = simulated(target, audited, Audit(fixed + 100 * each, each, 100), step, length)
    assert 0 < often <= 1
    assert 0.05 < share <= 0.1 + 0.001 or often == 1, "what is saved is used"
    assert share <= 0.101


def test_the_time_that_defences_add_is_a_share_of_a_round() -> None:
    found = {"step": 2.0, "forward": 1.0, "fold": 0.1, "defended": 0.35, "read": 0.0}
    assert "| 8 contributions | 2.00 | 1.00 | 0.100 | 0.350 | 0.250 | 1.00% | 0.42% | 0.08% |" in (
        volunteer_table("lora", found)
    )
