"""Which messages to a node of the DHT are answered, and whose refusals take long."""

from __future__ import annotations

import asyncio

import pytest

from barnraise.core.ids import PublicKey
from barnraise.network.dht_limits import MAX_WAITING, TOGETHER, DhtLimits, RefusedMessage
from barnraise.network.key_access import Access, KeyAccess
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.stream_limits import PARKED_SECONDS
from tests.support import parts, virtual_time

ADA, STRANGER = PublicKey("ada"), PublicKey("stranger")
FLOOD = [PublicKey(f"flood {number}") for number in range(30)]


class Node:
    """One that admitted everybody but the stranger."""

    def __init__(self) -> None:
        self.dropped: list[PublicKey] = []
        self.limits, access = DhtLimits(), KeyAccess(parts.keys())
        self.guard = PeerGuard(access, self.dropped.append)
        for each in (ADA, *FLOOD):
            self.guard.admit(each)

    async def ask(self, peer: PublicKey, keys: int = 1, size: int = 100) -> bool:
        """Whether one message is answered."""
        try:
            await self.limits.check(self.guard, peer, keys, size)
        except RefusedMessage:
            return False
        return True


def test_a_volunteer_keeps_its_connection_while_many_keys_flood() -> None:
    """It is refused then, as they are: they share a rate."""

    async def scene() -> None:
        node, began = Node(), asyncio.get_running_loop().time()
        flood = [asyncio.create_task(node.ask(key)) for _ in range(200) for key in FLOOD]
        await asyncio.sleep(0)
        assert not await node.ask(ADA)
        assert not await node.ask(ADA, size=20_000), "such as the records that a new node should have"
        assert asyncio.get_running_loop().time() == began
        answered = sum(await asyncio.gather(*flood))
        assert answered == TOGETHER[Access.ADMITTED].burst
        assert asyncio.get_running_loop().time() - began == pytest.approx(PARKED_SECONDS)
        assert {*node.dropped} <= {*FLOOD}
        refused = len(flood) - answered
        assert refused - len(node.dropped) - MAX_WAITING == 50 * len(FLOOD), "at once, of each key"

    virtual_time.run(scene())


def test_a_large_message_over_the_rate_ends_the_connection() -> None:
    async def scene() -> None:
        node = Node()
        assert [await node.ask(ADA, size=4_000_000) for _ in range(3)] == [True, True, False]
        assert node.dropped == [ADA]

    virtual_time.run(scene())


def test_what_is_too_much_for_any_key_is_refused() -> None:
    async def scene() -> None:
        node = Node()
        assert [await node.ask(ADA, keys=16), await node.ask(ADA, keys=17)] == [True, False]
        assert [await node.ask(STRANGER, keys=16) for _ in range(4)] == [True] * 3 + [False]
        assert node.dropped == []

    virtual_time.run(scene())
