"""Three of eight peers send their first contribution again and again."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import REPLAY
from tests.support.attacked_swarm import attacked


def test_an_open_run_keeps_its_gain() -> None:
    assert attacked(REPLAY, "audits").share >= 0.9
