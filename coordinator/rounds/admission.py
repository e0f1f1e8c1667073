"""Who may take part: pure decisions about a claim to join."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.records import Admission, JoinClaim
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis, RunId

LIFE_SECONDS = 48 * 3600
"""How long an admission holds. Peers renew at half of it, so a day without the coordinator is survived."""
CLAIM_SECONDS = 900
"""A claim older than this, by the run's clock, is a replay or comes from a clock that is far off."""


@dataclass(frozen=True)
class Admitted:
    admission: Admission


@dataclass(frozen=True)
class Refused:
    reason: str
    fix: str


def admit(claim: JoinClaim, run: RunId, now: Millis) -> Admitted | Refused:
    if claim.run != run:
        return Refused(f"this is the run {run}, not {claim.run}", "Ask for this run's invite.")
    off = seconds_between(Millis(claim.at), now)
    if abs(off) > CLAIM_SECONDS:
        return Refused(
            f"your clock is {abs(off):.0f} s {'behind' if off > 0 else 'ahead of'} the coordinator's",
            "Set this machine's clock (turn network time on) and join again.",
        )
    return Admitted(Admission(run=run, peer=claim.owner, expires=now + LIFE_SECONDS * 1000))
