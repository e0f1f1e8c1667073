"""The volunteer's loop: ask the policy for the next action, announce it, carry it out, and ask again."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from typing_extensions import assert_never

from barnraise.contract.divergence import Divergence, LossTrend
from barnraise.contract.field_types import MAX_TOKENS, MAX_TOKENS_PER_SECOND
from barnraise.contract.heartbeat import heartbeat_seconds, next_time, parts_for
from barnraise.contract.records import Activity, Head, Presence
from barnraise.contract.rotation import has_turn
from barnraise.contract.rounds import Window, seconds_between
from barnraise.contract.spec import RunSpec
from barnraise.core.backoff import backoff_seconds
from barnraise.core.errors import BarnraiseError, KeyInUse, NotFinite
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, Round, short
from barnraise.network.swarm import Swarm
from peer.timing import TIMING, Timing
from peer.volunteer.absence import TRAINED_ROUNDS, most_tokens
from peer.volunteer.actions import (
    Action,
    CatchUp,
    HeadFacts,
    Hold,
    Leave,
    Merge,
    Publish,
    Train,
    View,
    activity,
)
from peer.volunteer.display import StatusDisplay, VolunteerStatus
from peer.volunteer.durations import Advice, RoundTimer, exchange_advice, step_advice
from peer.volunteer.exchange import Exchange
from peer.volunteer.head_follower import HeadFollower
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.log_copy import LogCopy
from peer.volunteer.policy import plan, plan_during_step
from peer.volunteer.reasons import ActionReason, LeaveReason, Starting, StepSkipped
from peer.volunteer.samples import Samples
from peer.volunteer.waiting import Loop, Patience, until_done

log = logging.getLogger("peer")

NEVER = Millis(0)


@dataclass
class Volunteer:
    """One volunteer in a run. Training and exchange do the work; this class decides when."""

    spec: RunSpec
    identity: Identity
    name: str
    instance: str
    """Distinguishes our program from another one with our key (`barnraise.runtime.instance`)."""
    claim: Callable[[], Awaitable[None]]
    """Claims our place in the run again. Raises KeyInUse where another program has it."""
    admission: Callable[[], str]
    """The newest admission, in base64."""
    clock: Callable[[], Millis]
    """The run's clock."""
    awake: Callable[[], Millis]
    """Measures durations: it leaves pauses out."""
    swarm: Swarm
    samples: Samples
    training: LocalTraining
    exchange: Exchange
    timer: RoundTimer
    display: StatusDisplay
    heads: HeadFollower
    log_copy: LogCopy
    leaving: asyncio.Event
    timing: Timing = TIMING
    others: Sequence[Loop] = ()
    """What else runs in parallel with the training."""
    _reason: ActionReason = field(default_factory=Starting)
    _advised: dict[type[Advice], Advice] = field(default_factory=dict)
    _activity: Activity = "waiting"
    _beat_at: Millis = NEVER
    """Time of the last heartbeat."""
    _divergence: Divergence | None = None
    _patience: Patience = field(init=False)
    _displaced: KeyInUse | None = None
    """Another program takes part with our key."""

    def __post_init__(self) -> None:
        self._patience = Patience(self.timing)
        self.heads.when_back(self._patience.end_pause, self.exchange.try_again)

    @property
    def head(self) -> Head:
        return self.heads.head

    async def run(self) -> LeaveReason:
        """Take part until `leaving` is set, or the run is over. Raises what ends a volunteer (`faults`)."""
        await asyncio.to_thread(self.training.start)
        await until_done(self.exchange.save, self.timing)
        copying: Loop = functools.partial(self.log_copy.follow, lambda: self.head)
        loops = (self.heads.follow, self._keep_present, self._prefetch, copying, *self.others)
        tasks = [asyncio.create_task(until_done(loop, self.timing)) for loop in loops]
        try:
            while not isinstance(action := plan(self._view()), Leave):
                await self._announce(action)
                await self._carry_out(action)
                self.exchange.look()
                self.exchange.check_pending()
                _raise_from_ended(tasks)
            self._show(action.reason)
            await self._leave()
            if self._displaced is not None:
                raise self._displaced
            return action.reason
        finally:
            self.exchange.stop()
            for task in tasks:
                task.cancel()

    async def _carry_out(self, action: Action) -> None:
        try:
            match action:
                case Train():
                    await self._train()
                case Publish():
                    await self._publish()
                case CatchUp(from_checkpoint=from_checkpoint):
                    self.exchange.catch_up(self.head, from_checkpoint=from_checkpoint)
                case Merge():
                    await self._merge()
                case Hold():
                    await asyncio.sleep(self.timing.poll)
                case Leave():
                    return
                case _:
                    assert_never(action)
        except BarnraiseError as error:
            await self._patience.wait_out(error)

    async def _train(self) -> None:
        training, spec = self.training, self.spec
        away = self.heads.away() is not None
        batch = await self.samples.batch(training.counts_in, training.samples, spec.train.batch, away=away)
        self._patience.over()
        began = self.awake()
        step = asyncio.create_task(asyncio.to_thread(training.step, batch))
        while not step.done():
            await asyncio.wait([step], timeout=self.timing.poll)
            self.exchange.look()
            await self._act_during_step(seconds_between(began, self.awake()))
        ended = self.awake()
        match step.result():
            case StepSkipped() as skipped:
                await self._skip(skipped)
                return
            case int(tokens):
                self.timer.stepped(tokens, seconds_between(began, ended))
        if self.timer.steady:
            self._advise(step_advice(self.timer.measured(ended), spec.train.batch, spec.round))

    async def _skip(self, skipped: StepSkipped) -> None:
        """Say that a step was skipped; wait where training from the run's state fails again."""
        self.display.notify(skipped)
        if skipped.resets > 1:
            first, longest = self.timing.first_wait, self.timing.longest_wait
            seed = self.identity.public
            await asyncio.sleep(backoff_seconds(seed, skipped.resets - 2, first=first, longest=longest))

    async def _act_during_step(self, elapsed: float) -> None:
        match plan_during_step(self._view(), elapsed):
            case CatchUp() as action:
                await self._carry_out(action)
            case Train() as action:
                await self._announce(action)

    async def _publish(self) -> None:
        try:
            limit = most_tokens(self.spec.round, self.head.turns, self.timer)
            update = await asyncio.to_thread(self.training.take, limit)
        except NotFinite as error:
            log.warning("%s: it is dropped, and training starts again from the run's state", error.problem)
            return
        self.timer.published(self.awake())
        self.exchange.publish(update, self.admission())

    async def _merge(self) -> None:
        new = self.exchange.hand_over()
        await asyncio.to_thread(self.training.rebase, new.tip, new.state, new.missed)
        self._check_trend(new.trend)
        now = self.awake()
        self.timer.rebased(now)
        durations = self.timer.measured(now)
        if durations.exchange:
            self._advise(exchange_advice(durations, self.spec.round))
        await self._publish_presence()

    def _check_trend(self, trend: LossTrend) -> None:
        """Show where the run's training diverges."""
        before, self._divergence = self._divergence, trend.divergence(self.samples.chance)
        if self._divergence is not None and self._divergence.is_news_after(before):
            self.display.notify(self._divergence)

    async def _leave(self) -> None:
        """Save the local work, wait until a peer has our last contribution, and say that we leave."""
        exchange, training = self.exchange, self.training
        await exchange.finish()
        if training.has_work:
            await exchange.put_aside(await asyncio.to_thread(training.rest))
        if not await exchange.last_was_served():
            log.warning("no peer fetched our last contribution; it is kept for the next `peer join`")
        if self._displaced is None:
            self._activity = "leaving"
            await self._publish_presence()

    # In parallel with the actions

    async def _keep_present(self) -> None:
        while True:
            await self._publish_presence()
            if (pending := self.exchange.announced(self.admission())) is not None:
                await self.swarm.publish(pending)  # repeated, for a coordinator that restarted
            present = await self.swarm.peers()
            if any(beat.owner == self.identity.public and beat.instance != self.instance for beat in present):
                await self._contest()
            self.exchange.update_others([beat for beat in present if beat.owner != self.identity.public])
            self._show(self._reason)
            await asyncio.sleep(self._beat)

    async def _contest(self) -> None:
        """Ask the coordinator which of two programs with our key takes part; leave where it is the other."""
        try:
            await self.claim()
        except KeyInUse as error:
            self._displaced = error
            self.leaving.set()
        except BarnraiseError as error:
            log.warning("another program uses our key; the coordinator cannot be asked: %s", error.problem)

    async def _prefetch(self) -> None:
        while True:
            await self.exchange.look_ahead(Round(self.head.round))
            await self.samples.prefetch(Round(self.head.round + 1))
            await asyncio.sleep(self.timing.poll)

    async def _publish_presence(self) -> None:
        training = self.training
        self._beat_at = next_time(self._beat_at, self._beat, self.clock())
        await self.swarm.publish(
            Presence(
                run=self.spec.name,
                owner=self.identity.public,
                instance=self.instance,
                admission=self.admission(),
                name=self.name,
                round=training.round,
                state=training.tip.state,
                tokens=self._tokens(),
                tokens_per_second=min(self.timer.tokens_per_second, MAX_TOKENS_PER_SECOND),
                doing=self._activity,
                parts=parts_for(self.head.volunteers),
                keeps=self.exchange.keeps(training.round),
                log=self.log_copy.name,
                proof=self.exchange.proof,
                at=self._beat_at,
            )
        )

    async def _announce(self, action: Action) -> None:
        """Show the reason, and publish at once when we start to train or sit out the round."""
        self._show(action.reason)
        before, self._activity = self._activity, activity(action, self._activity)
        if self._activity != before:
            await self._publish_presence()

    def _advise(self, advice: Advice) -> None:
        """Show what a measurement means where that is news."""
        if advice.is_news_after(self._advised.get(type(advice))):
            self._advised[type(advice)] = advice
            self.display.advise(advice)

    # The policy's view, and the user's

    def _view(self) -> View:
        head, tip, now = self.head, self.training.tip, self.clock()
        same_round = head.round == tip.round
        facts = HeadFacts(
            away=self.heads.away(),
            differs=same_round and head.state not in (None, tip.state),
            checkpoint=Round(head.checkpoint_round),
            turn=has_turn(self.spec.seed, tip.round, self.identity.public, head.turns),
            # The head has each volunteer's last report; our own tokens may be more than that.
            swarm_tokens=max(head.tokens if same_round else 0, self._tokens()),
            outdated=self.heads.is_outdated(),
            log=self.exchange.log_news(head),
            halted=self.exchange.halted,
            ended_after=self.exchange.ended_after,
        )
        return View(
            now=now,
            window=Window(Round(head.round), Millis(head.opens), self.spec.round),
            head=facts,
            work=self.training.work(),
            exchange=self.exchange.progress(tip),
            durations=self.timer.measured(self.awake()),
            leaving=self.leaving.is_set(),
            absence=TRAINED_ROUNDS[self.spec.train.method],
        )

    def _tokens(self) -> int:
        """What we trained for the round of our state, sent or not."""
        work, pending = self.training.work(), self.exchange.pending
        if not work.contribution.taken:
            return min(work.tokens, MAX_TOKENS)
        return 0 if pending is None else pending.tokens

    def _show(self, reason: ActionReason) -> None:
        self._reason = reason
        training, traffic = self.training, self.swarm.traffic
        self.display.show(
            VolunteerStatus(
                run=self.spec.name,
                round=training.round,
                doing=reason,
                loss=training.loss,
                tokens=training.tokens,
                tokens_per_second=self.timer.tokens_per_second,
                peers=self.head.volunteers,
                up=traffic.up,
                down=traffic.down,
                state=short(training.tip.state),
                weight=self.exchange.weight,
            )
        )

    @property
    def _beat(self) -> float:
        return heartbeat_seconds(self.head.volunteers)


def _raise_from_ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()
