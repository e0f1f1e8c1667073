"""Three of eight peers turn the mean of all against the honest one (Xie et al. 2020)."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import INNER_PRODUCT
from tests.support.attacked_swarm import attacked


def test_it_harms_an_undefended_run() -> None:
    assert attacked(INNER_PRODUCT, "none").share < 0.9


def test_an_open_run_keeps_its_gain() -> None:
    found = attacked(INNER_PRODUCT, "audits")
    assert found.share >= 0.9
    assert found.weight == 0
