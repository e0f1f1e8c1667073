"""A program floods the DHT of a node: what it stores, what it asks for, and which nodes it names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hivemind.dht.routing import DHTID
from hivemind.dht.storage import DictionaryDHTValue
from hivemind.p2p import PeerID
from hivemind.proto import dht_pb2
from hivemind.utils import MSGPackSerializer

from barnraise.contract.dht_keys import commits_key, dht_key_of
from barnraise.contract.records import Commit, seal, tagged
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey, Round
from barnraise.core.signed import Signed
from barnraise.network.dht_limits import MAX_KEYS
from barnraise.network.dht_protocol import place_of_node
from barnraise.network.key_access import Access
from barnraise.network.key_rates import Verdict
from barnraise.network.record_dht import ROUNDS_AROUND
from tests.support import parts
from tests.support.attackers import Attacker, ask_dht, key_number
from tests.support.dht_attacks import OPEN, REFUSED, attack, info, lie, storing, try_store
from tests.support.swarms import HIVEMIND_WARNS, NOW, SwarmNode, admission, presence

pytestmark = HIVEMIND_WARNS


def padded(record: Commit, key: Identity, size: int) -> bytes:
    """A signed commit with a field that is not known, of `size` bytes."""
    text = record.model_dump_json()
    signed_size = len(seal(key, record)) + len(',"x":""')
    payload = (text[:-1] + f',"x":"{"x" * (size - signed_size)}"}}').encode()
    signature = key.sign(Commit.DOMAIN + payload)
    wire = bytes.fromhex(key.public) + signature + payload
    return tagged(Signed(record, key.public, wire))


def commit(key: Identity, round: int, **more: Any) -> Commit:
    return parts.commit(key, round=round, admission=admission(key)).model_copy(update=more)


def stored_of(target: SwarmNode, key: Identity) -> int:
    """Records of one key that a node keeps."""
    entries = [item.value for _, item in target.dht.protocol.storage.items()]
    return sum(key.public in entry for entry in entries if isinstance(entry, DictionaryDHTValue))


def test_commits_to_any_round_are_not_all_stored(tmp_path: Path) -> None:
    """4,000 padded commits of one key took 105 MB."""
    key = key_number(1)

    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        records = [commit(key, round) for round in range(40, 440)]  # as many as its rate allows
        answers: list[bool] = []
        for start in range(0, len(records), MAX_KEYS):
            some = [(record, padded(record, key, 2900)) for record in records[start : start + MAX_KEYS]]
            answers += await try_store(attacker, coordinator, *some)
        assert 0 < sum(answers) <= 2 * ROUNDS_AROUND + 1
        assert stored_of(coordinator, key) <= 2 * ROUNDS_AROUND + 1
        assert stored_of(ada, key) <= 2 * ROUNDS_AROUND + 1
        assert len(coordinator.dht.protocol.storage) < 10

    attack(tmp_path, key, scene)


@pytest.mark.full("a variant of what the gate tests")
def test_heartbeats_under_many_entries_are_not_all_kept(tmp_path: Path) -> None:
    key = key_number(1)

    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        for n in range(40):
            record = presence(key, later=n).model_copy(update={"parts": n + 1})
            request = storing(attacker, (record, seal(key, record)))
            request.expiration_time[:] = [record.at / 1000 + 3600]
            await ask_dht(attacker, coordinator.key, "rpc_store", request, dht_pb2.StoreResponse)
        assert stored_of(coordinator, key) == 2

    attack(tmp_path, key, scene)


def test_a_message_counts_once_for_each_of_its_keys(tmp_path: Path) -> None:
    """Checking the signatures of 16 records takes 6 ms."""
    key = key_number(1)

    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        taken: list[float] = []
        rates = coordinator.dht.protocol._limits._rates

        def take(key: PublicKey, access: Access, now: float, amount: float) -> Verdict:
            taken.append(amount)
            return Verdict.ALLOWED

        rates.take = take
        record = commit(key, OPEN)
        several = [(record, seal(key, record))] * MAX_KEYS
        assert await try_store(attacker, coordinator, *several) == [True] + [False] * (MAX_KEYS - 1)
        places = [DHTID.generate(source=str(number).encode()).to_bytes() for number in range(MAX_KEYS)]
        request = dht_pb2.FindRequest(keys=places, peer=info(attacker))
        await ask_dht(attacker, coordinator.key, "rpc_find", request, dht_pb2.FindResponse)
        await ask_dht(attacker, coordinator.key, "rpc_ping", dht_pb2.PingRequest(), dht_pb2.PingResponse)
        assert taken == [MAX_KEYS, MAX_KEYS, 1]

    attack(tmp_path, key, scene)


@pytest.mark.full("a variant of what the gate tests")
def test_records_that_are_too_large_are_not_stored(tmp_path: Path) -> None:
    key = key_number(1)

    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        record = commit(key, OPEN)
        assert await try_store(attacker, coordinator, (record, padded(record, key, 3300))) == [False]
        assert await try_store(attacker, coordinator, (record, padded(record, key, 16_000))) == [False]
        assert await try_store(attacker, coordinator, (record, seal(key, record))) == [True]

    attack(tmp_path, key, scene)


def test_messages_of_megabytes_are_not_read(tmp_path: Path) -> None:
    """80 of 3.9 MB took a coordinator from 397 to 697 MB."""
    key = key_number(1)

    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        seen: list[int] = []
        protocol = coordinator.dht.protocol
        served = protocol._check

        async def noting(request: Any, *more: Any) -> None:
            seen.append(request.ByteSize())
            await served(request, *more)

        protocol._check = noting
        record = commit(key, OPEN)
        large = [(record, bytes(3_900_000))]
        assert await try_store(attacker, coordinator, *large) == []
        await ask_dht(attacker, coordinator.key, "rpc_ping", dht_pb2.PingRequest(), dht_pb2.PingResponse)
        assert max(seen, default=0) < 2**19

    # The daemon of the coordinator refuses; that of the attacker sends it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hivemind.p2p.p2p_daemon.DEFAULT_MAX_MSG_SIZE", 2**22)
        attack(tmp_path, key, scene)


@pytest.mark.full("a variant of what the gate tests")
def test_a_request_for_many_keys_is_refused(tmp_path: Path) -> None:
    """Each has an answer that is a hundred times larger."""

    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        keys = [DHTID.generate(source=str(number).encode()).to_bytes() for number in range(MAX_KEYS + 1)]
        for count, answered in [(MAX_KEYS, True), (MAX_KEYS + 1, False)]:
            request = dht_pb2.FindRequest(keys=keys[:count], peer=info(attacker))
            try:
                await ask_dht(attacker, coordinator.key, "rpc_find", request, dht_pb2.FindResponse)
            except REFUSED:
                assert not answered
            else:
                assert answered

    attack(tmp_path, key_number(1), scene)


def test_a_program_does_not_choose_who_is_in_a_routing_table(tmp_path: Path) -> None:
    """One that names many places would surround any entry, and fill the memory."""
    key = key_number(1)

    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        table = coordinator.dht.protocol.routing_table
        own = attacker.daemon.p2p.peer_id

        async def ping(node_id: bytes) -> None:
            request = dht_pb2.PingRequest(peer=dht_pb2.NodeInfo(node_id=node_id), validate=True)
            await ask_dht(attacker, coordinator.key, "rpc_ping", request, dht_pb2.PingResponse)

        await lie(attacker)  # a node that does not answer leaves the table
        before = len(table.uid_to_peer_id)
        for number in range(20):
            await ping(DHTID.generate(source=str(number).encode()).to_bytes())
        await ping(place_of_node(own).to_bytes())
        assert own not in table, "it has no admission"
        record = presence(key)
        assert await try_store(attacker, coordinator, (record, seal(key, record))) == [True]
        await ping(DHTID.generate(source=b"another place").to_bytes())
        assert own not in table
        await ping(place_of_node(own).to_bytes())
        assert own in table
        assert len(table.uid_to_peer_id) == before + 1

    attack(tmp_path, key, scene)


def test_a_record_that_no_longer_counts_hides_no_others(tmp_path: Path) -> None:
    """hivemind refuses the whole entry: a volunteer whose admission ends would hide all others."""
    key = key_number(1)

    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        assert await ada.swarm.publish(presence())
        ended = presence(key, admitted=parts.admission(key, expires=NOW - 1))
        place = dht_key_of(ended)
        storage = coordinator.dht.protocol.storage
        value = MSGPackSerializer.dumps(seal(key, ended))
        assert storage.store(DHTID.generate(source=place.key), value, NOW / 1000 + 3600, subkey=key.public)
        found = await ada.swarm._dht.look_up(place.key, newest=True)
        assert [signed.signer for signed in found] == [parts.ADA.public]

    attack(tmp_path, key, scene)


@pytest.mark.full("a variant of what the gate tests")
def test_an_entry_that_claims_to_be_the_newest_ends_no_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search ends at an entry that expires late enough: one with old records could hide newer ones."""

    async def scene(coordinator: SwarmNode, ada: SwarmNode, attacker: Attacker) -> None:
        old, new = commit(parts.ADA, OPEN), commit(parts.BEN, OPEN)
        entry = DictionaryDHTValue()
        with entry.freeze():
            entry.store(parts.ADA.public, MSGPackSerializer.dumps(seal(parts.ADA, old)), time.time() + 100)

        async def hostile(request: dht_pb2.FindRequest, context: Any) -> dht_pb2.FindResponse:
            result = dht_pb2.FindResult(
                type=dht_pb2.FOUND_DICTIONARY, value=MSGPackSerializer.dumps(entry), expiration_time=1e300
            )
            return dht_pb2.FindResponse(results=[result for _ in request.keys], peer=info(attacker))

        await attacker.daemon.p2p.add_protobuf_handler("DHTProtocol.rpc_find", hostile, dht_pb2.FindRequest)
        peer = PeerID(attacker.daemon.p2p.peer_id.to_bytes())
        ada.dht.protocol.join_by([peer])
        await ada.dht.protocol.update_routing_table(None, peer)
        place = DHTID.generate(source=commits_key(parts.RUN, Round(OPEN)))
        value = MSGPackSerializer.dumps(seal(parts.BEN, new))
        assert coordinator.dht.protocol.storage.store(
            place, value, NOW / 1000 + 3600, subkey=parts.BEN.public
        )
        found = await ada.swarm._dht.look_up(commits_key(parts.RUN, Round(OPEN)), newest=True)
        assert {signed.signer for signed in found} == {parts.ADA.public, parts.BEN.public}

    attack(tmp_path, key_number(1), scene)
