"""A volunteer at work: asks the machine what to do next, does it, tells why, and asks again."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from typing_extensions import assert_never

from barnraise.contract.heartbeat import heartbeat_seconds, parts_for
from barnraise.contract.records import Activity, Head, Presence, blob_name
from barnraise.contract.rotation import has_turn
from barnraise.contract.rounds import Window, seconds_between
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import NetworkError, TrustError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, PublicKey, Round, short
from barnraise.network.swarm import Swarm
from peer.volunteer.advice import of_exchange, of_steps
from peer.volunteer.display import StatusDisplay, VolunteerStatus
from peer.volunteer.exchange import Exchange
from peer.volunteer.local_training import LocalTraining
from peer.volunteer.log_follower import newest_head
from peer.volunteer.policy import (
    Action,
    CatchUp,
    Hold,
    Leave,
    Merge,
    Publish,
    Train,
    View,
    doing,
    plan,
    tell_of_step,
)
from peer.volunteer.prefetch import RETRY_SECONDS
from peer.volunteer.samples import Samples

log = logging.getLogger("peer")

LOOK_SECONDS = 0.25
"""Pause between two looks at the head, and at what else may have changed."""
RECONNECT_SECONDS = 15.0
"""Without a newer head for so long, the coordinator is dialled again."""
DIAL_SECONDS = 5.0
"""Pause between two of these calls."""
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
    samples: Samples
    training: LocalTraining
    exchange: Exchange
    display: StatusDisplay
    head: Head
    leaving: asyncio.Event
    _reason: str = "starting"
    _advised: dict[str, str] = field(default_factory=dict)
    _doing: Activity = "waiting"

    async def run(self) -> None:
        """Take part until `leaving` is set. Raises what ends a volunteer's work: MachineError, StateError."""
        await asyncio.to_thread(self.training.trainer.load, self.training.state)
        await self.exchange.save()
        beside = [
            asyncio.create_task(work) for work in (self._watch(), self._keep_present(), self._look_ahead())
        ]
        try:
            while not isinstance(action := plan(self._view()), Leave):
                await self._tell(action)
                await self._carry_out(action)
                self.exchange.look()
                for task in beside:
                    if task.done():
                        task.result()
            await self._say_goodbye()
        finally:
            self.exchange.stop()
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
                    self.exchange.catch_up(self.head, from_checkpoint=from_checkpoint)
                case Merge():
                    await self._merge()
                case Hold():
                    await asyncio.sleep(LOOK_SECONDS)
                case Leave():
                    return
                case _:
                    assert_never(action)
        except (NetworkError, TrustError) as error:
            log.warning("%s; trying again", error.problem)
            await asyncio.sleep(RETRY_SECONDS)

    async def _train(self) -> None:
        training, count = self.training, self._spec.train.batch
        counts_in = Round(training.tip.round + training.taken)
        batch = await self.samples.batch(counts_in, training.trainer.samples, count)
        began = self.clock()
        step = asyncio.create_task(asyncio.to_thread(training.step, batch))
        while not step.done():
            await asyncio.wait([step], timeout=LOOK_SECONDS)
            self.exchange.look()
            view = self._view()
            if isinstance(action := plan(view), CatchUp):  # which need not wait for a long step
                self.exchange.catch_up(self.head, from_checkpoint=action.from_checkpoint)
            elif told := tell_of_step(view, seconds_between(began, self.clock())):
                await self._tell(told)
        tokens = step.result()
        training.recent.append((tokens, seconds_between(began, self.clock())))
        if len(training.recent) == training.recent.maxlen:  # the first steps are slow
            self._advise("steps", of_steps(training.step_seconds, count, self._spec.round))

    async def _publish(self) -> None:
        update = await asyncio.to_thread(self.training.take)
        self.exchange.pace.published(self.clock(), self.training.step_seconds)
        self.exchange.publish(update, self.admission())

    async def _merge(self) -> None:
        follower, missed = self.exchange.follower, self.exchange.work.hand_over()
        await asyncio.to_thread(self.training.go_over, follower.tip, follower.state, missed)
        pace = self.exchange.pace
        pace.went_over(self.clock())
        if pace.exchange_seconds:
            told = of_exchange(pace.exchange_seconds, pace.train_seconds, self._spec.round)
            self._advise("exchange", told)
        await self._be_present()

    async def _say_goodbye(self) -> None:
        """Wait until somebody holds our last contribution, and tell the others not to wait for us."""
        exchange, training = self.exchange, self.training
        await exchange.finish()
        if training.has_work:
            await asyncio.to_thread(exchange.work.put_aside, training.rest())
        pending = exchange.work.pending
        if pending is None or not exchange.work.in_round(exchange.follower.tip.round):
            served = True
        else:
            served = await self.swarm.wait_served(blob_name(pending.value), GOODBYE_SECONDS)
        if not served:
            log.warning("nobody fetched our last contribution; it is kept for when you come back")
        self._doing = "leaving"
        await self._be_present()

    # What goes on beside the work.

    async def _watch(self) -> None:
        """Keep the head fresh, and dial the coordinator again when it falls silent."""
        dialled = self.clock()
        while True:
            self.head = await newest_head(self.swarm, self.head)
            if self._head_age() > RECONNECT_SECONDS and seconds_between(dialled, self.clock()) > DIAL_SECONDS:
                dialled = self.clock()
                await self.swarm.reconnect(self.head.bootstrap)
            await asyncio.sleep(LOOK_SECONDS)

    async def _keep_present(self) -> None:
        while True:
            await self._be_present()
            await self._announce_commit()
            present = await self.swarm.peers()
            self.exchange.follower.others = [p for p in present if p.owner != self.identity.public]
            self._show()
            await asyncio.sleep(self._beat)

    async def _look_ahead(self) -> None:
        """While our round is closing, get what its close will most likely list."""
        while True:
            if self.exchange.work.in_round(Round(self.head.round)):
                await self.exchange.ahead.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def _be_present(self) -> None:
        training = self.training
        await self.swarm.publish(
            Presence(
                run=self.exchange.follower.charter.run,
                owner=self.identity.public,
                admission=self.admission(),
                name=self.name,
                round=training.tip.round,
                state=training.tip.state,
                tokens=self._tokens(),
                tokens_per_second=training.tokens_per_second,
                doing=self._doing,
                parts=parts_for(self.head.volunteers),
                beat=self._beat,
                keeps=self.exchange.shelf.keeps(training.tip.round),
                at=self.clock(),
            )
        )

    async def _announce_commit(self) -> None:
        """Also again and again, as long as it is open: a coordinator that restarts has to learn of it."""
        if self.exchange.work.pending is not None:
            await self.swarm.publish(self.exchange.work.pending.value)

    async def _tell(self, action: Action) -> None:
        """Show why, and let the swarm know at once when we begin to train or sit a round out."""
        self._reason = action.reason
        self._show()
        before, self._doing = self._doing, doing(action, self._doing)
        if self._doing != before:
            await self._be_present()

    def _advise(self, about: str, told: str) -> None:
        """Log what was measured when it comes to mean something else."""
        kind = re.sub(r"[0-9.]+", "", told)
        if self._advised.get(about) != kind:
            self._advised[about] = kind
            log.info("%s", told)

    # What the machine decides by, and what the volunteer sees.

    @property
    def _spec(self) -> RunSpec:
        return self.exchange.follower.charter.spec

    def _view(self) -> View:
        training, exchange, head = self.training, self.exchange, self.head
        round, now = training.tip.round, self.clock()
        return View(
            now=now,
            window=Window(Round(head.round), Millis(head.opens), self._spec.round),
            head_age=self._head_age(),
            base=round,
            differs=head.round == round and head.state not in (None, training.tip.state),
            checkpoint=Round(head.checkpoint_round),
            turn=has_turn(self._spec.seed, round, PublicKey(self.identity.public), head.turns),
            published=training.taken,
            exchanging=exchange.busy,
            folded=not exchange.busy and exchange.follower.tip != training.tip,
            tokens=training.tokens,
            steps=training.steps,
            step_seconds=training.step_seconds,
            # Of the others we know what the coordinator told last; ours may be more by now.
            swarm_tokens=max(head.tokens if head.round == round else 0, self._tokens()),
            leaving=self.leaving.is_set(),
            ahead_seconds=exchange.pace.ahead_seconds(now),
            train_seconds=exchange.pace.train_seconds,
            exchange_seconds=exchange.pace.exchange_seconds,
            send_seconds=exchange.pace.send_seconds,
        )

    def _tokens(self) -> int:
        """What we trained for the round of our state, sent or not."""
        if not self.training.taken:
            return self.training.tokens
        pending = self.exchange.work.pending
        return 0 if pending is None else pending.value.tokens

    @property
    def _beat(self) -> float:
        return heartbeat_seconds(self.head.volunteers)

    def _head_age(self) -> float:
        return max(0.0, seconds_between(Millis(self.head.at), self.clock()))

    def _show(self) -> None:
        training, traffic = self.training, self.swarm.traffic
        self.display.show(
            VolunteerStatus(
                run=self.exchange.follower.charter.run,
                round=training.tip.round,
                doing=self._reason,
                loss=training.loss,
                tokens=training.tokens,
                tokens_per_second=training.tokens_per_second,
                peers=self.head.volunteers,
                up=traffic.up,
                down=traffic.down,
                state=short(training.tip.state),
            )
        )
