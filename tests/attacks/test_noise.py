"""Three of eight peers send noise of thirty times an honest norm."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import NOISE
from scripts.benchmarks.attacks.verdicts import WITHIN
from tests.support.attacked_swarm import attacked


def test_it_harms_an_undefended_run() -> None:
    assert attacked(NOISE, "none").share < 0.9


def test_an_open_run_keeps_its_gain() -> None:
    found = attacked(NOISE, "audits")
    assert found.share >= 0.9
    assert found.rounds is not None
    assert found.rounds <= WITHIN
