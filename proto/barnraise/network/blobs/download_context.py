"""What all gathering of one node shares: its streams, its memory of holders, its room for pieces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from barnraise.contract.pieces import PIECE_BYTES
from barnraise.core.ids import PublicKey, short
from barnraise.network.blobs.connection_pool import ConnectionPool
from barnraise.network.blobs.piece_store import PieceStore
from barnraise.network.blobs.reputation import FaultKind, HolderFault, Reputation

log = logging.getLogger("barnraise.swarm")

MAX_UNDER_WAY = 32
"""Pieces on their way to this node, of all blobs: what they may take of its memory."""


def under_way_limit(rate: int | None) -> int:
    """Pieces on their way at once under a download cap in bytes a second: those of a second, so that
    what is asked for does not pile up in the network in front of it."""
    return MAX_UNDER_WAY if rate is None else max(2, min(MAX_UNDER_WAY, rate // PIECE_BYTES))


@dataclass
class DownloadContext:
    own: PublicKey
    holdings: PieceStore
    pool: ConnectionPool
    reputation: Reputation
    limit: int = MAX_UNDER_WAY
    under_way: int = 0
    _events: list[asyncio.Event] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @contextmanager
    def waking(self, event: asyncio.Event) -> Iterator[None]:
        """Set `event` whenever something of the room may have become free."""
        self._events.append(event)
        try:
            yield
        finally:
            self._events.remove(event)

    def spawn(
        self, work: Coroutine[Any, Any, None], ended: Callable[[asyncio.Task[None]], None]
    ) -> asyncio.Task[None]:
        """Run `work` until it ends or the room is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def wake(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            ended(task)
            for event in self._events:
                event.set()

        task.add_done_callback(wake)
        return task

    def fault(self, fault: HolderFault) -> None:
        """Hold it against the holder, and say so where that changes how it is trusted."""
        if self.reputation.record(fault, now()):
            level = logging.INFO if fault.reason is FaultKind.DISCONNECTED else logging.WARNING
            log.log(level, "%s %s; others are asked instead", short(fault.holder), fault.reason.value)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.pool.close()


def now() -> float:
    """Seconds of the event loop's clock."""
    return asyncio.get_running_loop().time()
