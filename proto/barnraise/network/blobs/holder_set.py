"""The holders of one blob: which to connect to next, which are connected, and why others were dropped."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from barnraise.contract.pieces import Wanted
from barnraise.core.ids import PublicKey
from barnraise.network.blobs.download_context import DownloadContext
from barnraise.network.blobs.holder_outcomes import (
    Faulted,
    HolderOutcome,
    NothingMissing,
    Untrusted,
    connection_failed,
)
from barnraise.network.blobs.piece_picker import UNKNOWN_RATE, HolderView, InFlight, pipeline_depth
from barnraise.network.blobs.piece_protocol import PeerConnection
from barnraise.network.blobs.reputation import FaultKind, HolderFault, Reputation, Trust
from barnraise.network.streams import now

MAX_HOLDERS = 6
"""Holders that are connected for one blob at a time."""
MAX_REDIALS = 2
"""How often a holder that served something and disconnected is dialled again."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Runs a coroutine concurrently, for as long as the node runs."""


@dataclass
class Holder:
    """A connected holder."""

    key: PublicKey
    connection: PeerConnection
    pause: float
    """Seconds before it is polled again."""
    has: int = 0
    """The pieces that it announced, bit by bit."""
    answered: bool = False
    """Whether it has answered any request."""
    in_flight: dict[int, float] = field(default_factory=dict)
    """Pieces requested from it, and when."""
    polling: bool = False
    """Whether it is asked what it has, or for the piece list."""
    poll_at: float = 0.0

    def begin_piece(self, piece: int) -> None:
        """A piece is requested from it."""
        self.in_flight[piece] = now()
        self.connection.schedule()

    def end_piece(self, piece: int) -> None:
        """The request for a piece is over."""
        del self.in_flight[piece]
        self.connection.unschedule()

    def begin_poll(self) -> None:
        """It is asked for its bitmap or the piece list."""
        self.polling = True

    def end_poll(self) -> None:
        """It has answered, or failed to."""
        self.polling = False

    def poll_again_after(self, pause: float) -> None:
        """Poll it next in `pause` seconds."""
        self.pause, self.poll_at = pause, now() + pause

    def announced(self, has: int) -> bool:
        """Record what it has. False where a piece that it had is missing: pieces never disappear."""
        if self.has & ~has:
            return False
        self.has = has
        return True

    def view(self, reputation: Reputation) -> HolderView:
        """What the piece picker needs to know."""
        rate = reputation.rate(self.key)
        return HolderView(
            self.key,
            self.has,
            tuple(InFlight(piece, since) for piece, since in self.in_flight.items()),
            max(0, pipeline_depth(rate) - self.connection.scheduled),
            rate,
            last_resort=reputation.trust(self.key, now()) is not Trust.GOOD,
        )


class HolderSet:
    """Connects to up to MAX_HOLDERS at a time, the most trusted and fastest first."""

    def __init__(
        self, context: DownloadContext, wanted: Wanted, keys: Sequence[PublicKey], seed: int, spawn: Spawn
    ) -> None:
        """seed: orders holders that are equal otherwise."""
        self._context, self._owner, self._seed, self._spawn = context, wanted.owner, seed, spawn
        self._pool, self._reputation, self._timing = context.pool, context.reputation, context.timing
        self._candidates = self._in_order(keys)
        self._dials: dict[PublicKey, asyncio.Task[None]] = {}
        self._connected: dict[PublicKey, Holder] = {}
        self._redials: dict[PublicKey, int] = {}
        self._outcomes: dict[PublicKey, HolderOutcome] = {
            key: Untrusted() for key in keys if key not in self._candidates
        }

    @property
    def connected(self) -> list[Holder]:
        """The holders that can be asked now."""
        return list(self._connected.values())

    @property
    def exhausted(self) -> bool:
        """Whether no holder is left to ask."""
        return not (self._connected or self._candidates or self._dials)

    @property
    def outcomes(self) -> dict[PublicKey, HolderOutcome]:
        """The outcome for each holder so far."""
        return self._outcomes | dict.fromkeys(self._connected, NothingMissing())

    def __getitem__(self, key: PublicKey) -> Holder:
        return self._connected[key]

    def may_have(self, missing: int) -> bool:
        """Whether a holder has a missing piece, or has not answered yet."""
        return bool(self._dials) or any(
            not holder.answered or holder.has & missing for holder in self._connected.values()
        )

    def connect_more(self, missing: int) -> None:
        """Dial candidates, in place of useless holders where all slots are taken."""
        while self._candidates:
            if len(self._connected) + len(self._dials) >= MAX_HOLDERS:
                useless = [h.key for h in self.connected if self._polled_twice(h) and not h.has & missing]
                if not useless:
                    return
                self.drop(useless[0], NothingMissing())
            key = self._candidates.pop(0)
            self._dials[key] = self._spawn(self._connect(key))

    def drop(self, key: PublicKey, outcome: HolderOutcome) -> None:
        """Ask a holder no more."""
        if self._connected.pop(key, None) is not None:
            self._outcomes[key] = outcome
            self._pool.release(key)

    def blame(self, fault: HolderFault) -> None:
        """Drop a holder after a fault; one that served something and disconnected may come back."""
        self._context.record(fault)
        holder = self._connected.get(fault.holder)
        if holder is None:
            return
        holder.connection.close()
        self.drop(fault.holder, Faulted(fault.kind))
        redials = self._redials.get(fault.holder, 0)
        if fault.kind is FaultKind.DISCONNECTED and holder.has and redials < MAX_REDIALS:
            self._redials[fault.holder] = redials + 1
            self._candidates.append(fault.holder)

    def close(self) -> None:
        """Release all connections."""
        for dial in self._dials.values():
            dial.cancel()
        for key in list(self._connected):
            self.drop(key, NothingMissing())

    def _in_order(self, keys: Sequence[PublicKey]) -> list[PublicKey]:
        """The best first, without those that are not trusted."""

        def rank(key: PublicKey) -> tuple[int, bool, float, bytes]:
            rate = self._reputation.rate(key) or UNKNOWN_RATE
            tie = hashlib.sha256(f"{self._seed}/{key}".encode()).digest()
            return self._reputation.trust(key, now()), key != self._owner, -rate, tie

        return sorted((key for key in keys if self._reputation.trust(key, now()) < Trust.NONE), key=rank)

    def _polled_twice(self, holder: Holder) -> bool:
        return holder.pause > self._timing.holder_poll

    async def _connect(self, key: PublicKey) -> None:
        try:
            if key in self._redials:
                await asyncio.sleep(self._timing.redial)
            connection = await self._pool.acquire(key)
        except (OSError, EOFError, asyncio.TimeoutError) as error:
            self._outcomes[key] = connection_failed(error)
            self._context.record(HolderFault(key, FaultKind.DISCONNECTED))
        else:
            self._connected[key] = Holder(key, connection, self._timing.holder_poll)
        finally:
            del self._dials[key]
