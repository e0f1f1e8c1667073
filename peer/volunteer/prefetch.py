"""Fetching contributions that are announced for the open round before its close lists them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from barnraise.contract.records import Commit, blob_name
from barnraise.core.errors import NetworkError, TrustError
from barnraise.core.ids import BlobHash, Round, short
from barnraise.core.signed import Signed
from peer.timing import TIMING, Timing
from peer.volunteer.blob_retention import BlobRetention
from peer.volunteer.log_follower import AT_ONCE, LogFollower

log = logging.getLogger("peer")


@dataclass
class Prefetch:
    """Downloads in the background, `AT_ONCE` at a time."""

    follower: LogFollower
    retention: BlobRetention
    timing: Timing = TIMING
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _downloads: dict[BlobHash, asyncio.Task[None]] = field(default_factory=dict)
    _refused: set[bytes] = field(default_factory=set)
    """Commits to the open round that cannot be true."""
    _round: Round | None = None

    async def look(self) -> None:
        """Start to fetch announced blobs that fit and are not stored or being fetched. Raises DiskFull."""
        for name in [name for name, task in self._downloads.items() if task.done()]:
            self._downloads.pop(name).result()
        follower = self.follower
        if follower.tip.round != self._round:
            self._round = follower.tip.round
            self._refused.clear()
        for signed in await follower.announced():
            if follower.fits(signed.value) and not self._is_known(signed):
                self._downloads[blob_name(signed.value)] = asyncio.create_task(self._fetch(signed))

    async def finish(self) -> None:
        """Wait for the running downloads."""
        if self._downloads:
            await asyncio.wait(self._downloads.values())

    def stop(self) -> None:
        """Cancel the running downloads."""
        for task in self._downloads.values():
            task.cancel()

    def _is_known(self, signed: Signed[Commit]) -> bool:
        name = blob_name(signed.value)
        return self.follower.has(name) or name in self._downloads or signed.wire in self._refused

    async def _fetch(self, signed: Signed[Commit]) -> None:
        try:
            async with self._gate:
                await self.follower.fetch_contribution(signed.value)
            self.retention.expect(blob_name(signed.value))
        except NetworkError as error:
            log.debug("not prefetched: %s", error.problem)
            await asyncio.sleep(self.timing.retry)
        except TrustError as error:
            self._refused.add(signed.wire)
            log.info("not taking a contribution of %s: %s", short(signed.signer), error.problem)
