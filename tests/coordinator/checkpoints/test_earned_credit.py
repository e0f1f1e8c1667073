"""A card credits accepted, audited tokens only."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.contract.log_entries import Change
from barnraise.contract.standing import Level
from barnraise.core.ids import Millis
from coordinator.checkpoints.card_data import card_facts
from coordinator.store.next_entry import standing_change_of
from tests.support.coordinators import opened_store, train_round
from tests.support.parts import ADA, BEN, NOW


@pytest.mark.parametrize(
    ("level", "work", "credited"),
    [
        ("trusted", 0, 2),
        ("probation", 3, 2),
        ("probation", 0, 1),
        ("suspended", 3, 1),
        ("banned", 3, 1),
    ],
)
def test_keys_without_audited_work_and_harmful_ones_get_no_credit(
    level: Level, work: int, credited: int, tmp_path: Path
) -> None:
    with opened_store(tmp_path) as store:
        train_round(store, ADA, BEN)
        change = Change(key=BEN.public, level=level, work=work, cause="order")
        store.amend(standing_change_of(store.snapshot, [change], (), Millis(NOW)), Millis(NOW))
        facts = card_facts(store.snapshot, 1, None)
    assert len(facts.credits.named) + facts.credits.unnamed == credited
