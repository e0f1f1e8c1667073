"""200 free keys attack eight trusted peers, and take every place of a round that is left."""

from __future__ import annotations

from scripts.benchmarks.attacks.kinds import SYBIL_FLOOD
from tests.support.attacked_swarm import attacked


def test_it_harms_an_undefended_run() -> None:
    assert attacked(SYBIL_FLOOD, "none", rounds=6).share < 0


def test_keys_without_audited_work_weigh_nothing() -> None:
    assert attacked(SYBIL_FLOOD, "caps", rounds=6).weight == 0


def test_an_open_run_keeps_its_gain() -> None:
    found = attacked(SYBIL_FLOOD, "audits")
    assert found.share >= 0.9
    assert found.weight == 0
