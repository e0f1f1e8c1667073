"""Who may take part: pure decisions about a claim to join."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.contract.records import Admission, JoinClaim
from barnraise.contract.rounds import seconds_between
from barnraise.core.ids import Millis, RunId
from coordinator.reasons.entrance import EntranceReason
from coordinator.reasons.rounds import ClaimReason, ClockOff, HasOtherInstance, WrongRun
from coordinator.timing import Timing


@dataclass(frozen=True)
class Admitted:
    """The claim is accepted."""

    admission: Admission


@dataclass(frozen=True)
class ClaimRefused:
    """The claim is not accepted."""

    reason: ClaimReason


def admit(
    claim: JoinClaim,
    run: RunId,
    now: Millis,
    timing: Timing,
    in_use: HasOtherInstance | None = None,
    barred: EntranceReason | None = None,
    invitation: str = "",
) -> Admitted | ClaimRefused:
    """Decide on a claim that the claimant's key has signed.

    now: the run's clock. in_use: as `Instances.in_use`. barred, invitation: as of
    `coordinator.rounds.entrance`.
    """
    if claim.run != run:
        return ClaimRefused(WrongRun(run, claim.run))
    behind = seconds_between(Millis(claim.at), now)
    if abs(behind) > timing.claim:
        return ClaimRefused(ClockOff(behind))
    if barred is not None:
        return ClaimRefused(barred)
    if in_use is not None:
        return ClaimRefused(in_use)
    expires = now + round(timing.admission * 1000)
    return Admitted(Admission(run=run, peer=claim.owner, expires=expires, invitation=invitation))
