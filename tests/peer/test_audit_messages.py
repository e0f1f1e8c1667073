"""What an auditor does, in words."""

from __future__ import annotations

import pytest

from barnraise.contract.audit_task import Disagreement, Trial
from barnraise.core.ids import RunId
from barnraise.evaluation.failures import NotEnoughMemory
from peer.auditing import events
from peer.messages.audit import audit_message
from tests.support.parts import ADA, HASH_A

TRIAL = Trial(key=ADA.public, blob=HASH_A, change=2_500_000, error=100_000)
WRONG = Disagreement(
    round=3, key=ADA.public, reported=TRIAL, found=TRIAL.model_copy(update={"change": -1_000_000})
)
KEY = ADA.public


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (events.AwaitingRound(), "waiting for a round to audit"),
        (
            events.NotVouched(RunId("barn"), KEY, 20.0),
            "the maintainer of barn has not vouched for your key. On the coordinator's machine:"
            f" `coordinator vouch barn {KEY}`. Asking again every 20 s",
        ),
        (events.AuditStarts(4, 2, 32), "round 4: trying 2 contributions on 32 samples"),
        (events.RoundTried(4, 1.5, ()), "round 4: none raised the loss; 1.5 s of computing"),
        (
            events.RoundTried(4, 1.5, (KEY,)),
            f"round 4: those of {KEY[:8]} raised the loss; 1.5 s of computing",
        ),
        (events.ReportTaken(4, "counted"), "report on round 4: the coordinator took it"),
        (
            events.ReportTaken(4, "late"),
            "report on round 4: it came too late: the coordinator had gone on without it",
        ),
        (
            events.ReportTaken(4, "another"),
            "report on round 4: it is not about what the coordinator asked for",
        ),
        (events.ReportTaken(4, "none"), "report on round 4: the coordinator took no report"),
        (events.StateMissing(4), "round 4: its state is not here yet; the coordinator audits it itself"),
        (
            events.AuditFailed(4, NotEnoughMemory(2_000_000_000, 10**9), 300.0),
            "round 4 cannot be audited here: it takes 2 GB of memory, 1 GB are free; again in 5 min",
        ),
        (events.CallFailed("nobody answers", 5.0), "nobody answers; asking again in 5 s"),
        (events.NotAsked(None), "the coordinator asks this key for no more audits"),
        (
            events.NotAsked(WRONG),
            "the coordinator asks this key for no more audits: in round 3 we reported 0.002500 for"
            f" {KEY[:8]}, and it found -0.001000",
        ),
        (
            events.Resting(90.0),
            "no audits for 90 s: their share of the computing time is used",
        ),
    ],
)
def test_audit_messages(event: events.AuditEvent, words: str) -> None:
    assert audit_message(event) == words
