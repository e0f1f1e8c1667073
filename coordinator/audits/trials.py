"""What of a round's audit an auditor does, what the coordinator repeats of it, and what both add up to: pure.

The coordinator compares all contributions itself. It tries those of suspended keys and of the auditor's own
key, it repeats each trial by which a contribution could be harmful or that is of one that points elsewhere
than trusted ones, and in a share of the rounds all of them.
So no key is suspended, or put on probation again, by what an auditor alone says; and an auditor that reports
harm as harmless is found by the rounds that are repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from barnraise.contract.audit_figures import distance, usual_alignment_of
from barnraise.contract.audit_task import (
    AuditCall,
    AuditTask,
    Disagreement,
    GivenContribution,
    Trial,
    TrialReport,
)
from barnraise.contract.standing import Level
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed
from barnraise.evaluation.audit_job import AuditJob, AuditReply, Measured
from coordinator.audits.choose import secret_random

OWN_SHARE = 0.2
"""Of the rounds that auditors try, those of which the coordinator repeats all trials."""


def is_repeated(secret: bytes, history: str, round: int) -> bool:
    """Whether all trials of a round are repeated. history: as for the draw of samples."""
    return secret_random(secret, f"own/{history}", round).random() < OWN_SHARE


def task_of(
    job: AuditJob,
    base_state: str,
    sizes: Mapping[str, int],
    levels: Mapping[PublicKey, Level],
    auditor: PublicKey,
) -> AuditTask | None:
    """What an auditor can try of a job; None where that is nothing. sizes: of the blobs."""
    given = tuple(
        GivenContribution(key=each.key, blob=each.blob, size=sizes[each.blob], taken=each.taken)
        for each in job.contributions
        if each.audited and each.key != auditor and levels[PublicKey(each.key)] != "suspended"
    )
    samples = tuple((each.shard, each.row) for each in job.samples if each.shard is not None)
    if (
        not given or not samples or len(samples) < len(job.samples)
    ):  # held-out samples are the coordinator's alone
        return None
    return AuditTask(round=job.round, base_state=base_state, contributions=given, samples=samples)


def with_trials_of(job: AuditJob, keys: Collection[str]) -> AuditJob:
    """The job in which the contributions of `keys` alone are tried."""
    contributions = tuple(each.model_copy(update={"audited": each.key in keys}) for each in job.contributions)
    return job.model_copy(update={"contributions": contributions})


def own_share(job: AuditJob, report: TrialReport, compared: AuditReply, *, repeated: bool) -> frozenset[str]:
    """The keys whose contributions the coordinator tries. repeated: as of `is_repeated`."""
    chosen = {each.key for each in job.contributions if each.audited}
    harmless = {each.key for each in report.trials if not each.may_be_harm} - _elsewhere(job, compared)
    return frozenset(chosen if repeated else chosen - harmless)


def _elsewhere(job: AuditJob, compared: AuditReply) -> set[str]:
    """Keys whose contributions point elsewhere than trusted ones: little gain is enough for harm there."""
    trusted = {each.key for each in job.contributions if each.trusted}
    usual = usual_alignment_of([each.alignment for each in compared.results if each.key in trusted])
    return {each.key for each in compared.results if distance(each.alignment, usual) > 0}


def disagreement(report: TrialReport, own: Iterable[Measured]) -> Disagreement | None:
    """The first trial that the coordinator repeated with another result."""
    found = {each.key: each for each in own if each.audited}
    for reported in report.trials:
        if reported.key in found:
            mine = found[reported.key]
            trial = Trial(key=mine.key, blob=mine.blob, change=mine.change, error=mine.error)
            if not reported.agrees_with(trial):
                return Disagreement(round=report.round, key=reported.key, reported=reported, found=trial)
    return None


def together(
    compared: AuditReply, report: TrialReport, own: AuditReply | None, own_keys: Collection[str]
) -> AuditReply:
    """What was found of a round. own: of `own_keys`; None where this machine could not try them."""
    reported = {each.key: each for each in report.trials if each.key not in own_keys}
    tried = {each.key: each for each in (own.results if own is not None else ()) if each.audited}
    results = tuple(tried.get(each.key) or _with(each, reported.get(each.key)) for each in compared.results)
    if own is None:
        return compared.model_copy(update={"results": results})
    return own.model_copy(update={"results": results, "seconds": compared.seconds + own.seconds})


def _with(each: Measured, trial: Trial | None) -> Measured:
    if trial is None:
        return each
    return each.model_copy(update={"change": trial.change, "error": trial.error, "audited": True})


@dataclass(frozen=True)
class Audited:
    """A round that was audited."""

    reply: AuditReply
    call: Signed[AuditCall] | None = None
    """Of the auditor that tried contributions of it; None where the coordinator tried all."""


def passes_of(task: AuditTask) -> int:
    """Forward passes that a task takes."""
    return (1 + len(task.contributions)) * len(task.samples)
