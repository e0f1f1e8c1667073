"""Who may take part."""

from __future__ import annotations

import pytest

from barnraise.contract.records import JoinClaim, check_admission
from barnraise.contract.run_keys import Signers
from barnraise.core.ids import Millis
from barnraise.core.signed import sign
from coordinator.reasons.rounds import ClockOff, WrongRun
from coordinator.rounds.admission import Admitted, ClaimRefused, admit
from coordinator.timing import Timing
from tests.support.parts import ADA, AUTHORITY, INSTANCE, NOW, RUN

TIMING = Timing()
LIFE, CLAIM = round(TIMING.admission), round(TIMING.claim)


def claim(run: str = RUN, at: int = NOW) -> JoinClaim:
    return JoinClaim(run=run, owner=ADA.public, instance=INSTANCE, name="Ada", credit=False, at=at)


@pytest.mark.parametrize("off", [0, 1, -1, CLAIM, -CLAIM])
def test_a_fresh_claim_is_admitted(off: int) -> None:
    admitted = admit(claim(at=NOW + 1000 * off), RUN, NOW, TIMING)
    assert isinstance(admitted, Admitted)
    assert admitted.admission.peer == ADA.public
    assert admitted.admission.expires == NOW + LIFE * 1000


def test_every_node_accepts_an_admission_until_it_expires() -> None:
    admitted = admit(claim(), RUN, NOW, TIMING)
    assert isinstance(admitted, Admitted)
    text = sign(AUTHORITY, admitted.admission).text
    for now in (NOW, NOW + LIFE * 1000):
        found = check_admission(text, ADA.public, run=RUN, signers=Signers(AUTHORITY.public), now=Millis(now))
        assert found == admitted.admission


def test_an_admission_survives_a_day_without_the_coordinator() -> None:
    assert LIFE / 2 >= 24 * 3600


@pytest.mark.parametrize("off", [-CLAIM - 1, CLAIM + 1])
def test_a_claim_of_another_time_is_refused(off: int) -> None:
    assert admit(claim(at=NOW - 1000 * off), RUN, NOW, TIMING) == ClaimRefused(ClockOff(off))


def test_a_claim_from_long_ago_is_refused() -> None:
    assert admit(claim(at=0), RUN, NOW, TIMING) == ClaimRefused(ClockOff(NOW / 1000))


def test_a_claim_for_another_run_is_refused() -> None:
    assert admit(claim(run="other"), RUN, NOW, TIMING) == ClaimRefused(WrongRun(RUN, "other"))
