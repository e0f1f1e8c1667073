"""Admitted keys hold up the rounds of others: by heartbeats, and by contributions that do not come."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pytest

from barnraise.contract.spec import RoundSpec
from coordinator.rounds.conduct import Conduct
from tests.support import stallers
from tests.support.stallers import AttackedWorld, Staller, rounds_in

HONEST = 5
SECONDS = 600.0
LEAST = 0.8
SPECS = {
    "time": RoundSpec(seconds=10.0, grace=4.0),
    "steps": RoundSpec(seconds=30.0, grace=10.0, steps=4),
    "tokens": RoundSpec(seconds=30.0, grace=10.0, target_tokens=400),
}
Attack = Callable[[Staller, AttackedWorld], None]
ATTACKS: tuple[Attack, ...] = (
    stallers.says_it_trains,
    stallers.says_it_is_late,
    stallers.sits_out,
    stallers.works_far_ahead,
    stallers.claims_tokens,
    stallers.announces_without_serving,
    stallers.contributes_every_other_round,
    stallers.contributes_then_stalls,
    stallers.contributes_once,
    stallers.joins_again_with_a_new_key,
    stallers.contributes_with_a_new_key,
)


@lru_cache
def alone(name: str) -> AttackedWorld:
    return rounds_in(SPECS[name], SECONDS, HONEST, None, 0)


def folded_by_honest(world: AttackedWorld) -> int:
    """Tokens of volunteers that do not attack."""
    lying = {key for key in world.peers if world.peers[key].name.startswith("staller")}
    return sum(commit.tokens for commits in world.closes for commit in commits if commit.owner not in lying)


OTHERS = [
    pytest.param("time", marks=pytest.mark.full("rounds that end by time, which a wait hardly lengthens")),
    pytest.param("tokens", marks=pytest.mark.full("rounds that end by tokens")),
]


@pytest.mark.parametrize("name", ["steps", *OTHERS])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_rounds_close_at_almost_the_same_rate(attack: Attack, name: str) -> None:
    """3 of 8 attack."""
    without, world = alone(name), rounds_in(SPECS[name], SECONDS, HONEST, attack, 3)
    rate = world.round / without.round
    work = folded_by_honest(world) / folded_by_honest(without)
    assert rate >= LEAST
    assert work >= LEAST


HARMFUL: tuple[Attack, ...] = (
    stallers.says_it_trains,
    stallers.announces_without_serving,
    stallers.contributes_then_stalls,
)


@pytest.mark.parametrize("attack", HARMFUL, ids=lambda attack: attack.__name__)
def test_a_close_that_waits_for_all_is_slow(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacks do harm where nothing is remembered of earlier rounds."""
    without = alone("steps")
    monkeypatch.setattr(Conduct, "why_not_awaited", lambda *_: None)
    world = rounds_in(SPECS["steps"], SECONDS, HONEST, attack, 3)
    assert world.round / without.round < 0.7


def test_200_keys_that_only_send_heartbeats_change_neither_the_turns_nor_the_rate() -> None:
    seconds, spec = 300.0, SPECS["steps"]
    without = rounds_in(spec, seconds, HONEST, None, 0)
    world = rounds_in(spec, seconds, HONEST, stallers.says_it_trains, 200)
    assert world.round / without.round >= LEAST
    assert {turnout.turns for turnout in world.turnouts} == {1}
    assert len(world.conduct.records) == 200 + HONEST


def test_claimed_tokens_end_no_training() -> None:
    """With a token target, each honest volunteer trains as long as without the claims."""
    without = alone("tokens")
    world = rounds_in(SPECS["tokens"], SECONDS, HONEST, stallers.claims_tokens, 3)
    trained = [folded_by_honest(each) / each.round for each in (without, world)]
    assert trained[1] >= LEAST * trained[0]
