"""Whom an invite admits, and why a run is not open to a key."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.ids import Millis, PublicKey
from barnraise.core.reason import Reason


@dataclass(frozen=True)
class OpenToAll(Reason):
    """Everybody who has the invite."""


@dataclass(frozen=True)
class OpenToList(Reason):
    """The keys in `trust.vouched`."""

    keys: int | None = None
    """How many; None where that is not known here."""


@dataclass(frozen=True)
class OpenToInvited(Reason):
    """A number of volunteers until a time."""

    id: str
    uses: int
    expires: Millis


Entrance = OpenToAll | OpenToList | OpenToInvited


@dataclass(frozen=True)
class ListedInvitation(Reason):
    """An invitation that was made here."""

    id: str
    uses: int
    used: int
    """Keys that it has admitted."""
    expires: Millis
    revoked: bool
    now: Millis


@dataclass(frozen=True)
class Banned(Reason):
    """The log bans the claim's key."""

    note: str
    """Why, in the maintainer's words; empty for none."""


@dataclass(frozen=True)
class NotInvited(Reason):
    """The run admits by invitation, and the claim has none."""


@dataclass(frozen=True)
class InvitationInvalid(Reason):
    """The invitation is not one that the run's key signed for this run."""


@dataclass(frozen=True)
class InvitationExpired(Reason):
    """The invitation's time is over."""

    seconds: float
    """Since then."""


@dataclass(frozen=True)
class InvitationUsedUp(Reason):
    """The invitation has admitted as many keys as it may."""

    uses: int


@dataclass(frozen=True)
class InvitationRevoked(Reason):
    """The maintainer revoked the invitation."""


@dataclass(frozen=True)
class NotOnList(Reason):
    """The run admits the keys of a list, and the claim's is not on it."""

    key: PublicKey


EntranceReason = (
    Banned
    | NotInvited
    | InvitationInvalid
    | InvitationExpired
    | InvitationUsedUp
    | InvitationRevoked
    | NotOnList
)
"""Why the run is not open to a key."""
