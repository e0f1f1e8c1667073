"""A maintainer's order to roll a run back: the session enters it into the log, and goes on from there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from barnraise.contract.log_entries import Rollback
from barnraise.contract.records import Head
from barnraise.core.ids import BlobHash
from coordinator.cli.rollback import rollback
from coordinator.rounds.rollback_order import RollbackOrder, RollbackOrders, leave_rollback
from coordinator.run_folder import ROLLBACK
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import (
    FakeSwarm,
    amending_session_of,
    contribution,
    fold_round,
    opened_store,
    train_round,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        for _ in range(2):
            train_round(made, parts.ADA)
        fold_round(made, parts.ADA)
        yield made


def test_the_session_goes_back_and_says_so(store: RunStore) -> None:
    swarm, wanted = FakeSwarm(store.blobs), store.snapshot.checkpoints[1].value.state
    leave_rollback(store.folder, RollbackOrder(to=1, banned=(parts.BEN.public,), note="noise"))
    commit, blob = contribution(store, parts.ADA, seed=99)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    act = amending_session_of(store, swarm)
    asyncio.run(act.tick())
    run = store.snapshot
    assert (run.round, run.tip.round, run.tip.state) == (4, 4, wanted)
    assert run.position.standings.banned == {parts.BEN.public}
    assert not run.accepted
    head = swarm.published[-1]
    assert isinstance(head, Head)
    assert (head.round, head.state, head.checkpoint_round) == (4, wanted, 4)
    assert BlobHash(head.checkpoint) in store.blobs
    asyncio.run(act.tick())
    assert not (store.folder / ROLLBACK).exists()
    assert store.snapshot.position == run.position, "once"


@pytest.mark.parametrize("to", [4, 99])
def test_an_order_that_cannot_be_followed_is_dropped(
    store: RunStore, to: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "coordinator")
    leave_rollback(store.folder, RollbackOrder(to=to))
    assert RollbackOrders(store).entry(parts.NOW) is None
    assert not (store.folder / ROLLBACK).exists()
    assert len(caplog.records) == 1


def test_an_order_waits_while_a_round_is_folded(store: RunStore) -> None:
    leave_rollback(store.folder, RollbackOrder(to=1))
    commit, blob = contribution(store, parts.ADA, seed=99)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    link = store.close("all contributed", parts.NOW)
    assert RollbackOrders(store).entry(parts.NOW) is None
    store.fold(link)
    assert isinstance(RollbackOrders(store).entry(parts.NOW), Rollback)


def test_a_damaged_order_is_set_aside(store: RunStore) -> None:
    (store.folder / ROLLBACK).write_bytes(b"{")
    assert RollbackOrders(store).entry(parts.NOW) is None
    assert not (store.folder / ROLLBACK).exists()


def test_the_command_leaves_the_order(store: RunStore, tmp_path: Path) -> None:
    result = CliRunner().invoke(rollback, [str(store.folder), "--to", "2", "--note", "noise"])
    assert result.exit_code == 0, result.output
    found = RollbackOrders(store).entry(parts.NOW)
    assert found is not None
    assert (found.to, found.note, found.state) == (2, "noise", store.snapshot.checkpoints[2].value.state)
    assert CliRunner().invoke(rollback, [str(tmp_path / "none"), "--to", "2"]).exit_code != 0
