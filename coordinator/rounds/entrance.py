"""Whether a run is open to a key: pure.

| mode       | admits                                                                        |
|------------|-------------------------------------------------------------------------------|
| open       | every key                                                                     |
| invite     | keys with an invitation that has uses left; keys that one admitted before      |
| allow-list | `trust.vouched`, and the keys that the maintainer vouched for since             |

Closers, the keys in `trust.vouched` and those of which the log says that they are not banned need no
invitation: the maintainer named them, or they took part. Nobody admits a banned key. A key that is present
was admitted by the coordinator or by a closer, whose journals differ: it is renewed, and counts as a use of
the invitation that its admission names.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from barnraise.contract.invitation import Invitation, invitation_id, open_invitation
from barnraise.contract.records import Admission, JoinClaim, Presence
from barnraise.contract.rounds import seconds_between
from barnraise.core.errors import TrustError
from barnraise.core.ids import Millis, PublicKey
from barnraise.core.signed import open_text
from coordinator.reasons.entrance import (
    Banned,
    EntranceReason,
    InvitationExpired,
    InvitationInvalid,
    InvitationRevoked,
    InvitationUsedUp,
    NotInvited,
    NotOnList,
)
from coordinator.store.run_state import RunState


def barred(
    claim: JoinClaim,
    run: RunState,
    present: Mapping[PublicKey, Presence],
    now: Millis,
    joining: Mapping[PublicKey, str] = MappingProxyType({}),
) -> EntranceReason | None:
    """Why the run is not open to the claim's key; None where it is.

    present: heartbeats of live volunteers. joining: the invitations by which keys are being admitted, as of
    `RunState.invited`.
    """
    key = PublicKey(claim.owner)
    if run.position.standings.bans(key):
        change = run.changes.get(key)
        return Banned("" if change is None else change.note or _BY_AUDITS.get(change.cause, ""))
    trust = run.spec.trust
    if trust.mode == "open" or _is_named(key, run):
        return None
    if trust.mode == "allow-list":
        return NotOnList(key)
    if key in run.invited or key in present:
        return None
    elsewhere = {key: _invitation_of(each.admission) for key, each in present.items()}
    return _uninvited(claim, run, now, {**elsewhere, **joining, **run.invited})


def _is_named(key: PublicKey, run: RunState) -> bool:
    """By the spec or the log, which does not ban it, or as a closer."""
    named = key in run.spec.trust.vouched or key in run.position.standings.by_key
    return named or key in closers_of(run)


_BY_AUDITS = {"audit": "audits showed harm"}
"""What a banned key reads where the log has no note."""


def closers_of(run: RunState) -> frozenset[str]:
    """Keys that take part as closers, now or by the charter."""
    return frozenset((run.run_key, *run.position.named, *run.spec.closers.keys))


def invitation_for(claim: JoinClaim, run: RunState) -> str:
    """The id of the invitation that an admission by this claim names; empty for none."""
    asked = invitation_id(claim.invitation) if run.is_first_use(claim) else ""
    return run.invited.get(PublicKey(claim.owner), asked)


@lru_cache(maxsize=2**14)
def _invitation_of(admission: str) -> str:
    """Of a record that was checked when it was received."""
    try:
        return open_text(Admission, admission, signer=None).value.invitation
    except TrustError:
        return ""


def uses_of(id: str, invited: Mapping[PublicKey, str]) -> int:
    """Keys that an invitation has admitted. invited: as `RunState.invited`."""
    return sum(each == id for each in invited.values())


def _uninvited(
    claim: JoinClaim, run: RunState, now: Millis, invited: Mapping[PublicKey, str]
) -> EntranceReason | None:
    if not claim.invitation:
        return NotInvited()
    try:
        invitation = open_invitation(claim.invitation, run.charter.run, run.signers.current)
    except TrustError:
        return InvitationInvalid()
    if invitation.id in run.position.standings.revoked:
        return InvitationRevoked()
    return _spent(invitation, uses_of(invitation.id, invited), now)


def _spent(invitation: Invitation, used: int, now: Millis) -> EntranceReason | None:
    if invitation.expires < now:
        return InvitationExpired(seconds_between(Millis(invitation.expires), now))
    if used >= invitation.uses:
        return InvitationUsedUp(invitation.uses)
    return None
