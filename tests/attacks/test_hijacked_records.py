"""Somebody else's record under a key, an old one over a newer one, entries of another form: none counts."""

from __future__ import annotations

from pathlib import Path

from hivemind.dht.storage import DictionaryDHTValue
from hivemind.utils import MSGPackSerializer

from barnraise.contract.dht_keys import dht_key_of
from barnraise.contract.records import Record, seal
from barnraise.core.identity import Identity
from barnraise.network.gossip import GOSSIP_PROTOCOL
from tests.support import parts
from tests.support.attackers import Attacker, key_number
from tests.support.dht_attacks import OPEN, attack, storing, try_request
from tests.support.swarms import HIVEMIND_WARNS, NOW, SwarmNode, commit, head, presence, until_present

pytestmark = HIVEMIND_WARNS
MEMBER = key_number(1)
"""The attacker's key, which has an admission."""


async def known(node: SwarmNode, record: Record) -> list[Record]:
    """What the DHT has at the place of a record."""
    return [signed.value for signed in await node.swarm._dht.look_up(dht_key_of(record).key, newest=True)]


async def try_place(
    attacker: Attacker, target: SwarmNode, at: Record, by: Identity, record: Record, expires: float
) -> bool:
    request = storing(attacker, (at, seal(by, record)), expires=expires)
    return await try_request(attacker, target, request) == [True]


def test_records_of_others_are_not_replaced(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        adas, own = presence(later=1000), presence(MEMBER)
        assert await ada.swarm.publish(adas)
        assert await ada.swarm.publish(commit(OPEN))
        soon, late = NOW / 1000 + 3000, NOW / 1000 + 4000
        attempts: dict[str, tuple[Record, Identity, Record, float]] = {
            "own record under another's key": (adas, MEMBER, own, soon),
            "another's record signed by oneself": (adas, MEMBER, adas, soon),
            "an older record that expires later": (adas, parts.ADA, presence(), late),
            "a commit under a heartbeat's key": (adas, parts.ADA, commit(OPEN), soon),
            "a heartbeat as the head": (head(round=OPEN), parts.ADA, adas, soon),
            "a head of one's own": (head(round=OPEN), MEMBER, head(round=OPEN + 1), soon),
            "an old head that expires later": (
                head(round=OPEN), parts.AUTHORITY, head(round=1, later=-60_000), late
            ),
        }  # fmt: skip
        for what, attempt in attempts.items():
            assert not await try_place(attacker, coordinator, *attempt), what
        for other_form in (b"", MSGPackSerializer.dumps(None)):
            request = storing(attacker, (adas, seal(parts.ADA, adas)), expires=late)
            request.subkeys[:] = [other_form]
            assert await try_request(attacker, coordinator, request) in ([], [False])
        entry = DictionaryDHTValue()
        with entry.freeze():
            entry.store(parts.ADA.public, MSGPackSerializer.dumps(seal(MEMBER, own)), late)
        request = storing(attacker, (adas, b""), expires=late)
        request.subkeys[:], request.values[:] = [b""], [MSGPackSerializer.dumps(entry)]
        assert await try_request(attacker, coordinator, request) == [False]
        assert await known(ada, adas) == [adas]
        assert await known(ada, commit(OPEN)) == [commit(OPEN)]
        assert await known(ada, head(round=OPEN)) == [head(round=OPEN)]
        honest = await try_place(attacker, coordinator, own, MEMBER, own, own.at / 1000 + 3600)
        assert honest, "its own record has a place"

    attack(tmp_path, MEMBER, scene)


def test_a_replayed_heartbeat_changes_nothing(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        newer = presence(name="newer", later=1000)
        await ada.swarm.publish(newer)
        await until_present(coordinator, "newer")
        for record in (presence(), newer, presence(MEMBER)):
            value = seal(MEMBER if record.owner == MEMBER.public else parts.ADA, record)
            reader, writer = await attacker.daemon.open_stream(coordinator.key, GOSSIP_PROTOCOL)
            writer.write(len(value).to_bytes(4, "little") + value)
            assert await reader.read(1) == b"\x01"
            writer.close()
        assert sorted(found.name for found in await coordinator.swarm.peers()) == ["ada", "newer"]
        assert newer in await coordinator.swarm.peers()

    attack(tmp_path, MEMBER, scene)
