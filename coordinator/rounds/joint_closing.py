"""Closing rounds together with other closers: proposes, checks what others propose, and follows the log."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from typing_extensions import assert_never

from barnraise.consensus.agreement import Agreement, Later
from barnraise.consensus.ballots import Pace
from barnraise.consensus.lies import Lie
from barnraise.consensus.statements import Value
from barnraise.consensus.vote_store import VoteStore
from barnraise.contract.certificates import Authorities
from barnraise.contract.double_signing import Certified, DoubleSigned
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import (
    MAX_ENTRY_BYTES,
    Entry,
    NeedsNewer,
    Requested,
    Resume,
    parse_entry,
    vote_on,
)
from barnraise.contract.records import Commit, Head, blob_name, wanted
from barnraise.contract.rounds import seconds_between
from barnraise.contract.tip import Position, holders
from barnraise.core.errors import (
    MachineError,
    MalformedRecord,
    NewerVersion,
    StateError,
    TrustError,
    Unreachable,
)
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, Round, short
from barnraise.fold.log import Link, Step, check_blob, in_effect
from barnraise.fold.log_walk import Continues, Differs, IsVoid, Place, walk
from barnraise.network.swarm import Swarm
from barnraise.runtime.peer_faults import BY_DATA
from coordinator.rounds.candidate_check import check_candidate
from coordinator.rounds.certifiers import certifiers_of_newest
from coordinator.rounds.log_goal import Goal, goal_of, goal_of_head
from coordinator.rounds.proofs import keep_double_signed, publish_proof
from coordinator.rounds.proposing import Proposing
from coordinator.store.run_store import RunStore
from coordinator.timing import TIMING, Timing

log = logging.getLogger("coordinator")

MAX_VOLUNTEERS = 16
"""Asked at once for what no closer serves."""


class LogIsVoid(StateError):
    """The run resumed at an earlier place: what this program holds after it counts no longer."""

    def __init__(self, resume: Resume) -> None:
        super().__init__(
            f"the run resumed at round {resume.round}, and what follows there in our log is void",
            fix="The log is copied again from others.",
        )


@dataclass
class JointClosing:
    """One closer's, or follower's, part in closing rounds."""

    store: RunStore
    swarm: Swarm
    agreement: Agreement
    clock: Callable[[], Millis]
    keys: KeysInForce
    """Whose heads and admissions this program takes."""
    timing: Timing = TIMING
    volunteers: Sequence[PublicKey] = ()
    """Some of those that are present: they hold the newest part of the log."""
    _proposing: Proposing = field(init=False)
    _failed: tuple[BlobHash, Millis] | None = None
    """The newest goal that was not reached, and when."""
    _checks: dict[Value, asyncio.Task[None]] = field(default_factory=dict)
    _listed: dict[BlobHash, Round] = field(default_factory=dict)
    """Contributions of closes that may yet be entered, and their rounds."""

    def __post_init__(self) -> None:
        self._proposing = Proposing(self.store, self.agreement)
        self._arrive()

    @property
    def _position(self) -> Position:
        """The end of the log."""
        run = self.store.snapshot
        return run.position

    @property
    def _own(self) -> PublicKey:
        agreement = self.agreement
        return agreement.identity.public

    @property
    def is_shared(self) -> bool:
        """Whether the open round is closed by votes."""
        return bool(self._position.closers)

    @property
    def is_first(self) -> bool:
        """Whether this closer proposes first, and announces heads."""
        return self._own == self.keys.run_key

    @property
    def may_lead(self) -> bool:
        """Whether others take this program's heads."""
        return self.is_first or self._own in self._position.named

    def is_silent(self, head: Head, now: Millis) -> bool:
        """Whether who announced a head missed three further ones; later closers wait for more."""
        closers = self._position.closers
        own = self._own
        rank = 1 + closers.index(own) if own in closers else 1 + len(closers)
        return seconds_between(Millis(head.at), now) > self.timing.head * (2 + rank)

    def propose(self, reason: str, now: Millis, turns: int = 1) -> None:
        """Have the accepted contributions closed; again with what was accepted since, until it votes."""
        self._proposing.close(reason, now, turns)

    def propose_amendment(self, entry: Requested) -> None:
        """Have the log say what is requested. Nothing else is proposed at this place of the log."""
        self._proposing.amend(entry)

    @property
    def may_propose(self) -> bool:
        """Whether this closer takes part, and has proposed nothing at this place of the log yet."""
        return self._proposing.may_propose

    def lists(self, blob: BlobHash) -> bool:
        """Whether it is an entry that may yet be entered, or a contribution that such a close lists."""
        return blob in self._listed or any(value.entry == blob for value in self._checks)

    def tick(self) -> None:
        """Let time pass, and check what others propose."""
        self.agreement.tick()
        for check in [value for value, task in self._checks.items() if task.done()]:
            self._checks.pop(check).result()
        for value, having in self.agreement.wanted.items():
            if value not in self._checks:
                self._checks[value] = asyncio.create_task(self._check(value, having))

    def cancel(self) -> None:
        """End what is under way."""
        for task in self._checks.values():
            task.cancel()

    @property
    def seeks(self) -> bool:
        """Whether no entry after our place is known of yet."""
        return self.agreement.decided is None and self.agreement.later is None

    def learn(self, certified: Certified, holder: PublicKey) -> None:
        """A volunteer holds a certified entry. It is followed where the run store does not have it."""
        vote, here = certified.vote, self._position
        if (vote.epoch, vote.height) >= (here.epoch, here.height):
            self.agreement.later = Later(certified, holder)

    async def next_steps(self, heads: Sequence[Head]) -> list[Step]:
        """The certified entries after our place, oldest first, with the contributions that they fold.

        Raises LogIsVoid, NewerVersion.
        """
        goal = self._goal(heads)
        if goal is None or self._is_too_soon(goal):
            return []
        try:
            steps = await self._steps_to(goal)
            for step in in_effect(self.keys.position, steps):
                if isinstance(step, Link):
                    await self._fetch_all(step.commits, goal.holders)
        except (LogIsVoid, NewerVersion):
            raise
        except (Unreachable, TrustError, StateError) as error:
            if self._failed is None or self._failed[0] != goal.entry:
                log.info("the log goes on, and %s", error.problem)
            self._failed = goal.entry, self.clock()
            self.agreement.later = None
            return []
        if not steps:
            self.agreement.later = None
        return steps

    def _is_too_soon(self, goal: Goal) -> bool:
        """Whether this goal was not reached a moment ago."""
        entry, at = self._failed or (None, self.clock())
        return entry == goal.entry and seconds_between(at, self.clock()) < self.timing.retry

    def enter(self, step: Step) -> None:
        """Journal an entry. Raises BadSignature, StateError."""
        self.store.enter(step)
        self.moved()

    def moved(self) -> None:
        """The run store has an entry that it did not get from here."""
        self._arrive()

    def _arrive(self) -> None:
        run = self.store.snapshot
        self._listed = {blob: round for blob, round in self._listed.items() if round >= run.round}
        self.keys.follow(run.position)
        self._proposing.arrive()
        newest = None
        if run.certificate is not None:
            vote = vote_on(self._newest_entry(), run.certificate.ballot)
            newest = Certified(vote=vote, certificate=run.certificate)
        self.agreement.arrive(run.position, newest)

    def _newest_entry(self) -> Entry:
        return self._own_entry(self._position.previous)

    def _own_entry(self, name: BlobHash) -> Entry:
        entry = parse_entry(self.store.blobs.get(name))
        assert not isinstance(entry, NeedsNewer), "it was entered"
        return entry

    # Following

    def _goal(self, heads: Sequence[Head]) -> Goal | None:
        agreement, here = self.agreement, self._position
        if agreement.decided is not None:
            return goal_of(agreement.decided)
        if agreement.later is not None:
            return goal_of(agreement.later.certified, agreement.later.holder)
        counting = [head for head in heads if self._counts(head)]
        return next((goal for head in counting if (goal := goal_of_head(head, here))), None)

    def _counts(self, head: Head) -> bool:
        """Whether a head agrees with what is known here of the run key's successors.

        It was checked when it was received, maybe before the first successor was known.
        """
        try:
            self.keys.heard(head.epoch, head.successors, self.store.charter.run)
        except TrustError as error:
            log.debug("a head is ignored: %s", error.problem)
            return False
        return True

    async def _steps_to(self, goal: Goal) -> list[Step]:
        async def read(name: BlobHash) -> bytes:
            return await self._entry(name, goal.holders)

        newest = self.agreement.newest
        passed = {} if newest is None else {newest.vote.height: newest}
        match await walk(goal, Place(self.keys.position, passed), read, self.store.charter):
            case Continues(steps):
                return list(steps)
            case IsVoid(resume):
                raise LogIsVoid(resume)
            case DoubleSigned() as proof:
                keep_double_signed(self.store, proof)
                raise MalformedRecord(
                    "the run's keys signed two histories; neither is followed until one is resumed",
                    fix="Ask the run's maintainer.",
                )
            case Differs():
                raise MalformedRecord("it is another log than ours", fix="Ask the run's maintainer.")
            case walked:
                assert_never(walked)

    async def _entry(self, name: BlobHash, holders: Sequence[PublicKey]) -> bytes:
        await self.swarm.fetch(name, MAX_ENTRY_BYTES, self._holders(holders))
        return await asyncio.to_thread(self.store.blobs.get, name)

    def _holders(self, first: Sequence[PublicKey]) -> list[PublicKey]:
        run = self.store.snapshot
        keys = dict.fromkeys([*first, *holders(run.charter, self.keys.at_work), *self.volunteers])
        return [key for key in keys if key != self._own]

    async def _fetch_all(self, commits: Sequence[Commit], holders: Sequence[PublicKey]) -> None:
        store = self.store
        self._listed |= {blob_name(commit): Round(commit.round) for commit in commits}
        for commit in commits:
            owner = PublicKey(commit.owner)
            path = await self.swarm.fetch_pieces(wanted(commit), [owner, *self._holders(holders)])
            blob = await asyncio.to_thread(path.read_bytes)
            await asyncio.to_thread(check_blob, commit, blob, store.charter, store.state.layout)

    # Voting

    async def _check(self, value: Value, holders: Sequence[PublicKey]) -> None:
        """Check an entry and its blobs; it is tried again after a pause where that failed."""
        try:
            entry = parse_entry(await self._entry(value.entry, holders))
            if isinstance(entry, NeedsNewer) or entry.kind != value.kind:
                raise MalformedRecord("it is of another kind", fix="It gets no vote.")
            store = self.store
            commits = check_candidate(
                entry, store.snapshot, self._last(), self.clock(), store.blob_sizes, store.blobs.get
            )
            await self._fetch_all(commits, holders)
        except (Unreachable, TrustError, StateError, MachineError, FileNotFoundError, *BY_DATA) as error:
            log.info("no vote yet for %s: %s: %s", short(value.entry), type(error).__name__, error)
            await asyncio.sleep(self.timing.retry)
            return
        self.agreement.checked(value)

    def _last(self) -> tuple[Entry, Authorities] | None:
        """The newest entry and the keys that certify it."""
        run = self.store.snapshot
        if run.certificate is None:
            return None
        return self._newest_entry(), certifiers_of_newest(run, self._own_entry)


def joint_closing(
    store: RunStore,
    swarm: Swarm,
    identity: Identity,
    votes: VoteStore,
    clock: Callable[[], Millis],
    keys: KeysInForce,
    timing: Timing = TIMING,
) -> JointClosing:
    """The part of this program in closing rounds, connected with the other closers."""
    charter = store.charter
    agreement = Agreement(
        identity,
        votes,
        charter.run,
        charter.authority_key,
        Pace(round(1000 * charter.spec.round.grace), charter.spec.seed),
        clock,
        swarm.mail.send,
        functools.partial(_publish_lie, store),
    )
    swarm.mail.deliver = agreement.receive
    return JointClosing(store, swarm, agreement, clock, keys, timing)


def _publish_lie(store: RunStore, lie: Lie) -> None:
    name = publish_proof(store, lie.payload)
    log.error("the closer %s contradicts itself (%s): proof %s", lie.closer, lie.kind.value, name)
