"""Messages about what an auditor does."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.audit_figures import NANO
from barnraise.contract.audit_task import Disagreement, Taken
from barnraise.core.ids import PublicKey, short
from barnraise.core.units import format_seconds
from barnraise.evaluation.failures import failure_message
from peer.auditing.events import (
    AuditEvent,
    AuditFailed,
    AuditStarts,
    AwaitingRound,
    CallFailed,
    NotAsked,
    NotVouched,
    PauseEvent,
    ReportTaken,
    Resting,
    RoundEvent,
    RoundTried,
    StateMissing,
)

_TAKEN: dict[Taken, str] = {
    "none": "the coordinator took no report",
    "counted": "the coordinator took it",
    "late": "it came too late: the coordinator had gone on without it",
    "another": "it is not about what the coordinator asked for",
}


def audit_message(event: AuditEvent) -> str:
    """What an auditor does, or why it does nothing."""
    return _round(event) if isinstance(event, RoundEvent) else _pause(event)


def _round(event: RoundEvent) -> str:
    match event:
        case AuditStarts(round, contributions, samples):
            return f"round {round}: trying {contributions} contributions on {samples} samples"
        case RoundTried(round, seconds, harmful):
            owners = ", ".join(map(short, harmful))
            found = f"those of {owners} raised the loss" if harmful else "none raised the loss"
            return f"round {round}: {found}; {seconds:.1f} s of computing"
        case ReportTaken(round, taken):
            return f"report on round {round}: {_TAKEN[taken]}"
        case StateMissing(round):
            return f"round {round}: its state is not here yet; the coordinator audits it itself"
        case AuditFailed(round, failure, seconds):
            again = format_seconds(seconds)
            return f"round {round} cannot be audited here: {failure_message(failure)}; again in {again}"
        case _:
            assert_never(event)


def _pause(event: PauseEvent) -> str:
    match event:
        case AwaitingRound():
            return "waiting for a round to audit"
        case NotVouched(run, key, seconds):
            return (
                f"the maintainer of {run} has not vouched for your key. On the coordinator's machine:"
                f" `coordinator vouch {run} {key}`. Asking again every {seconds:.0f} s"
            )
        case CallFailed(problem, seconds):
            return f"{problem}; asking again in {seconds:.0f} s"
        case NotAsked(wrong):
            return f"the coordinator asks this key for no more audits{_wrong(wrong)}"
        case Resting(seconds):
            return f"no audits for {format_seconds(seconds)}: their share of the computing time is used"
        case _:
            assert_never(event)


def _wrong(wrong: Disagreement | None) -> str:
    if wrong is None:
        return ""
    return (
        f": in round {wrong.round} we reported {wrong.reported.change / NANO:.6f} for"
        f" {short(PublicKey(wrong.key))}, and it found {wrong.found.change / NANO:.6f}"
    )
