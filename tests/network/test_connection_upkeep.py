"""What the daemon learns of the keys that are connected."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.standing import Level, Standing, standings_of
from barnraise.contract.trust_spec import TrustSpec
from barnraise.core.ids import PublicKey
from barnraise.network.connection_upkeep import WEIGHTS, ConnectionUpkeep
from barnraise.network.daemon import Daemon
from barnraise.network.key_access import Access, KeyAccess
from barnraise.network.peer_guard import PeerGuard
from tests.support import parts

ADA = PublicKey(parts.ADA.public)


@dataclass
class Connections:
    """A daemon's, all of which are Ada's."""

    weights: list[int] = field(default_factory=list)
    dropped: list[PublicKey] = field(default_factory=list)

    async def connected(self) -> list[tuple[PublicKey, Sequence[str]]]:
        return [(ADA, ["/ip4/192.0.2.1/tcp/7"])]

    async def prefer(self, peer: PublicKey, weight: int) -> None:
        self.weights.append(weight)

    def drop(self, peer: PublicKey) -> None:
        self.dropped.append(peer)


def test_the_weight_of_a_connection_follows_the_key_s_standing() -> None:
    start = parts.keys()
    keys = KeysInForce(start.first, start.position, TrustSpec(mode="open"))
    guard, there = PeerGuard(KeyAccess(keys, keys.bans)), Connections()
    upkeep = ConnectionUpkeep(cast(Daemon, there), guard)

    def step(level: Level | None = None) -> list[int]:
        if level is not None:
            keys.follow(replace(keys.position, standings=standings_of({ADA: Standing(level)})))
        there.weights.clear()
        asyncio.run(upkeep.step())
        return there.weights[:]

    assert step() == []
    guard.admit(ADA)
    assert [step(), step()] == [[WEIGHTS[Access.ADMITTED]], []]
    assert [step("trusted"), step()] == [[WEIGHTS[Access.TRUSTED]], []]
    assert [step("suspended"), step()] == [[WEIGHTS[Access.ADMITTED]], []]
    assert there.dropped == []
    assert step("banned") == []
    assert there.dropped == [ADA]
