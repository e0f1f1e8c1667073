"""The main loop of `coordinator serve`: accepts contributions, closes rounds and folds them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import sample

from barnraise.contract.divergence import Divergence, divergence_message
from barnraise.contract.log_entries import Requested, Resume, Rollback
from barnraise.contract.records import Head
from barnraise.contract.rounds import seconds_between
from barnraise.contract.tip import Position
from barnraise.core.errors import StateError
from barnraise.core.ids import Millis, PublicKey
from barnraise.fold.log import Link, in_effect
from barnraise.network.swarm import Swarm
from barnraise.runtime.pauses import Paused
from barnraise.runtime.peer_faults import BY_DATA, PeerFaults
from coordinator.audits.auditing import Auditing
from coordinator.checkpoints.keeper import CheckpointKeeper
from coordinator.messages.rounds import close_message, progress_message
from coordinator.reasons.rounds import (
    AskingHolders,
    AwaitingHeartbeats,
    CloseReason,
    JustCertified,
    JustClosed,
    JustStarted,
    Progress,
    Resumed,
)
from coordinator.rounds.amending import Amending, report_amended
from coordinator.rounds.closing import CloseNow, Reopen, Wait, decide_close
from coordinator.rounds.contributions import Contributions
from coordinator.rounds.instances import Instances
from coordinator.rounds.joint_closing import MAX_VOLUNTEERS, JointClosing
from coordinator.rounds.log_watch import LogIsBehind, LogWatch
from coordinator.rounds.membership import Membership
from coordinator.rounds.open_round import OpenRound
from coordinator.store.newest_entry import keep_newest_entry
from coordinator.store.run_state import CoordinatorAddresses
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")

NEVER = Millis(0)


class ClosersNamed(StateError):
    """The run key closed alone, and a delegation has named others: the program starts again with them."""

    def __init__(self) -> None:
        super().__init__("other closers take part from now on", fix="The coordinator starts again with them.")


@dataclass
class Session:
    """One coordinator in its swarm. Each tick reads the records, decides by `decide_close` and acts on it."""

    store: RunStore
    publisher: CheckpointKeeper
    swarm: Swarm
    clock: Callable[[], Millis]
    addresses: CoordinatorAddresses
    """Of this program, which the head has."""
    timing: Timing = TIMING
    keep_time: Callable[[], None] = lambda: None
    """Writes the run's time to disk, for a restart."""
    pauses: Callable[[], Sequence[Paused]] = tuple
    """The pauses of this program since the last call."""
    instances: Instances = field(default_factory=Instances)
    """Which program takes part with each key."""
    joint: JointClosing | None = None
    """With whom rounds are closed; None where the run key does alone."""
    nodes: Callable[[], Sequence[str]] = tuple
    """libp2p addresses of closers, which the head has too."""
    amending: Amending | None = None
    """Has other closers, or a successor, named; None for a follower."""
    members: Membership = field(default_factory=Membership)
    """The volunteers that were live at the last tick."""
    progress: Progress = field(default_factory=JustStarted)
    """Why the open round is still open."""
    divergence: Divergence | None = None
    """Why training diverges; None where it does not."""
    auditing: Auditing | None = None
    """Audits contributions; None for a follower."""
    _leads: bool = True
    """Whether this program announces heads, and reopens rounds: of several closers, one does."""
    _announced: int = 0
    """Time of the last head that it announced."""
    _started: Millis = NEVER
    """Of this program, or the end of its last pause."""
    _began: Millis = NEVER
    """Of this program."""

    def __post_init__(self) -> None:
        self.faults = PeerFaults(log)
        self.watch = LogWatch(self.store, self.swarm, self.faults)
        self.contributions = Contributions(self.store, self.swarm, self.clock, self.timing, self.faults)
        if self.joint is not None:
            self.contributions.keep_where(self.joint.lists)
        self._leads = self.joint is None or self.joint.is_first
        self.open_round = OpenRound.of(self.store)

    async def run(self, stop: asyncio.Event) -> None:
        """Close rounds until `stop`. An error of this machine ends it; no accepted contribution is lost."""
        self.pauses()  # nothing was decided yet
        self._started = self._began = self.clock()
        run = self.store.snapshot
        self.instances = Instances.restored(run.claims, self._started, self.timing.silent)
        if run.has_lapsed(self._started):
            self.store.reopen(self._started)
        await self.swarm.heads()  # a head from before a restart has the number of volunteers
        await self._read_heartbeats()
        if not run.checkpoints or run.lacks_last_checkpoint:  # found damaged, or not written by a restart
            await self.publisher.write_checkpoint()
        await self.announce_head()
        parallel = [asyncio.create_task(self._keep_announcing()), asyncio.create_task(self.publisher.run())]
        try:
            while not stop.is_set() and not any(task.done() for task in parallel):
                await self.surviving_tick()
                await _pause(stop, self.timing.tick)
        finally:
            for task in parallel:
                task.cancel()
            self.contributions.cancel()
            self.watch.cancel()
            if self.joint is not None:
                self.joint.cancel()
            await asyncio.wait(parallel)  # they end before the run store is closed
        for task in parallel:
            if not task.cancelled():
                task.result()

    async def _resume(self, pause: Paused) -> None:
        """Go on as after a start: heartbeats and contributions of that time are still to be received."""
        self._report(Resumed(pause.seconds))
        now = self._started = self.clock()
        if self.store.snapshot.has_lapsed(now):
            await self._reopen(now)

    async def surviving_tick(self) -> None:
        """As `tick`. Where what peers sent makes it fail, those are dropped, and the next one goes on."""
        try:
            await self.tick()
        except BY_DATA as error:
            self.faults.record("a decision about the round", error)
            now, members = self.clock(), self.members
            alone = {owner: Membership({owner: beat}) for owner, beat in members.presences.items()}
            self.faults.find("a heartbeat", alone, lambda owner: self.open_round.probe(alone[owner], now))

    async def tick(self) -> None:
        """One decision about the open round."""
        for pause in self.pauses():
            if pause.seconds > self.timing.pause:
                await self._resume(pause)
        await keep_newest_entry(self.store)
        now = self.clock()
        self.contributions.raise_failures()
        await self._read_heartbeats()
        run = self.store.snapshot
        announced = await self.swarm.commits(run.round)
        lost = [commit for commit in self.store.lost if commit.value.round == run.round]
        self.contributions.consider([*announced, *lost], self.members, now)
        if seconds_between(self._started, now) < self.timing.first_decision:
            self._report(AwaitingHeartbeats())
            return
        if self.joint is not None:
            with self.faults.contain("following the log"):
                await self._follow(self.joint)
        elif await self._asks_holders(now):
            self._report(AskingHolders(self.timing.ask_holders))
            return
        await self._amend(now)
        situation = self.open_round.situation(now, self.members, self.contributions.pending, announced)
        decision = decide_close(situation)
        self.open_round.decided(situation, decision, any_live=bool(self.members))
        match decision:
            case CloseNow(reason):
                await self._close(reason, now)
            case Reopen(reason) if self._leads:
                self._report(reason)
                await self._reopen(now)
            case Wait(reason) | Reopen(reason):
                self._report(reason)

    async def _asks_holders(self, now: Millis) -> bool:
        """Whether volunteers may still say that the log goes on behind the journal. Raises LogIsBehind."""
        await self.watch.look(self.members)
        return not self.watch.confirmed and seconds_between(self._began, now) < self.timing.ask_holders

    def head(self) -> Head:
        """The head of the run now."""
        run = self.store.snapshot
        return run.head(
            self.clock(),
            self.addresses.and_nodes(self.nodes()),
            turns=self.open_round.turns,
            volunteers=len(self.members),
            tokens=self.open_round.tokens(self.members, self.clock()),
        )

    async def announce_head(self) -> None:
        """Send the head to the swarm, unless another closer does."""
        if self._leads:
            head = self.head()
            self._announced = head.at
            await self.swarm.publish(head)

    async def _keep_announcing(self) -> None:
        while True:
            await asyncio.to_thread(self.keep_time)
            await asyncio.sleep(self.timing.head)
            with self.faults.contain("the head"):
                await self.announce_head()

    async def _read_heartbeats(self) -> None:
        heartbeats = [beat for beat in await self.swarm.peers() if PublicKey(beat.owner) not in self.faults]
        self.instances.heard(heartbeats, self.clock())
        self.members = Membership.of(heartbeats)

    async def _reopen(self, now: Millis) -> None:
        self.contributions.restart()
        self.open_round.reopens()
        self.store.reopen(now)
        await self.announce_head()

    async def _close(self, reason: CloseReason, now: Millis) -> None:
        if self.joint is not None and (self.joint.is_shared or not self.joint.is_first):
            self.joint.propose(close_message(reason), now, self.open_round.next_turns(len(self.members)))
            return
        link = self.store.close(close_message(reason), now, self.open_round.next_turns(len(self.members)))
        if self.joint is not None:
            self.joint.moved()
        await self._closed(link, JustClosed(link.close.round, reason))
        if self.joint is None and self.store.snapshot.position.closers:
            raise ClosersNamed

    async def _amend(self, now: Millis) -> None:
        """Have the log say what the maintainer asked for. Raises DiskFull."""
        shared = self.joint if self.joint is not None and self.joint.is_shared else None
        if self.amending is None or (shared is not None and not shared.may_propose):
            return
        if (entry := self.amending.entry(now)) is None:
            return
        if shared is not None:
            shared.propose_amendment(entry)
            return
        await self._amended(entry, self.amending.enter(entry, now))

    async def _amended(self, entry: Requested, before: Position) -> None:
        report_amended(entry, before, self.store)
        if self.joint is not None:
            self.joint.moved()
        if isinstance(entry, Rollback):  # compute its state, and let volunteers have it
            self.contributions.restart()
            self.divergence = None
            await self.announce_head()
            await asyncio.to_thread(self.store.rebuild)
            await self.publisher.write_checkpoint(leads=self._leads)
        await self.announce_head()
        await self.publisher.update_archive()

    async def _follow(self, joint: JointClosing) -> None:
        """Take part in the agreement with other closers, and enter what was agreed on."""
        joint.tick()
        heads = await self.swarm.heads()
        self._take_over(joint, heads)
        await self._ask_volunteers(joint)
        steps = await joint.next_steps(heads)
        counting = in_effect(self.store.snapshot.position, steps)
        for step in steps:
            before = self.store.snapshot.position
            joint.enter(step)
            if step not in counting:
                continue
            if isinstance(step, Link):
                await self._closed(step, JustCertified(step.close.round, len(step.certificate.signatures)))
            elif not isinstance(step.entry, Resume):
                await self._amended(step.entry, before)

    async def _ask_volunteers(self, joint: JointClosing) -> None:
        """Volunteers may hold more of the log than is known here: the heads of others are not taken where a
        delegation that is not known yet names them.
        """
        present = list(self.members.presences)
        joint.volunteers = tuple(sample(present, min(len(present), MAX_VOLUNTEERS)))
        if joint.seeks:
            try:
                await self.watch.look(self.members)
            except LogIsBehind as behind:
                joint.learn(behind.certified, behind.holder)

    def _take_over(self, joint: JointClosing, heads: Sequence[Head]) -> None:
        """Lead where no closer that comes first announces heads; else take over what those say."""
        position = self.store.snapshot.position
        for head in heads:
            if head.at == self._announced or joint.is_silent(head, self.clock()):
                self._leads = joint.may_lead
                continue
            self._leads = joint.is_first
            if not self._leads and head.height == position.height and head.epoch == position.epoch:
                self.open_round.turns = head.turns
                if head.opens > self.store.snapshot.opens:
                    self.store.reopen(Millis(head.opens))

    async def _closed(self, link: Link, report: JustClosed | JustCertified) -> None:
        """Fold a round that is closed, and announce where the run is."""
        self.open_round.closed(link)
        self._report(report)
        seen = self.contributions.first_seen()
        if self.auditing is not None:
            self.auditing.closed(link, self.store.state, seen)
        self.contributions.restart()
        await self.announce_head()
        await asyncio.to_thread(self.store.fold, link)
        self._check_trend()
        await self.announce_head()
        if self.store.checkpoint_due():
            await self.publisher.write_checkpoint(leads=self._leads)
            await self.announce_head()
        await self.publisher.update_archive()

    def _check_trend(self) -> None:
        """Log a divergence, and its end, where that is news."""
        run, before = self.store.snapshot, self.divergence
        self.divergence = found = run.trend.divergence(self.store.chance)
        if found is not None and found.is_news_after(before):
            log.warning("training diverges: %s", divergence_message(found))
            log.warning("no checkpoint is promoted meanwhile; a lower train.inner.lr needs a new run")
        elif found is None and before is not None:
            log.info("training no longer diverges")

    def _report(self, progress: Progress) -> None:
        """Record why the round is still open, and log it if that is news."""
        if progress.is_news_after(self.progress):
            run = self.store.snapshot
            log.info("round %d: %s", run.round, progress_message(progress))
        self.progress = progress


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except asyncio.TimeoutError:
        return
