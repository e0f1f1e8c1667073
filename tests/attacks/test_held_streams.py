"""Strangers hold every stream that a node serves: whoever is admitted is served all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barnraise.core.ids import PublicKey
from barnraise.network.address_protocol import ADDRESS_PROTOCOL
from barnraise.network.blobs.transfer import PIECE_PROTOCOL, WHOLE_PROTOCOL
from barnraise.network.gossip import GOSSIP_PROTOCOL
from barnraise.network.mail import MAIL_PROTOCOL
from tests.support import parts
from tests.support.attackers import attackers, key_number
from tests.support.swarms import HIVEMIND_WARNS, head, node, presence
from tests.support.transfers import blob, wanted

pytestmark = HIVEMIND_WARNS
STRANGERS, EACH = 12, 8
"""96 streams of one protocol, which is all that a node serves at once."""
PROTOCOLS = [WHOLE_PROTOCOL, PIECE_PROTOCOL, GOSSIP_PROTOCOL, MAIL_PROTOCOL, ADDRESS_PROTOCOL]


@pytest.mark.full("twelve daemons take more than 10 s to start")
def test_an_admitted_key_is_served_while_strangers_hold_streams(tmp_path: Path) -> None:
    data = blob(size=20_000_000)

    async def play() -> None:
        async with (
            node(tmp_path, parts.AUTHORITY) as coordinator,
            node(tmp_path, parts.ADA, coordinator) as ada,
            attackers(
                tmp_path, await coordinator.swarm.addresses(), [*map(key_number, range(STRANGERS))]
            ) as strangers,
        ):
            name = coordinator.blobs.put(data)
            await ada.swarm.publish(presence())
            while not await coordinator.swarm.peers():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            target = PublicKey(coordinator.key)
            for stranger in strangers:
                for protocol in PROTOCOLS:
                    asked = bytes.fromhex(name) + bytes(8) if protocol == WHOLE_PROTOCOL else b""
                    stranger.hold(target, protocol, EACH, asked)
            while sum(stranger.opened for stranger in strangers) < len(PROTOCOLS) * STRANGERS * EACH:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await ada.swarm.fetch(name, len(data), [target])
            ada.blobs.remove(name)
            await ada.swarm.fetch_pieces(wanted(data), [target])
            assert await ada.swarm.exchange_addresses(target)
            await coordinator.swarm.publish(head(round=1, later=1000))
            await ada.swarm.publish(presence(name="ada2", later=1000))
            while [there.name for there in await coordinator.swarm.peers()] != ["ada2"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(play(), 120))
