"""The entries of the log: typed, versioned, and chained by the hashes of their payloads.

The payload of an entry is its JSON without spaces, in the order of the fields below. Its SHA-256 names the
entry, and its blob. The signatures are detached: the certificate of an entry
(`barnraise.contract.certificates`) is in the payload of the entry after it, that of the newest one in the
head. So one walk from a head back to the charter checks all of the log. The first entry names the charter's
payload as `previous`.

| entry      | what it changes                                                      |
|------------|----------------------------------------------------------------------|
| Close      | the round's contributions are folded, and the next round opens       |
| Delegation | from the next round on, a majority of other keys certifies entries   |
| Succession | the run key's successor is named (`barnraise.contract.run_keys`)      |
| Standing   | keys are banned, suspended or trusted, or the run halts or continues |
| Rollback   | the round folds nothing, and the next one begins with an older state |
| Decay      | after the open round the learning rate falls, up to the run's end    |
| Resume     | an epoch begins; older entries that do not lead to it are void       |

A run key certifies a resume; of the other entries the closers do, or the run key where there are none.
Every later version keeps the fields of `Envelope`, so that a program recognizes an entry that it cannot read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from barnraise.contract.certificates import MAX_CLOSERS, Certificate, Vote
from barnraise.contract.field_types import (
    MAX_EMBEDDED_BYTES,
    Count,
    Embedded,
    Epoch,
    Height,
    Kind,
    Release,
    RoundNumber,
    Run,
    Time,
    Turns,
    Void,
)
from barnraise.contract.invitation import InvitationId
from barnraise.contract.run_keys import NamedSuccessor
from barnraise.contract.schedule import NO_PROGRESS, Stated
from barnraise.contract.schedule_spec import Rounds
from barnraise.contract.standing_changes import MAX_CHANGES as MAX_CHANGES
from barnraise.contract.standing_changes import MAX_NOTE as MAX_NOTE
from barnraise.contract.standing_changes import MAX_VERDICT_BYTES as MAX_VERDICT_BYTES
from barnraise.contract.standing_changes import Change as Change
from barnraise.contract.standing_changes import Changes
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.core.strict import Hex64, Strict

ENTRY_VERSION: Literal[1] = 1
"""Version of the formats below. Every change of one of them raises it."""
NEEDS = "0.1.0"
"""The first version of Barnraise that reads them."""
MAX_CONTRIBUTIONS = 1024
MAX_ENTRY_BYTES = MAX_CONTRIBUTIONS * 4 * MAX_EMBEDDED_BYTES // 3 + 2**20
"""The commits of the largest close, and 1 MiB for its other fields."""

Weight = Annotated[int, Field(ge=0, lt=2**40)]
Order = Annotated[str, Field(max_length=2**14)]
"""`Signed[EntryOrder]` in base64."""
ListName = Annotated[Hex64 | None, Field(exclude_if=lambda name: name is None)]
"""SHA-256 of a list of standings (`barnraise.contract.standing`); None for the empty one."""


class _Entry(Strict):
    """What every entry begins with."""

    version: Literal[1] = ENTRY_VERSION
    needs: Release = NEEDS
    """The version of Barnraise that a program needs to read this entry."""
    kind: Kind
    run: Run
    epoch: Epoch
    height: Height
    round: RoundNumber
    """The open round at this place of the log. A close ends it."""
    previous: Hex64
    """SHA-256 of the payload before: the entry at height - 1, or the charter."""
    certificate: Certificate | None
    """Of the entry before; None after the charter, which has a signature of its own."""

    @property
    def payload(self) -> bytes:
        """The bytes that name the entry."""
        return self.model_dump_json().encode()

    @property
    def name(self) -> BlobHash:
        """SHA-256 of the payload."""
        return blob_hash(self.payload)


class Close(_Entry):
    """The ordered list of the commits that one round folds."""

    kind: Literal["close"] = "close"
    base_state: Hex64
    commits: Annotated[tuple[Embedded, ...], Field(min_length=1, max_length=MAX_CONTRIBUTIONS)]
    """`Signed[Commit]` in base64, in the order in which they are folded."""
    weights: Annotated[tuple[Weight, ...], Field(max_length=MAX_CONTRIBUTIONS)]
    """Of the commits, in their order."""
    standings: ListName = None
    """In force in this round."""
    void: Void = ()
    """As in `barnraise.contract.tip.Position`."""
    progress: Stated = NO_PROGRESS
    """After this close, with the tokens of its commits."""
    at: Time
    """Time of the close, at which the next round's TRAIN phase starts."""
    reason: Annotated[str, Field(max_length=400)]
    turns: Turns = 1
    """Of the next round, by the volunteers that the proposer knew of."""

    @property
    def payload(self) -> bytes:
        """The bytes that name the entry. It has no `turns` where they are 1, as before there were any."""
        return self.model_dump_json(exclude={"turns"} if self.turns == 1 else None).encode()

    @model_validator(mode="after")
    def _weighed(self) -> Close:
        if len(self.weights) != len(self.commits):
            raise ValueError("weights are not those of the commits")
        if not any(self.weights):
            raise ValueError("no contribution has a weight")
        return self


class Delegation(_Entry):
    """Names the closers of the rounds after this one. None: the run key closes alone."""

    kind: Literal["delegation"] = "delegation"
    closers: Annotated[tuple[Hex64, ...], Field(max_length=MAX_CLOSERS)]
    """Public keys, sorted."""
    at: Time
    order: Order | None = None
    """Closers ask for it; None where the run key certifies the entry alone."""

    @field_validator("closers")
    @classmethod
    def _sorted(cls, closers: tuple[str, ...]) -> tuple[str, ...]:
        if list(closers) != sorted(set(closers)):
            raise ValueError("closers are not sorted and distinct")
        return closers


class Succession(_Entry):
    """Names the successor of the run key. The first one that the log has stands."""

    kind: Literal["succession"] = "succession"
    named: NamedSuccessor
    at: Time


class StandingChange(_Entry):
    """Changes the standing of keys, at once. Where bans do not end the harm, the run halts with it."""

    kind: Literal["standing"] = "standing"
    changes: Changes
    revoked: Annotated[tuple[InvitationId, ...], Field(max_length=MAX_CHANGES)] = ()
    """Invitations that admit nobody from now on."""
    halted: Annotated[bool | None, Field(exclude_if=lambda halted: halted is None)] = None
    """True: no round closes from here on, until an entry says False or the run goes back. None: as before."""
    at: Time
    order: Order | None = None
    """As in `Delegation`."""

    @model_validator(mode="after")
    def _changes_something(self) -> StandingChange:
        if not self.changes and not self.revoked and self.halted is None:
            raise ValueError("nothing changes")
        return self


class Rollback(_Entry):
    """Ends the open round without a fold: the next one begins with the state of an earlier round.

    Round numbers go on rising. What was folded since that state is void, and is not folded again: who follows
    the log from an older place passes those closes over.
    """

    kind: Literal["rollback"] = "rollback"
    to: RoundNumber
    """The round whose state is taken."""
    state: Hex64
    """Its hash."""
    tokens: Annotated[Count | None, Field(exclude_if=lambda tokens: tokens is None)] = None
    """Tokens folded into it, in a run that is planned by them (`barnraise.contract.schedule`)."""
    changes: Changes = ()
    """The bans that it goes with."""
    note: Annotated[str, Field(max_length=MAX_NOTE)]
    """Why, in the maintainer's words."""
    at: Time
    order: Order | None = None
    """As in `Delegation`."""

    @model_validator(mode="after")
    def _earlier(self) -> Rollback:
        if self.to > self.round:
            raise ValueError("a rollback to a later round")
        return self


class Decay(_Entry):
    """Ends the run: after the open round the learning rate falls over some rounds, and no other follows.

    It takes the place of a planned end, and is no entry where the rate falls already. A rollback to the state
    that it begins with, or an earlier one, ends it.
    """

    kind: Literal["decay"] = "decay"
    rounds: Rounds
    at: Time
    order: Order | None = None
    """As in `Delegation`."""


class Resume(_Entry):
    """Begins an epoch after a loss of the journal or of the closers: the run key closes alone again.

    By an epoch of its own, the successor of the run key takes its place.
    """

    kind: Literal["resume"] = "resume"
    standings: ListName = None
    """In force."""
    void: Void = ()
    """As in `barnraise.contract.tip.Position`."""
    progress: Stated = NO_PROGRESS
    """As in `barnraise.contract.tip.Position`."""
    at: Time


Ordered = Delegation | StandingChange | Rollback | Decay
"""Entries that the run key orders where closers vote (`barnraise.contract.entry_order`)."""
Requested = Succession | Ordered
"""Entries that the coordinator proposes for its maintainer."""
Unfolded = Requested | Resume
"""Entries that fold nothing."""
Entry = Close | Unfolded
KINDS = frozenset({"close", "delegation", "succession", "standing", "rollback", "decay", "resume"})

_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


class Envelope(BaseModel):
    """What every version of every entry says, also of kinds that this version does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    version: Annotated[int, Field(ge=1)]
    needs: Release
    kind: Kind
    run: Run
    epoch: Epoch
    height: Height
    round: RoundNumber
    previous: Hex64
    certificate: Certificate | None


@dataclass(frozen=True)
class NeedsNewer:
    """An entry that this version cannot read. Its certificate shows whether the run has it."""

    envelope: Envelope
    name: BlobHash

    @property
    def release(self) -> str:
        """The version of Barnraise that reads it."""
        return self.envelope.needs


def parse_entry(payload: bytes) -> Entry | NeedsNewer:
    """Strict and canonical: the entry has exactly these bytes. Raises MalformedRecord."""
    if len(payload) > MAX_ENTRY_BYTES:
        raise _malformed(f"{len(payload)} bytes, where at most {MAX_ENTRY_BYTES} are read")
    try:
        envelope = Envelope.model_validate_json(payload)
        if envelope.version > ENTRY_VERSION or envelope.kind not in KINDS:
            return NeedsNewer(envelope, blob_hash(payload))
        entry = _ENTRY.validate_json(payload)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        raise _malformed(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if entry.payload != payload:
        raise _malformed("it is not in canonical form")
    return entry


def certificate_in(payload: bytes) -> Certificate | None:
    """The certificate of the entry before. Raises MalformedRecord."""
    return common_fields(parse_entry(payload)).certificate


def common_fields(entry: Entry | NeedsNewer) -> Entry | Envelope:
    """The fields that every version of an entry has."""
    return entry.envelope if isinstance(entry, NeedsNewer) else entry


def changes_of(entry: Entry) -> tuple[Change, ...]:
    """The changes of standing that an entry makes."""
    return entry.changes if isinstance(entry, StandingChange | Rollback) else ()


def own_fields(entry: Ordered) -> bytes:
    """What an entry says, apart from its place, its time and its order."""
    return entry.model_dump_json(exclude={*_Entry.model_fields, "at", "order"}).encode()


def vote_on(entry: Entry | NeedsNewer, ballot: int) -> Vote:
    """The statement that certifies `entry`."""
    said = common_fields(entry)
    return Vote(
        run=said.run,
        epoch=said.epoch,
        height=said.height,
        round=said.round,
        kind=said.kind,
        entry=entry.name,
        ballot=ballot,
    )


def _malformed(why: str) -> MalformedRecord:
    return MalformedRecord(
        f"an entry of the log is none: {why}",
        fix="It is dropped. If this repeats, report it to the run's maintainer.",
    )
