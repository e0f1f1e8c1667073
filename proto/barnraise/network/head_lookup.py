"""Finds the head where the DHT does not: a volunteer may have none but hostile neighbours there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from barnraise.contract.dht_keys import head_key
from barnraise.contract.records import Head, Record
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis, RunId
from barnraise.core.signed import Signed
from barnraise.network.dht_poller import Lookup
from barnraise.network.timing import TIMING, Timing


@dataclass(frozen=True)
class HeadLookup:
    """Looks entries up in the DHT, and asks the coordinator's node for a head that is late."""

    run: RunId
    in_dht: Lookup
    newest: Callable[[], Signed[Head] | None]
    """The newest head that was received."""
    ask_coordinator: Callable[[], Awaitable[object]]
    """Has this node learn the head that the coordinator has, if it answers."""
    clock: Callable[[], Millis]
    timing: Timing = TIMING

    async def __call__(self, key: str, newest: bool) -> list[Signed[Record]]:
        """As `Lookup`."""
        if key != head_key(self.run) or not self._is_late():
            return await self.in_dht(key, newest)
        found, _ = await asyncio.gather(self.in_dht(key, newest), self.ask_coordinator())
        return found

    def _is_late(self) -> bool:
        head = self.newest()
        return head is None or seconds_between(Millis(head.value.at), self.clock()) > self.timing.late_head
