"""Invitations: signed by the run's key, each admits a number of keys until a time.

In an invite an invitation is `ID.USES.EXPIRES.SIGNATURE`; the run and the key that signed are the invite's. A
claim to join carries it. The log has those that are revoked (`barnraise.contract.standing`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, ValidationError

from barnraise.contract.field_types import Run, Time
from barnraise.core.errors import BadSignature, MalformedRecord
from barnraise.core.identity import Identity, verify
from barnraise.core.ids import Millis, PublicKey, RunId
from barnraise.core.signed import Signable

MAX_USES = 100_000
TEXT_PATTERN = r"^[0-9a-f]{16}\.[0-9]{1,6}\.[0-9]{1,16}\.[A-Za-z0-9_-]{86}$"

InvitationText = Annotated[str, Field(pattern=TEXT_PATTERN)]
InvitationId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Invitation(Signable):
    """What the run's key signs."""

    DOMAIN = b"barnraise/Invitation/1\n"

    run: Run
    id: InvitationId
    uses: Annotated[int, Field(ge=1, le=MAX_USES)]
    """Keys that it admits."""
    expires: Time
    """Milliseconds on the run's clock."""


@dataclass(frozen=True)
class SignedInvitation:
    """An invitation and its signature, which may not be checked yet; `str()` is its text."""

    invitation: Invitation
    signature: bytes

    def __str__(self) -> str:
        said = self.invitation
        signature = base64.urlsafe_b64encode(self.signature).decode().rstrip("=")
        return f"{said.id}.{said.uses}.{said.expires}.{signature}"


def invitation_id(text: str) -> str:
    """Of an invitation's text, unchecked."""
    return text.partition(".")[0]


def make_invitation(run_key: Identity, run: RunId, id: str, uses: int, expires: Millis) -> SignedInvitation:
    """An invitation by the run's key. id: 16 random hex digits."""
    invitation = Invitation(run=run, id=id, uses=uses, expires=expires)
    return SignedInvitation(invitation, run_key.sign(invitation.message))


def parse_invitation(text: str, run: RunId) -> SignedInvitation:
    """Of an invite to `run`; its signature is not checked yet. Raises MalformedRecord."""
    try:
        if not re.fullmatch(TEXT_PATTERN, text):
            raise ValueError("another form")
        id, uses, expires, signature = text.split(".")
        invitation = Invitation(run=run, id=id, uses=int(uses), expires=int(expires))
        return SignedInvitation(invitation, base64.urlsafe_b64decode(signature + "=="))
    except (ValidationError, ValueError, binascii.Error):
        raise MalformedRecord("an invitation is none", fix="Copy the whole invite.") from None


def open_invitation(text: str, run: RunId, run_keys: Iterable[PublicKey]) -> Invitation:
    """run_keys: those that may sign it. Raises MalformedRecord, BadSignature."""
    signed = parse_invitation(text, run)
    for key in run_keys:
        try:
            verify(key, signed.invitation.message, signed.signature)
        except BadSignature:
            continue
        return signed.invitation
    raise BadSignature("an invitation that the run's key did not sign", fix="Ask for a new invite.")
