"""All neighbours of a volunteer in the DHT are hostile: it finds the run's head all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hivemind.dht.routing import DHTID
from hivemind.p2p import PeerID

from barnraise.contract.dht_keys import head_key
from barnraise.core.ids import Millis
from barnraise.core.signed import sign
from barnraise.network.dht_protocol import place_of_node
from barnraise.network.peer_ids import peer_id_bytes
from barnraise.network.timing import TIMING
from tests.support import parts
from tests.support.attackers import Attacker, attackers, key_number
from tests.support.dht_attacks import lie
from tests.support.swarms import HIVEMIND_WARNS, NOW, SwarmNode, head, node

pytestmark = HIVEMIND_WARNS
HOSTILE = 3
LATER = Millis(NOW + round(1000 * TIMING.late_head) + 1)


async def eclipse(victim: SwarmNode, coordinator: SwarmNode, hostile: list[Attacker]) -> None:
    """Have the routing table of a volunteer name hostile nodes alone."""
    protocol = victim.dht.protocol
    peers = [PeerID(peer_id_bytes(each.identity.public)) for each in hostile]
    for attacker, peer in zip(hostile, peers, strict=True):
        await lie(attacker, hostile)
        victim.swarm.admit(attacker.identity.public)
        assert await victim.swarm._dht.ping(peer)
    del protocol.routing_table[place_of_node(coordinator.dht.peer_id)]
    near = protocol.routing_table.get_nearest_neighbors(DHTID.generate(source=head_key(parts.RUN)), 8)
    assert {peer for _, peer in near} == {*peers}


@pytest.mark.parametrize("knew_one", [True, False])
def test_an_eclipsed_volunteer_finds_the_head(tmp_path: Path, knew_one: bool) -> None:
    """knew_one: whether it had an older head."""

    async def play() -> None:
        async with (
            node(tmp_path, parts.AUTHORITY, now=LATER) as coordinator,
            node(tmp_path, parts.ADA, coordinator, now=LATER) as victim,
            attackers(
                tmp_path, await victim.swarm.addresses(), [*map(key_number, range(HOSTILE))]
            ) as hostile,
        ):
            if knew_one:
                victim.swarm.learn(sign(parts.AUTHORITY, head(round=3)))
            await eclipse(victim, coordinator, hostile)
            await coordinator.swarm.publish(head(round=7, later=1000))
            assert [found.round for found in await victim.swarm.heads()] == [7]

    asyncio.run(asyncio.wait_for(play(), 100))
