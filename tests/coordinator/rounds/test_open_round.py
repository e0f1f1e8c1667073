"""What a session remembers from one round to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.records import Presence
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, short
from coordinator.reasons.rounds import AwaitingContributions, MissedRounds
from coordinator.rounds.open_round import OpenRound
from coordinator.rounds.session import Session
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import FakeSwarm, api_of, contribution, fold_round, opened_store, session_of

BEN = PublicKey(parts.BEN.public)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def training(store: RunStore, owner: Identity) -> Presence:
    update = {"round": store.snapshot.round, "doing": "training", "name": ""}
    return parts.presence(owner).model_copy(update=update)


def tick(session: Session, swarm: FakeSwarm, now: int) -> None:
    store = session.store
    swarm.present = [training(store, owner) for owner in (parts.ADA, parts.BEN)]
    session.clock = session.contributions.clock = lambda: Millis(now)
    asyncio.run(session.tick())


def test_a_close_waits_once_for_a_volunteer_that_does_not_contribute(store: RunStore) -> None:
    swarm = FakeSwarm(store.blobs)
    session = session_of(store, swarm)
    for round in range(3):
        window = store.snapshot.window
        commit, blob = contribution(store, parts.ADA)
        store.blobs.put(blob)
        store.accept(commit, parts.NOW)
        tick(session, swarm, window.train_ends + 1)
        if not round:
            assert isinstance(session.progress, AwaitingContributions)
            tick(session, swarm, window.deadline)
        assert store.snapshot.round == round + 1
    tick(session, swarm, store.snapshot.opens + 1)
    assert session.open_round.not_awaited == {BEN: MissedRounds(1, 1)}
    why = {peer.key: peer.not_awaited for peer in api_of(session).status().peers}
    assert not why[short(parts.ADA.public)]
    assert "1 round waited for it in vain" in why[short(BEN)]


def test_after_a_restart_those_that_contributed_are_awaited(store: RunStore) -> None:
    fold_round(store, parts.ADA)
    conduct = OpenRound.of(store).conduct
    assert conduct.of(PublicKey(parts.ADA.public)).is_steady
    assert not conduct.of(BEN).is_steady
