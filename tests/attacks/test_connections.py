"""Strangers hold connections to a node: those over a limit are closed, those of admitted keys stay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from barnraise.core.ids import PublicKey
from barnraise.network import connection_policy
from barnraise.network.connection_upkeep import ConnectionUpkeep
from tests.support import parts
from tests.support.attackers import attackers, key_number
from tests.support.swarms import HIVEMIND_WARNS, SwarmNode, node, presence, until

pytestmark = HIVEMIND_WARNS


async def connected(of: SwarmNode) -> set[PublicKey | None]:
    return {key for key, _ in await of.swarm._daemon.connected()}


def test_strangers_over_the_limit_are_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_policy, "MAX_PER_ADDRESS", 1)
    first, second, member = map(key_number, range(3))

    async def play() -> None:
        async with (
            node(tmp_path, parts.AUTHORITY) as coordinator,
            node(tmp_path, parts.ADA, coordinator) as ada,
            attackers(tmp_path, await coordinator.swarm.addresses(), [first, second, member]),
        ):
            coordinator.swarm.admit(PublicKey(member.public))
            await ada.swarm.publish(presence())
            others = {PublicKey(first.public), PublicKey(second.public)}
            assert others <= await connected(coordinator)
            upkeep = ConnectionUpkeep(coordinator.swarm._daemon, coordinator.swarm._guard)

            async def one_is_left() -> bool:
                """A stranger whose connection was closed may open it again until the next check."""
                await upkeep.step()
                return len(others & await connected(coordinator)) == 1

            await until(one_is_left)
            assert {ada.key, PublicKey(member.public)} <= await connected(coordinator)

    asyncio.run(asyncio.wait_for(play(), 100))
