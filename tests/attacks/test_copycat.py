"""Three of eight peers copy the contribution of another one."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import COPYCAT
from tests.support.attacked_swarm import attacked


def test_an_open_run_keeps_its_gain() -> None:
    assert attacked(COPYCAT, "audits").share >= 0.9
