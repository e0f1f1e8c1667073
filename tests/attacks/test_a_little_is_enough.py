"""Three of eight peers stay within the spread of the honest ones (Baruch et al. 2019)."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import LITTLE
from tests.support.attacked_swarm import attacked


def test_an_open_run_keeps_its_gain() -> None:
    assert attacked(LITTLE, "audits").share >= 0.9
