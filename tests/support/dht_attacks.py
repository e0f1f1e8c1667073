"""Scenes of a node of the DHT and a program that sends it what it likes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from hivemind.dht.routing import DHTID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError, P2PHandlerError
from hivemind.proto import dht_pb2
from hivemind.utils import MSGPackSerializer

from barnraise.contract.dht_keys import dht_key_of
from barnraise.contract.records import Record
from barnraise.core.identity import Identity
from barnraise.network.dht_protocol import place_of_node
from tests.support import parts
from tests.support.attackers import Attacker, ask_dht, attackers
from tests.support.swarms import NOW, SwarmNode, head, node

REFUSED = (P2PHandlerError, P2PDaemonError, asyncio.TimeoutError)
OPEN = 50
"""The round that is open."""


def attack(
    folder: Path, identity: Identity, scene: Callable[[SwarmNode, SwarmNode, Attacker], Awaitable[None]]
) -> None:
    """A scene of the coordinator, Ada, and a program with a key of its own."""

    async def play() -> None:
        async with (
            node(folder, parts.AUTHORITY) as coordinator,
            node(folder, parts.ADA, coordinator) as ada,
            attackers(folder, await coordinator.swarm.addresses(), [identity]) as (attacker,),
        ):
            await coordinator.swarm.publish(head(round=OPEN))
            await scene(coordinator, ada, attacker)

    asyncio.run(asyncio.wait_for(play(), 100))


def info(attacker: Attacker) -> dht_pb2.NodeInfo:
    return dht_pb2.NodeInfo(node_id=place_of_node(attacker.daemon.p2p.peer_id).to_bytes())


def storing(
    attacker: Attacker, *records: tuple[Record, bytes], expires: float = NOW / 1000 + 3000
) -> dht_pb2.StoreRequest:
    """A request to store bytes at the places of records."""
    places = [dht_key_of(record) for record, _ in records]
    return dht_pb2.StoreRequest(
        keys=[DHTID.generate(source=place.key).to_bytes() for place in places],
        subkeys=[MSGPackSerializer.dumps(place.subkey) for place in places],
        values=[MSGPackSerializer.dumps(value) for _, value in records],
        expiration_time=[expires] * len(records),
        in_cache=[False] * len(records),
        peer=info(attacker),
    )


async def try_store(attacker: Attacker, target: SwarmNode, *records: tuple[Record, bytes]) -> list[bool]:
    """Whether each was stored; none where the request is refused."""
    return await try_request(attacker, target, storing(attacker, *records))


async def try_request(attacker: Attacker, target: SwarmNode, request: dht_pb2.StoreRequest) -> list[bool]:
    """As `try_store`."""
    try:
        answer = await ask_dht(attacker, target.key, "rpc_store", request, dht_pb2.StoreResponse)
    except REFUSED:
        return []
    return list(answer.store_ok)


async def lie(attacker: Attacker, accomplices: Sequence[Attacker] = ()) -> None:
    """Answer as a node of the DHT that has nothing, knows nobody else, and stores nothing."""
    own = dht_pb2.NodeInfo(node_id=place_of_node(attacker.daemon.p2p.peer_id).to_bytes())
    peers = [each.daemon.p2p.peer_id for each in accomplices]
    nothing = dht_pb2.FindResult(
        type=dht_pb2.NOT_FOUND,
        nearest_node_ids=[place_of_node(peer).to_bytes() for peer in peers],
        nearest_peer_ids=[peer.to_bytes() for peer in peers],
    )

    async def ping(request: dht_pb2.PingRequest, context: Any) -> dht_pb2.PingResponse:
        return dht_pb2.PingResponse(peer=own)

    async def find(request: dht_pb2.FindRequest, context: Any) -> dht_pb2.FindResponse:
        return dht_pb2.FindResponse(results=[nothing for _ in request.keys], peer=own)

    async def store(request: dht_pb2.StoreRequest, context: Any) -> dht_pb2.StoreResponse:
        return dht_pb2.StoreResponse(store_ok=[True for _ in request.keys], peer=own)

    p2p = attacker.daemon.p2p
    await p2p.add_protobuf_handler("DHTProtocol.rpc_ping", ping, dht_pb2.PingRequest)
    await p2p.add_protobuf_handler("DHTProtocol.rpc_find", find, dht_pb2.FindRequest)
    await p2p.add_protobuf_handler("DHTProtocol.rpc_store", store, dht_pb2.StoreRequest)
