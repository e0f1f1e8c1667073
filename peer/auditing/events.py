"""What an auditor reports to its user: types that `peer.messages` renders. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.audit_task import Disagreement, Taken
from barnraise.core.ids import PublicKey, RunId
from barnraise.core.reason import Reason
from barnraise.evaluation.failures import EvaluationFailure


@dataclass(frozen=True)
class AwaitingRound(Reason):
    """No round is to be audited: the coordinator audits with another one, or saves its computing time."""


@dataclass(frozen=True)
class NotVouched(Reason):
    """The maintainer has not vouched for our key, or no longer does."""

    run: RunId
    key: PublicKey
    seconds: float
    """Until the coordinator is asked again."""


@dataclass(frozen=True)
class AuditStarts(Reason):
    """We were given a round."""

    round: int
    contributions: int
    samples: int


@dataclass(frozen=True)
class RoundTried(Reason):
    """The report goes to the coordinator next."""

    round: int
    seconds: float
    """Of computing."""
    harmful: tuple[PublicKey, ...]
    """Owners of contributions that raised the loss."""


@dataclass(frozen=True)
class ReportTaken(Reason):
    """What became of our report."""

    round: int
    taken: Taken


@dataclass(frozen=True)
class StateMissing(Reason):
    """We do not have the state that the round started from: the coordinator audits it itself."""

    round: int


@dataclass(frozen=True)
class AuditFailed(Reason):
    """This machine cannot audit the round."""

    round: int
    failure: EvaluationFailure
    seconds: float
    """Until the next one."""


@dataclass(frozen=True)
class CallFailed(Reason):
    """The coordinator did not answer, or refused the call."""

    problem: str
    seconds: float
    """Until the next call."""


@dataclass(frozen=True)
class NotAsked(Reason):
    """The coordinator repeated a trial of ours and found something else: it asks us no more."""

    wrong: Disagreement | None


@dataclass(frozen=True)
class Resting(Reason):
    """Our share of computing time is used."""

    seconds: float


RoundEvent = AuditStarts | RoundTried | ReportTaken | StateMissing | AuditFailed
"""About a round that we were given."""
PauseEvent = AwaitingRound | NotVouched | CallFailed | NotAsked | Resting
"""Why we audit nothing now."""
AuditEvent = RoundEvent | PauseEvent
