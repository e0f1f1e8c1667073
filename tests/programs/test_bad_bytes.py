"""Invalid bytes from the network: contributions and records are refused, and the round continues without."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord
from hivemind.utils import MSGPackSerializer

from barnraise.contract.close_rules import open_commits
from barnraise.contract.dht_keys import dht_key_of
from barnraise.contract.log_entries import Close, parse_entry
from barnraise.contract.records import Commit, open_record, seal
from barnraise.contract.spec import Dense
from barnraise.core.errors import BadSignature, MalformedBlob, MalformedRecord, TrustError
from barnraise.core.ids import BlobHash, Millis, blob_hash
from barnraise.core.signed import Signed, sign
from barnraise.fold.codec import encode_in_place
from barnraise.fold.log import check_blob
from barnraise.network.record_dht import RecordValidator
from coordinator.reasons.rounds import (
    InvalidBlob,
    MisfitReason,
    TooManyTokens,
    Unfetchable,
    WrongBaseState,
    WrongBlobSize,
    WrongRanges,
)
from coordinator.rounds.intake import Refused, State, Unfetched
from coordinator.rounds.session import Session
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing
from tests.support import parts
from tests.support.coordinators import (
    FakeSwarm,
    announce,
    contribution,
    opened_store,
    raises_with_fix,
    session_of,
    until_idle,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


# Contributions


def not_finite(store: RunStore) -> bytes:
    good = contribution(store, parts.BEN)[1]
    return good[:-4] + np.float32(np.nan).tobytes()


def too_large(store: RunStore) -> bytes:
    return contribution(store, parts.BEN)[1][:-4] + np.float32(1e30).tobytes()


def of_another_codec(store: RunStore) -> bytes:
    size = len(contribution(store, parts.BEN)[1])
    other = encode_in_place(Dense(bits=8, block=8), parts.tensors(1), store.state.layout)
    return bytes(other).ljust(size, b"\0")[:size]


@pytest.mark.parametrize("corrupted", [not_finite, too_large, of_another_codec])
def test_a_malformed_blob_is_refused(store: RunStore, corrupted: Callable[[RunStore], bytes]) -> None:
    blob = corrupted(store)
    commit = announce(store, parts.BEN, blob).value
    with raises_with_fix(MalformedBlob, 5):
        check_blob(commit, blob, store.charter, store.state.layout)


def test_a_blob_with_another_hash_is_refused(store: RunStore) -> None:
    commit, blob = contribution(store, parts.BEN)
    with raises_with_fix(MalformedBlob, 5, "not the one that its commit names", parts.BEN.public[:8]):
        check_blob(commit.value, blob[:-1] + b"\7", store.charter, store.state.layout)


@pytest.mark.parametrize("corrupted", [not_finite, too_large, of_another_codec])
def test_the_round_continues_without_a_malformed_contribution(
    store: RunStore, corrupted: Callable[[RunStore], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "coordinator")
    blob = corrupted(store)
    played = play(store, {blob_hash(blob): blob}, announce(store, parts.BEN, blob))
    assert played.folded == [parts.ADA.public]
    assert isinstance(played.bad, Refused)
    assert isinstance(played.bad.reason, InvalidBlob)
    assert len(caplog.records) == 1, "it is logged once"
    assert blob_hash(blob) not in store.blobs


def test_the_round_closes_at_its_deadline_without_a_blob_that_no_peer_has(store: RunStore) -> None:
    bad, blob = contribution(store, parts.BEN, seed=2)
    played = play(store, {blob_hash(blob): blob[:-1] + b"\7"}, bad)
    assert played.folded == [parts.ADA.public]
    assert played.bad == Unfetched(1)
    assert store.snapshot.window.opens > parts.NOW, "the round stayed open until its deadline"


def test_a_blob_that_no_peer_has_is_refused_after_some_attempts(store: RunStore) -> None:
    bad, _ = contribution(store, parts.BEN, seed=2)
    once = replace(AT_ONCE, fetch_attempts=1)
    played = play(store, {}, bad, once)
    assert played.folded == [parts.ADA.public]
    assert isinstance(played.bad, Refused)
    assert isinstance(played.bad.reason, Unfetchable)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"base_state": parts.HASH_A}, WrongBaseState),
        ({"size": 7}, WrongBlobSize),
        ({"tokens": 10**9}, TooManyTokens),
        ({"ranges": ()}, WrongRanges),
    ],
)
def test_the_blob_of_a_commit_that_does_not_fit_is_not_fetched(
    store: RunStore, wrong: dict[str, object], reason: type[MisfitReason]
) -> None:
    true, blob = contribution(store, parts.BEN, seed=2)
    bad = sign(parts.BEN, Commit.model_validate(dict(true.value) | wrong))
    played = play(store, {blob_hash(blob): blob}, bad)
    assert played.folded == [parts.ADA.public]
    assert isinstance(played.bad, Refused)
    assert type(played.bad.reason) is reason
    assert blob_hash(blob) not in played.fetched


AT_ONCE = replace(TIMING, retry=0.0)


@dataclass(frozen=True)
class Played:
    """The result of a round."""

    folded: list[str]
    """Owners that the close lists."""
    bad: State | None
    """The state of the bad contribution after the first tick."""
    fetched: list[BlobHash]


def play(
    store: RunStore,
    held: dict[BlobHash, bytes],
    bad: Signed[Commit],
    timing: Timing = AT_ONCE,
) -> Played:
    """Play a round with a valid contribution by Ada and a bad one."""
    good, blob = contribution(store, parts.ADA)
    swarm = FakeSwarm(store.blobs, held={**held, blob_hash(blob): blob}, announced=[bad, good])

    async def rounds() -> State | None:
        session = session_of(store, swarm, timing=timing)
        await step(session)
        state = session.contributions.intake.state(bad)
        await step(session)
        if not store.snapshot.log:
            late = Millis(store.snapshot.window.deadline + 1)
            session = session_of(store, swarm, now=late, timing=timing)
            await step(session)
            await step(session)
        return state

    async def step(session: Session) -> None:
        await session.tick()
        await until_idle(session)

    state = asyncio.run(rounds())
    assert store.snapshot.tip.round == 1
    assert np.isfinite(store.state.params["a"]).all()
    close = parse_entry(store.blobs.get(store.snapshot.log[0].name))
    assert isinstance(close, Close)
    return Played([commit.owner for commit in open_commits(close)], state, swarm.fetched)


# Records


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (seal(parts.STRANGER, parts.head()), BadSignature, "announces nothing"),
        (seal(parts.AUTHORITY, parts.head())[:-1] + b"!", BadSignature, "signature"),
        (seal(parts.ADA, parts.commit(parts.BEN)), BadSignature, "signed by"),
        (seal(parts.STRANGER, parts.commit(parts.STRANGER, admission=parts.admission(parts.ADA))),
         MalformedRecord, "an admission of another key"),
        (seal(parts.ADA, parts.commit(parts.ADA, admission=parts.admission(parts.ADA, by=parts.ADA))),
         BadSignature, "may admit nobody"),
        (b"X" + seal(parts.AUTHORITY, parts.head())[1:], MalformedRecord, "unknown kind"),
        (b"", MalformedRecord, "unknown kind"),
    ],
)  # fmt: skip
def test_a_record_without_the_right_signatures_is_refused(
    value: bytes, kind: type[TrustError], words: str
) -> None:
    with raises_with_fix(kind, 5, words):
        open_record(value, run=parts.RUN, signers=parts.SIGNERS, now=parts.NOW)
    assert not stored(value)


def test_a_record_with_the_right_signature_is_stored() -> None:
    assert stored(seal(parts.AUTHORITY, parts.head()))


def stored(value: bytes) -> bool:
    """Whether a node stores `value` under the head's key."""
    place = dht_key_of(parts.head())
    record = DHTRecord(
        DHTID.generate(source=place.key).to_bytes(),
        MSGPackSerializer.dumps(place.subkey),
        MSGPackSerializer.dumps(value),
        parts.NOW / 1000 + 60,
    )
    return RecordValidator(parts.RUN, parts.keys(), lambda: parts.NOW, parts.guard()).validate(record)
