"""What goes on beside the training: a contribution is sent, the log is followed. One of them at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from barnraise.contract.records import Head, blob_name
from barnraise.contract.rounds import seconds_between
from barnraise.contract.state import Layout
from barnraise.contract.tip import Tip
from barnraise.core.errors import NetworkError, StateError, TrustError
from barnraise.core.ids import BlobHash, Millis, Round
from barnraise.network.swarm import Swarm
from peer.training.trainer import Trainer, Update
from peer.volunteer.blob_retention import BlobRetention
from peer.volunteer.contribution import ContributionStore
from peer.volunteer.log_follower import LogFollower
from peer.volunteer.prefetch import RETRY_SECONDS, Prefetch
from peer.volunteer.saved_state import Unchanged
from peer.volunteer.timings import RoundTimer

log = logging.getLogger("peer")

INNER_SECONDS = 600.0
"""Between two saves of the inner optimizer, which is twice the parameters' size: a crash costs its moments,
means over hundreds of steps, no more than so much of their memory."""
SENT_SECONDS = 600.0
"""For so long it is watched whether somebody fetches what we sent."""


@dataclass
class Exchange:
    """Changes the follower's state and the work, never the training."""

    follower: LogFollower
    work: ContributionStore
    trainer: Trainer
    swarm: Swarm
    shelf: BlobRetention
    ahead: Prefetch
    pace: RoundTimer
    clock: Callable[[], Millis]
    _task: asyncio.Task[None] | None = None
    _inner_saved: Millis | None = None
    _watching: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def busy(self) -> bool:
        return self._task is not None

    def look(self) -> None:
        """Take note of what has ended. Raises what ends a volunteer's work: MachineError, StateError."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()

    async def finish(self) -> None:
        """Wait for what goes on."""
        if self._task is not None:
            await asyncio.wait([self._task])
            self.look()

    def stop(self) -> None:
        self.ahead.stop()
        for task in (self._task, *self._watching):
            if task is not None:
                task.cancel()

    def publish(self, update: Update, admission: str) -> None:
        self._begin(self._publish(self.follower.tip, update, admission))

    def catch_up(self, head: Head, *, from_checkpoint: bool) -> None:
        self._begin(self._catch_up(head, from_checkpoint))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        async def patiently() -> None:
            try:
                await work
            except (NetworkError, TrustError) as error:
                log.warning("%s; trying again", error.problem)
                await asyncio.sleep(RETRY_SECONDS)

        assert self._task is None, "one thing at a time"
        self._task = asyncio.create_task(patiently())

    async def _publish(self, tip: Tip, update: Update, admission: str) -> None:
        began = self.clock()
        commit = await asyncio.to_thread(self.work.contribute, tip, self._layout, update, admission)
        await self.swarm.publish(commit.value)
        watching = asyncio.create_task(self._watch_sending(blob_name(commit.value), began))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    async def _watch_sending(self, name: BlobHash, began: Millis) -> None:
        """Time it. From then on it is dropped like anybody's contribution where its close left it out."""
        if await self.swarm.wait_served(name, SENT_SECONDS):
            self.pace.sent(began, self.clock())
        self.shelf.expect(name)

    async def _catch_up(self, head: Head, from_checkpoint: bool) -> None:
        follower = self.follower
        links = await follower.links(head)
        await asyncio.to_thread(self.work.settle, self._layout, links[0] if links else None)
        try:
            if from_checkpoint:
                await self._take_checkpoint(head)
                links = await follower.links(head)
            for link in links:
                await follower.fold(link)
                self.shelf.folded(link, Round(head.checkpoint_round))
        except StateError as error:
            log.warning("%s; taking the newest checkpoint", error.problem)
            await self._take_checkpoint(head)
        self.pace.folded(self.clock())
        await self.save()

    async def _take_checkpoint(self, head: Head) -> None:
        await self.follower.take_checkpoint(head)
        self.shelf.forget()

    async def save(self) -> None:
        """All that a restart needs."""
        # Training may go on: the moments saved then are of two neighbouring steps, which does no harm.
        tip, state, now = self.follower.tip, self.follower.state, self.clock()
        due = self._inner_saved is None or seconds_between(self._inner_saved, now) >= INNER_SECONDS
        await asyncio.to_thread(
            self.work.save, tip, state, self.trainer.export_inner() if due else Unchanged()
        )
        if due:
            self._inner_saved = now

    @property
    def _layout(self) -> Layout:
        return self.follower.state.layout
