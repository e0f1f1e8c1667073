"""Why a volunteer does what it does: types that `peer.messages` renders.

Seconds are seconds. `away` is the time since the last head where the coordinator is silent, else None.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from barnraise.contract.divergence import Divergence
from barnraise.core.ids import Round
from barnraise.core.reason import Reason
from barnraise.runtime.clock_steps import ClockSet
from barnraise.runtime.pauses import Paused
from peer.volunteer.own_losses import OwnLossNotLowered
from peer.volunteer.own_standing import OwnStanding


@dataclass(frozen=True)
class Starting(Reason):
    """No action was decided yet."""


# Skip


@dataclass(frozen=True)
class StepSkipped(Reason):
    """A step was dropped: its loss or its gradient is not a finite number."""

    problem: str
    skipped: int
    """Steps skipped since the program started, this one included."""
    resets: int
    """How often in a row training went back to the run's state; 0 before the first."""
    good: Round | None = None
    """The round of the state from which training goes on, where the run's state is to blame."""


# Train


@dataclass(frozen=True)
class TimeToTrain(Reason):
    """There is time for another step."""

    left: float
    """Until training has to end."""


@dataclass(frozen=True)
class StepEndsAfterClose(Reason):
    """Even the first step of the round ends after its close and counts in the next round."""

    step_seconds: float


@dataclass(frozen=True)
class StepOutlastsRound(Reason):
    """The step in progress ends too late for the open round."""


@dataclass(frozen=True)
class StepIsLate(Reason):
    """The step ends after the round's time and counts if no volunteer is faster."""

    rest: float
    """Until the step ends."""


@dataclass(frozen=True)
class OutOfTurn(Reason):
    """Other volunteers contribute to this round."""


@dataclass(frozen=True)
class CoordinatorAway(Reason):
    """No round can close without the coordinator. The work counts in the rounds after its return."""

    away: float
    rounds: float
    """Rounds' worth that is trained for them."""
    limit: int
    """Rounds' worth that are trained at most."""


# Publish


@dataclass(frozen=True)
class LeavingWithWork(Reason):
    """The volunteer leaves, and its work still counts in the open round."""


@dataclass(frozen=True)
class StepsDone(Reason):
    """The round's number of steps is reached."""

    steps: int


@dataclass(frozen=True)
class SendingStartsNow(Reason):
    """Sending takes until the deadline."""

    send_seconds: float


@dataclass(frozen=True)
class NoTimeForStep(Reason):
    """Another step would end after the round's time."""

    step_seconds: float


@dataclass(frozen=True)
class TokenTargetReached(Reason):
    """The swarm trained the round's number of tokens."""


@dataclass(frozen=True)
class TimeIsOver(Reason):
    """The round's training time has ended."""


# Catch up and merge


@dataclass(frozen=True)
class StateDiffers(Reason):
    """The coordinator has another state of our round."""


@dataclass(frozen=True)
class FarBehind(Reason):
    """A checkpoint saves at least one fold."""

    rounds: int
    checkpoint: Round


@dataclass(frozen=True)
class RoundClosed(Reason):
    """Our round is closed and can be folded."""

    round: Round


@dataclass(frozen=True)
class LogChanged(Reason):
    """The log has entries that fold nothing, or other ones than we followed."""


@dataclass(frozen=True)
class NewerState(Reason):
    """The newest state is folded."""


# Hold


@dataclass(frozen=True)
class CoordinatorBehind(Reason):
    """The coordinator restarted and replays its log."""

    open_round: Round
    base: Round
    away: float | None


@dataclass(frozen=True)
class JustResumed(Reason):
    """This program was paused: a newer head says first where the run is."""


@dataclass(frozen=True)
class TwoHistories(Reason):
    """The run's key signed two histories: neither is followed until the run resumes."""


@dataclass(frozen=True)
class RunHalted(Reason):
    """The log says that no round closes: audits banned keys soon after a rollback, and the loss rose."""


@dataclass(frozen=True)
class NothingTrained(Reason):
    """The round closes and we have no work for it."""

    round: Round
    away: float | None


@dataclass(frozen=True)
class TooLate(Reason):
    """The deadline has passed; the work counts in the next round."""


@dataclass(frozen=True)
class StepsDoneOutOfTurn(Reason):
    """The round's number of steps is reached, and other volunteers contribute."""


@dataclass(frozen=True)
class AwayForLong(Reason):
    """The coordinator is away, and as much is trained as still helps."""

    away: float
    limit: int
    """Rounds' worth that are trained."""


# Hold or train while the exchange is in progress


class Meanwhile(Enum):
    """What the volunteer does during the exchange."""

    HOLD = "hold"
    TRAIN = "train"
    TRAINED_AHEAD = "trained ahead"
    """A round's worth is trained, and the volunteer holds."""


@dataclass(frozen=True)
class ContributionOut(Reason):
    """Our contribution is published."""

    closes_in: float
    """At most."""
    away: float | None
    meanwhile: Meanwhile = Meanwhile.HOLD
    exchange_seconds: float | None = None
    """Duration of the last exchange, if it is why training continues."""


@dataclass(frozen=True)
class FoldingRounds(Reason):
    """The rounds since ours are being folded."""

    meanwhile: Meanwhile = Meanwhile.HOLD
    exchange_seconds: float | None = None
    """Duration of the last exchange, if it is why training continues."""


@dataclass(frozen=True)
class ContributionLost(Reason):
    """Our contribution was given up: its blob was damaged. What is trained now counts in the next round."""

    meanwhile: Meanwhile
    exchange_seconds: float | None = None
    """As of the others."""


# Leave


@dataclass(frozen=True)
class AskedToStop(Reason):
    """The user stops the volunteer."""


@dataclass(frozen=True)
class RunOver(Reason):
    """The run has ended: no other round opens."""

    rounds: int
    """That are folded."""


ExchangeReason = ContributionOut | FoldingRounds | ContributionLost
StepReason = TimeToTrain | StepEndsAfterClose | StepOutlastsRound | StepIsLate | OutOfTurn | CoordinatorAway
TrainReason = StepReason | ExchangeReason
PublishReason = (
    LeavingWithWork | StepsDone | SendingStartsNow | NoTimeForStep | TokenTargetReached | TimeIsOver
)
CatchUpReason = StateDiffers | FarBehind | RoundClosed | LogChanged
WaitReason = (
    JustResumed
    | CoordinatorBehind
    | TwoHistories
    | RunHalted
    | NothingTrained
    | TooLate
    | StepsDoneOutOfTurn
    | AwayForLong
)
HoldReason = WaitReason | ExchangeReason
LeaveReason = AskedToStop | RunOver
Notice = StepSkipped | OwnLossNotLowered | OwnStanding | Paused | ClockSet | Divergence
ActionReason = Starting | TrainReason | PublishReason | CatchUpReason | NewerState | HoldReason | LeaveReason
