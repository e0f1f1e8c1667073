"""Three of eight peers train on one batch that they like."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import WRONG_SAMPLES
from tests.support.attacked_swarm import attacked


def test_an_open_run_keeps_its_gain() -> None:
    assert attacked(WRONG_SAMPLES, "audits").share >= 0.9
