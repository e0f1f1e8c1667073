"""`peer audit`: follows a run's log without training, and audits closed rounds for its coordinator."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from barnraise.contract.invite import Invite
from barnraise.contract.records import Head
from barnraise.contract.state import Array, TrainState
from barnraise.core.errors import RefusedError, StateError
from barnraise.core.ids import Round, StateHash
from barnraise.fold.log import place_after
from barnraise.fold.log_walk import Continues
from barnraise.network.blobs.rate_limiter import RateLimiter
from barnraise.runtime.awake_clock import AwakeClock, ticking
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.files import owned_folder
from barnraise.runtime.pauses import Paused
from barnraise.runtime.waits import until_first
from peer.archive.base_model import BaseFinder
from peer.archive.events import BaseEvent
from peer.archive.opening import open_archive
from peer.auditing.auditor import Auditor, Material
from peer.auditing.events import AuditEvent
from peer.download.progress import DownloadDisplay
from peer.timing import TIMING, Timing
from peer.volunteer.blob_retention import BlobRetention
from peer.volunteer.durations import RoundTimer
from peer.volunteer.head_follower import HeadFollower
from peer.volunteer.log_follower import LogFollower, first_follower
from peer.volunteer.node import Entered, NetworkSettings, Node, enter, leave_on_signals, or_leave, start_node
from peer.volunteer.samples import fetch_index
from peer.volunteer.waiting import persist, until_done

log = logging.getLogger("peer")

KEPT = 3
"""States that are kept in memory: the newest one, those of the round that is audited, and one between."""


@dataclass(frozen=True)
class AuditSettings:
    """What may differ between auditors."""

    network: NetworkSettings
    base: Path | None
    """The base model's folder or GGUF file; None: it is downloaded."""
    threads: int | None
    """CPU threads; None: half of the cores."""


@dataclass
class RecentStates:
    """The newest states of a follower. Used by several threads: entries are only added and dropped."""

    _states: dict[StateHash, TrainState] = field(default_factory=dict)

    def add(self, name: StateHash, state: TrainState) -> None:
        """The newest one."""
        self._states.pop(name, None)
        self._states[name] = state
        while len(self._states) > KEPT:
            self._states.pop(next(iter(self._states)))

    def params(self, state: StateHash) -> Mapping[str, Array] | None:
        """As of `peer.auditing.auditor.States`."""
        found = self._states.get(state)
        return None if found is None else found.params


@dataclass
class Following:
    """Keeps a follower at the end of the log."""

    follower: LogFollower
    heads: HeadFollower
    retention: BlobRetention
    states: RecentStates
    node: Node
    _was_over: bool = False

    async def run(self) -> None:
        """Follow the log until cancelled."""
        self._reached()
        while True:
            others = await self.node.swarm.peers()
            self.follower.update_others([each for each in others if each.owner != self.node.identity.public])
            head, position = self.heads.head, self.follower.position
            if (head.epoch, head.height) > (position.epoch, position.height):
                await self._catch_up(head)
            await asyncio.sleep(self.node.timing.poll)

    async def _catch_up(self, head: Head) -> None:
        walked = await self.follower.walk(head)
        try:
            if isinstance(walked, Continues) and not self._is_behind(head, walked):
                await self._pass(walked, head)
                return
        except StateError as error:
            log.warning("%s; taking the newest checkpoint", error.problem)
        await self.follower.take_checkpoint(head)
        self.retention.forget()
        self._reached()
        walked = await self.follower.walk(head)
        if isinstance(walked, Continues):
            await self._pass(walked, head)

    def _is_behind(self, head: Head, walked: Continues) -> bool:
        """Whether the newest checkpoint is nearer to the end, or our round is void."""
        here = self.follower.position
        return head.checkpoint_round > here.round + 1 or place_after(here, walked.steps).is_void(here.round)

    async def _pass(self, walked: Continues, head: Head) -> None:
        end = place_after(self.follower.position, walked.steps)
        for step in walked.steps:
            if (link := await self.follower.take(step, end)) is not None:
                self.retention.folded(link, Round(head.checkpoint_round))
            self._reached()

    def _reached(self) -> None:
        follower, position = self.follower, self.follower.position
        self.states.add(follower.tip.state, follower.state)
        was_over, self._was_over = self._was_over, position.is_over(follower.charter.spec)
        if self._was_over and not was_over:
            log.info(
                "the run is over, with round %d as its last: its coordinator may still have contributions"
                " audited. Ctrl-C leaves",
                position.round - 1,
            )


async def audit(
    invite: Invite,
    folder: Path,
    cache: Path,
    settings: AuditSettings,
    display: DownloadDisplay[BaseEvent],
    notify: Callable[[AuditEvent | Paused | ClockSet], None],
    timing: Timing = TIMING,
) -> None:
    """Audit until Ctrl-C. Raises RefusedError where the coordinator asks us no more."""
    leaving = leave_on_signals()
    with owned_folder(folder, "peer"), ticking(AwakeClock()) as awake:
        entered = await or_leave(enter(invite, folder, "", credit=False, timing=timing), leaving)
        base = await or_leave(_base(entered, cache, settings, display), leaving)
        starting = functools.partial(start_node, entered, awake, folder, settings.network)
        node = await or_leave(persist(starting, entered.identity.public, timing), leaving)
        await node.kept(until_first(_work(node, base, folder, settings, notify), _left(leaving)))


async def _left(leaving: asyncio.Event) -> None:
    await leaving.wait()
    log.info("left. Come back with the same command.")


async def _base(
    entered: Entered, cache: Path, settings: AuditSettings, display: DownloadDisplay[BaseEvent]
) -> Path:
    timing, invite = entered.admission.timing, entered.search.invite
    limiter = RateLimiter(settings.network.max_download)

    async def found() -> Path:
        with display as listener:
            finder = BaseFinder(
                entered.charter, settings.base, cache, listener, time.monotonic, timing, limiter
            )
            return await finder.find(lambda: open_archive(str(invite), timing=timing, limiter=limiter))

    return await (persist(found, entered.identity.public, timing) if settings.base is None else found())


async def _work(
    node: Node,
    base: Path,
    folder: Path,
    settings: AuditSettings,
    notify: Callable[[AuditEvent | Paused | ClockSet], None],
) -> None:
    charter, swarm, blobs = node.charter, node.swarm, node.blobs
    beginning = functools.partial(first_follower, charter, base, swarm, blobs, node.head, node.keys)
    follower = await persist(beginning, node.identity.public, node.timing)
    index = await fetch_index(charter, swarm, blobs, await swarm.peers(), node.keys.at_work)
    log.info("auditing %s from round %d on", charter.run, follower.tip.round)
    heads = node.head_follower(RoundTimer(began=node.awake()), notify)
    states = RecentStates()
    following = Following(follower, heads, BlobRetention(blobs), states, node)
    material = Material(charter, base, index, swarm, blobs, node.keys, states, folder)
    threads = settings.threads or max(1, (os.cpu_count() or 1) // 2)
    auditor = Auditor(node.identity, node.search, material, node.clock, notify, threads, timing=node.timing)
    await until_first(
        until_done(heads.follow, node.timing),
        until_done(following.run, node.timing),
        until_done(auditor.run, node.timing),
    )
    raise RefusedError(
        "the coordinator gives this key no more rounds to audit",
        fix="It tried a contribution again and found something else. Update, and use another key, by another"
        " `--data-dir`: the run's maintainer has to vouch for it.",
    )
