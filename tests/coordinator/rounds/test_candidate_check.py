"""What another closer proposes gets a vote only where it is what an honest closer proposes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from barnraise.contract.certificates import Authorities, certify
from barnraise.contract.close_rules import open_commits
from barnraise.contract.entry_order import EntryOrder, with_order
from barnraise.contract.log_entries import (
    Change,
    Close,
    Delegation,
    Entry,
    NeedsNewer,
    StandingChange,
    own_fields,
    parse_entry,
    vote_on,
)
from barnraise.contract.schedule import OrderedDecay, Progress
from barnraise.core.errors import BadSignature, BannedKey, MalformedRecord, StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, Round
from barnraise.core.signed import sign
from coordinator.rounds.candidate_check import check_candidate
from coordinator.store.next_entry import decay_of, delegation_of, rollback_of, standing_change_of
from coordinator.store.rolling_back import state_named
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import contribution, opened_store

NOW = parts.NOW


def accept(store: RunStore, *owners: Identity) -> None:
    for seed, owner in enumerate(owners):
        commit, blob = contribution(store, owner, seed)
        store.blobs.put(blob)
        store.accept(commit, NOW)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        accept(made, parts.ADA, parts.BEN)
        yield made


def check(store: RunStore, entry: Any, now: int = NOW) -> None:
    check_candidate(entry, store.snapshot, None, Millis(now), store.blob_sizes)


def test_no_close_gets_a_vote_while_the_run_is_halted(store: RunStore) -> None:
    halting = standing_change_of(store.snapshot, [], [], NOW, halted=True)
    store.amend(halting, NOW)
    with pytest.raises(StateError, match="halted"):
        check(store, store.candidate("all contributed", NOW))


def test_what_this_closer_would_propose_is_sound(store: RunStore) -> None:
    check(store, store.candidate("all contributed", NOW))


@pytest.mark.parametrize(
    "change",
    [
        {"at": NOW + 61_000},
        {"base_state": "0" * 64},
        {"commits": "reversed"},
        {"certificate": "false"},
    ],
)
def test_another_close_gets_no_vote(store: RunStore, change: dict[str, Any]) -> None:
    close = store.candidate("all contributed", NOW)
    if "commits" in change:
        change = {"commits": close.commits[::-1]}
    if "certificate" in change:
        change = {"certificate": certify([parts.ADA], vote_on(close, 1))}
    with pytest.raises((MalformedRecord, StateError)):
        check(store, close.model_copy(update=change))


def test_a_close_of_another_place_gets_no_vote(store: RunStore) -> None:
    close = store.candidate("all contributed", NOW)
    with pytest.raises(StateError):
        check(store, close.model_copy(update={"height": 1}))


def order(store: RunStore, by: Identity = parts.AUTHORITY, **other: Any) -> str:
    position = store.snapshot.position
    fields: dict[str, Any] = {
        "run": parts.RUN,
        "epoch": position.epoch,
        "height": position.height,
        "previous": position.previous,
        "kind": "delegation",
        "content": hashlib.sha256(own_fields(delegation(store, None))).hexdigest(),
    }
    return sign(by, EntryOrder(**(fields | other))).text


def delegation(store: RunStore, order: str | None) -> Delegation:
    entry = delegation_of(store.snapshot, (PublicKey(parts.ADA.public),), NOW)
    return entry.model_copy(update={"order": order})


def test_a_delegation_that_the_run_key_ordered_gets_a_vote(store: RunStore) -> None:
    check(store, delegation(store, order(store)))


def test_another_delegation_gets_no_vote(store: RunStore) -> None:
    for other in (
        None,
        order(store, height=1),
        order(store, kind="standing"),
        order(store, content=parts.HASH_A),
    ):
        with pytest.raises(MalformedRecord):
            check(store, delegation(store, other))
    with pytest.raises(BadSignature):
        check(store, delegation(store, order(store, by=parts.STRANGER)))


def test_a_contribution_with_an_admission_by_a_closer_gets_a_vote(store: RunStore) -> None:
    position = store.snapshot.position
    commit, blob = contribution(store, parts.ADA, seed=7)
    value = commit.value.model_copy(update={"admission": parts.admission(parts.ADA, by=parts.STRANGER)})
    store.blobs.put(blob)
    store.accept(sign(parts.ADA, value), NOW)
    close, run = store.candidate("all contributed", NOW), store.snapshot
    with pytest.raises(BadSignature):
        check_candidate(close, run, None, NOW, store.blob_sizes)
    named = replace(position, next_closers=(PublicKey(parts.STRANGER.public),))
    check_candidate(close, replace(run, position=named), None, NOW, store.blob_sizes)


def test_the_certificate_in_a_close_is_checked(store: RunStore) -> None:
    """It becomes part of the log, where a false one would end every walk."""
    link = store.close("all contributed", NOW)
    store.fold(link)
    accept(store, parts.ADA)
    before = link.close, Authorities((PublicKey(parts.AUTHORITY.public),))
    close = store.candidate("again", NOW)
    check_candidate(close, store.snapshot, before, NOW, store.blob_sizes)
    false = certify([parts.ADA], vote_on(link.close, 0))
    with pytest.raises(BadSignature):
        check_candidate(
            close.model_copy(update={"certificate": false}), store.snapshot, before, NOW, store.blob_sizes
        )
    assert isinstance(close, Close)


def test_a_rollback_gets_a_vote_where_the_log_names_its_state(store: RunStore) -> None:
    store.fold(store.close("all contributed", NOW))
    run, wanted = store.snapshot, state_named(0, store.snapshot, store.blobs.get)
    alone = Authorities((parts.AUTHORITY.public,))
    before = (parse_entry(store.blobs.get(run.log[-1].name)), alone)

    def vote(**update: object) -> None:
        entry = rollback_of(run, 0, wanted, (), "noise", NOW).model_copy(update=update)
        ordered = with_order(entry, parts.AUTHORITY)
        check_candidate(ordered, run, before, NOW, store.blob_sizes, store.blobs.get)  # type: ignore[arg-type]

    vote()
    with pytest.raises(MalformedRecord, match="another state"):
        vote(state="e" * 64)
    with pytest.raises(MalformedRecord, match="not possible"):
        vote(to=2)


def test_a_decay_gets_a_vote_where_the_run_key_ordered_it(store: RunStore) -> None:
    entry = decay_of(store.snapshot, 2, NOW)
    ordered = with_order(entry, parts.AUTHORITY)
    check(store, ordered)
    forged = (entry, with_order(entry, parts.STRANGER), ordered.model_copy(update={"rounds": 1}))
    for each in forged:
        with pytest.raises((MalformedRecord, BadSignature)):
            check(store, each)


def test_a_second_decay_and_a_close_after_the_end_get_no_vote(store: RunStore) -> None:
    position = store.snapshot.position
    decaying = replace(position, progress=Progress(decay=OrderedDecay(start=1, rounds=1)))
    over = replace(position, progress=Progress(decay=OrderedDecay(start=0, rounds=1)), round=Round(1))
    second = with_order(decay_of(store.snapshot, 2, NOW), parts.AUTHORITY)
    with pytest.raises(MalformedRecord, match="ends already"):
        check_candidate(second, replace(store.snapshot, position=decaying), None, NOW, store.blob_sizes)
    close = store.candidate("all contributed", NOW).model_copy(update={"round": 1})
    with pytest.raises(StateError, match="after the run's end"):
        check_candidate(close, replace(store.snapshot, position=over), None, NOW, store.blob_sizes)


def test_a_close_that_says_another_progress_gets_no_vote(store: RunStore) -> None:
    close = store.candidate("all contributed", NOW)
    with pytest.raises(StateError, match="another progress"):
        check(store, close.model_copy(update={"progress": Progress(tokens=1)}))


def ban(store: RunStore, *keys: Identity) -> StandingChange:
    changes = [Change(key=key.public, level="banned", cause="order") for key in keys]
    return standing_change_of(store.snapshot, changes, (), NOW)


def test_a_ban_that_the_run_key_ordered_gets_a_vote_and_another_none(store: RunStore) -> None:
    ordered = with_order(ban(store, parts.BEN), parts.AUTHORITY)
    check(store, ordered)
    for forged in (
        ban(store, parts.BEN),
        ban(store, parts.ADA).model_copy(update={"order": ordered.order}),
        with_order(ban(store, parts.BEN), parts.STRANGER),
    ):
        with pytest.raises((MalformedRecord, BadSignature)):
            check(store, forged)


def test_a_close_with_a_contribution_of_a_banned_key_gets_no_vote(store: RunStore) -> None:
    close = store.candidate("all contributed", NOW)
    store.amend(ban(store, parts.BEN), NOW)
    run = store.snapshot
    moved = close.model_copy(
        update={
            "height": run.position.height,
            "previous": run.position.previous,
            "certificate": run.certificate,
            "standings": run.position.standings.name,
        }
    )
    with pytest.raises((BannedKey, StateError)):
        check_candidate(moved, run, (ban_entry(store), Authorities((run.run_key,))), NOW, store.blob_sizes)
    assert [commit.owner for commit in open_commits(store.candidate("", NOW))] == [parts.ADA.public]


def ban_entry(store: RunStore) -> Entry:
    entry = parse_entry(store.blobs.get(store.snapshot.log[-1].name))
    assert not isinstance(entry, NeedsNewer)
    return entry
