"""Two real nodes on this machine: the records that they publish."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hivemind.p2p import PeerID

from barnraise.core.errors import Unreachable
from barnraise.core.ids import Round
from barnraise.network.peer_ids import peer_id_bytes
from tests.support import parts
from tests.support.swarms import (
    HERE,
    HIVEMIND_WARNS,
    SwarmNode,
    commit,
    head,
    node,
    presence,
    until,
    until_present,
    with_two,
)

pytestmark = HIVEMIND_WARNS


def test_an_announced_address_is_announced_for_both_transports(tmp_path: Path) -> None:
    async def play() -> set[str]:
        async with node(tmp_path, parts.AUTHORITY, announce=["/dns4/run.example.org/tcp/7452"]) as started:
            return {address.rpartition("/p2p/")[0] for address in await started.swarm.addresses()}

    assert asyncio.run(play()) == {
        "/dns4/run.example.org/tcp/7452",
        "/dns4/run.example.org/udp/7452/quic-v1",
    }


def test_published_records_are_received(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        assert await ada.swarm.publish(presence())
        assert await ada.swarm.publish(commit(round=3))
        assert await coordinator.swarm.publish(head(round=3))
        assert await coordinator.swarm.peers() == await ada.swarm.peers() == [presence()]
        (found,) = await coordinator.swarm.commits(Round(3))
        assert (found.value, found.signer) == (commit(round=3), parts.ADA.public)
        assert await coordinator.swarm.commits(Round(4)) == []
        assert await ada.swarm.heads() == [head(round=3)]

    with_two(tmp_path, scene)


def test_addresses_that_are_none_are_not_dialled(tmp_path: Path) -> None:
    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        (address, *_) = await coordinator.swarm.addresses()
        place, named, key = address.rpartition("/p2p/")
        bad = ("junk", "", place, f"{named}{key}", f"{place}{named}x", f"/ip4/1.2.3.999/tcp/1{named}{key}")
        assert not await ada.swarm.reconnect(bad)
        assert await ada.swarm.reconnect((*bad, address))

    with_two(tmp_path, scene)


def test_others_join_by_a_node_that_began_where_nobody_answered(tmp_path: Path) -> None:
    nobody = f"{HERE.removesuffix('0')}1/p2p/{PeerID(peer_id_bytes(parts.STRANGER.public))}"

    async def play() -> None:
        with pytest.raises(Unreachable):
            async with node(tmp_path / "alone", parts.ADA, bootstrap=[nobody]):
                pass
        async with (
            node(tmp_path / "first", parts.ADA, bootstrap=[nobody], may_be_first=True) as first,
            node(tmp_path / "second", parts.BEN, first) as second,
        ):
            assert await second.swarm.publish(presence(parts.BEN))
            assert [found.owner for found in await first.swarm.peers()] == [parts.BEN.public]

    asyncio.run(play())


def test_gossip_arrives_without_another_poll(tmp_path: Path) -> None:
    """The clock stands still, so that no node polls the DHT a second time."""

    async def scene(coordinator: SwarmNode, ada: SwarmNode) -> None:
        await coordinator.swarm.publish(head(round=3))
        await ada.swarm.publish(presence())
        assert await coordinator.swarm.peers() == [presence()]
        assert await ada.swarm.heads() == [head(round=3)]
        await ada.swarm.publish(presence(name="ada2", later=1000))
        await coordinator.swarm.publish(head(round=4, later=1000))
        await until_present(coordinator, "ada2")

        async def newer_head_is_there() -> bool:
            return [found.round for found in await ada.swarm.heads()] == [4]

        await until(newer_head_is_there)

    with_two(tmp_path, lambda *both: asyncio.wait_for(scene(*both), 60))
