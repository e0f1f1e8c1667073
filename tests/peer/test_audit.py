"""`peer audit` follows the log and keeps the states of the newest rounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from barnraise.contract.records import Presence
from barnraise.core.errors import StateError
from barnraise.core.ids import StateHash
from coordinator.store.next_entry import decay_of
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_store import RunStore
from peer.audit import KEPT, Following, RecentStates
from peer.timing import Timing
from tests.support import parts
from tests.support.coordinators import fold_round, opened_store, train_round
from tests.support.exchanging import Peer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "run") as made:
        yield made


@dataclass
class Auditing:
    """A follower without a volunteer."""

    peer: Peer
    states: RecentStates = field(default_factory=RecentStates)

    def __post_init__(self) -> None:
        async def peers() -> list[Presence]:
            return [parts.presence(parts.BEN)]

        swarm = SimpleNamespace(peers=peers)
        node = SimpleNamespace(swarm=swarm, identity=parts.ADA, timing=Timing(poll=0.0))
        self.heads = SimpleNamespace(head=self.peer.head)
        follower, retention = self.peer.follower, self.peer.retention
        self.following = Following(follower, cast(Any, self.heads), retention, self.states, cast(Any, node))

    async def until_end(self) -> None:
        """Follow until the follower is where the coordinator is."""
        self.peer.offer_blobs()
        self.heads.head = self.peer.head
        task = asyncio.create_task(self.following.run())
        while self.peer.follower.tip != self.peer.store.snapshot.tip:
            await asyncio.sleep(0)
            if task.done():
                task.result()
        await asyncio.sleep(0)
        task.cancel()

    def has(self, state: StateHash) -> bool:
        return self.states.params(state) is not None


def test_the_states_of_the_newest_rounds_are_kept(store: RunStore, tmp_path: Path) -> None:
    async def play() -> None:
        made, passed = Auditing(Peer(store, tmp_path / "peer")), [store.snapshot.tip.state]
        for _ in range(5):
            fold_round(store, parts.BEN)
            passed.append(store.snapshot.tip.state)
            await made.until_end()
            assert made.peer.follower.others()
        assert [made.has(state) for state in passed] == [False] * (6 - KEPT) + [True] * KEPT
        kept = made.states.params(passed[-1])
        assert kept is not None
        assert all((kept[name] == store.state.params[name]).all() for name in kept)

    asyncio.run(play())


def test_an_auditor_that_was_away_takes_the_newest_checkpoint(store: RunStore, tmp_path: Path) -> None:
    for _ in range(3):
        train_round(store, parts.BEN)
    fold_round(store, parts.BEN)

    async def play() -> None:
        made = Auditing(Peer(store, tmp_path / "peer"))
        await made.until_end()
        assert made.has(store.snapshot.tip.state)

    asyncio.run(play())


def test_an_auditor_follows_a_rollback(store: RunStore, tmp_path: Path) -> None:
    async def play() -> None:
        train_round(store, parts.BEN)
        made = Auditing(Peer(store, tmp_path / "peer"))
        fold_round(store, parts.BEN)
        await made.until_end()
        store.amend(rollback_to(1, (), "noise", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
        store.rebuild()
        store.write_checkpoint(parts.NOW)
        await made.until_end()
        fold_round(store, parts.BEN)
        await made.until_end()

    asyncio.run(play())


def test_a_state_that_differs_is_replaced_by_the_newest_checkpoint(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play() -> None:
        made = Auditing(Peer(store, tmp_path / "peer"))
        train_round(store, parts.BEN)
        fold = made.peer.follower.fold

        async def fails(_: object) -> None:
            monkeypatch.setattr(made.peer.follower, "fold", fold)
            raise StateError("another state", fix="None.")

        monkeypatch.setattr(made.peer.follower, "fold", fails)
        await made.until_end()

    asyncio.run(play())


def test_an_auditor_learns_once_that_the_run_is_over(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays: contributions of the last rounds are still audited."""
    caplog.set_level(logging.INFO, "peer")

    async def play() -> None:
        made = Auditing(Peer(store, tmp_path / "peer"))
        store.amend(decay_of(store.snapshot, 1, parts.NOW), parts.NOW)
        last = store.snapshot.round + 1
        for _ in range(2):
            assert "is over" not in caplog.text
            fold_round(store, parts.BEN)
            await made.until_end()
        assert store.snapshot.is_over
        await made.until_end()
        assert caplog.text.count(f"the run is over, with round {last} as its last") == 1

    asyncio.run(play())
