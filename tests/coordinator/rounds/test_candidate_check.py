"""What another closer proposes gets a vote only where it is what an honest closer proposes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from barnraise.contract.certificates import Authorities, certify
from barnraise.contract.log_entries import Close, Delegation, vote_on
from barnraise.core.errors import BadSignature, MalformedRecord, StateError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey
from coordinator.rounds.candidate_check import check_candidate
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
    with pytest.raises(MalformedRecord):
        check(store, close.model_copy(update=change))


def test_a_close_of_another_place_gets_no_vote(store: RunStore) -> None:
    close = store.candidate("all contributed", NOW)
    with pytest.raises(StateError):
        check(store, close.model_copy(update={"height": 1}))


def test_a_delegation_gets_no_vote(store: RunStore) -> None:
    close = store.candidate("all contributed", NOW)
    same = {
        name: getattr(close, name) for name in ("run", "epoch", "height", "round", "previous", "certificate")
    }
    with pytest.raises(MalformedRecord):
        check(store, Delegation(closers=(), at=NOW, **same))


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
