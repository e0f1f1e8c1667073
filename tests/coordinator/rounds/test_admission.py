"""Who may take part."""

from __future__ import annotations

import pytest

from barnraise.contract.records import JoinClaim, check_admission
from barnraise.core.ids import Millis
from barnraise.core.signed import sign
from coordinator.rounds.admission import CLAIM_SECONDS, LIFE_SECONDS, Admitted, Refused, admit
from coordinator.rounds.reasons import ClockOff, WrongRun
from tests.support.parts import ADA, AUTHORITY, NOW, RUN


def claim(run: str = RUN, at: int = NOW) -> JoinClaim:
    return JoinClaim(run=run, owner=ADA.public, name="Ada", credit=False, at=at)


@pytest.mark.parametrize("off", [0, 1, -1, CLAIM_SECONDS, -CLAIM_SECONDS])
def test_a_fresh_claim_is_admitted(off: int) -> None:
    admitted = admit(claim(at=NOW + 1000 * off), RUN, NOW)
    assert isinstance(admitted, Admitted)
    assert admitted.admission.peer == ADA.public
    assert admitted.admission.expires == NOW + LIFE_SECONDS * 1000


def test_what_is_given_is_what_every_node_accepts_until_it_ends() -> None:
    admitted = admit(claim(), RUN, NOW)
    assert isinstance(admitted, Admitted)
    text = sign(AUTHORITY, admitted.admission).text
    for now in (NOW, NOW + LIFE_SECONDS * 1000):
        found = check_admission(text, ADA.public, run=RUN, authority=AUTHORITY.public, now=Millis(now))
        assert found == admitted.admission


def test_an_admission_survives_a_day_without_the_coordinator() -> None:
    assert LIFE_SECONDS / 2 >= 24 * 3600


@pytest.mark.parametrize("off", [-CLAIM_SECONDS - 1, CLAIM_SECONDS + 1])
def test_a_claim_of_another_time_is_refused(off: int) -> None:
    assert admit(claim(at=NOW - 1000 * off), RUN, NOW) == Refused(ClockOff(off))


def test_a_claim_from_long_ago_is_refused() -> None:
    assert admit(claim(at=0), RUN, NOW) == Refused(ClockOff(NOW / 1000))


def test_a_claim_for_another_run_is_refused() -> None:
    assert admit(claim(run="other"), RUN, NOW) == Refused(WrongRun(RUN, "other"))
