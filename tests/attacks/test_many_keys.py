"""Two thousand admitted keys, as anybody makes in an open run, fill what a node keeps for all of them.

What they fill has a bound for all keys together, and the records of trusted keys take places of theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache, lru_cache
from random import Random
from typing import Any

import pytest
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.dht.validation import DHTRecord
from hivemind.utils import MSGPackSerializer, timed_storage

from barnraise.contract.dht_keys import dht_key_of
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Commit, Presence, Record, tagged
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey, Round
from barnraise.core.signed import Signed, sign
from barnraise.network import dht_storage, gossip_policy
from barnraise.network.dht_storage import MAX_PER_ENTRY, BoundedStorage
from barnraise.network.gossip import MAX_QUEUED, MAX_SENDS, Gossip
from barnraise.network.gossip_policy import (
    FAN_OUT,
    WORKING_FAN_OUT,
    Novelty,
    RecordCache,
    forward_targets,
)
from barnraise.network.key_access import Access, KeyAccess, nobody
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.record_dht import RecordValidator
from tests.support import parts
from tests.support.attackers import key_number

KEYS = [key_number(number) for number in range(2000)]
OPEN = Round(5)
ROUNDS = [OPEN - 1, OPEN, OPEN + 1]
TRUSTED = parts.ADA
EXPIRES = parts.NOW / 1000 + 3000
LARGEST = 3000
"""Bytes of a commit, of at most 3072."""


class Node:
    """What a node keeps of records, without its network."""

    def __init__(self, vouched: tuple[str, ...] = (TRUSTED.public,)) -> None:
        keys = self.keys = KeysInForce(
            parts.AUTHORITY.public, parts.keys().position, TrustSpec(mode="open", vouched=vouched)
        )
        access = KeyAccess(keys)
        self.validator = RecordValidator(parts.RUN, keys, lambda: parts.NOW, PeerGuard(access), lambda: OPEN)
        self.storage = BoundedStorage(lambda key: access.of(key) >= Access.TRUSTED)
        self.cache = RecordCache.of_node(counts=True, trusts=keys.trusts)
        self.cache.receive(sign(parts.AUTHORITY, parts.head(round=OPEN)), parts.NOW)

    def store(self, signed: Signed[Record]) -> bool:
        """As a message of another node."""
        place = dht_key_of(signed.value)
        key, value = DHTID.generate(source=place.key), MSGPackSerializer.dumps(tagged(signed))
        record = DHTRecord(key.to_bytes(), MSGPackSerializer.dumps(place.subkey), value, EXPIRES)
        return self.validator.validate(record) and self.storage.store(key, value, EXPIRES, place.subkey)

    def receive(self, signed: Signed[Record]) -> Novelty:
        """By gossip."""
        return self.cache.receive(signed, parts.NOW)

    def stored(self) -> list[tuple[PublicKey, int]]:
        """The owners and sizes of all records."""
        entries: list[Any] = [each.value for _, each in self.storage.items()]
        records = [
            item for entry in entries for item in entry.items() if isinstance(entry, DictionaryDHTValue)
        ]
        return [(owner, len(value)) for owner, (value, _) in records]


@pytest.fixture(autouse=True)
def run_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed_storage, "get_dht_time", lambda: parts.NOW / 1000)


@lru_cache
def admission(owner: Identity) -> str:
    return parts.admission(owner)


@cache
def commit(owner: Identity, round: int = OPEN, tokens: int = 64, padding: int = 0) -> Signed[Record]:
    """padding: bytes of a field that is not known."""
    record = parts.commit(owner, round=round, tokens=tokens, admission=admission(owner))
    if not padding:
        return sign(owner, record)
    payload = (record.model_dump_json()[:-1] + f',"x":"{"x" * padding}"}}').encode()
    wire = bytes.fromhex(owner.public) + owner.sign(Commit.DOMAIN + payload) + payload
    assert len(wire) < LARGEST
    return Signed(record, owner.public, wire)


@cache
def heartbeat(owner: Identity) -> Signed[Record]:
    beat: Presence = parts.presence(owner, admission=admission(owner), parts=64)
    return sign(owner, beat)


def test_what_the_dht_keeps_has_a_bound_and_a_trusted_key_s_commit_is_kept() -> None:
    node = Node()
    assert sum(node.store(commit(key, padding=1700)) for key in KEYS) == MAX_PER_ENTRY
    assert sum(size for _, size in node.stored()) < MAX_PER_ENTRY * LARGEST
    assert node.store(commit(TRUSTED))
    assert TRUSTED.public in dict(node.stored())
    assert len(node.stored()) == MAX_PER_ENTRY
    assert not node.store(commit(KEYS[-1])), "no place comes free for the others"


def test_without_trust_the_flood_keeps_all_places() -> None:
    node = Node(vouched=())
    assert sum(node.store(commit(key)) for key in KEYS) == MAX_PER_ENTRY
    assert not node.store(commit(TRUSTED))


def test_heartbeats_of_all_keys_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dht_storage, "MAX_RECORDS", 1000)
    node = Node()
    assert sum(node.store(heartbeat(key)) for key in KEYS) == 1000
    assert node.store(heartbeat(TRUSTED))
    assert len(node.stored()) == 1000
    assert TRUSTED.public in dict(node.stored())


@pytest.mark.parametrize("trusts", [None, nobody])
def test_commits_in_gossip_have_a_bound_and_a_trusted_key_s_one_is_kept(
    trusts: Callable[[PublicKey], bool] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """trusts: another answer than the node's."""
    monkeypatch.setattr(gossip_policy, "MAX_COMMITS", 1500)
    node = Node()
    node.cache.trusts = trusts or node.cache.trusts
    for key in KEYS:
        node.receive(commit(key))
        node.receive(commit(key, tokens=65))
    assert len(node.cache.commits(OPEN)) == 1500
    assert sum(map(len, node.cache._commits[OPEN].values())) == 1500
    kept = node.receive(commit(TRUSTED)) is Novelty.NEW
    assert kept is (trusts is None)
    assert (TRUSTED.public in {each.signer for each in node.cache.commits(OPEN)}) is kept


def test_a_few_keys_with_several_commits_each_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nobody is trusted, and for each round alone."""
    monkeypatch.setattr(gossip_policy, "MAX_COMMITS", 4 * 64)
    node = Node(vouched=())
    for round in ROUNDS:
        for key in KEYS[:64]:
            for tokens in range(1, 6):
                node.receive(commit(key, round, tokens))
    assert {round: len(each) for round, each in node.cache._commits.items()} == dict.fromkeys(ROUNDS, 64)
    assert [node.receive(commit(key)) for key in KEYS[64:256]] == [Novelty.NEW] * 192
    assert {each.signer for each in node.cache.commits(OPEN)} == {key.public for key in KEYS[:256]}
    assert node.receive(commit(KEYS[256])) is Novelty.STALE


@pytest.mark.parametrize("is_trusted", [True, False])
def test_what_waits_to_be_forwarded_has_a_bound_and_trusted_keys_have_places(is_trusted: bool) -> None:
    """Each new commit is forwarded to seven others, which may be slow to take it."""

    async def never(*_: object) -> Any:
        await asyncio.Event().wait()

    async def play() -> int:
        node = Node((TRUSTED.public,) if is_trusted else ())
        gossip = Gossip(
            parts.BEN, parts.RUN, node.keys, lambda: parts.NOW, store=never, look_up=never, open_stream=never,
            guard=node.validator.guard, random=Random(1), cache=node.cache,
        )  # fmt: skip
        for key in KEYS[:20]:
            gossip._receive(heartbeat(key))
        for key in KEYS:
            gossip._receive(commit(key))
        flood = len(gossip._sending)
        assert flood == MAX_QUEUED // 2
        gossip._receive(commit(TRUSTED))
        forwarded = len(gossip._sending) - flood
        for task in gossip._sending:
            task.cancel()
        await asyncio.gather(*gossip._sending, return_exceptions=True)
        return forwarded

    assert bool(asyncio.run(play())) is is_trusted


@pytest.mark.parametrize("vouched", [(), tuple(key.public for key in KEYS[:50])])
def test_a_heartbeat_reaches_the_coordinator_while_others_take_no_record(vouched: tuple[str, ...]) -> None:
    """They open a stream and read nothing, for 20 s each time. In a run by invitation all are trusted."""
    opened: list[PublicKey] = []

    async def stalls(*to: Any) -> Any:
        opened.append(to[0])
        await asyncio.Event().wait()

    async def as_far_as_it_goes() -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def play() -> None:
        node = Node(vouched)
        gossip = Gossip(
            parts.BEN, parts.RUN, node.keys, lambda: parts.NOW, store=stalls, look_up=stalls,
            open_stream=stalls, guard=node.validator.guard, random=Random(1), cache=node.cache,
        )  # fmt: skip
        for round in ROUNDS:
            for key in KEYS[:50]:
                gossip._receive(heartbeat(key))
                gossip._receive(commit(key, round))
        await as_far_as_it_goes()
        assert len(opened) == MAX_SENDS
        gossip._receive(heartbeat(parts.BEN))
        await as_far_as_it_goes()
        for task in gossip._sending:
            task.cancel()
        await asyncio.gather(*gossip._sending, return_exceptions=True)

    asyncio.run(play())
    assert opened[MAX_SENDS:] == [parts.AUTHORITY.public]


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_head_reaches_trusted_contributors_among_two_thousand_keys(
    is_trusted: bool,
) -> None:
    """Keys that no program is behind take nothing on: a head that only they get is found 5 s later."""
    trusted = {TRUSTED.public, parts.BEN.public} if is_trusted else set()
    everyone = {key.public for key in KEYS} | {TRUSTED.public, parts.BEN.public}
    random = Random(1)
    found = forward_targets(
        parts.head(), Novelty.NEW, own=parts.AUTHORITY.public, counting=(),
        present=[heartbeat(key).value for key in (*KEYS, TRUSTED, parts.BEN)],  # type: ignore[misc]
        draw=random.sample, signer=parts.AUTHORITY.public, contributing=everyone, trusts=trusted.__contains__,
    )  # fmt: skip
    assert ({TRUSTED.public, parts.BEN.public} <= {*found}) is is_trusted


def test_a_swarm_of_new_keys_does_not_flood_its_one_trusted_key() -> None:
    """Each volunteer forwards each head: with all of them sent to one, that one could serve nothing else."""
    volunteers, random = [*KEYS[:200], TRUSTED], Random(1)
    present = [heartbeat(key).value for key in volunteers]
    contributing = {key.public for key in (*KEYS[:19], TRUSTED)}

    def forwarded(own: Identity) -> list[PublicKey]:
        return forward_targets(
            parts.head(), Novelty.NEW, own=own.public, counting=(), present=present,  # type: ignore[arg-type]
            draw=random.sample, signer=parts.AUTHORITY.public, contributing=contributing,
            trusts={TRUSTED.public}.__contains__,
        )  # fmt: skip

    received = sum(TRUSTED.public in forwarded(own) for own in KEYS[:200])
    fair = 200 * (FAN_OUT / 200 + WORKING_FAN_OUT / len(contributing))
    assert 0 < received < 2 * fair < 200
    assert TRUSTED.public in forwarded(parts.AUTHORITY), "its owner prefers trusted ones"


def test_newcomers_do_not_crowd_out_who_is_present() -> None:
    """Nor a trusted key that comes late."""
    node, others = Node(), KEYS[1000:]
    node.cache.limit = 1000
    for key in [*KEYS[:1000], *others]:
        node.receive(heartbeat(key))
    present = {each.owner for each in node.cache.present(parts.NOW)}
    assert present == {key.public for key in KEYS[:1000]}
    assert node.receive(heartbeat(TRUSTED)) is Novelty.NEW
    present = {each.owner for each in node.cache.present(parts.NOW)}
    assert TRUSTED.public in present
    assert len(present) == 1000
