"""Fetching contributions that are announced for the open round before its close lists them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from barnraise.contract.records import Commit, blob_name
from barnraise.core.errors import NetworkError, TrustError
from barnraise.core.ids import Round, short
from barnraise.core.signed import Signed
from barnraise.runtime.peer_faults import BY_DATA
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
    _downloads: dict[bytes, asyncio.Task[None]] = field(default_factory=dict)
    """By signed commit: one that copies the blob of another has to be no obstacle to that."""
    _refused: set[bytes] = field(default_factory=set)
    """Commits to the open round that cannot be true."""
    _unfinished: dict[bytes, Commit] = field(default_factory=dict)
    """Commits to the open round of whose blobs a part may be here."""
    _round: Round | None = None

    async def look(self) -> None:
        """Start to fetch announced blobs that fit and are not stored or being fetched. Raises DiskFull."""
        for wire in [wire for wire, task in self._downloads.items() if task.done()]:
            self._downloads.pop(wire).result()
        follower = self.follower
        if follower.tip.round != self._round:
            self._round = follower.tip.round
            self._refused.clear()
            for wire in self._unfinished.keys() - self._downloads.keys():
                follower.remove_download(self._unfinished.pop(wire))
        for signed in await follower.announced():
            if follower.fits(signed.value) and not self._is_known(signed):
                self._downloads[signed.wire] = asyncio.create_task(self._fetch(signed))

    async def finish(self) -> None:
        """Wait for the running downloads."""
        if self._downloads:
            await asyncio.wait(self._downloads.values())

    def stop(self) -> None:
        """Cancel the running downloads."""
        for task in self._downloads.values():
            task.cancel()

    def _is_known(self, signed: Signed[Commit]) -> bool:
        is_here = self.follower.has(blob_name(signed.value))
        return is_here or signed.wire in self._downloads or signed.wire in self._refused

    async def _fetch(self, signed: Signed[Commit]) -> None:
        try:
            async with self._gate:
                self._unfinished[signed.wire] = signed.value
                await self.follower.fetch_contribution(signed.value)
                del self._unfinished[signed.wire]
                await self.follower.check_contribution(signed.value)
            self.retention.expect(blob_name(signed.value))
        except NetworkError as error:
            log.debug("not prefetched: %s", error.problem)
            await asyncio.sleep(self.timing.retry)
        except (TrustError, *BY_DATA) as error:
            self._refused.add(signed.wire)
            self._unfinished.pop(signed.wire, None)
            log.info("not taking a contribution of %s: %s", short(signed.signer), error)
