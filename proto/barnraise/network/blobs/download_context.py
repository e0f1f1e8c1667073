"""What all downloads of one node share: connections, reputation, and the memory for pieces in flight."""

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
from barnraise.network.blobs.holder_outcomes import describe_fault
from barnraise.network.blobs.piece_store import PieceStore
from barnraise.network.blobs.reputation import FaultKind, HolderFault, Reputation
from barnraise.network.streams import now
from barnraise.network.timing import TIMING, Timing

log = logging.getLogger("barnraise.swarm")

MAX_IN_FLIGHT = 32
"""Pieces in flight to this node, of all blobs: bounds their memory to 8 MiB."""


def in_flight_limit(rate: int | None) -> int:
    """Pieces in flight at once under a download cap in bytes a second: about a second's worth, so that
    requested data does not queue in the network in front of the cap."""
    return MAX_IN_FLIGHT if rate is None else max(2, min(MAX_IN_FLIGHT, rate // PIECE_BYTES))


@dataclass
class DownloadContext:
    """Shared by all `PieceDownload`s of a node; ends them with `close`."""

    own: PublicKey
    store: PieceStore
    pool: ConnectionPool
    reputation: Reputation
    timing: Timing = TIMING
    limit: int = MAX_IN_FLIGHT
    _in_flight: int = 0
    _from_new: int = 0
    """Of them, from holders that had not served a piece before."""
    _events: list[asyncio.Event] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def has_capacity(self) -> bool:
        """Whether another piece may be requested."""
        return self._in_flight < self.limit

    @property
    def has_capacity_for_new(self) -> bool:
        """Whether another piece may be requested from a holder that has not served one: any number of keys
        may announce blobs that they do not send."""
        return self._from_new < max(1, self.limit // 2)

    @contextmanager
    def waking(self, event: asyncio.Event) -> Iterator[None]:
        """Set `event` whenever a task of any download ends, which may free capacity."""
        self._events.append(event)
        try:
            yield
        finally:
            self._events.remove(event)

    @contextmanager
    def in_flight(self, *, is_new: bool) -> Iterator[None]:
        """Count a piece as in flight. is_new: whether its holder had not served one before."""
        self._in_flight += 1
        self._from_new += is_new
        try:
            yield
        finally:
            self._in_flight -= 1
            self._from_new -= is_new

    def spawn(
        self, work: Coroutine[Any, Any, None], ended: Callable[[asyncio.Task[None]], None]
    ) -> asyncio.Task[None]:
        """Run `work` until it ends or the context is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def wake(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            ended(task)
            for event in self._events:
                event.set()

        task.add_done_callback(wake)
        return task

    def record(self, fault: HolderFault) -> None:
        """Record a fault, and log it where it lowers the holder's trust."""
        if self.reputation.record(fault, now()):
            level = logging.INFO if fault.kind is FaultKind.DISCONNECTED else logging.WARNING
            log.log(
                level,
                "%s %s; other holders are asked instead",
                short(fault.holder),
                describe_fault(fault.kind),
            )

    def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        self.pool.close()
