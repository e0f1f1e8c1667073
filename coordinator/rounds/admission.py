"""Who may take part: pure decisions about a claim to join."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.records import Admission, JoinClaim
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis, RunId
from coordinator.rounds.reasons import ClaimReason, ClockOff, WrongRun

LIFE_SECONDS = 48 * 3600
"""How long an admission is valid. Peers renew at half of it, so they bridge a day without the coordinator."""
CLAIM_SECONDS = 900
"""A claim older than this, by the run's clock, is a replay or comes from a clock that is far off."""


@dataclass(frozen=True)
class Admitted:
    """The claim is accepted."""

    admission: Admission


@dataclass(frozen=True)
class Refused:
    """The claim is not accepted."""

    reason: ClaimReason


def admit(claim: JoinClaim, run: RunId, now: Millis) -> Admitted | Refused:
    """Decide on a claim that the claimant's key has signed. now: the run's clock."""
    if claim.run != run:
        return Refused(WrongRun(run, claim.run))
    behind = seconds_between(Millis(claim.at), now)
    if abs(behind) > CLAIM_SECONDS:
        return Refused(ClockOff(behind))
    return Admitted(Admission(run=run, peer=claim.owner, expires=now + LIFE_SECONDS * 1000))
