"""A volunteer at work: asks the machine what to do next, does it, tells why, and asks again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from typing_extensions import assert_never

from barnraise.codec import blob_size
from barnraise.edge.blobstore import BlobStore
from barnraise.edge.swarm import Swarm
from barnraise.errors import NetworkError, StateError, TrustError, Unreachable
from barnraise.identity import Identity
from barnraise.ids import BlobHash, Millis, Round, short
from barnraise.log import Link
from barnraise.records import Head, Presence, blob_name
from barnraise.rounds import Window, seconds_between
from peer.follower import Follower, newest_head
from peer.machine import Action, CatchUp, Hold, Leave, Publish, Train, View, plan
from peer.report import Display, Progress
from peer.samples import Samples
from peer.work import Work

log = logging.getLogger("peer")

LOOK_SECONDS = 0.25
"""Pause between two looks at the head."""
PRESENCE_SECONDS = 5.0
"""Pause between two heartbeats."""
RECONNECT_SECONDS = 15.0
"""Without a newer head for so long, the coordinator is dialled again."""
RETRY_SECONDS = 2.0
GOODBYE_SECONDS = 8.0
"""How long a leaving volunteer waits for its last contribution to be fetched."""


@dataclass
class Volunteer:
    identity: Identity
    name: str
    admission: Callable[[], str]
    """The newest admission, in base64."""
    clock: Callable[[], Millis]
    """The run's clock."""
    swarm: Swarm
    blobs: BlobStore
    follower: Follower
    samples: Samples
    work: Work
    display: Display
    head: Head
    leaving: asyncio.Event
    _peers: list[Presence] = field(default_factory=list)
    _reason: str = "starting"
    _doing: Literal["training", "waiting", "leaving"] = "waiting"
    _folded: set[BlobHash] = field(default_factory=set)
    """Contributions of the last folded round, kept for those who fold later."""
    _prefetched: set[BlobHash] = field(default_factory=set)
    """Contributions to the open round of which no close is known yet."""

    async def run(self) -> None:
        """Take part until `leaving` is set. Raises what ends a volunteer's work: MachineError, StateError."""
        await asyncio.to_thread(self.work.begin, self.follower.tip, self.follower.state)
        beside = [asyncio.create_task(self._watch()), asyncio.create_task(self._keep_present())]
        try:
            while not isinstance(action := plan(self._view()), Leave):
                await self._tell(action)
                await self._carry_out(action)
                for task in beside:
                    if task.done():
                        task.result()
            await self._say_goodbye()
        finally:
            for task in beside:
                task.cancel()

    async def _carry_out(self, action: Action) -> None:
        try:
            match action:
                case Train():
                    await self._train()
                case Publish():
                    await self._publish()
                case CatchUp(from_checkpoint=from_checkpoint):
                    await self._catch_up(from_checkpoint)
                case Hold():
                    await self._prefetch()
                    await asyncio.sleep(LOOK_SECONDS)
                case Leave():
                    return
                case _:
                    assert_never(action)
        except (NetworkError, TrustError) as error:
            log.warning("%s; trying again", error.problem)
            await asyncio.sleep(RETRY_SECONDS)

    async def _train(self) -> None:
        work, count = self.work, self.follower.charter.spec.train.batch
        batch = await self.samples.batch(self.follower.tip.round, work.trainer.samples, count)
        began = self.clock()
        tokens = await asyncio.to_thread(work.step, batch)
        work.recent.append((tokens, seconds_between(began, self.clock())))

    async def _publish(self) -> None:
        follower = self.follower
        await asyncio.to_thread(self.work.contribute, follower.tip, follower.state, self.admission())
        await self._announce_commit()

    async def _catch_up(self, from_checkpoint: bool) -> None:
        head, follower = self.head, self.follower
        links = await follower.links(head)
        await asyncio.to_thread(self.work.settle, follower.state, links[0] if links else None)
        try:
            if from_checkpoint:
                await follower.take_checkpoint(head)
                links = await follower.links(head)
            for link in links:
                await follower.fold(link)
                self._forget(link)
        except StateError as error:
            log.warning("%s; taking the newest checkpoint", error.problem)
            await follower.take_checkpoint(head)
        await asyncio.to_thread(self.work.begin, follower.tip, follower.state)
        await self._be_present()

    async def _prefetch(self) -> None:
        """While the round is closing, get what its close will most likely list."""
        tip = self.follower.tip
        if not self.work.in_round(tip.round):
            return
        size = blob_size(self.follower.charter.spec.codec, self.follower.state.layout)
        for signed in await self.swarm.commits(tip.round):
            commit = signed.value
            fits = (commit.size, commit.base_state) == (size, tip.state)
            if fits and blob_name(commit) not in self.blobs:
                try:
                    await self.follower.prefetch(commit)
                    self._prefetched.add(blob_name(commit))
                except Unreachable as error:
                    log.debug("not prefetched: %s", error.problem)

    async def _say_goodbye(self) -> None:
        """Wait until somebody holds our last contribution, and tell the others not to wait for us."""
        await asyncio.to_thread(self.work.leave, self.follower.tip, self.follower.state)
        pending = self.work.pending
        if pending is None or not self.work.in_round(self.follower.tip.round):
            served = True
        else:
            served = await self.swarm.wait_served(blob_name(pending.value), GOODBYE_SECONDS)
        if not served:
            log.warning("nobody fetched our last contribution; it is kept for when you come back")
        self._doing = "leaving"
        await self._be_present()

    def _forget(self, link: Link) -> None:
        """Drop what the round before folded, and what was prefetched for this one in vain."""
        folded = {blob_name(commit) for commit in link.commits}
        for name in self._folded | (self._prefetched - folded):
            self.blobs.remove(name)
        self._folded, self._prefetched = folded, set()

    # What goes on beside the work.

    async def _watch(self) -> None:
        """Keep the head fresh, and dial the coordinator again when it falls silent."""
        dialled = self.clock()
        while True:
            self.head = await newest_head(self.swarm, self.head)
            if (
                self._head_age() > RECONNECT_SECONDS
                and seconds_between(dialled, self.clock()) > PRESENCE_SECONDS
            ):
                dialled = self.clock()
                await self.swarm.reconnect(self.head.bootstrap)
            await asyncio.sleep(LOOK_SECONDS)

    async def _keep_present(self) -> None:
        while True:
            await self._be_present()
            await self._announce_commit()
            self._peers = await self.swarm.peers()
            self._show()
            await asyncio.sleep(PRESENCE_SECONDS)

    async def _be_present(self) -> None:
        await self.swarm.publish(
            Presence(
                run=self.follower.charter.run,
                owner=self.identity.public,
                admission=self.admission(),
                name=self.name,
                addresses=(await self.swarm.addresses())[:16],
                round=self.follower.tip.round,
                state=self.follower.tip.state,
                tokens=self.work.tokens,
                tokens_per_second=self.work.tokens_per_second,
                doing=self._doing,
                at=self.clock(),
            )
        )

    async def _announce_commit(self) -> None:
        """Also again and again, as long as it is open: a coordinator that restarts has to learn of it."""
        if self.work.pending is not None:
            await self.swarm.publish(self.work.pending.value)

    async def _tell(self, action: Action) -> None:
        """Show why, and let the swarm know at once when we begin to train or sit a round out."""
        self._reason = action.reason
        self._show()
        sits_out = isinstance(action, Hold) and not self.work.in_round(self.follower.tip.round)
        doing: Literal["training", "waiting"] = "waiting" if sits_out else "training"
        if doing != self._doing:
            self._doing = doing
            await self._be_present()

    # What the machine decides by, and what the volunteer sees.

    def _view(self) -> View:
        round, work = self.follower.tip.round, self.work
        others = sum(p.tokens for p in self._peers if p.round == round and p.owner != self.identity.public)
        return View(
            now=self.clock(),
            window=Window(Round(self.head.round), Millis(self.head.opens), self.follower.charter.spec.round),
            head_age=self._head_age(),
            base=round,
            differs=self.head.round == round and self.head.state not in (None, self.follower.tip.state),
            checkpoint=Round(self.head.checkpoint_round),
            published=work.in_round(round),
            tokens=work.tokens,
            steps=work.steps,
            step_seconds=work.step_seconds,
            swarm_tokens=others + work.tokens,
            leaving=self.leaving.is_set(),
        )

    def _head_age(self) -> float:
        return max(0.0, seconds_between(Millis(self.head.at), self.clock()))

    def _show(self) -> None:
        self.display.show(
            Progress(
                run=self.follower.charter.run,
                round=self.follower.tip.round,
                doing=self._reason,
                loss=self.work.loss,
                tokens=self.work.tokens,
                tokens_per_second=self.work.tokens_per_second,
                peers=len(self._peers),
                up=self.swarm.traffic.up,
                down=self.swarm.traffic.down,
                state=short(self.follower.tip.state),
            )
        )
