"""Fetching ahead: what is announced for the open round comes here before its close says that it counts."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import cached_property

from barnraise.contract.records import Commit, blob_name
from barnraise.core.errors import NetworkError, TrustError
from barnraise.core.ids import BlobHash, short
from barnraise.core.signed import Signed
from barnraise.fold.codec import blob_sizes
from peer.volunteer.blob_retention import BlobRetention
from peer.volunteer.log_follower import AT_ONCE, LogFollower

log = logging.getLogger("peer")

RETRY_SECONDS = 2.0
"""Pause before what the network did not give is asked for again."""


@dataclass
class Prefetch:
    follower: LogFollower
    shelf: BlobRetention
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _under_way: dict[BlobHash, asyncio.Task[None]] = field(default_factory=dict)
    _refused: set[bytes] = field(default_factory=set)
    """Commits to the open round that cannot be true."""
    _round: int = 0

    async def look(self) -> None:
        """Begin to get what is announced and fits, and is neither here nor under way. Raises DiskFull."""
        for name in [name for name, task in self._under_way.items() if task.done()]:
            self._under_way.pop(name).result()
        tip = self.follower.tip
        if tip.round != self._round:
            self._round = tip.round
            self._refused.clear()
        for signed in await self.follower.swarm.commits(tip.round):
            commit, name = signed.value, blob_name(signed.value)
            fits = commit.size in self._blob_sizes and commit.base_state == tip.state
            known = name in self.follower.blobs or name in self._under_way or signed.wire in self._refused
            if fits and not known:
                self._under_way[name] = asyncio.create_task(self._get(signed))

    async def finish(self) -> None:
        """Wait for what is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way.values())

    def stop(self) -> None:
        for task in self._under_way.values():
            task.cancel()

    @cached_property
    def _blob_sizes(self) -> range:
        """The same for all of a run, and long to reckon where the codec is sparse."""
        return blob_sizes(self.follower.charter.spec.codec, self.follower.state.layout)

    async def _get(self, signed: Signed[Commit]) -> None:
        try:
            async with self._gate:
                await self.follower.prefetch(signed.value)
            self.shelf.expect(blob_name(signed.value))
        except NetworkError as error:
            log.debug("not fetched ahead: %s", error.problem)
            await asyncio.sleep(RETRY_SECONDS)
        except TrustError as error:
            self._refused.add(signed.wire)
            log.info("not taking a contribution of %s: %s", short(signed.signer), error.problem)
