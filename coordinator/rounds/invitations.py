"""The invitations that were made in a run's folder, and the first one, which `coordinator serve` prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from barnraise.contract.field_types import Time
from barnraise.contract.invitation import (
    Invitation,
    InvitationText,
    SignedInvitation,
    make_invitation,
    parse_invitation,
)
from barnraise.contract.invite import MAX_INVITE, Invite, parse_invite
from barnraise.contract.trust_spec import Mode
from barnraise.core.errors import MalformedRecord, UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, RunId
from barnraise.core.strict import Strict
from barnraise.runtime.files import write_atomic
from coordinator.reasons.entrance import Entrance, ListedInvitation, OpenToAll, OpenToInvited, OpenToList
from coordinator.rounds.entrance import uses_of
from coordinator.rounds.peers_file import read_peers
from coordinator.run_folder import INVITATIONS, INVITE
from coordinator.store.kept_clock import kept_time
from coordinator.store.run_state import RunState

FIRST_USES = 100
FIRST_DAYS = 30
"""Of the invitation in the invite that `coordinator serve` prints."""
DAY = 24 * 3600 * 1000
"""In milliseconds."""


class KnownInvite(Strict):
    """What `coordinator serve` printed last."""

    version: Literal[1] = 1
    invite: Annotated[str, Field(max_length=MAX_INVITE)]
    """Without an invitation."""
    mode: Mode
    """`trust.mode` of the run."""

    @property
    def parsed(self) -> Invite:
        """Raises InviteError."""
        return parse_invite(self.invite)


class Made(Strict):
    """One invitation."""

    text: InvitationText
    at: Time
    """When it was made, on the run's clock."""
    signer: str
    """The run key that signed it."""
    first: bool = False
    """Whether `coordinator serve` made it."""


class MadeInvitations(Strict):
    """The file, oldest first."""

    version: Literal[1] = 1
    made: tuple[Made, ...] = ()

    def invitations(self, run: RunId) -> list[Invitation]:
        """Raises MalformedRecord."""
        return [parse_invitation(each.text, run).invitation for each in self.made]


@dataclass(frozen=True)
class Invitations:
    """Of one run's folder. Synchronous; the files are small."""

    folder: Path
    run_key: Identity

    def make(self, run: RunId, uses: int, expires: Millis, now: Millis, *, first: bool = False) -> str:
        """The text of a new invitation, which is kept. Raises DiskFull."""
        text = str(make_invitation(self.run_key, run, token_hex(8), uses, expires))
        known = read_made(self.folder)
        new = Made(text=text, at=now, signer=self.run_key.public, first=first)
        _write(self.folder / INVITATIONS, known.model_copy(update={"made": (*known.made, new)}))
        return text

    def first(self, run: RunId, now: Millis, spent: frozenset[str]) -> SignedInvitation:
        """The newest one that a start made and that is good for another day; else a new one.

        spent: ids of those that are revoked or used up. Raises DiskFull.
        """
        for each in reversed(read_made(self.folder).made):
            known = parse_invitation(each.text, run)
            lasts = known.invitation.expires > now + DAY and known.invitation.id not in spent
            if each.first and lasts and each.signer == self.run_key.public:
                return known
        text = self.make(run, FIRST_USES, Millis(now + FIRST_DAYS * DAY), now, first=True)
        return parse_invitation(text, run)


@dataclass(frozen=True)
class MadeInvite:
    """An invite, and whom it admits."""

    invite: Invite
    entrance: Entrance


def invite_to(plain: Invite, run: RunState, folder: Path, run_key: Identity, now: Millis) -> MadeInvite:
    """The invite that a start prints. Raises DiskFull."""
    keep_invite(folder, plain, run.spec.trust.mode)
    if run.spec.trust.mode != "invite":
        return MadeInvite(plain, _entrance(run.spec.trust.mode, len(run.spec.trust.vouched)))
    made = read_made(folder).invitations(run.charter.run)
    used_up = {each.id for each in made if uses_of(each.id, run.invited) >= each.uses}
    spent = run.position.standings.revoked | used_up
    return _with(plain, Invitations(folder, run_key).first(run.charter.run, now, spent))


def make_invite(
    folder: Path, known: KnownInvite, run_key: Callable[[], Identity], uses: int, days: int
) -> MadeInvite:
    """A new one. run_key: reads it, where the run admits by invitation. Raises as `run_key`, DiskFull."""
    if known.mode != "invite":
        return MadeInvite(known.parsed, _entrance(known.mode))
    now, run = kept_time(folder), known.parsed.run
    text = Invitations(folder, run_key()).make(run, uses, Millis(now + days * DAY), now)
    return _with(known.parsed, parse_invitation(text, run))


def listed_invitations(folder: Path, run: RunId) -> list[ListedInvitation]:
    """Those that were made here, oldest first. Raises MalformedRecord."""
    now, peers = kept_time(folder), read_peers(folder)
    return [
        ListedInvitation(
            each.id,
            each.uses,
            peers.uses.get(each.id, 0),
            Millis(each.expires),
            each.id in peers.revoked,
            now,
        )
        for each in read_made(folder).invitations(run)
    ]


def _with(plain: Invite, signed: SignedInvitation) -> MadeInvite:
    said = signed.invitation
    entrance = OpenToInvited(said.id, said.uses, Millis(said.expires))
    return MadeInvite(replace(plain, invitation=str(signed)), entrance)


def _entrance(mode: Mode, listed: int | None = None) -> Entrance:
    return OpenToAll() if mode == "open" else OpenToList(listed)


def keep_invite(folder: Path, invite: Invite, mode: Mode) -> None:
    """For `coordinator invite`. Raises DiskFull."""
    _write(folder / INVITE, KnownInvite(invite=str(replace(invite, invitation="")), mode=mode))


def known_invite(folder: Path) -> KnownInvite:
    """Raises UserError where the run was not served yet."""
    try:
        return KnownInvite.model_validate_json((folder / INVITE).read_bytes())
    except (OSError, ValidationError):
        raise UserError(
            f"the addresses of the run in {folder} are not known yet",
            fix="Start it with `coordinator serve`, which prints its first invite.",
        ) from None


def read_made(folder: Path) -> MadeInvitations:
    """Empty where the file is absent. Raises MalformedRecord for a damaged file."""
    try:
        return MadeInvitations.model_validate_json((folder / INVITATIONS).read_bytes())
    except FileNotFoundError:
        return MadeInvitations()
    except ValidationError:
        path = folder / INVITATIONS
        raise MalformedRecord(
            f"{path} is damaged", fix="Remove it: the invitations in it stay valid, and are no longer listed."
        ) from None


def _write(path: Path, value: Strict) -> None:
    write_atomic(path, value.model_dump_json(indent=1).encode(), mode=0o600)
