"""Input and output of the policy: what a volunteer knows (`View`) and what it can do (`Action`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from barnraise.contract.records import Activity
from barnraise.contract.rounds import Window, seconds_between
from barnraise.core.ids import Millis, Round
from peer.volunteer import reasons
from peer.volunteer.contribution_state import ContributionState
from peer.volunteer.durations import Durations

SEND_MARGIN = 1.25
"""A contribution may take this much longer to send than the last one did."""


class LogNews(Enum):
    """What the newest head says about the log, other than that rounds were closed."""

    NONE = "none"
    AMENDED = "amended"
    """It has an entry that folds nothing, or a later epoch."""
    CONTRADICTS = "contradicts"
    """Its newest entry is another one than we passed at its height."""
    DOUBLE_SIGNED = "double signed"
    """We have the proof that our epoch has two histories."""


@dataclass(frozen=True)
class HeadFacts:
    """What the newest head means for this volunteer."""

    away: float | None
    """Seconds since the last head where the coordinator is silent; None where it is not."""
    differs: bool
    """The coordinator has another state of our round than we have."""
    checkpoint: Round
    """The round of the newest checkpoint."""
    turn: bool
    """This volunteer contributes to its round."""
    swarm_tokens: int
    """Tokens that all volunteers trained in our round, ours included."""
    outdated: bool = False
    """This program was paused, and no newer head has arrived since."""
    log: LogNews = LogNews.NONE
    halted: bool = False
    """The log says that no round closes until the maintainer decides."""
    ended_after: int | None = None
    """Rounds that are folded where the log says that the run has ended; None where it has not."""


@dataclass(frozen=True)
class LocalWork:
    """What this volunteer trains and has trained."""

    round: Round
    """The round of the state that is trained from."""
    contribution: ContributionState
    tokens: int
    """Trained tokens that no contribution has taken."""
    steps: int
    """Inner steps for the next contribution."""


class Exchanging(Enum):
    """What the exchange does in parallel with the training."""

    IDLE = "idle"
    BUSY = "busy"
    """A contribution is being sent, or rounds are being folded."""
    FOLDED = "folded"
    """A newer state is folded; the training can be rebased onto it."""


@dataclass(frozen=True)
class View:
    """What a volunteer knows when it decides."""

    now: Millis
    window: Window
    """The open round, by the newest head."""
    head: HeadFacts
    work: LocalWork
    exchange: Exchanging
    durations: Durations
    leaving: bool
    """The user asked to stop."""
    absence: int = 1
    """Rounds' worth that are trained at most while the coordinator is away (`absence`)."""

    @property
    def until_end(self) -> float:
        """Seconds of training time left."""
        return seconds_between(self.now, self.window.train_ends)

    @property
    def until_sending(self) -> float:
        """Seconds until sending has to start to end by the deadline."""
        return seconds_between(self.now, self.window.deadline) - self.durations.send * SEND_MARGIN

    @property
    def rounds_trained(self) -> float:
        """Rounds' worth of work for the next contribution, or since the last one."""
        spec, work = self.window.spec, self.work
        if spec.steps is not None:
            return work.steps / spec.steps
        return work.steps * self.durations.mean_step / spec.seconds


@dataclass(frozen=True)
class Train:
    """Take one more inner step."""

    reason: reasons.TrainReason
    sits_out: bool = False
    """The open round does not have to wait for it."""
    late: bool = False
    """It ends after the round's time, and the round waits for it only if no volunteer is faster."""


@dataclass(frozen=True)
class Publish:
    """Take the contribution and send it."""

    reason: reasons.PublishReason


@dataclass(frozen=True)
class CatchUp:
    """Fold the rounds from ours to the head's, from a newer checkpoint where that saves work."""

    reason: reasons.CatchUpReason
    from_checkpoint: bool


@dataclass(frozen=True)
class Merge:
    """Rebase the training onto the folded state."""

    reason: reasons.NewerState


@dataclass(frozen=True)
class Hold:
    """Wait, and look again."""

    reason: reasons.HoldReason
    sits_out: bool = False
    """The open round does not have to wait for us."""


@dataclass(frozen=True)
class Leave:
    """Stop."""

    reason: reasons.LeaveReason


Action = Train | Publish | CatchUp | Merge | Hold | Leave


def activity(action: Action, before: Activity) -> Activity:
    """What the coordinator learns of `action`. A late volunteer stays late until it trains again."""
    match action:
        case Train(sits_out=True) | Hold(sits_out=True):
            return "waiting"
        case Train(late=late):
            return "late" if late else "training"
        case Leave():
            return "leaving"
        case _:
            return "late" if before == "late" else "training"
