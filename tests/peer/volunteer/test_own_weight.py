"""A volunteer sees what its contribution counted, and why it is less than its tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest

from barnraise.contract.standing import NONE, Standing, Standings, standings_of
from barnraise.contract.trust_spec import TrustSpec
from barnraise.contract.weights import (
    ClaimLimited,
    KeyShareLimited,
    Limited,
    NoWeight,
    OnProbation,
    ProbationShareLimited,
)
from barnraise.core.ids import Round
from barnraise.core.signed import sign
from peer.messages.volunteer import volunteer_message
from peer.volunteer.display import StatusLines
from peer.volunteer.own_weight import OwnWeight, own_weight
from tests.peer.volunteer.test_display import STATUS
from tests.support import parts

OPEN = TrustSpec(mode="open", vouched=(parts.BEN.public,))
LINK = parts.link(
    [
        sign(owner, parts.commit(owner, tokens=tokens))
        for owner, tokens in ((parts.ADA, 840), (parts.BEN, 40))
    ],
    previous=parts.HASH_A,
)

LIMITED = (ClaimLimited(160), OnProbation(1, 20), ProbationShareLimited(Fraction(1, 5)))


@pytest.mark.parametrize(
    ("standings", "trust", "expected"),
    [
        (NONE, TrustSpec(), OwnWeight(Round(0), 840, 840, 880)),
        (
            NONE,
            OPEN,
            OwnWeight(Round(0), 840, 0, 40, (ClaimLimited(160), OnProbation(0, 20))),
        ),
        (
            standings_of({parts.ADA.public: Standing("probation", 1)}),
            OPEN,
            OwnWeight(Round(0), 840, 10, 50, LIMITED),
        ),
        (
            standings_of({parts.ADA.public: Standing("probation", 20)}),
            OPEN,
            OwnWeight(Round(0), 840, 10, 50, (ClaimLimited(160), ProbationShareLimited(Fraction(1, 5)))),
        ),
        (
            standings_of({parts.ADA.public: Standing("suspended")}),
            OPEN,
            OwnWeight(Round(0), 840, 0, 40, (NoWeight("suspended"),)),
        ),
    ],
)  # fmt: skip
def test_a_weight_is_that_of_the_log(standings: Standings, trust: TrustSpec, expected: OwnWeight) -> None:
    assert own_weight(LINK, standings, trust, parts.ADA.public) == expected


def test_a_close_without_us_has_no_weight_of_ours() -> None:
    assert own_weight(LINK, NONE, TrustSpec(), parts.STRANGER.public) is None


def weight(*limited: Limited) -> OwnWeight:
    return OwnWeight(Round(3), 4000, 900, 9000, limited)


@pytest.mark.parametrize(
    ("limited", "why"),
    [
        ((NoWeight("suspended"),), "this key is suspended, and counts again when its audits find no harm"),
        ((NoWeight("banned"),), "this key is banned"),
        (
            (ClaimLimited(900),),
            "a contribution counts as 900 tokens at most, by the median of the trusted ones",
        ),
        (
            (OnProbation(3, 20), ProbationShareLimited(Fraction(1, 5))),
            "this key is on probation, with 3 of 20 audited contributions;"
            " all keys on probation together count as 20% of a round at most",
        ),
        (
            (OnProbation(0, 20),),  # no trusted key took part
            "this key is on probation, with 0 of 20 audited contributions",
        ),
        ((KeyShareLimited(Fraction(1, 4)),), "one key counts as 25% of a round at most"),
    ],
)
def test_messages(limited: Sequence[Limited], why: str) -> None:
    message = volunteer_message(weight(*limited))
    assert message == f"round 3: 900 of 4,000 tokens count, 10.0% of the round: {why}"


def test_a_new_key_reads_when_its_contributions_begin_to_count() -> None:
    message = volunteer_message(OwnWeight(Round(3), 4000, 0, 9000, (OnProbation(0, 20),)))
    assert message.endswith("with 0 of 20 audited contributions; it counts once the log has its first")


def test_the_message_without_limits() -> None:
    message = volunteer_message(OwnWeight(Round(3), 900, 900, 9000))
    assert message == "round 3: all 900 tokens count, 10.0% of the round"


def test_a_line_is_logged_where_other_limits_hold(caplog: pytest.LogCaptureFixture) -> None:
    display, counts = StatusLines(volunteer_message), []
    with caplog.at_level(logging.INFO):
        for limited in ((), (OnProbation(1, 20),), (OnProbation(2, 20),), (NoWeight("suspended"),), ()):
            now = weight(*limited)
            display.show(replace(STATUS, weight=now))
            counts.append(len(caplog.records))
    assert counts == [0, 1, 1, 2, 3]
