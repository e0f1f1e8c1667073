"""Three of eight peers are honest until they are trusted, and attack together then."""

from __future__ import annotations

import pytest

from scripts.benchmarks.attacks.kinds import HUGE, INNER_PRODUCT, NOISE, Attack
from scripts.benchmarks.attacks.verdicts import WITHIN
from tests.support.attacked_swarm import attacked


def test_they_harm_an_undefended_run() -> None:
    assert attacked(HUGE, "none", sleepers=True).share < 0


@pytest.mark.parametrize("attack", [HUGE, INNER_PRODUCT, NOISE], ids=lambda attack: attack.name)
def test_an_open_run_keeps_its_gain(attack: Attack) -> None:
    found = attacked(attack, "audits", sleepers=True)
    assert found.share >= 0.9
    assert found.rounds is not None
    assert found.rounds <= WITHIN
