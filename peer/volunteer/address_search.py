"""A volunteer keeps the addresses of others, and searches for a coordinator that is silent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis, PublicKey
from barnraise.network.address_file import AddressFile
from barnraise.network.address_upkeep import AddressUpkeep
from barnraise.network.swarm import Swarm
from barnraise.runtime.run_clock import RunClock
from peer.backoff import backoff_seconds
from peer.coordinator_search import CoordinatorSearch
from peer.timing import Timing

ENOUGH = 8
"""Other volunteers whose addresses are known, after which exchanges are rare."""


@dataclass
class AddressSearch:
    """Runs in parallel with the volunteer's loop."""

    swarm: Swarm
    upkeep: AddressUpkeep
    coordinator: CoordinatorSearch
    clock: RunClock
    timing: Timing
    _searches: int = 0
    """Since the coordinator was heard last."""
    _exchange_due: float = 0.0
    """By the event loop's clock."""

    @classmethod
    def of(
        cls, swarm: Swarm, folder: Path, own: PublicKey, search: CoordinatorSearch, clock: RunClock
    ) -> AddressSearch:
        """The search of the volunteer `own`, whose known addresses are saved in `folder`."""
        upkeep = AddressUpkeep(swarm, AddressFile(folder, search.book), own, search.book.authority)
        return cls(swarm, upkeep, search, clock, search.timing)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        while True:
            await self.upkeep.follow_coordinator()
            if await self._silent():
                await self._search()
                pause = self._backoff()
                self._searches += 1
            else:
                self._searches = 0
                await self._exchange()
                pause = self.timing.address_poll
            await self.upkeep.save()
            await asyncio.sleep(pause)

    async def _silent(self) -> bool:
        heads = await self.swarm.heads()
        newest = max((head.at for head in heads), default=0)
        return seconds_between(Millis(newest), self.clock()) > self.timing.reconnect_after

    async def _search(self) -> None:
        """Ask the known volunteers, and the coordinator at all known addresses of its API."""
        await self.upkeep.search()
        head = await self.coordinator.newest_head()
        if head is not None:
            self.swarm.learn(head)
        await self.upkeep.follow_coordinator()

    async def _exchange(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._exchange_due:
            present = [PublicKey(presence.owner) for presence in await self.swarm.peers()]
            await self.upkeep.exchange(present)
            enough = len(self.upkeep.others) >= min(ENOUGH, len(present) - 1)
            timing = self.timing
            self._exchange_due = now + (timing.address_exchange if enough else timing.longest_search)

    def _backoff(self) -> float:
        first, longest = self.timing.address_poll, self.timing.longest_search
        return backoff_seconds(self.upkeep.own, self._searches, first=first, longest=longest)
