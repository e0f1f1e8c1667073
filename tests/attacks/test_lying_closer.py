"""One closer of three lies: heads of any place and time, a log without end, checkpoints that are none.

It has one vote, and cannot certify: what it says alone takes no volunteer away from the run.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from hivemind.dht.routing import DHTID
from hivemind.dht.validation import DHTRecord
from hivemind.utils import MSGPackSerializer

from barnraise.contract.certificates import Certificate
from barnraise.contract.contacts import ContactPage
from barnraise.contract.dht_keys import dht_key_of
from barnraise.contract.head_proof import is_proved
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Close
from barnraise.contract.manifest import FileEntry
from barnraise.contract.protocol import CoordinatorDoesNotFit, Protocol
from barnraise.contract.records import Head, open_record, tagged
from barnraise.contract.schedule import NO_PROGRESS, OrderedDecay, Progress
from barnraise.contract.tip import Position
from barnraise.core.errors import MalformedBlob, MalformedRecord, StateError, TrustError, Unreachable
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, blob_hash
from barnraise.core.signed import Signed, sign
from barnraise.fold import log_walk
from barnraise.fold.log_walk import Place, walk
from barnraise.network.address_book import AddressBook
from barnraise.network.gossip import Gossip
from barnraise.network.gossip_policy import UNPROVED_SECONDS, Novelty, RecordCache
from barnraise.network.record_dht import RecordValidator
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.run_clock import RunClock
from coordinator.checkpoints.copied_checkpoints import CopiedCheckpoints
from coordinator.store.run_store import RunStore
from peer.coordinator_client import Joined
from peer.volunteer.durations import RoundTimer
from peer.volunteer.head_follower import HeadFollower
from peer.volunteer.join import ended_after
from peer.volunteer.newest_state import newest_state
from peer.volunteer.node import Entered
from tests.support import parts
from tests.support.coordinators import FakeSwarm, opened_store

LIAR, HONEST, THIRD = parts.ADA, parts.BEN, parts.STRANGER
CLOSERS = tuple(sorted(PublicKey(each.public) for each in (LIAR, HONEST, THIRD)))
FIRST = PublicKey(parts.AUTHORITY.public)
HERE = Position(Round(3), BlobHash(parts.HASH_A), height=3, closers=CLOSERS)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        yield made


def close(height: int = 2, previous: str = parts.HASH_B) -> Close:
    signed = sign(parts.ADA, parts.commit(parts.ADA, round=height))
    return parts.close(
        [signed], previous=previous, round=height, height=height, certificate=parts.CERTIFICATE
    )


def honest_head(**other: object) -> Signed[Head]:
    """By an honest closer, of an entry that a majority certified."""
    entry = close()
    fields = {"entry": entry.name, "certificate": parts.votes(entry, HONEST, THIRD, ballot=1)} | other
    return sign(HONEST, parts.head(**fields))


def lying_head(**other: object) -> Signed[Head]:
    """By the liar, with its own vote alone."""
    entry = close(height=2**39)
    fields: dict[str, object] = {
        "entry": entry.name, "height": 2**39 + 1, "round": 2**39 + 1, "checkpoint_round": 2**38,
        "certificate": parts.votes(entry, LIAR, ballot=1),
    }  # fmt: skip
    return sign(LIAR, parts.head(**(fields | other)))


def proved(signed: Signed[Head]) -> bool:
    return is_proved(signed.value, signed.signer, HERE, FIRST)


def receive(cache: RecordCache, signed: Signed[Head], now: int = parts.NOW) -> Novelty:
    return cache.receive(
        Signed(signed.value, signed.signer, signed.wire), Millis(now), is_proved=proved(signed)
    )


def test_a_head_is_proved_by_a_majority_of_the_closers() -> None:
    assert proved(honest_head())
    assert proved(sign(LIAR, honest_head().value)), "signed by another key too"
    assert proved(sign(parts.AUTHORITY, lying_head().value)), "and the run key's needs no other"
    votes = honest_head().value.certificate
    assert votes is not None
    changes: list[dict[str, object]] = [
        {"height": 4}, {"epoch": 1}, {"round": 5}, {"entry": parts.HASH_B}, {"certificate": None},
        {"certificate": Certificate(ballot=1, signatures=votes.signatures[:1])},
        {"certificate": Certificate(ballot=2, signatures=votes.signatures)},
    ]  # fmt: skip
    for change in changes:
        assert not proved(sign(LIAR, honest_head().value.model_copy(update=change))), change
    assert not proved(lying_head())
    delegated = replace(HERE, closers=(PublicKey(LIAR.public),), next_closers=CLOSERS)
    assert is_proved(honest_head().value, PublicKey(HONEST.public), delegated, FIRST), (
        "from the next round on"
    )


@pytest.mark.parametrize("first", [True, False], ids=["the liar first", "the liar last"])
def test_a_lying_head_is_not_the_newest_while_others_announce(first: bool) -> None:
    cache = RecordCache()
    heads = [lying_head(), honest_head()]
    for signed in heads if first else heads[::-1]:
        receive(cache, signed)
    assert cache.head == honest_head().value
    later = honest_head(at=parts.NOW + 5000)
    assert receive(cache, later, parts.NOW + 5000) is Novelty.NEW
    assert receive(cache, lying_head(at=parts.NOW + 6000), parts.NOW + 6000) is Novelty.STALE
    assert cache.head == later.value


def test_a_head_that_is_not_proved_counts_where_no_other_is_announced() -> None:
    """A volunteer that was away may not know the closers of today."""
    cache, later = RecordCache(), round(1000 * UNPROVED_SECONDS)
    receive(cache, honest_head())
    unknown = lying_head(at=parts.NOW + later)
    assert receive(cache, unknown, parts.NOW + later) is Novelty.NEW
    assert receive(cache, honest_head(at=parts.NOW + 1), parts.NOW + later + 1000) is Novelty.STALE, (
        "a replay"
    )
    assert receive(cache, honest_head(at=parts.NOW + later), parts.NOW + later + 1000) is Novelty.NEW
    assert cache.head is not None
    assert cache.head.height == 3


def test_a_log_without_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The liar makes up entry before entry, each with its own vote."""
    monkeypatch.setattr(log_walk, "MAX_UNPROVED", 20)
    read: list[BlobHash] = []
    made: dict[BlobHash, bytes] = {}
    previous, height = BlobHash(parts.HASH_B), 1000
    certificate = parts.votes(close(height - 1), LIAR, ballot=1)
    for each in range(height, height + 50):
        entry = close(each, previous).model_copy(update={"certificate": certificate})
        made[entry.name], previous = entry.payload, entry.name
        certificate = parts.votes(entry, LIAR, ballot=1)
    head = lying_head(entry=previous, height=height + 50, certificate=certificate).value

    async def answer(name: BlobHash) -> bytes:
        read.append(name)
        return made[name]

    charter = parts.charter(parts.run_spec(), parts.state())
    with pytest.raises(TrustError):
        asyncio.run(walk(head, Place(HERE, {}), answer, charter))
    assert len(read) <= 21


def manifest(store: RunStore, size: int) -> bytes:
    """The liar's own, of a state that it made up."""
    run = store.snapshot
    newest = run.newest_checkpoint.value
    files = (FileEntry(name="adapter_model.safetensors", hash=parts.HASH_A, size=size),)
    return sign(LIAR, newest.model_copy(update={"files": files})).wire


def test_a_checkpoint_that_is_none_is_fetched_once(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "coordinator")
    wire = manifest(store, 100)
    swarm = FakeSwarm(store.blobs, held={blob_hash(wire): wire})
    made = CopiedCheckpoints.of(store, swarm.as_swarm, lambda: parts.NOW)
    head = parts.head(checkpoint=blob_hash(wire), checkpoint_round=0, round=0, height=0)

    async def follow() -> None:
        for _ in range(3):
            if made._is_new(head):
                await made._copy(blob_hash(wire))

    asyncio.run(follow())
    assert swarm.fetched == [blob_hash(wire)]
    assert len(caplog.records) == 1
    assert blob_hash(wire) not in store.blobs


def test_entries_in_a_row_are_bounded_in_bytes_too() -> None:
    with pytest.raises(MalformedRecord):
        log_walk.Unproved(0, log_walk.MAX_UNPROVED_BYTES).and_one_of(1)


def test_a_head_from_the_future_is_not_the_newest_until_then() -> None:
    """The liar signs what a majority certified, with a time by which it would be the newest for years."""

    async def never(*_: object) -> Any:
        raise AssertionError("it is not sent on")

    gossip = Gossip(
        parts.STRANGER,
        parts.RUN,
        parts.keys(*CLOSERS),
        lambda: parts.NOW,
        store=never,
        look_up=never,
        open_stream=never,
        guard=parts.guard(),
        random=Random(1),
    )
    ahead, near = (honest_head(at=parts.NOW + seconds * 1000) for seconds in (61, 59))
    run_key = sign(parts.AUTHORITY, ahead.value)
    found = [gossip._keep(Signed(each.value, each.signer, each.wire)) for each in (ahead, near, run_key)]
    assert found == [Novelty.STALE, Novelty.NEW, Novelty.NEW], "the run key's clock is the run's"


@pytest.mark.parametrize(
    ("size", "by", "error"),
    [
        (2**43, LIAR, Unreachable),
        (2**43, parts.AUTHORITY, StateError),
        (100, LIAR, Unreachable),
        (100, parts.AUTHORITY, MalformedBlob),
    ],
)
def test_no_more_is_fetched_of_a_checkpoint_than_a_state_has(
    store: RunStore, tmp_path: Path, size: int, by: Identity, error: type[Exception]
) -> None:
    """A manifest may claim 2^44 bytes of a file, which would fill a volunteer's disk.

    What a closer alone made up is passed over, and not taken for a fault of the run.
    """
    junk = bytes(100)
    newest, position = store.snapshot.newest_checkpoint.value, store.snapshot.position
    files = (FileEntry(name="adapter_model.safetensors", hash=blob_hash(junk), size=size),)
    wire = sign(by, newest.model_copy(update={"files": files, "closers": CLOSERS})).wire
    swarm = FakeSwarm(BlobStore(tmp_path / "peer"), held={blob_hash(each): each for each in (wire, junk)})
    head = parts.head(checkpoint=blob_hash(wire))
    keys = KeysInForce(FIRST, replace(position, closers=CLOSERS))
    taking = newest_state(
        store.charter, swarm.as_swarm, swarm.blobs, head, keys, layout=lambda: store.state.layout
    )
    with pytest.raises(error):
        asyncio.run(taking)
    assert (blob_hash(junk) in swarm.fetched) is (size == len(junk))


def sealed(signed: Signed[Head]) -> bytes:
    return tagged(Signed(signed.value, signed.signer, signed.wire))


def test_no_other_layer_keeps_a_head_from_the_future() -> None:
    """In the DHT it would not expire, and an address book would call its addresses for good."""
    keys, now = parts.keys(*CLOSERS), parts.NOW
    validator = RecordValidator(parts.RUN, keys, lambda: now, parts.guard(*CLOSERS), lambda: None)
    for seconds, by, taken in [(59, LIAR, True), (61, LIAR, False), (10**9, LIAR, False)]:
        head = sign(by, honest_head(at=now + seconds * 1000).value)
        place = dht_key_of(head.value, head.signer)
        record = DHTRecord(
            DHTID.generate(source=place.key).to_bytes(),
            MSGPackSerializer.dumps(place.subkey),
            MSGPackSerializer.dumps(sealed(head)),
            head.value.at / 1000 + 3600,
        )
        assert validator.validate(record) is taken
        book = AddressBook(parts.RUN, keys)
        text = base64.b64encode(sealed(head)).decode()
        assert book.learn(ContactPage(head=text, contacts=()), now) == (not taken)
        assert (book.head is not None) is taken


def test_the_clock_of_one_closer_leads_no_volunteer_away() -> None:
    """Each head may be a minute ahead: sixty of them were an hour."""

    async def never(*_: object) -> Any:
        raise AssertionError("it is not sent on")

    clock = RunClock(lambda: Millis(0), lambda: parts.NOW)
    gossip = Gossip(
        parts.STRANGER, parts.RUN, parts.keys(*CLOSERS), clock, store=never, look_up=never,
        open_stream=never, guard=parts.guard(), random=Random(1),
    )  # fmt: skip
    swarm = GossipOnly(gossip)
    follower = HeadFollower(
        honest_head(at=parts.NOW).value, cast(Swarm, swarm), clock, lambda: Millis(0), list,
        RoundTimer(Millis(0)), lambda _: None, measures_clock=gossip.measures_clock,
    )  # fmt: skip

    def receive(signed: Signed[Head]) -> Novelty:
        novelty = gossip._keep(Signed(signed.value, signed.signer, signed.wire))
        asyncio.run(follower.look())
        return novelty

    for number in range(60):
        receive(sign(LIAR, honest_head(at=clock() + 59_000 - number).value))
    assert clock() == parts.NOW
    honest = sign(parts.AUTHORITY, honest_head(at=parts.NOW + 70_000).value)
    assert receive(honest) is Novelty.NEW
    assert clock() == parts.NOW + 70_000, "a run key's time is the run's"


@dataclass
class GossipOnly:
    """A swarm whose newest head is that of gossip."""

    gossip: Gossip

    async def heads(self) -> list[Head]:
        known = self.gossip.signed_head
        return [] if known is None else [known.value]


@pytest.mark.parametrize(("by", "error"), [(LIAR, MalformedRecord), (parts.AUTHORITY, CoordinatorDoesNotFit)])
def test_a_closer_alone_does_not_end_volunteers_by_another_protocol(
    by: Identity, error: type[Exception]
) -> None:
    newer = Protocol(speaks=999, works_with=999, release="9.0.0")
    head = sign(by, honest_head(protocol=newer).value)
    with pytest.raises(error):
        open_record(sealed(head), run=parts.RUN, signers=parts.keys(*CLOSERS).signers, now=parts.NOW)


ENDED = Progress(decay=OrderedDecay(start=0, rounds=1))


@pytest.mark.parametrize("progress", [NO_PROGRESS, ENDED])
@pytest.mark.parametrize("by", [LIAR, parts.AUTHORITY])
def test_no_checkpoint_of_a_closer_alone_ends_the_run(
    store: RunStore, tmp_path: Path, by: Identity, progress: Progress
) -> None:
    """After the end no close follows that would show the lie: a volunteer that believed it would leave."""
    newest, position = store.snapshot.newest_checkpoint.value, store.snapshot.position
    changed = {"closers": CLOSERS, "progress": progress, "round": 1}
    wire = sign(by, newest.model_copy(update=changed)).wire
    swarm = FakeSwarm(BlobStore(tmp_path / "peer"), held={blob_hash(wire): wire})
    keys = KeysInForce(FIRST, replace(position, closers=CLOSERS))
    head = parts.head(checkpoint=blob_hash(wire))
    taking = newest_state(
        store.charter, swarm.as_swarm, swarm.blobs, head, keys, layout=lambda: store.state.layout
    )
    refused = by is LIAR and progress == ENDED
    with pytest.raises(Unreachable, match="the run is over" if refused else "^(?!.*the run is over)"):
        asyncio.run(taking)


@pytest.mark.parametrize(("by", "believed"), [(LIAR, None), (parts.AUTHORITY, 7)])
def test_who_joins_believes_the_run_key_alone_that_the_run_is_over(
    store: RunStore, by: Identity, believed: int | None
) -> None:
    joined = Joined(store.charter, cast(Any, None), sign(by, parts.head(ended_after=7)))
    nothing = cast(Any, None)
    keys = KeysInForce(FIRST, replace(store.snapshot.position, closers=CLOSERS))
    assert ended_after(Entered(joined, nothing, nothing, nothing, keys)) == believed
