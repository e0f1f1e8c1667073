"""Audits and verdicts in words."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.contract.audit_figures import NANO, raises_loss
from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.contract.audit_task import Disagreement
from barnraise.contract.log_entries import Change
from barnraise.contract.standing import Level
from barnraise.core.ids import PublicKey, short
from barnraise.evaluation.failures import EvaluationFailure, failure_message
from coordinator.reasons.audits import (
    AuditorReason,
    AuditorSilent,
    AuditorWrong,
    BudgetSaved,
    FilesMissing,
    NoSecretSamples,
    NotAudited,
)

_LEVELS: dict[Level, str] = {
    "probation": "on probation",
    "trusted": "trusted",
    "suspended": "suspended, with weight 0",
    "banned": "banned",
}


def not_audited_message(reason: NotAudited | EvaluationFailure) -> str:
    """Why a round is not audited."""
    match reason:
        case BudgetSaved(audited):
            return f"the computing time for {audited} audits is saved over several rounds"
        case NoSecretSamples():
            return "all samples of the shards that were drawn are assigned to volunteers"
        case FilesMissing():
            return "a shard of the data or a contribution is not here"
        case _:
            return failure_message(reason)


def auditor_message(reason: AuditorReason) -> str:
    """What becomes of an auditor's round."""
    match reason:
        case AuditorSilent(auditor, round, seconds):
            return f"auditor {short(auditor)} did not report on round {round} within {seconds:.0f} s"
        case AuditorWrong(auditor, wrong):
            return (
                f"auditor {short(auditor)} is not asked any more: {wrong_message(wrong)}."
                " What rests on its reports does not count"
            )
        case _:
            assert_never(reason)


def wrong_message(wrong: Disagreement) -> str:
    """What an auditor reported, and what was found."""
    reported, found, owner = wrong.reported, wrong.found, short(PublicKey(wrong.key))
    return (
        f"in round {wrong.round} it reported {_nats(reported.change)} ± {_nats(reported.error)} for {owner},"
        f" and the coordinator found {_nats(found.change)} ± {_nats(found.error)}"
    )


def _nats(nano: int) -> str:
    return f"{nano / NANO:.6f}"


def standing_message(change: Change) -> str:
    """What the log says of a key from now on, and why."""
    link = " by" if change.cause in ("order", "lifted") else ":"
    return f"{short(PublicKey(change.key))} is {_LEVELS[change.level]}{link} {cause_message(change)}"


def cause_message(change: Change) -> str:
    """Why a key has its standing."""
    match change.cause:
        case "work":
            return f"{change.work} audited contributions did no harm"
        case "audit":
            return "audits show no more harm" if change.level == "probation" else "audits show harm"
        case "order" | "lifted":
            return f"the maintainer's order{f': {change.note}' if change.note else ''}"
        case _:
            assert_never(change.cause)


def audited_message(report: AuditReport, seconds: float) -> str:
    """One line of the log."""
    tried = [result for result in report.results if result.audited]
    found = [_result(result) for result in report.results if result.finding != "tried" or _harms(result)]
    notable = "; ".join(found) if found else "none raised the loss of secret samples"
    by = "" if report.auditor is None else f", with auditor {short(PublicKey(report.auditor))}"
    share = f"{len(tried)} of {len(report.results)} contributions"
    return f"{share} in {seconds:.1f} s of computing{by}: {notable}"


def _harms(result: AuditResult) -> bool:
    return result.audited and raises_loss(result.change, result.error)


def _result(result: AuditResult) -> str:
    owner = short(PublicKey(result.key))
    match result.finding:
        case "tried":
            return f"{owner} raised it by {result.change / NANO:.4f} ± {result.error / NANO:.4f}"
        case "copy":
            return f"{owner} copied another contribution"
        case "replay":
            return f"{owner} repeated an earlier contribution"
        case "empty":
            return f"{owner} sent only zeros"
        case _:
            assert_never(result.finding)
