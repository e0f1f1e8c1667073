"""A rollback: the run store goes on from the state of an earlier round, also after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from barnraise.contract.field_types import MAX_VOID
from barnraise.contract.log_entries import Change, Rollback
from barnraise.contract.schedule import Progress
from barnraise.contract.spec import Schedule
from barnraise.contract.standing import NONE
from barnraise.contract.tip import check_rollback
from barnraise.core.errors import MalformedRecord, UserError
from barnraise.core.ids import Round, StateHash
from barnraise.fold.log import Link
from coordinator.checkpoints.archive_writer import ArchiveContent
from coordinator.store.rolling_back import check_target, rollback_to, state_named
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import contribution, fold_round, opened_store, reopened, train_round
from tests.support.parts import ADA, BEN


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def roll_back(store: RunStore, to: int, *changes: Change, rebuild: bool = True) -> Rollback:
    run = store.snapshot
    entry = rollback_to(to, changes, "noise", run, store.blobs.get, parts.NOW)
    store.amend(entry, parts.NOW)
    if rebuild:
        store.rebuild()
    return entry


def states(store: RunStore, rounds: int) -> list[StateHash]:
    """Those of the rounds up to here, each folded from contributions of two."""
    found = [store.state.hash()]
    for _ in range(rounds):
        fold_round(store, ADA, BEN)
        found.append(store.state.hash())
    return found


def check(store: RunStore, expected: StateHash, round: int) -> None:
    run = store.snapshot
    assert (run.round, run.tip.round, run.tip.state, store.state.hash()) == (round, round, expected, expected)
    assert store.state.step == run.position.step


def test_the_run_goes_on_from_an_older_state(store: RunStore) -> None:
    found = states(store, 4)
    tokens = [store.snapshot.history.tokens_of(round) for round in range(4)]
    entry = roll_back(store, 2)
    assert entry.state == found[2]
    check(store, found[2], 5)
    run = store.snapshot
    assert run.tokens == sum(tokens[:2])
    assert sum(share.tokens for share in run.history.shares(before=run.round).values()) == run.tokens
    after = fold_round(store, ADA)
    assert isinstance(after, Link)
    assert after.close.base_state == found[2]
    assert store.snapshot.round == 6


def test_accepted_contributions_of_the_round_are_void(store: RunStore) -> None:
    found = states(store, 2)
    commit, blob = contribution(store, ADA, seed=99)
    name = store.blobs.put(blob)
    store.accept(commit, parts.NOW)
    roll_back(store, 2)
    check(store, found[2], 3)
    assert not store.snapshot.accepted
    assert name not in store.blobs


@pytest.mark.parametrize("rebuilt", [True, False])
def test_a_restart_comes_to_the_same_state(store: RunStore, rebuilt: bool) -> None:
    found = states(store, 3)
    store.write_checkpoint(parts.NOW)
    states(store, 2)
    roll_back(store, 1, rebuild=rebuilt)
    with reopened(store) as again:
        check(again, found[1], 6)
        expected = found[1]
        if rebuilt:
            fold_round(again, BEN)
            expected = again.state.hash()
            with reopened(again) as third:
                check(third, expected, 7)


def test_several_rollbacks(store: RunStore) -> None:
    found = states(store, 4)
    roll_back(store, 3)
    check(store, found[3], 5)
    more = states(store, 2)
    assert more[0] == found[3]
    roll_back(store, 6)
    check(store, more[1], 8)
    roll_back(store, 1)
    check(store, found[1], 9)
    assert store.snapshot.position.void == ((1, 8),)
    with reopened(store) as again:
        check(again, found[1], 9)


def test_where_a_run_cannot_go_back_to(store: RunStore) -> None:
    found = states(store, 4)
    roll_back(store, 2)
    run = store.snapshot
    for to in (2, 3, 4, 6):
        with pytest.raises(UserError):
            check_target(to, run)
    assert [state_named(to, run, store.blobs.get) for to in (0, 1, 5)] == [*found[:2], found[2]]


def test_a_log_names_a_number_of_rollbacks(store: RunStore) -> None:
    void = tuple((Round(2 * number), Round(2 * number)) for number in range(1, MAX_VOID + 1))
    run = store.snapshot
    many = replace(run, position=replace(run.position, round=Round(1000), void=void))
    with pytest.raises(UserError, match=f"{MAX_VOID} times"):
        check_target(999, many)
    check_target(2 * MAX_VOID - 1, many)  # it covers the last one


def test_checkpoints_of_void_rounds_are_withdrawn(store: RunStore) -> None:
    for loss in (3.0, 2.0, 1.0):
        train_round(store, ADA, loss=loss)
    roll_back(store, 1)
    run = store.snapshot
    assert run.newest_checkpoint.value.round == 1
    promotion = run.promotion()
    assert promotion is not None
    assert (promotion.main, promotion.best, promotion.latest) == (1, 1, 1)
    assert {*run.scores} == {1}
    store.write_checkpoint(parts.NOW)
    assert {*store.snapshot.checkpoints} == {0, 1, 4}
    manifest = store.snapshot.checkpoints[4].value
    assert (manifest.step, manifest.void) == (1, ((1, 3),))
    assert {*ArchiveContent.of(store.snapshot, ()).checkpoints} == {0, 1}


def test_a_rollback_takes_the_tokens_of_a_planned_run_back(tmp_path: Path) -> None:
    spec = parts.scheduled(parts.run_spec(), Schedule(tokens=10_000))
    with opened_store(tmp_path, spec) as store:
        counted = [0]
        for _ in range(4):
            fold_round(store, ADA, BEN)
            counted.append(store.snapshot.tokens)
        for to, is_now in ((3, 5), (5, 6), (2, 7), (0, 8)):
            entry = roll_back(store, to)
            assert entry.tokens == counted[{5: 3}.get(to, to)]
            run = store.snapshot
            assert (run.round, run.tokens) == (is_now, entry.tokens)
            assert run.position.progress == run.tip.position.progress == Progress(tokens=run.tokens)
        fold_round(store, ADA)
        run = store.snapshot
        assert run.position.progress == Progress(tokens=run.tokens) != Progress(tokens=0)
        store.save(parts.NOW)
        store.write_checkpoint(parts.NOW)
        assert store.snapshot.newest_checkpoint.value.tip(NONE) == run.tip
        with reopened(store) as again:
            assert again.snapshot.position == run.position


def test_a_rollback_to_more_tokens_than_are_folded_is_refused(tmp_path: Path) -> None:
    spec = parts.scheduled(parts.run_spec(), Schedule(tokens=10_000))
    with opened_store(tmp_path, spec) as store:
        fold_round(store, ADA, BEN)
        run = store.snapshot
        right = rollback_to(0, (), "", run, store.blobs.get, parts.NOW)
        check_rollback(run.position, right)
        for tokens in (run.tokens + 1, None):
            with pytest.raises(MalformedRecord):
                check_rollback(run.position, right.model_copy(update={"tokens": tokens}))


def test_a_key_can_be_banned_with_it(store: RunStore) -> None:
    states(store, 2)
    roll_back(store, 0, Change(key=BEN.public, level="banned", cause="order", note="noise"))
    assert store.snapshot.position.standings.banned == {BEN.public}
