"""Strangers hold every stream that a node serves: an admitted key is still served."""

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
from tests.support.swarms import HIVEMIND_WARNS, head, node, presence, until, until_present
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
            await until_present(coordinator, "ada")
            target = PublicKey(coordinator.key)
            for stranger in strangers:
                for protocol in PROTOCOLS:
                    asked = bytes.fromhex(name) + bytes(8) if protocol == WHOLE_PROTOCOL else b""
                    stranger.hold(target, protocol, EACH, asked)

            async def all_are_opened() -> bool:
                return sum(stranger.opened for stranger in strangers) >= len(PROTOCOLS) * STRANGERS * EACH

            await until(all_are_opened)
            await ada.swarm.fetch(name, len(data), [target])
            ada.blobs.remove(name)
            await ada.swarm.fetch_pieces(wanted(data), [target])
            assert await ada.swarm.exchange_addresses(target)
            await coordinator.swarm.publish(head(round=1, later=1000))
            await ada.swarm.publish(presence(name="ada2", later=1000))
            await until_present(coordinator, "ada2")

    asyncio.run(asyncio.wait_for(play(), 120))
