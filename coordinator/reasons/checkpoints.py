"""Evaluations of checkpoints, their held-out loss, and why one of them is `main`."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.evaluation_quorum import QuorumOutcome
from barnraise.core.reason import Reason
from barnraise.evaluation.failures import EvaluationFailure


@dataclass(frozen=True)
class AlreadyEvaluated(Reason):
    """The checkpoint of this round has its held-out loss: the evaluation changes nothing."""

    round: int


@dataclass(frozen=True)
class EvaluationStatus(Reason):
    """The result of the evaluations of one round's checkpoint."""

    round: int
    outcome: QuorumOutcome


EvaluationProgress = AlreadyEvaluated | EvaluationStatus


@dataclass(frozen=True)
class Superseded(Reason):
    """The checkpoint of `round` was written before this one was evaluated."""

    round: int


NotEvaluatedReason = Superseded | EvaluationFailure


@dataclass(frozen=True)
class NoneEvaluated(Reason):
    """`main` is the newest checkpoint: no checkpoint was evaluated."""

    main: int
    diverged: bool = False
    """It is the newest one from before training diverged."""


@dataclass(frozen=True)
class LossNearBest(Reason):
    """`main` is the newest checkpoint whose held-out loss is about the lowest."""

    main: int
    loss: float
    best: int
    best_loss: float
    promote_within: float
    skipped: HigherLoss | Unevaluated | None
    """Why the newest checkpoint after `main` is not promoted; None where there is none. A checkpoint with too
    high a loss counts before one without a loss."""
    state_loss: float | None = None
    """Of the state of round `main`, where `main` is the mean of states up to there; None where it is not."""


@dataclass(frozen=True)
class MeanTried(Reason):
    """The mean of these states was evaluated next to the newest of them."""

    rounds: tuple[int, ...]
    loss: float
    state_loss: float
    kept: bool
    """It becomes `main` or `best`."""


@dataclass(frozen=True)
class MeanFailed(Reason):
    """The mean of these states could not be evaluated."""

    rounds: tuple[int, ...]
    failure: EvaluationFailure


@dataclass(frozen=True)
class StateUnreadable(Reason):
    """No mean was made: a file of the checkpoint of this round is damaged or missing."""

    round: int
    file: str


@dataclass(frozen=True)
class NoSpaceForMean(Reason):
    """The disk has no space for the mean of these states."""

    rounds: tuple[int, ...]


MeanOutcome = MeanTried | MeanFailed | StateUnreadable | NoSpaceForMean


@dataclass(frozen=True)
class HigherLoss(Reason):
    """The loss of this checkpoint is too far above the best one."""

    round: int
    loss: float


@dataclass(frozen=True)
class Unevaluated(Reason):
    """This checkpoint was not evaluated."""

    round: int
