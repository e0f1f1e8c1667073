"""Three of eight peers train on false labels."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import LABEL_FLIP
from tests.support.attacked_swarm import attacked


def test_it_harms_an_undefended_run() -> None:
    assert attacked(LABEL_FLIP, "none").share < 0.9


def test_an_open_run_keeps_its_gain() -> None:
    assert attacked(LABEL_FLIP, "audits").share >= 0.9
