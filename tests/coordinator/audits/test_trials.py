"""Which trials the coordinator repeats itself."""

from __future__ import annotations

from barnraise.contract.audit_task import Trial, TrialReport
from barnraise.core.ids import PublicKey
from barnraise.evaluation.audit_job import AuditJob, AuditReply, Measured, SecretSample, Tried
from coordinator.audits.trials import own_share
from tests.support import parts

KEYS = [PublicKey(f"{number:064x}") for number in range(6)]


def shared(alignments: list[int], changes: list[int]) -> frozenset[str]:
    """The coordinator's own trials; the last key is on probation, the others are trusted."""
    tried = tuple(
        Tried(key=key, blob=key, path="", audited=True, trusted=key != KEYS[-1], seen=None, taken=10**6)
        for key in KEYS
    )
    job = AuditJob(
        base="", spec=parts.run_spec(), round=1, state="", sequence_length=8, vocab_size=8, threads=1,
        contributions=tried, samples=(SecretSample(path="", row=0),), sketches="", seed=0,
    )  # fmt: skip
    measured = tuple(
        Measured(
            key=key,
            blob=key,
            finding="tried",
            change=0,
            error=0,
            norm=1.0,
            alignment=aligned,
            audited=False,
            taken=10**6,
        )
        for key, aligned in zip(KEYS, alignments, strict=True)
    )
    compared = AuditReply(results=measured, forward_passes=0, seconds=0.0, pass_seconds=0.0)
    trials = [
        Trial(key=key, blob=key, change=each, error=10) for key, each in zip(KEYS, changes, strict=True)
    ]
    report = TrialReport(round=1, base_state=parts.HASH_A, trials=tuple(trials))
    return own_share(job, report, compared, repeated=False)


def test_reported_harm_is_repeated() -> None:
    assert shared([300_000] * 6, [-100] * 5 + [100]) == {KEYS[-1]}


def test_what_points_elsewhere_is_repeated_also_where_an_auditor_reports_a_gain() -> None:
    assert shared([300_000] * 5 + [2000], [-100] * 6) == {KEYS[-1]}
    assert shared([300_000] * 5 + [200_000], [-100] * 6) == frozenset()
