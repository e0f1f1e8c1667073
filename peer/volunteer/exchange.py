"""Runs in parallel with the training: sends a contribution, or follows the log, one task at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from barnraise.contract.divergence import LossTrend
from barnraise.contract.double_signing import DoubleSigned
from barnraise.contract.log_entries import Close, Resume, Rollback
from barnraise.contract.records import Commit, Head, Presence, blob_name
from barnraise.contract.rounds import seconds_between
from barnraise.contract.standing import Standings
from barnraise.contract.state import TrainState
from barnraise.contract.tip import Tip
from barnraise.core.errors import BarnraiseError, MachineError, StateError
from barnraise.core.ids import BlobHash, Millis, Round
from barnraise.fold.codec import Decoder
from barnraise.fold.log import Link, Step, place_after
from barnraise.fold.log_walk import Continues, Differs, IsVoid
from barnraise.network.proof_search import ProofSearch
from barnraise.network.swarm import Swarm
from barnraise.runtime.peer_faults import as_malformed
from peer.timing import TIMING, Timing
from peer.training.trainer import Trainer, Update
from peer.volunteer.actions import Exchanging, LogNews
from peer.volunteer.blob_retention import BlobRetention
from peer.volunteer.contribution import ContributionStore, readmitted
from peer.volunteer.durations import RoundTimer
from peer.volunteer.log_follower import LogFollower
from peer.volunteer.own_standing import OwnStanding, OwnStandingReader
from peer.volunteer.own_weight import OwnWeight, own_weight
from peer.volunteer.prefetch import Prefetch
from peer.volunteer.proofs import Proofs
from peer.volunteer.saved_state import Unchanged
from peer.volunteer.waiting import Patience, until_stored

log = logging.getLogger("peer")


@dataclass(frozen=True)
class NewState:
    """What the training is rebased onto."""

    tip: Tip
    state: TrainState
    trend: LossTrend
    """Of the run's losses."""
    missed: Decoder | None
    """Our contribution where it missed its close."""


@dataclass
class Exchange:
    """Changes the follower's state and the contribution store, never the training."""

    follower: LogFollower
    store: ContributionStore
    trainer: Trainer
    swarm: Swarm
    retention: BlobRetention
    prefetch: Prefetch
    proofs: Proofs
    timer: RoundTimer
    awake: Callable[[], Millis]
    """Measures durations: it leaves pauses out."""
    timing: Timing = TIMING
    notify: Callable[[OwnStanding], None] = lambda _: None
    """Shows what the log says of our key."""
    weight: OwnWeight | None = None
    """Of our newest contribution that a close lists."""
    _patience: Patience = field(init=False)
    _task: asyncio.Task[None] | None = None
    _inner_saved: Millis | None = None
    _watching: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._patience = Patience(self.timing)
        follower = self.follower
        self._own_standing = OwnStandingReader(self.store.identity.public, self.notify)
        self._search = ProofSearch(
            follower.charter,
            self.swarm,
            follower.blobs,
            lambda: follower.position.successors,
            self._learn_proof,
        )

    def progress(self, tip: Tip) -> Exchanging:
        """The exchange's progress, as seen by a training at `tip`."""
        if self._task is not None:
            return Exchanging.BUSY
        ours = self.follower.tip
        # An entry that folds nothing moves the follower's position, and leaves the training where it is.
        return Exchanging.FOLDED if (ours.round, ours.state) != (tip.round, tip.state) else Exchanging.IDLE

    @property
    def halted(self) -> bool:
        """Whether the log says that no round closes until the maintainer decides."""
        return self.follower.tip.position.halted

    @property
    def ended_after(self) -> int | None:
        """Rounds that are folded where the run has ended, as the log says; None where it has not."""
        position = self.follower.tip.position
        return position.step if position.is_over(self.follower.charter.spec) else None

    def look(self) -> None:
        """Collect a task that has ended. Raises the errors that end the program: MachineError, StateError."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()

    async def finish(self) -> None:
        """Wait for the running task. Raises as `look`."""
        if self._task is not None:
            await asyncio.wait([self._task])
            self.look()

    def stop(self) -> None:
        """Cancel all tasks."""
        self.prefetch.stop()
        self._search.cancel()
        for task in (self._task, *self._watching):
            if task is not None:
                task.cancel()

    def try_again(self) -> None:
        """Try at once what failed, where its next attempt is waited for."""
        self._patience.end_pause()

    def publish(self, update: Update, admission: str) -> None:
        """Start to send a contribution to the follower's round."""
        self._start(self._publish(self.follower.tip, update, admission))

    def catch_up(self, head: Head, *, from_checkpoint: bool) -> None:
        """Start to fold the rounds up to the head's."""
        self._start(self._catch_up(head, from_checkpoint))

    def hand_over(self) -> NewState:
        """What the training has to be rebased onto."""
        follower = self.follower
        return NewState(follower.tip, follower.state, follower.trend, self.store.hand_over())

    def log_news(self, head: Head) -> LogNews:
        """What a head says about the log that a change of the round does not say."""
        place = self.follower.place
        ours = place.position
        if head.epoch > ours.epoch:
            return LogNews.AMENDED
        if self.proofs.newest(ours.epoch) is not None:
            return LogNews.DOUBLE_SIGNED
        if (head.epoch, head.round) == (ours.epoch, ours.round) and head.height > ours.height:
            return LogNews.AMENDED
        return LogNews.NONE if place.passed_by(head) else LogNews.CONTRADICTS

    async def look_ahead(self, round: Round) -> None:
        """While our contribution to `round` is pending, prefetch the others to that round."""
        if self._pending_in(round) is not None:
            await self.prefetch.look()

    def update_others(self, others: Sequence[Presence]) -> None:
        """The other volunteers that are present now."""
        self.follower.update_others(others)
        self._search.look(others)

    @property
    def proof(self) -> BlobHash | None:
        """The blob of the newest proof of two histories that we have."""
        return self.proofs.name

    def keeps(self, open_round: Round) -> Round:
        """The oldest round whose contributions are all here."""
        return self.retention.keeps(open_round)

    @property
    def pending(self) -> Commit | None:
        """Our contribution whose close is not known yet."""
        pending = self.store.pending
        return None if pending is None else pending.value

    def announced(self, admission: str) -> Commit | None:
        """`pending` as it is announced again: a coordinator with another key takes it under its admission."""
        pending = self.pending
        return None if pending is None else readmitted(pending, admission)

    def check_pending(self) -> None:
        """Start to give our pending contribution up where its blob was damaged or removed meanwhile.

        Called before the policy decides: it sees that the exchange is busy.
        """
        if self._task is None and self.store.has_changed:
            self._start(asyncio.to_thread(self.store.check_pending))

    async def put_aside(self, update: Update) -> None:
        """Keep work that cannot be published any more."""
        await asyncio.to_thread(self.store.put_aside, update)

    async def last_was_served(self) -> bool:
        """Whether a peer fetches our pending contribution in `timing.goodbye`; True where there is none."""
        tip = self.follower.tip
        pending = self._pending_in(tip.round)
        return pending is None or await self.swarm.wait_served(blob_name(pending), self.timing.goodbye)

    async def save(self, *, fresh: bool = False) -> None:
        """Save all that a restart needs. fresh: without the inner optimizer's moments. Raises DiskFull."""
        # A step may run: the saved moments are then of two consecutive steps, which does no harm.
        follower, now = self.follower, self.awake()
        saved = self._inner_saved
        due = fresh or saved is None or seconds_between(saved, now) >= self.timing.save_inner
        inner = self.trainer.export_inner(fresh=fresh) if due else Unchanged()
        await asyncio.to_thread(self.store.save, follower.tip, follower.state, inner, follower.newest)
        if due:
            self._inner_saved = now

    def _pending_in(self, round: Round) -> Commit | None:
        pending = self.pending
        return pending if pending is not None and pending.round == round else None

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        async def with_pause() -> None:
            try:
                with as_malformed("the exchange", log):
                    await work
                self._patience.over()
            except BarnraiseError as error:
                await self._patience.wait_out(error)

        assert self._task is None, "one task at a time"
        self._task = asyncio.create_task(with_pause())

    async def _publish(self, tip: Tip, update: Update, admission: str) -> None:
        began, layout = self.awake(), self.follower.layout
        try:
            encoded = await asyncio.to_thread(self.store.encode, tip, layout, update, admission)
        except StateError as error:  # another attempt would fail too
            raise MachineError(error.problem, fix=error.fix) from error
        commit = await until_stored(lambda: self.store.keep(encoded), self.timing)
        await self.swarm.publish(commit.value)
        watching = asyncio.create_task(self._watch_sending(blob_name(commit.value), began))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)

    async def _watch_sending(self, name: BlobHash, began: Millis) -> None:
        """Measure how long a peer takes to fetch it; from then on its close decides whether it is kept."""
        if await self.swarm.wait_served(name, self.timing.watch_sending):
            self.timer.sent(began, self.awake())
        self.retention.expect(name)

    async def _catch_up(self, head: Head, from_checkpoint: bool) -> None:
        follower, before = self.follower, self.follower.tip.round
        match await follower.walk(head):
            case Continues(steps):
                await self._continue(head, steps, from_checkpoint)
            case IsVoid(resume):
                await self._step_back(head, resume)
            case DoubleSigned() as proof:
                await self._stop_following(proof)
                return
            case Differs():
                log.warning("the log is another one than ours; taking the newest checkpoint")
                await asyncio.to_thread(self.store.settle, follower.layout, None)
                await self._take_checkpoint(head)
        self.timer.folded(self.awake())
        rolled_back = not follower.position.folds(before)
        if rolled_back:
            log.warning("the run was rolled back: what we trained for round %d is dropped", before)
            await asyncio.to_thread(self.store.drop_void, follower.position.folds)
        await self.save(fresh=rolled_back)

    async def _continue(self, head: Head, steps: Sequence[Step], from_checkpoint: bool) -> None:
        here = self.follower.tip
        ends = [step for step in steps if isinstance(step.entry, Close | Rollback)]
        if ends or from_checkpoint:
            link = ends[0] if ends and isinstance(ends[0], Link) else None
            await asyncio.to_thread(self.store.settle, self.follower.layout, link)
        try:
            end = place_after(here.position, steps)
            if from_checkpoint or end.is_void(here.round):
                for step in steps:  # those before the checkpoint are not passed
                    self._own_standing.read(step.entry, end.standings)
                await self._fold_from_checkpoint(head)
            else:
                await self._pass(steps, head)
        except StateError as error:
            log.warning("%s; taking the newest checkpoint", error.problem)
            await self._take_checkpoint(head)

    async def _fold_from_checkpoint(self, head: Head) -> None:
        await self._take_checkpoint(head)
        walked = await self.follower.walk(head)
        if isinstance(walked, Continues):
            await self._pass(walked.steps, head)

    async def _pass(self, steps: Sequence[Step], head: Head) -> None:
        follower = self.follower
        end = place_after(follower.position, steps)
        for step in steps:
            standings = follower.position.standings
            if (link := await follower.take(step, end)) is not None:
                self.weight = self._own_weight(link, standings) or self.weight
                checkpoint = Round(head.checkpoint_round)
                self.store.folded(link, checkpoint)
                self.retention.folded(link, checkpoint)
            self._own_standing.read(step.entry, end.standings)

    def _own_weight(self, link: Link, standings: Standings) -> OwnWeight | None:
        return own_weight(link, standings, self.follower.charter.spec.trust, self.store.identity.public)

    async def _step_back(self, head: Head, resume: Resume) -> None:
        """Leave the rounds that a resume made void. What we contributed to them is sent again."""
        follower, round = self.follower, Round(resume.round)
        log.warning(
            "the run resumed at round %d in epoch %d: our rounds from there to %d are void",
            round, resume.epoch, follower.tip.round - 1,
        )  # fmt: skip
        await asyncio.to_thread(self.store.settle, follower.layout, None)
        missed = await asyncio.to_thread(self.store.take_back, round, follower.layout)
        for void in missed:
            log.info("our contribution to round %d is void and goes into the next", void)
        await self._fold_from_checkpoint(head)

    async def _stop_following(self, proof: DoubleSigned) -> None:
        """Keep the proof, and follow neither history, until the run resumes in a later epoch."""
        await asyncio.to_thread(self._learn_proof, proof)

    def _learn_proof(self, proof: DoubleSigned) -> None:
        """Keep and serve a proof, found here or by another volunteer. Raises DiskFull."""
        vote = proof.first.vote
        if self.proofs.newest(vote.epoch) is not None:
            return
        path = self.proofs.keep(proof)
        if vote.epoch >= self.follower.position.epoch:
            log.error(
                "the run's key signed two histories at round %d: following neither. The proof is %s",
                vote.round, path,
            )  # fmt: skip

    async def _take_checkpoint(self, head: Head) -> None:
        await self.follower.take_checkpoint(head)
        self.retention.forget()
