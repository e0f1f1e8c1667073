"""Three of eight peers send almost nothing, and claim the tokens of a whole round."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import LAZY
from tests.support.attacked_swarm import attacked


def test_an_open_run_keeps_its_gain() -> None:
    assert attacked(LAZY, "audits").share >= 0.9
