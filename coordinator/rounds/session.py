"""`coordinator serve`, running: the swarm, the gRPC service and the loop that closes rounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from barnraise.contract.records import (
    Activity,
    Commit,
    Evaluation,
    Head,
    JoinClaim,
    Presence,
    blob_name,
    seal,
    wanted,
)
from barnraise.contract.rotation import has_turn, turns_for
from barnraise.contract.rounds import seconds_between
from barnraise.contract.status import PeerStatus, RunStatus
from barnraise.core.errors import TrustError, Unreachable
from barnraise.core.ids import Millis, PublicKey, short
from barnraise.core.signed import Signed, sign
from barnraise.fold.log import check_blob
from barnraise.network.swarm import Swarm
from coordinator.checkpoints.publisher import Publisher
from coordinator.messages import rounds as messages
from coordinator.rounds.admission import Admitted, ClaimRefused, admit
from coordinator.rounds.closing import (
    CloseNow,
    Reopen,
    Situation,
    Wait,
    decide_close,
    deserted_after,
)
from coordinator.rounds.commit_check import Fits, Misfit, check_commit
from coordinator.rounds.coordinator_api import JoinResult
from coordinator.rounds.reasons import AwaitingHeartbeats, CloseReason, JustClosed, Progress, Starting
from coordinator.store.run_store import RunStore
from coordinator.timing import Timing

log = logging.getLogger("coordinator")

TICK_SECONDS = 0.25
"""Pause between two looks at what was heard."""
HEAD_SECONDS = 5.0
"""Pause between two announcements of the head while nothing changes."""
MAX_TRIES = 5
"""Fetches of one contribution, and refused contributions of one owner, in a round."""
SETTLE_SECONDS = 6.0
"""After a start, volunteers get this long to be heard of (a heartbeat is 5 s) before a round is closed."""
RETRY_SECONDS = 3.0
"""Pause before a blob that could not be fetched is asked for again."""

NEVER = Millis(0)

Clock = Callable[[], Millis]


@dataclass
class Session:
    """Connects a run store to its swarm. Also the desk that the gRPC service asks."""

    store: RunStore
    publisher: Publisher
    swarm: Swarm
    clock: Clock
    bootstrap: tuple[str, ...]
    _presences: dict[PublicKey, Presence] = field(default_factory=dict)
    _fetching: dict[PublicKey, asyncio.Task[None]] = field(default_factory=dict)
    _refused: dict[bytes, str] = field(default_factory=dict)
    _failures: dict[bytes, int] = field(default_factory=dict)
    """Fetches that failed, by commit."""
    _strikes: dict[PublicKey, int] = field(default_factory=dict)
    """Refused contributions of this round, by owner."""
    _turns: int = 1
    """A volunteer contributes to one round in so many; settled as a round opens."""
    _deserted: bool = False
    """The next situation's."""
    _progress: Progress = field(default_factory=Starting)
    _started: Millis = NEVER

    async def run(self, stop: asyncio.Event) -> None:
        """Close rounds until `stop`. What a tick raises ends the run, with nothing accepted lost."""
        self._started = self.clock()
        if self._started > self.store.snapshot.window.train_ends:
            self.store.reopen(self._started)
        await self.swarm.heads()  # in an earlier one of ours it says how many there were
        await self._look_who_is_there()
        await self._announce_head()
        beside = [asyncio.create_task(self._announce_forever()), asyncio.create_task(self.publisher.run())]
        try:
            while not stop.is_set() and not any(task.done() for task in beside):
                await self._tick()
                await _pause(stop, TICK_SECONDS)
        finally:
            for task in [*beside, *self._fetching.values()]:
                task.cancel()
            await asyncio.wait(beside)  # what they began ends before the run store is closed
        for task in beside:
            if not task.cancelled():
                task.result()

    # The desk: what the gRPC service asks.

    def charter(self) -> bytes:
        return sign(self.store.authority, self.store.charter).wire

    def join(self, claim: Signed[JoinClaim]) -> JoinResult:
        now = self.clock()
        match admit(claim.value, self.store.charter.run, now, Timing()):
            case ClaimRefused(reason):
                refused = messages.claim_refusal(reason)
                log.info("refused %s: %s", short(claim.signer), refused.problem)
                raise refused
            case Admitted(admission):
                self.store.admit(claim, now)
                log.info("admitted %s (%s)", claim.value.name or "a volunteer", short(claim.signer))
                head = seal(self.store.authority, self._head())
                return JoinResult(self.charter(), sign(self.store.authority, admission).wire, head, now)

    def evaluate(self, evaluation: Signed[Evaluation]) -> str:
        return self.publisher.record_evaluation(evaluation)

    def status(self) -> RunStatus:
        now, window = self.clock(), self.store.snapshot.window
        peers = tuple(
            PeerStatus(
                name=presence.name,
                key=owner,
                round=presence.round,
                state=presence.state,
                tokens=presence.tokens,
                tokens_per_second=presence.tokens_per_second,
                seen_seconds_ago=max(0.0, seconds_between(Millis(presence.at), now)),
            )
            for owner, presence in sorted(self._presences.items())
        )
        return RunStatus(
            run=self.store.charter.run,
            round=window.round,
            phase=window.phase(now, self._swarm_tokens()).value,
            waiting_for=messages.progress_message(self._progress),
            state=self.store.snapshot.tip.state,
            state_round=self.store.snapshot.tip.round,
            tokens=self.store.snapshot.tokens,
            loss=self.store.snapshot.loss,
            checkpoint_round=self.store.snapshot.newest_checkpoint.value.round,
            evaluation=self.publisher.pending_evaluation(),
            peers=peers,
        )

    # The loop.

    async def _tick(self) -> None:
        now = self.clock()
        for owner in [owner for owner, task in self._fetching.items() if task.done()]:
            self._fetching.pop(owner).result()
        await self._look_who_is_there()
        for commit in await self.swarm.commits(self.store.snapshot.window.round):
            self._consider(commit, now)
        if seconds_between(self._started, now) < SETTLE_SECONDS:
            self._report(AwaitingHeartbeats())
            return
        situation = self._situation(now)
        decision = decide_close(situation)
        self._deserted = deserted_after(situation, decision, anybody=bool(self._presences))
        match decision:
            case CloseNow(reason):
                await self._close(reason, now)
            case Reopen(reason):
                self._report(reason)
                self._forgive()
                self._turns = self._turns_now() if self.store.snapshot.accepted else 1
                self.store.reopen(now)
                await self._announce_head()
            case Wait(reason):
                self._report(reason)

    async def _look_who_is_there(self) -> None:
        self._presences = {PublicKey(p.owner): p for p in await self.swarm.peers() if p.doing != "leaving"}

    def _consider(self, commit: Signed[Commit], now: Millis) -> None:
        """Start to fetch a contribution that fits; refuse one that does not, and say so once."""
        owner = commit.signer
        if owner in self.store.snapshot.accepted or owner in self._fetching or commit.wire in self._refused:
            return
        if self._strikes.get(owner, 0) >= MAX_TRIES:
            return
        store = self.store
        if self._full():
            return
        length = store.charter.spec.data.sequence_length
        run = store.snapshot
        match check_commit(commit.value, run.window, now, run.tip.state, store.blob_sizes, length):
            case Fits():
                self._fetching[owner] = asyncio.create_task(self._fetch(commit))
            case Misfit(reason):
                self._refuse(commit, messages.refusal_message(reason))

    async def _fetch(self, commit: Signed[Commit]) -> None:
        name = blob_name(commit.value)
        ours = name in self.store.blobs  # a commit may name a shard of ours, or another one's contribution
        try:
            path = await self.swarm.fetch_pieces(wanted(commit.value), [commit.signer, *self._holders()])
            blob = await asyncio.to_thread(path.read_bytes)
            await asyncio.to_thread(
                check_blob, commit.value, blob, self.store.charter, self.store.state.layout
            )
            if commit.value.round == self.store.snapshot.window.round and not self._full():
                self.store.accept(commit, self.clock())
                log.info("accepted %s: %d tokens", self._name(commit.signer), commit.value.tokens)
        except Unreachable as error:
            self._failures[commit.wire] = self._failures.get(commit.wire, 0) + 1
            if self._failures[commit.wire] >= MAX_TRIES:
                self._refuse(commit, error.problem)
                return
            log.info("%s: %s; asking again", self._name(commit.signer), error.problem)
            await asyncio.sleep(RETRY_SECONDS)
        except TrustError as error:
            self._refuse(commit, error.problem)
            if not ours:
                self.store.blobs.remove(name)

    async def _close(self, reason: CloseReason, now: Millis) -> None:
        link = self.store.close(messages.close_message(reason), now)
        self._turns = self._turns_now()
        self._report(JustClosed(link.close.round, reason))
        self._forgive()
        await self._announce_head()
        await asyncio.to_thread(self.store.fold, link)
        await self._announce_head()
        if self.store.checkpoint_due():
            async with self.publisher.writing:
                await asyncio.to_thread(self.store.write_checkpoint, self.clock())
            log.info("checkpoint of round %d written", self.store.snapshot.tip.round)
            self.publisher.notify()
            await self._announce_head()
        await self.publisher.update_archive()

    def _holders(self) -> list[PublicKey]:
        """Volunteers who take part in the exchange of the open round."""
        round = self.store.snapshot.window.round
        return [owner for owner, presence in self._presences.items() if presence.round == round]

    def _full(self) -> bool:
        return len(self.store.snapshot.accepted) >= self.store.charter.spec.round.max_contributions

    def _turns_now(self) -> int:
        return turns_for(len(self._presences), self.store.charter.spec.round.max_contributions)

    def _situation(self, now: Millis) -> Situation:
        round, spec = self.store.snapshot.window.round, self.store.charter.spec
        contributing = {
            owner: presence
            for owner, presence in self._presences.items()
            if presence.doing in ("training", "late") and has_turn(spec.seed, round, owner, self._turns)
        }

        def who(doing: Activity) -> dict[PublicKey, str]:
            there = contributing.items()
            return {key: p.name for key, p in there if p.doing == doing and p.round >= round - 1}

        return Situation(
            now=now,
            window=self.store.snapshot.window,
            accepted={owner: commit.value for owner, commit in self.store.snapshot.accepted.items()},
            pending=frozenset(self._fetching),
            expected=who("training"),
            late=who("late"),
            idle=len(self._presences) - len(contributing),
            min_contributions=spec.round.min_contributions,
            swarm_tokens=self._swarm_tokens(),
            deserted=self._deserted,
        )

    def _swarm_tokens(self) -> int:
        round = self.store.snapshot.window.round
        return sum(presence.tokens for presence in self._presences.values() if presence.round == round)

    async def _announce_forever(self) -> None:
        while True:
            await asyncio.sleep(HEAD_SECONDS)
            await self._announce_head()

    async def _announce_head(self) -> None:
        await self.swarm.publish(self._head())

    def _head(self) -> Head:
        return self.store.snapshot.head(
            self.clock(),
            self.bootstrap,
            turns=self._turns,
            volunteers=len(self._presences),
            tokens=self._swarm_tokens(),
        )

    def _forgive(self) -> None:
        """A new round, or the same one begun anew: what was late or unreachable may be in time now."""
        self._refused.clear()
        self._failures.clear()
        self._strikes.clear()

    def _refuse(self, commit: Signed[Commit], reason: str) -> None:
        """Also ignores its owner for the rest of the round after a few."""
        self._refused[commit.wire] = reason
        self._strikes[commit.signer] = self._strikes.get(commit.signer, 0) + 1
        log.warning("refused the contribution of %s: %s", self._name(commit.signer), reason)

    def _name(self, owner: PublicKey) -> str:
        presence = self._presences.get(owner)
        return presence.name if presence is not None and presence.name else short(owner)

    def _report(self, progress: Progress) -> None:
        """Remember why the round is still open, and log it when that is news."""
        if progress.is_news_after(self._progress):
            log.info("round %d: %s", self.store.snapshot.window.round, messages.progress_message(progress))
        self._progress = progress


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except asyncio.TimeoutError:
        return
