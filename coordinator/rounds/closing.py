"""When a round closes, and why: pure rules about one open round.

`decide_close` asks the rules of `RULES` from top to bottom; the first that answers decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from barnraise.contract.records import Commit
from barnraise.contract.rounds import Phase, Window, seconds_between
from barnraise.core.ids import Millis, PublicKey, short
from coordinator.reasons.rounds import (
    AllContributed,
    AllSitOut,
    AwaitingContributions,
    CloseReason,
    DeadlinePassed,
    FetchingLast,
    FirstVolunteers,
    MoreVolunteersNeeded,
    NotAwaited,
    NoVolunteers,
    ReopenReason,
    RoundFull,
    RunHalted,
    RunOver,
    SittingOut,
    StillTraining,
    TooFewInTime,
    WaitReason,
)
from coordinator.rounds.conduct import Conduct, RoundEnd

NAMES = 3
"""Missing volunteers that a reason names; it counts the others."""


@dataclass(frozen=True)
class Situation:
    """What is known of the open round at one time."""

    now: Millis
    window: Window
    accepted: Mapping[PublicKey, Commit]
    """Contributions that were fetched, checked and journaled."""
    pending: frozenset[PublicKey]
    """Owners whose contribution is announced and being fetched."""
    expected: Mapping[PublicKey, str]
    """Names of the live peers that train in this round, or are about to."""
    min_contributions: int
    conduct: Conduct
    """Of the volunteers in the rounds before."""
    last_accepted: Millis
    """When the newest of the accepted contributions was accepted, or the round opened."""
    weightless: frozenset[PublicKey] = frozenset()
    """Owners of accepted contributions that count nothing: suspended keys."""
    turns: int = 1
    late: Mapping[PublicKey, str] = field(default_factory=dict)
    """Names of the live peers whose step ends after the round's time."""
    idle: int = 0
    """Live peers that sit this round out, or whose turn is another one."""
    swarm_tokens: int = 0
    """Tokens that the live peers trained in this round, as far as measured speeds allow."""
    begun: bool = False
    """A live peer reports that it trained in this round."""
    halted: bool = False
    """The log says that no round closes until the maintainer decides."""
    ended_after: int | None = None
    """Rounds that are folded where the run has ended; None where it has not."""
    deserted: bool = False
    """No peer was live at some earlier tick, and the round has waited since (`deserted_after`)."""

    @cached_property
    def training(self) -> Mapping[PublicKey, str]:
        """The expected peers; where a close waits for too few of them, the late ones too."""
        counting = [key for key in self.expected if self._is_awaited(key)]
        few = len(counting) < self.min_contributions
        return {**self.expected, **self.late} if few else self.expected

    @cached_property
    def outstanding(self) -> Mapping[PublicKey, str]:
        """Those that train, or whose contribution is being fetched, without an accepted one."""
        fetched = {key: self.training.get(key, "") for key in self.pending}
        return {key: name for key, name in {**self.training, **fetched}.items() if key not in self.accepted}

    @cached_property
    def not_awaited(self) -> Mapping[PublicKey, NotAwaited]:
        """The outstanding peers for whom a close does not wait, and why.

        A close waits for all where it would otherwise pass over more contributors than it lists.
        """
        by_time = self.phase is Phase.TRAIN and self.window.spec.steps is None
        if not self.enough or self.overdue or by_time:
            return {}
        found = self.passed_over(self.waited)
        contributors = [key for key in found if self.conduct.contributes(key, self.window.round, self.turns)]
        if len(contributors) > self.contributions:
            return {key: reason for key, reason in found.items() if key not in contributors}
        return found

    def passed_over(self, waited: float) -> Mapping[PublicKey, NotAwaited]:
        """The outstanding peers for whom no round waits after `waited` seconds in vain."""
        reasons = {
            key: self.conduct.why_not_awaited(key, self.window.round, waited) for key in self.outstanding
        }
        return {key: reason for key, reason in reasons.items() if reason is not None}

    def _is_awaited(self, key: PublicKey) -> bool:
        return self.conduct.why_not_awaited(key, self.window.round, 0.0) is None

    @property
    def waited(self) -> float:
        """Seconds since the newest contribution."""
        return max(0.0, seconds_between(self.last_accepted, self.now))

    @cached_property
    def missing(self) -> Mapping[PublicKey, str]:
        """The peers that train without an accepted contribution, and for whom a close waits."""
        return {
            key: name
            for key, name in self.training.items()
            if key not in self.accepted and key not in self.not_awaited
        }

    @property
    def fetching(self) -> bool:
        """Whether a contribution is being fetched for which a close waits."""
        return any(key not in self.not_awaited for key in self.pending)

    @property
    def contributions(self) -> int:
        """Accepted ones that count."""
        return len(self.accepted) - len(self.weightless)

    @property
    def complete(self) -> bool:
        """No contribution is missing or being fetched."""
        return not self.missing and not self.fetching

    @property
    def empty(self) -> bool:
        """No contribution is accepted or being fetched."""
        return not self.accepted and not self.pending

    @property
    def enough(self) -> bool:
        return self.contributions >= self.min_contributions

    @property
    def full(self) -> bool:
        spec = self.window.spec
        return self.enough and len(self.accepted) >= spec.max_contributions

    @property
    def phase(self) -> Phase:
        return self.window.phase(self.now, self.swarm_tokens)

    @property
    def overdue(self) -> bool:
        return self.now >= self.window.deadline

    @property
    def seconds_left(self) -> float:
        return max(0.0, seconds_between(self.now, self.window.deadline))

    def names(self) -> tuple[tuple[str, ...], int]:
        """The first missing peers by name, or by short key where they have none; the number of others."""
        names = tuple(name or short(key) for key, name in self.missing.items())
        return names[:NAMES], max(0, len(names) - NAMES)


@dataclass(frozen=True)
class CloseNow:
    """Close the round with the accepted contributions."""

    reason: CloseReason


@dataclass(frozen=True)
class Reopen:
    """Restart the round's TRAIN phase; accepted contributions stay."""

    reason: ReopenReason


@dataclass(frozen=True)
class Wait:
    """Leave the round open."""

    reason: WaitReason


Decision = CloseNow | Reopen | Wait


def decide_close(situation: Situation) -> Decision:
    """Close once every awaited volunteer contributed, or at the deadline with those who did.

    A round without any volunteer restarts with the first one that trains: else it would be short, or over.
    """
    for rule in RULES:
        if (decision := rule(situation)) is not None:
            return decision
    return wait_for_missing(situation)


def wait_while_halted(situation: Situation) -> Wait | None:
    return Wait(RunHalted()) if situation.halted else None


def wait_after_the_end(situation: Situation) -> Wait | None:
    return None if situation.ended_after is None else Wait(RunOver(situation.ended_after))


def close_when_all_contributed(situation: Situation) -> CloseNow | None:
    if situation.enough and situation.complete:
        return CloseNow(AllContributed(situation.contributions, len(situation.not_awaited)))
    return None


def close_when_full(situation: Situation) -> CloseNow | None:
    if situation.full:
        return CloseNow(RoundFull(situation.contributions))
    return None


def reopen_with_the_first(situation: Situation) -> Reopen | None:
    untouched = situation.empty and not situation.begun
    if situation.deserted and untouched and situation.training:
        return Reopen(FirstVolunteers(*situation.names()))
    return None


def reopen_when_all_sit_out(situation: Situation) -> Reopen | None:
    unused = situation.empty and not situation.training
    if unused and situation.idle and situation.phase is not Phase.TRAIN:
        return Reopen(AllSitOut(situation.idle))
    return None


def close_at_the_deadline(situation: Situation) -> CloseNow | None:
    if situation.overdue and situation.enough:
        return CloseNow(DeadlinePassed(situation.contributions, *situation.names()))
    return None


def reopen_at_the_deadline(situation: Situation) -> Reopen | None:
    if situation.overdue and (situation.missing or situation.idle):
        spec, contributions = situation.window.spec, situation.contributions
        return Reopen(TooFewInTime(contributions, situation.min_contributions, spec.seconds))
    return None


def wait_for_volunteers(situation: Situation) -> Wait | None:
    if not situation.training and not situation.idle and not situation.accepted:
        return Wait(NoVolunteers())
    return None


def wait_for_the_restart(situation: Situation) -> Wait | None:
    if situation.idle and situation.complete:
        return Wait(SittingOut(situation.idle, situation.seconds_left))
    return None


def wait_for_more_volunteers(situation: Situation) -> Wait | None:
    if situation.complete:
        return Wait(MoreVolunteersNeeded(situation.contributions, situation.min_contributions))
    return None


def wait_for_blobs(situation: Situation) -> Wait | None:
    if not situation.missing:
        return Wait(FetchingLast(situation.contributions, situation.seconds_left))
    return None


def wait_for_training(situation: Situation) -> Wait | None:
    if situation.phase is Phase.TRAIN:
        return Wait(StillTraining(*situation.names(), situation.seconds_left))
    return None


def wait_for_missing(situation: Situation) -> Wait:
    return Wait(AwaitingContributions(situation.contributions, *situation.names(), situation.seconds_left))


RULES: tuple[Callable[[Situation], Decision | None], ...] = (
    wait_after_the_end,
    wait_while_halted,
    close_when_all_contributed,
    close_when_full,
    reopen_with_the_first,
    reopen_when_all_sit_out,
    close_at_the_deadline,
    reopen_at_the_deadline,
    wait_for_volunteers,
    wait_for_the_restart,
    wait_for_more_volunteers,
    wait_for_blobs,
    wait_for_training,
)
"""`wait_for_missing` applies if none of them does."""


def conduct_after(situation: Situation, tokens: Mapping[PublicKey, int], closed: Millis) -> Conduct:
    """`Situation.conduct` of the next round. tokens: of the contributions that the close lists."""
    held_by: list[PublicKey] = []
    waited = max(0.0, seconds_between(situation.last_accepted, closed))
    if not situation.full and waited > 0:
        passed_over = situation.passed_over(0.0)
        held_by = [key for key in situation.outstanding if key not in passed_over and key not in tokens]
    seconds = max(0.0, seconds_between(situation.window.opens, closed))
    return situation.conduct.after(RoundEnd(situation.window.round, tokens, seconds, held_by, waited))


def deserted_after(situation: Situation, decision: Decision, *, any_live: bool) -> bool:
    """`Situation.deserted` of the next tick.

    any_live: whether any volunteer is live, also one that sits the round out.
    """
    return not any_live or (situation.deserted and isinstance(decision, Wait))
