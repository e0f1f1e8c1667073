"""A node keeps the addresses of others, and searches for a coordinator that is silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from barnraise.contract.records import Head
from barnraise.contract.rounds import seconds_between
from barnraise.core.backoff import backoff_seconds
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.signed import Signed
from barnraise.network.address_upkeep import AddressUpkeep
from barnraise.network.swarm import Swarm
from barnraise.network.timing import TIMING, Timing

log = logging.getLogger("barnraise.swarm")

ENOUGH = 8
"""Other volunteers whose addresses are known, after which exchanges are rare."""


@dataclass
class AddressSearch:
    """Runs in parallel with the loop of a volunteer or a follower."""

    swarm: Swarm
    upkeep: AddressUpkeep
    ask_coordinator: Callable[[], Awaitable[Signed[Head] | None]]
    """The coordinator's head, by gRPC at all addresses that are known. None where it does not answer."""
    clock: Callable[[], Millis]
    silent_after: float
    """Age in seconds of the newest head after which the coordinator is searched for."""
    timing: Timing = TIMING
    _searches: int = 0
    """Since the newest head of the coordinator arrived."""
    _exchange_due: float = 0.0
    """By the event loop's clock."""
    _shown: bool = False
    _pause: float = 0.0
    """Between the last two exchanges; 0 before the second."""

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
            self._show()
            await asyncio.sleep(pause)

    async def _silent(self) -> bool:
        heads = await self.swarm.heads()
        newest = max((head.at for head in heads), default=0)
        return seconds_between(Millis(newest), self.clock()) > self.silent_after

    async def _search(self) -> None:
        """Ask the known nodes, and the coordinator."""
        await self.upkeep.search()
        head = await self.ask_coordinator()
        if head is not None:
            self.swarm.learn(head)
        await self.upkeep.follow_coordinator()

    async def _exchange(self) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._exchange_due:
            owners = [PublicKey(presence.owner) for presence in await self.swarm.peers()]
            others = [owner for owner in owners if owner != self.upkeep.own]
            await self.upkeep.exchange(others)
            self._exchange_due = now + self._until_next(len(self.upkeep.others), len(others))

    def _until_next(self, known: int, others: int) -> float:
        """The pause between two exchanges, which doubles while few of the other volunteers are known."""
        first, rare = self.timing.address_poll, self.timing.address_exchange
        few = known < min(ENOUGH, max(1, others))  # the first heartbeats of others may not be here yet
        self._pause = min(max(first, 2 * self._pause), rare) if few else rare
        return self._pause

    def _show(self) -> None:
        """Say once that the run can be found again."""
        if not self._shown and (known := len(self.upkeep.others)):
            self._shown = True
            log.info(
                "the addresses of %d other volunteers are saved: a coordinator that moves is found", known
            )

    def _backoff(self) -> float:
        first, longest = self.timing.address_poll, self.timing.longest_search
        return backoff_seconds(self.upkeep.own, self._searches, first=first, longest=longest)
