"""Reasons of the decisions about a round and its contributions (`barnraise.core.reason`).

`coordinator.messages` renders them.
"""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.commit_rules import CommitMisfit
from barnraise.contract.commit_rules import TooManyTokens as TooManyTokens
from barnraise.contract.commit_rules import WrongBaseState as WrongBaseState
from barnraise.contract.commit_rules import WrongBlobSize as WrongBlobSize
from barnraise.contract.commit_rules import WrongRanges as WrongRanges
from barnraise.contract.commit_rules import WrongRound as WrongRound
from barnraise.core.ids import RunId
from barnraise.core.reason import Reason
from coordinator.reasons.entrance import EntranceReason

# Why a claim to join is refused


@dataclass(frozen=True)
class WrongRun(Reason):
    """The claim is for another run."""

    run: RunId
    """The run that this coordinator serves."""
    claimed: str


@dataclass(frozen=True)
class ClockOff(Reason):
    """The claim's time is too far from the run's clock."""

    seconds: float
    """By how much the claimant's clock is behind; negative where it is ahead."""


@dataclass(frozen=True)
class HasOtherInstance(Reason):
    """Another program takes part with the claim's key: its folder was copied, or its machine cloned."""

    seconds: float
    """Since that program's last heartbeat."""


ClaimReason = WrongRun | ClockOff | HasOtherInstance | EntranceReason

# Why a commit does not fit the open round


@dataclass(frozen=True)
class AfterDeadline(Reason):
    """The commit was seen after the deadline."""

    seconds: float


MisfitReason = CommitMisfit | AfterDeadline

# Why a contribution is refused


@dataclass(frozen=True)
class Unfetchable(Reason):
    """The blob could not be fetched from any peer."""

    problem: str
    """Of the last attempt."""
    attempts: int


@dataclass(frozen=True)
class InvalidBlob(Reason):
    """The blob is not a contribution that the commit names."""

    problem: str


RefusalReason = MisfitReason | Unfetchable | InvalidBlob

# Why a round closes


@dataclass(frozen=True)
class AllContributed(Reason):
    """Every awaited volunteer contributed."""

    contributions: int
    passed_over: int = 0
    """Volunteers that train, and for whom the close did not wait."""


@dataclass(frozen=True)
class RoundFull(Reason):
    """`round.max_contributions` were accepted."""

    contributions: int


@dataclass(frozen=True)
class DeadlinePassed(Reason):
    """Enough volunteers contributed in time."""

    contributions: int
    missing: tuple[str, ...]
    """Names of the first awaited volunteers who did not contribute; empty where all did."""
    others: int
    """Missing volunteers that are not named."""


CloseReason = AllContributed | RoundFull | DeadlinePassed

# Why a close does not wait for a volunteer that trains


@dataclass(frozen=True)
class MissedRounds(Reason):
    """Rounds waited for it in vain, and it has not contributed often enough since."""

    misses: int
    owed: int
    """Contributions until a close waits for it again."""


@dataclass(frozen=True)
class AllowanceSpent(Reason):
    """Rounds waited in vain so long lately that none waits for it, which is new, or missed rounds before."""

    misses: int


NotAwaited = MissedRounds | AllowanceSpent

# Why a round reopens


@dataclass(frozen=True)
class FirstVolunteers(Reason):
    """The first volunteers start to train after a time without any."""

    first: tuple[str, ...]
    others: int


@dataclass(frozen=True)
class AllSitOut(Reason):
    """TRAIN is over, and every volunteer sits the round out."""

    idle: int


@dataclass(frozen=True)
class TooFewInTime(Reason):
    """The deadline passed with too few contributions."""

    contributions: int
    needed: int
    seconds: float
    """Length of the TRAIN phase that begins."""


ReopenReason = FirstVolunteers | AllSitOut | TooFewInTime

# Why the run does not go back by itself when audits ban a key


@dataclass(frozen=True)
class NothingIsBanned(Reason):
    """A rollback goes with a ban alone."""


@dataclass(frozen=True)
class NothingFolded(Reason):
    """Nothing of the banned keys that did harm is in the state."""


@dataclass(frozen=True)
class LossesUnharmed(Reason):
    """The run's losses are as before: weights and clipping bounded the harm."""


@dataclass(frozen=True)
class HarmAfterRollback(Reason):
    """It went back shortly before: the run halts."""

    keys: tuple[str, ...]
    rounds: int
    """Since the last rollback."""


NoRollback = NothingIsBanned | NothingFolded | LossesUnharmed

# Why a round stays open


@dataclass(frozen=True)
class RunHalted(Reason):
    """The log says that no round closes until the maintainer decides."""


@dataclass(frozen=True)
class RunOver(Reason):
    """The run has ended: the open round is never closed."""

    rounds: int
    """That are folded."""


@dataclass(frozen=True)
class NoVolunteers(Reason):
    """No volunteer is live."""


@dataclass(frozen=True)
class SittingOut(Reason):
    """No contribution is missing, and volunteers sit the round out; it reopens at its deadline."""

    idle: int
    seconds_left: float


@dataclass(frozen=True)
class MoreVolunteersNeeded(Reason):
    """Every awaited volunteer contributed, and they are too few."""

    contributions: int
    needed: int


@dataclass(frozen=True)
class FetchingLast(Reason):
    """No volunteer is missing; the last announced contributions are being fetched."""

    contributions: int
    seconds_left: float


@dataclass(frozen=True)
class StillTraining(Reason):
    """Awaited volunteers train."""

    missing: tuple[str, ...]
    others: int
    seconds_left: float


@dataclass(frozen=True)
class AwaitingContributions(Reason):
    """TRAIN is over, and awaited volunteers have not contributed yet."""

    contributions: int
    missing: tuple[str, ...]
    others: int
    seconds_left: float


WaitReason = (
    RunHalted
    | RunOver
    | NoVolunteers
    | SittingOut
    | MoreVolunteersNeeded
    | FetchingLast
    | StillTraining
    | AwaitingContributions
)

# Why the run cannot end by a decay that its maintainer orders


@dataclass(frozen=True)
class DecayInForce(Reason):
    """Another one is ordered."""

    rounds: int
    """Of that one."""
    left: int
    """Rounds until it ends the run, with the open one."""


@dataclass(frozen=True)
class PlannedDecayBegan(Reason):
    """The rate falls already, as `train.schedule` plans it."""


DecayRefusal = DecayInForce | PlannedDecayBegan | RunOver

# What the coordinator does between two decisions


@dataclass(frozen=True)
class JustStarted(Reason):
    """The program has just started."""


@dataclass(frozen=True)
class Resumed(Reason):
    """The program was paused (SIGSTOP, a sleeping machine), and goes on as after a start."""

    seconds: float


@dataclass(frozen=True)
class AwaitingHeartbeats(Reason):
    """No round closes before live volunteers had time for a heartbeat after a start or a pause."""


@dataclass(frozen=True)
class AskingHolders(Reason):
    """After a start no round closes before volunteers said whether the run went further than the journal."""

    seconds: float
    """They get this long at most."""


@dataclass(frozen=True)
class JustClosed(Reason):
    """A round is closed and is being folded."""

    round: int
    because: CloseReason


@dataclass(frozen=True)
class JustCertified(Reason):
    """A round is closed by the votes of closers, and is being folded."""

    round: int
    votes: int


Progress = (
    JustStarted
    | Resumed
    | AwaitingHeartbeats
    | AskingHolders
    | JustClosed
    | JustCertified
    | ReopenReason
    | WaitReason
)
"""Why the open round is still open."""
