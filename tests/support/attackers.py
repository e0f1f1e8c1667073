"""Programs that attack a node: libp2p daemons with keys of their own, which keep none of our rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hivemind.p2p import PeerID

from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.network.daemon import Daemon
from barnraise.network.peer_ids import peer_id_bytes, write_identity
from tests.support.swarms import HERE

BYTE_SECONDS = 1.0
"""A stream that is held moves one byte in this time."""
ANSWER_SECONDS = 20.0
PAUSE_SECONDS = 0.2
"""After a stream that was refused."""


def key_number(number: int) -> Identity:
    """A key that no admission names."""
    return Identity.from_seed(b"attacker" + number.to_bytes(24, "big"))


@dataclass
class Attacker:
    """One daemon, and what it does."""

    identity: Identity
    daemon: Daemon
    opened: int = 0
    """Streams so far."""
    held: int = 0
    """Streams that are open now."""
    _acts: list[asyncio.Task[None]] = field(default_factory=list)

    def act(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something until the end."""
        self._acts.append(asyncio.create_task(work))

    def hold(self, target: PublicKey, protocol: str, count: int, first: bytes = b"") -> None:
        """Keep streams open, and open further ones in place of those that the target ends.

        first: what is sent over each.
        """
        for _ in range(count):
            self.act(self._hold(target, protocol, first))

    async def _hold(self, target: PublicKey, protocol: str, first: bytes) -> None:
        while True:
            try:
                await self._hold_one(target, protocol, first)
            except (OSError, EOFError, asyncio.TimeoutError):
                await asyncio.sleep(PAUSE_SECONDS)

    async def _hold_one(self, target: PublicKey, protocol: str, first: bytes) -> None:
        """Read a byte now and then. Raises EOFError at the end, or as `Daemon.open_stream`."""
        reader, writer = await self.daemon.open_stream(target, protocol)
        self.opened += 1
        self.held += 1
        try:
            writer.write(first)
            while True:
                await reader.readexactly(1)
                await asyncio.sleep(BYTE_SECONDS)
        finally:
            self.held -= 1
            writer.close()

    async def stop(self) -> None:
        """End everything."""
        for act in self._acts:
            act.cancel()
        await asyncio.gather(*self._acts, return_exceptions=True)
        await self.daemon.stop()


@asynccontextmanager
async def attackers(
    folder: Path, target: Sequence[str], identities: Sequence[Identity]
) -> AsyncIterator[list[Attacker]]:
    """Daemons that are connected to a node. target: its addresses."""
    async with AsyncExitStack() as stack:
        found = []
        for identity in identities:
            place = folder / f"attacker-{identity.public[:8]}"
            place.mkdir(parents=True)
            daemon = await Daemon.start(write_identity(identity, place), (HERE,), target, ())
            attacker = Attacker(identity, daemon)
            stack.push_async_callback(attacker.stop)
            found.append(attacker)
        yield found


async def ask_dht(attacker: Attacker, target: PublicKey, method: str, request: Any, answer: Any) -> Any:
    """A message of hivemind's DHT, as it is. Raises P2PHandlerError, P2PDaemonError where it is refused."""
    peer = PeerID(peer_id_bytes(target))
    calling = attacker.daemon.p2p.call_protobuf_handler(peer, f"DHTProtocol.{method}", request, answer)
    return await asyncio.wait_for(calling, ANSWER_SECONDS)
