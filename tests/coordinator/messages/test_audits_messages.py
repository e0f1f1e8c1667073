"""Audits and verdicts in words."""

from __future__ import annotations

import pytest

from barnraise.contract.audit_report import AuditReport, AuditResult
from barnraise.contract.audit_task import Disagreement, Trial
from barnraise.contract.log_entries import Change
from barnraise.evaluation.failures import NotEnoughMemory
from coordinator.messages.audits import (
    audited_message,
    auditor_message,
    not_audited_message,
    standing_message,
)
from coordinator.reasons import audits as reasons
from tests.support.parts import ADA, AUTHORITY, HASH_A, NOW, RUN


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (reasons.BudgetSaved(3), "the computing time for 3 audits is saved over several rounds"),
        (reasons.NoSecretSamples(), "all samples of the shards that were drawn are assigned to volunteers"),
        (reasons.FilesMissing(), "a shard of the data or a contribution is not here"),
        (NotEnoughMemory(2_000_000_000, 10**9), "it takes 2 GB of memory, 1 GB are free"),
    ],
)
def test_why_a_round_is_not_audited(reason: reasons.NotAudited, words: str) -> None:
    assert not_audited_message(reason) == words


TRIAL = Trial(key=ADA.public, blob=HASH_A, change=2_500_000, error=100_000)
WRONG = Disagreement(
    round=3, key=ADA.public, reported=TRIAL, found=TRIAL.model_copy(update={"change": -1_000_000})
)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (
            reasons.AuditorSilent(AUTHORITY.public, 3, 120.0),
            f"auditor {AUTHORITY.public[:8]} did not report on round 3 within 120 s",
        ),
        (
            reasons.AuditorWrong(AUTHORITY.public, WRONG),
            f"auditor {AUTHORITY.public[:8]} is not asked any more: in round 3 it reported"
            f" 0.002500 ± 0.000100 for {ADA.public[:8]}, and the coordinator found -0.001000 ± 0.000100."
            " What rests on its reports does not count",
        ),
    ],
)
def test_what_becomes_of_an_auditor_s_round(reason: reasons.AuditorReason, words: str) -> None:
    assert auditor_message(reason) == words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"level": "suspended", "cause": "audit"}, "is suspended, with weight 0: audits show harm"),
        ({"level": "banned", "cause": "audit"}, "is banned: audits show harm"),
        ({"level": "probation", "cause": "audit"}, "is on probation: audits show no more harm"),
        (
            {"level": "trusted", "cause": "work", "work": 20},
            "is trusted: 20 audited contributions did no harm",
        ),
        (
            {"level": "banned", "cause": "order", "note": "a Sybil"},
            "is banned by the maintainer's order: a Sybil",
        ),
        ({"level": "trusted", "cause": "order"}, "is trusted by the maintainer's order"),
        ({"level": "trusted", "cause": "lifted"}, "is trusted by the maintainer's order"),
    ],
)
def test_what_the_log_says_of_a_key(change: dict[str, object], words: str) -> None:
    assert standing_message(Change.model_validate({"key": ADA.public, **change})) == f"8139770e {words}"


def test_what_an_audit_found() -> None:
    def result(**other: object) -> AuditResult:
        fields = {
            "key": ADA.public, "blob": HASH_A, "finding": "tried", "audited": True, "change": -5, "error": 1,
            "norm": 1.0, "alignment": 0, "taken": 10**6,
        }  # fmt: skip
        return AuditResult.model_validate(fields | other)

    def words(*results: AuditResult) -> str:
        report = AuditReport(
            run=RUN, round=3, base_state=HASH_A, owner=AUTHORITY.public, results=results, at=NOW
        )
        return audited_message(report, 1.25)

    assert words(result(), result(audited=False)) == (
        "1 of 2 contributions in 1.2 s of computing: none raised the loss of secret samples"
    )
    bad = result(change=12_000_000, error=1_000_000)
    assert words(bad, result(finding="copy"), result(finding="replay"), result(finding="empty")).endswith(
        ": 8139770e raised it by 0.0120 ± 0.0010; 8139770e copied another contribution;"
        " 8139770e repeated an earlier contribution; 8139770e sent only zeros"
    )
