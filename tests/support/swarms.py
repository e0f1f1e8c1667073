"""Real nodes of a swarm on this machine, and the records that they exchange."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.records import Commit, Head, Presence
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey
from barnraise.network.address_book import AddressBook
from barnraise.network.swarm import Swarm
from barnraise.runtime.blob_store import BlobStore
from tests.support import parts

V = TypeVar("V")

HIVEMIND_WARNS = pytest.mark.filterwarnings("ignore:path is deprecated:DeprecationWarning")
"""For tests with real nodes: hivemind 1.1.12 finds its daemon in a way that Python deprecates."""
HERE = "/ip4/127.0.0.1/tcp/0"
NOW = Millis(time.time_ns() // 1_000_000)
"""The run's time: the nodes' clock, which does not advance."""
DEADLINE = 60.0
"""Seconds for a condition, on a busy machine."""
POLL_SECONDS = 0.05


@dataclass
class SwarmNode:
    """A running node, and its blobs."""

    swarm: Swarm
    blobs: BlobStore
    key: PublicKey

    @property
    def dht(self) -> Any:
        """hivemind's own node."""
        return self.swarm._dht._node

    async def open_stream(
        self, peer: SwarmNode, protocol: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A second implementation of the protocol."""
        return await self.swarm._daemon.open_stream(peer.key, protocol)


@asynccontextmanager
async def node(
    folder: Path,
    who: Identity,
    near: SwarmNode | None = None,
    announce: Sequence[str] = (),
    *,
    bootstrap: Sequence[str] = (),
    book: AddressBook | None = None,
    may_be_first: bool = False,
    admission: str = "",
    now: Millis = NOW,
    keys: KeysInForce | None = None,
) -> AsyncIterator[SwarmNode]:
    """near: the node to join by. now: the run's time, at which its clock stands. The rest is as `Swarm.start`
    takes it.
    """
    place = folder / who.public[:8]
    place.mkdir(exist_ok=True, parents=True)
    blobs = BlobStore(place / "blobs")
    swarm = await Swarm.start(
        who,
        parts.RUN,
        parts.keys() if keys is None else keys,
        clock=lambda: now,
        blobs=blobs,
        folder=place,
        listen=(HERE,),
        bootstrap=bootstrap if near is None else await near.swarm.addresses(),
        announce=announce,
        book=book,
        may_be_first=may_be_first,
        admission=(lambda: admission) if admission else None,
    )
    try:
        yield SwarmNode(swarm, blobs, who.public)
    finally:
        await swarm.stop()


def with_two(folder: Path, scene: Callable[[SwarmNode, SwarmNode], Awaitable[V]], now: Millis = NOW) -> V:
    """Run a scenario between the coordinator's node and Ada's. now: the run's time."""

    async def play() -> V:
        async with (
            node(folder, parts.AUTHORITY, now=now) as coordinator,
            node(folder, parts.ADA, coordinator, now=now) as ada,
        ):
            return await scene(coordinator, ada)

    return asyncio.run(play())


async def until(holds: Callable[[], Awaitable[object]]) -> None:
    """Wait for a condition that has no event. Raises TimeoutError after the deadline."""

    async def poll() -> None:
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)

    await asyncio.wait_for(poll(), DEADLINE)


async def until_present(there: SwarmNode, *names: str) -> None:
    """Wait until the volunteers of these names, and no others, are present at a node."""

    async def are_present() -> bool:
        return sorted(each.name for each in await there.swarm.peers()) == sorted(names)

    await until(are_present)


def admission(of: Identity, by: Identity = parts.AUTHORITY) -> str:
    return parts.admission(of, by=by, expires=NOW + 1_000_000)


def presence(of: Identity = parts.ADA, *, admitted: str = "", name: str = "ada", later: int = 0) -> Presence:
    return parts.presence(of, admission=admitted or admission(of), name=name, at=NOW + later)


def commit(round: int) -> Commit:
    return parts.commit(parts.ADA, round=round, admission=admission(parts.ADA))


def head(round: int = 0, later: int = 0) -> Head:
    return parts.head(round=round, opens=NOW, at=NOW + later)
