"""Which messages to a node of the DHT are answered, and whose refusals take long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from barnraise.core.ids import PublicKey
from barnraise.network.key_access import Access
from barnraise.network.key_rates import KeyRates, Rate, Verdict
from barnraise.network.peer_guard import PeerGuard
from barnraise.network.stream_limits import PARKED_SECONDS, refusal_rates
from barnraise.network.streams import now

MAX_KEYS = 16
"""Keys that one request asks for, or records that it stores."""
COST_BYTES = 2**14
"""A message counts once for each key, and once more for each of these."""
RATES = {Access.STRANGER: Rate(5, 50), Access.ADMITTED: Rate(50, 500), Access.TRUSTED: Rate(50, 500)}
"""Messages a second: a search is one to each of some eight nodes, and a volunteer searches a few times in
five seconds."""
TOGETHER = {Access.STRANGER: Rate(100, 400), Access.ADMITTED: Rate(300, 1500)}
"""Of all keys with one access."""
SMALL_BYTES, MAX_WAITING = 4096, 512
"""Of messages whose senders wait, and how many do."""


class RefusedMessage(Exception):
    """A message that is not answered. Its sender receives this as an error."""


@dataclass
class DhtLimits:
    """Of one node."""

    _rates: KeyRates = field(default_factory=lambda: KeyRates(RATES, TOGETHER))
    _refusals: KeyRates = field(default_factory=refusal_rates)
    _waiting: int = 0

    async def check(self, guard: PeerGuard, peer: PublicKey | None, keys: int, size: int) -> None:
        """Raises RefusedMessage, after a while to a key that goes on after refusals: under a flood of others
        each key is refused now and then.
        """
        access = Access.BANNED if peer is None else guard.access(peer)
        if peer is None or access is Access.BANNED:
            raise RefusedMessage("this key is not served")
        if self._rates.take(peer, access, now(), max(1, keys) + size // COST_BYTES) is not Verdict.ALLOWED:
            refused = self._refusals.take(peer, access, now(), 1 + size // SMALL_BYTES)
            if refused is not Verdict.ALLOWED:
                await self._have_wait(guard, peer, size)
            raise RefusedMessage("too many messages")
        if keys > MAX_KEYS:
            raise RefusedMessage("too many keys")

    async def _have_wait(self, guard: PeerGuard, peer: PublicKey, size: int) -> None:
        """As streams of a key that was refused too often. A large message would fill the memory meanwhile."""
        if size > SMALL_BYTES or self._waiting >= MAX_WAITING:
            guard.flooded(peer)
            return
        self._waiting += 1
        try:
            await asyncio.sleep(PARKED_SECONDS)
        finally:
            self._waiting -= 1
