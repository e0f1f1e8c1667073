"""What a volunteer learns of its own key from the log."""

from __future__ import annotations

import pytest

from barnraise.contract.audit_figures import Figures, Finding
from barnraise.contract.evidence import Claim
from barnraise.contract.log_entries import Change, StandingChange
from barnraise.contract.standing import Level
from barnraise.contract.verdict import Verdict
from barnraise.core.errors import KeyBanned
from barnraise.core.ids import PublicKey
from barnraise.core.signed import sign
from peer.messages.own_standing import own_standing_message
from peer.volunteer.own_standing import LAST, OwnStanding, own_standing
from tests.support import parts

ADA = PublicKey(parts.ADA.public)
HARM, GOOD = 4_000_000, -2_000_000


def figures(round: int, change: int = HARM, finding: Finding = "tried", alignment: int = 300_000) -> Figures:
    return Figures(
        round=round,
        blob=parts.HASH_A,
        change=change,
        error=1,
        usual=GOOD,
        scale=-GOOD,
        finding=finding,
        alignment=alignment,
        usual_alignment=300_000,
    )


def audited(level: Level, *found: Figures) -> Change:
    claim: Claim = "clean" if level == "probation" else "harm"
    verdict = Verdict(
        run=parts.RUN, key=ADA, claim=claim, wealth=1.0, recent=0.0, figures=found, at=parts.NOW
    )
    return Change(key=ADA, level=level, cause="audit", verdict=sign(parts.AUTHORITY, verdict).text)


def entry(change: Change) -> StandingChange:
    return StandingChange(
        run=parts.RUN, epoch=0, height=7, round=7, previous=parts.HASH_A, certificate=None, at=parts.NOW,
        changes=(change,),
    )  # fmt: skip


def test_a_suspension_shows_the_newest_audits_and_how_many_did_harm() -> None:
    rounds = [figures(round, HARM if round > 3 else GOOD) for round in range(7)]
    found = own_standing(entry(audited("suspended", *rounds)), ADA)
    assert found == OwnStanding("suspended", False, "", tuple(rounds[-LAST:]))
    assert found.harmful == 3


def test_other_keys_and_work_say_nothing() -> None:
    assert own_standing(entry(audited("suspended", figures(1))), PublicKey(parts.BEN.public)) is None
    assert own_standing(entry(Change(key=ADA, level="trusted", work=9, cause="work")), ADA) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (Change(key=ADA, level="banned", cause="order", note="sent noise"), ": sent noise"),
        (Change(key=ADA, level="banned", cause="order"), ""),
        (
            audited("banned", figures(1, GOOD), figures(2), figures(3)),
            ": 2 of its last 3 audited contributions did harm",
        ),
    ],
)
def test_a_ban_ends_the_program_and_says_why(change: Change, why: str) -> None:
    with pytest.raises(KeyBanned) as raised:
        own_standing(entry(change), ADA)
    assert raised.value.problem == f"this run has banned your key{why}"


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            OwnStanding(
                "suspended",
                False,
                "",
                (figures(1, GOOD), figures(2), figures(3, finding="copy"), figures(4, 0, alignment=-2000)),
            ),
            "this key is suspended, and its contributions weigh nothing: 3 of its last 4 audited"
            " contributions raised the loss of samples that nobody trained on, pointed elsewhere than those"
            " of others and gained less than half as much, or repeated others (round 1: -0.0020, usual"
            " -0.0020, round 2: +0.0040, usual -0.0020, round 3: a copy of another, round 4: +0.0000, usual"
            " -0.0020, cosine -0.002, usual +0.300): check this machine's memory, try `--device cpu`, and"
            " compare `peer --version` with others. It"
            " recovers by going on: audits that find no harm put it on probation",
        ),
        (
            OwnStanding("probation", False, "", (figures(4, GOOD), figures(5, finding="replay"))),
            "this key is no longer suspended: audits of its last contributions found no harm (round 4:"
            " -0.0020, usual -0.0020, round 5: a copy of an earlier one). It begins again on probation",
        ),
        (OwnStanding("trusted", True, "a friend"), "the maintainer trusts this key: a friend"),
        (OwnStanding("probation", True), "this key is on probation by the maintainer's order"),
        (
            OwnStanding("suspended", True, "look"),
            "the maintainer has suspended this key, and its contributions weigh nothing: look",
        ),
    ],
)
def test_the_messages(found: OwnStanding, words: str) -> None:
    assert own_standing_message(found) == words
