"""Three of eight peers send −1000 times what they would send honestly."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import HUGE
from tests.support.attacked_swarm import attacked


def test_it_harms_an_undefended_run() -> None:
    assert attacked(HUGE, "none").share < 0.9


def test_an_open_run_keeps_its_gain() -> None:
    assert attacked(HUGE, "audits").share >= 0.9
