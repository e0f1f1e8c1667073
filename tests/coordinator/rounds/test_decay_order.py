"""A maintainer's order to end a run by a decay: the log has it, the rate falls, and the run ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.log_entries import Decay
from barnraise.contract.records import Head
from barnraise.contract.schedule import OrderedDecay, Progress
from barnraise.contract.spec import Schedule
from barnraise.contract.standing import NONE
from barnraise.core.errors import MalformedRecord, StateError, UserError
from barnraise.core.ids import Millis
from coordinator.reasons.rounds import DecayInForce, PlannedDecayBegan, RunOver
from coordinator.rounds.decay_order import DecayOrders, leave_decay, why_refused
from coordinator.rounds.rollback_order import RollbackOrder, leave_rollback
from coordinator.run_folder import DECAY
from coordinator.store.next_entry import decay_of
from coordinator.store.rolling_back import rollback_to
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import (
    FakeSwarm,
    amending_session_of,
    contribution,
    fold_round,
    opened_store,
    reopened,
    session_of,
    train_round,
)
from tests.support.parts import ADA, BEN


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """At round 3, without a checkpoint of it."""
    with opened_store(tmp_path) as made:
        for _ in range(2):
            train_round(made, ADA)
        fold_round(made, ADA)
        yield made


def order(store: RunStore, rounds: int) -> None:
    leave_decay(store.snapshot, store.folder, rounds)


def ordered(store: RunStore, rounds: int) -> None:
    """The log has the order."""
    store.amend(decay_of(store.snapshot, rounds, parts.NOW), parts.NOW)


def factor(store: RunStore) -> float:
    return store.snapshot.position.rate_factor(store.snapshot.spec)


def test_the_session_enters_the_order_once(store: RunStore) -> None:
    order(store, 2)
    act = amending_session_of(store)
    asyncio.run(act.tick())
    run = store.snapshot
    assert run.position.progress == Progress(decay=OrderedDecay(start=4, rounds=2))
    assert (run.round, factor(store), run.ended_after) == (3, 1.0, None)
    asyncio.run(act.tick())
    assert not (store.folder / DECAY).exists()
    assert store.snapshot.position == run.position, "once"


def test_the_rate_falls_and_the_run_ends(store: RunStore) -> None:
    ordered(store, 2)
    found = []
    for _ in range(3):
        found.append(factor(store))
        fold_round(store, ADA, BEN)
    assert found == [1.0, 2 / 3, 1 / 3]
    run = store.snapshot
    assert (run.round, run.is_over, run.ended_after, factor(store)) == (6, True, 6, 0.0)
    commit, blob = contribution(store, ADA, seed=99)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    with pytest.raises(StateError, match="after the run's end"):
        store.fold(store.close("all contributed", parts.NOW))


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_restart_goes_on_with_the_decay(store: RunStore, after: int) -> None:
    ordered(store, 2)
    for _ in range(after):
        fold_round(store, ADA)
    if after:
        store.save(parts.NOW)  # as with a close
    store.write_checkpoint(parts.NOW)
    run = store.snapshot
    assert run.newest_checkpoint.value.tip(NONE) == run.tip
    with reopened(store) as again:
        assert again.snapshot.position == run.position
        assert (again.state.hash(), factor(again)) == (store.state.hash(), factor(store))


def test_the_last_state_gets_a_checkpoint(store: RunStore) -> None:
    """`checkpoint.every` is 5."""
    ordered(store, 1)
    fold_round(store, ADA)
    assert not store.checkpoint_due()
    fold_round(store, ADA)
    assert store.snapshot.round == 5
    store.write_checkpoint(parts.NOW)
    assert not store.snapshot.lacks_last_checkpoint


def test_a_restart_after_the_end_writes_the_last_checkpoint_and_opens_no_round(store: RunStore) -> None:
    ordered(store, 3)
    for _ in range(4):
        fold_round(store, ADA)
    assert store.snapshot.round == 7
    assert store.checkpoint_due()
    opens = store.snapshot.opens
    late = Millis(store.snapshot.window.train_ends + 1)
    swarm = FakeSwarm(store.blobs)
    act = session_of(store, swarm, late)
    stop = asyncio.Event()
    stop.set()
    asyncio.run(act.run(stop))
    assert store.snapshot.newest_checkpoint.value.round == 7
    assert store.snapshot.opens == opens
    head = swarm.published[-1]
    assert isinstance(head, Head)
    assert head.ended_after == 7


def test_the_session_says_once_that_the_run_is_over(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    ordered(store, 1)
    for _ in range(2):
        fold_round(store, ADA)
    caplog.set_level(logging.INFO, "coordinator")
    caplog.clear()  # of the folds, where a test before has left the logger's level at INFO
    act = amending_session_of(store)
    for _ in range(3):
        asyncio.run(act.tick())
    assert act.progress == RunOver(5)
    assert len(caplog.records) == 1


def test_a_second_order_is_refused_and_the_same_is_in_force(store: RunStore) -> None:
    ordered(store, 2)
    fold_round(store, ADA)
    assert why_refused(3, store.snapshot) == DecayInForce(2, 2)
    with pytest.raises(UserError):
        order(store, 3)
    order(store, 2)
    assert not (store.folder / DECAY).exists()
    again = decay_of(store.snapshot, 2, parts.NOW)
    before = store.snapshot.position
    with pytest.raises(MalformedRecord, match="ends already"):
        store.enter(parts.amended(again))
    assert store.snapshot.position == before
    for _ in range(2):
        fold_round(store, ADA)
    assert why_refused(3, store.snapshot) == RunOver(6)
    assert why_refused(2, store.snapshot) is None


def test_an_order_during_the_planned_decay_is_refused(tmp_path: Path) -> None:
    spec = parts.scheduled(parts.run_spec(), Schedule(rounds=4, decay=0.5))
    with opened_store(tmp_path, spec) as store:
        for refused in (None, None, PlannedDecayBegan(), PlannedDecayBegan(), RunOver(4)):
            assert why_refused(2, store.snapshot) == refused
            if not store.snapshot.is_over:
                fold_round(store, ADA)
        with pytest.raises(MalformedRecord, match="ends already"):
            store.enter(parts.amended(decay_of(store.snapshot, 2, parts.NOW)))


def test_an_order_takes_the_place_of_the_plan(tmp_path: Path) -> None:
    spec = parts.scheduled(parts.run_spec(), Schedule(rounds=4, decay=0.5))
    with opened_store(tmp_path, spec) as store:
        ordered(store, 1)
        fold_round(store, ADA)
        assert factor(store) == 1 / 2
        fold_round(store, ADA)
        assert store.snapshot.ended_after == 2


def test_an_order_that_came_too_late_is_dropped(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "coordinator")
    order(store, 3)
    ordered(store, 2)
    assert DecayOrders(store).entry(parts.NOW) is None
    assert not (store.folder / DECAY).exists()
    assert len(caplog.records) == 1


def test_an_order_waits_while_a_round_is_folded(store: RunStore) -> None:
    order(store, 3)
    commit, blob = contribution(store, ADA, seed=99)
    store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    link = store.close("all contributed", parts.NOW)
    assert DecayOrders(store).entry(parts.NOW) is None
    store.fold(link)
    assert isinstance(DecayOrders(store).entry(parts.NOW), Decay)


def test_a_damaged_order_is_set_aside(store: RunStore) -> None:
    (store.folder / DECAY).write_bytes(b"{")
    assert DecayOrders(store).entry(parts.NOW) is None
    assert not (store.folder / DECAY).exists()


def test_nothing_is_ordered_without_the_option(store: RunStore) -> None:
    leave_decay(store.snapshot, store.folder, None)
    assert not (store.folder / DECAY).exists()
    assert DecayOrders(store).entry(parts.NOW) is None


@pytest.mark.parametrize(("to", "keeps"), [(1, False), (3, False), (4, False), (5, True)])
def test_a_rollback_to_before_the_decay_ends_it(store: RunStore, to: int, keeps: bool) -> None:
    ordered(store, 3)
    for _ in range(3):
        fold_round(store, ADA)
    store.amend(rollback_to(to, (), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
    store.rebuild()
    decay = store.snapshot.position.progress.decay
    assert decay == (OrderedDecay(start=4, rounds=3) if keeps else None)
    assert factor(store) == (2 / 4 if keeps else 1.0)
    fold_round(store, ADA)
    with reopened(store) as again:
        assert again.snapshot.position == store.snapshot.position


@pytest.mark.parametrize(("to", "said"), [(4, True), (5, False)])
def test_a_rollback_says_that_it_makes_the_decay_void(
    store: RunStore, caplog: pytest.LogCaptureFixture, to: int, said: bool
) -> None:
    """By audits it comes without its maintainer, and the run would go on without an end."""
    ordered(store, 3)
    for _ in range(3):
        fold_round(store, ADA)
    leave_rollback(store.folder, RollbackOrder(to=to))
    asyncio.run(amending_session_of(store).tick())
    assert store.snapshot.round == 7
    assert any("`--decay 3`" in record.message for record in caplog.records) is said


def test_a_run_that_is_over_goes_on_after_a_rollback(store: RunStore) -> None:
    ordered(store, 1)
    for _ in range(2):
        fold_round(store, ADA)
    assert store.snapshot.is_over
    store.amend(rollback_to(4, (), "", store.snapshot, store.blobs.get, parts.NOW), parts.NOW)
    store.rebuild()
    assert not store.snapshot.is_over
    fold_round(store, ADA)
    assert store.snapshot.round == 7
