"""Whom an invite admits."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.ids import Millis
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
