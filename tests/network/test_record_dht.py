"""False records of a hostile DHT node are neither stored nor returned."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hivemind.dht.protocol import DHTProtocol
from hivemind.dht.routing import DHTID

from barnraise.contract.dht_keys import dht_key_of
from barnraise.contract.records import Record, seal
from barnraise.core.ids import Millis
from tests.support import parts
from tests.support.swarms import HIVEMIND_WARNS, NOW, SwarmNode, admission, head, presence, with_two

pytestmark = HIVEMIND_WARNS


def corrupted(value: bytes) -> bytes:
    return value[:-2] + bytes([value[-2] ^ 1]) + value[-1:]


async def stored_heartbeats(node: SwarmNode) -> list[Record]:
    dht = node.swarm._dht
    return [signed.value for signed in await dht.look_up(dht_key_of(presence()).key, newest=True)]


async def force(
    node: SwarmNode, record: Record, value: bytes, *, at: Record | None = None, ttl: float = 20
) -> bool:
    """Store as a program does that checks nothing. at: the record at whose key it is stored."""
    place = dht_key_of(at or record)
    return bool(await node.dht.store(place.key, value, time.time() + ttl, subkey=place.subkey))


def test_false_records_are_stored_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ben, stranger = parts.BEN, parts.STRANGER
    forged = presence(stranger, admitted=admission(stranger, by=stranger))
    honest = presence(ben, name="ben")
    expired = presence(stranger, admitted=parts.admission(stranger, expires=NOW - 1))

    async def scene(coordinator: SwarmNode, hostile: SwarmNode) -> None:
        monkeypatch.setattr(hostile.dht.protocol.record_validator, "validate", lambda record: True)
        assert await coordinator.swarm.publish(head(round=5))
        accepted = {
            "signature": await force(hostile, honest, corrupted(seal(ben, honest))),
            "signed by another": await force(hostile, honest, seal(parts.ADA, honest)),
            "at another's key": await force(hostile, presence(), seal(parts.ADA, presence()), at=honest),
            "no admission": await force(hostile, forged, seal(stranger, forged)),
            "an expired admission": await force(hostile, expired, seal(stranger, expired)),
            "an admission of another": await force(
                hostile,
                honest,
                seal(stranger, presence(stranger, admitted=admission(ben))),
                at=presence(stranger),
            ),
            "a head of another key": await force(hostile, head(round=9), seal(parts.ADA, head(round=9))),
            "no record": await force(hostile, honest, b"junk"),
        }
        assert accepted == dict.fromkeys(accepted, False)
        assert await stored_heartbeats(coordinator) == []
        assert [found.round for found in await coordinator.swarm.heads()] == [5]
        assert await force(hostile, honest, seal(ben, honest)), "an honest record passes the same way"
        assert await stored_heartbeats(coordinator) == [honest]

    with_two(tmp_path, scene)


def test_an_old_head_is_not_kept_alive_beyond_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = head(round=2, later=-60_000)

    async def scene(coordinator: SwarmNode, hostile: SwarmNode) -> None:
        monkeypatch.setattr(hostile.dht.protocol.record_validator, "validate", lambda record: True)
        assert await coordinator.swarm.publish(head(round=5))
        assert not await force(hostile, old, seal(parts.AUTHORITY, old), ttl=3800)
        assert [found.round for found in await coordinator.swarm.heads()] == [5]

    with_two(tmp_path, scene)


@pytest.mark.parametrize("days", [-2, 2])
def test_records_expire_by_the_run_s_clock(tmp_path: Path, days: int) -> None:
    """Not by the machine's, which may be set at any time."""
    off = days * 86_400_000
    fresh, old = head(round=5, later=off), presence(later=off - 3_601_000)

    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        assert await coordinator.swarm.publish(fresh)
        found = await ada.swarm._dht.look_up(dht_key_of(fresh).key, newest=True)
        assert [signed.value for signed in found] == [fresh]
        assert not await force(ada, old, seal(parts.ADA, old), ttl=off / 1000 + 20)

    with_two(tmp_path, scene, Millis(NOW + off))


def test_records_in_answers_are_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that a hostile node returns."""
    forged = presence(parts.BEN, admitted=admission(parts.BEN, by=parts.STRANGER))

    async def scene(coordinator: SwarmNode, hostile: SwarmNode) -> None:
        monkeypatch.setattr(hostile.dht.protocol.record_validator, "validate", lambda record: True)
        coordinator.dht.protocol.join_by([hostile.dht.peer_id])
        assert await coordinator.swarm._dht.ping(hostile.dht.peer_id)
        keep(hostile, seal(parts.BEN, presence(parts.BEN)), ttl=10)
        assert await stored_heartbeats(coordinator) == [presence(parts.BEN)], "an honest record is read so"
        keep(hostile, seal(parts.BEN, forged), ttl=20)
        assert await hostile.dht.get(place.key, latest=True) is not None
        assert await stored_heartbeats(coordinator) == []

    place = dht_key_of(forged)

    def keep(hostile: SwarmNode, value: bytes, ttl: float) -> None:
        key, packed = DHTID.generate(source=place.key), DHTProtocol.serializer.dumps(value)
        storage = hostile.dht.protocol.storage
        assert storage.store_subkey(key, place.subkey, packed, time.time() + ttl)

    with_two(tmp_path, scene)
