"""The signed records of the DHT and of the log, and the key that may sign each.

| record    | DHT key              | subkey  | signer          |
|-----------|----------------------|---------|-----------------|
| Presence  | RUN/peers/PARTS/PART | owner   | an admitted key |
| Commit    | RUN/commits/ROUND    | owner   | an admitted key |
| Head      | RUN/head             | –       | run authority   |
| Head      | RUN/heads            | closer  | a closer        |

They are gossiped too (`barnraise.network.gossip_policy`). An `Admission`, signed by the authority or a
closer, is embedded in the records of a peer, so that every node of the DHT can refuse records of unknown keys
on its own. The head names the newest entry of the log by hash. A `JoinClaim` and an `Evaluation` go to the
coordinator.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import Self

from barnraise.contract.certificates import Certificate
from barnraise.contract.endpoints import MAX_HOSTS, Endpoint, HostPort, WebAddress, parse_endpoint
from barnraise.contract.field_types import (
    MAX_EMBEDDED_BYTES,
    MAX_TOKENS,
    Embedded,
    Epoch,
    Height,
    Loss,
    RoundNumber,
    Speed,
    Tokens,
    Turns,
)
from barnraise.contract.field_types import Count as Count
from barnraise.contract.field_types import Run as Run
from barnraise.contract.field_types import Time as Time
from barnraise.contract.field_types import total as total
from barnraise.contract.head_signer import no_head_of, signer_of_head
from barnraise.contract.invitation import InvitationId, InvitationText
from barnraise.contract.log_entries import ListName
from barnraise.contract.pieces import Wanted
from barnraise.contract.protocol import (
    OWN,
    ClaimantDoesNotFit,
    CoordinatorDoesNotFit,
    Protocol,
    misfit,
    read_misfit,
)
from barnraise.contract.run_keys import Signers, Successors
from barnraise.contract.sample_ranges import SampleRanges
from barnraise.core.errors import BadSignature, BannedKey, MalformedRecord
from barnraise.core.identity import Identity
from barnraise.core.ids import BlobHash, Millis, PublicKey, RunId, short
from barnraise.core.signed import Extensible, Signed, open_signed, open_text, payload_of, sign
from barnraise.core.strict import Hex64

MAX_RECORD_BYTES = 16_384
MAX_EVALUATION_BYTES = 4096
MAX_CLAIM_BYTES = 4096

Instance = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""Distinguishes two programs with one key (`barnraise.runtime.instance`)."""
UNKNOWN_INSTANCE = "0" * 16


class Admission(Extensible):
    """The statement of the authority, or of a closer, that a key may take part until a time."""

    DOMAIN = b"barnraise/Admission/1\n"

    run: Run
    peer: Hex64
    expires: Time
    """Milliseconds on the run's clock."""
    invitation: Annotated[InvitationId | Literal[""], Field(exclude_if=lambda id: not id)] = ""
    """By which the key was admitted first: each closer counts what the others admit."""


Activity = Literal["training", "late", "waiting", "leaving"]
"""Whether the open round can expect a contribution: a `late` peer ends its step after the round's time and is
awaited only where no peer is faster; a `waiting` one sits the round out; a `leaving` one ends."""


class Presence(Extensible):
    """A peer's heartbeat."""

    DOMAIN = b"barnraise/Presence/1\n"

    run: Run
    owner: Hex64
    instance: Instance
    admission: Embedded
    name: Annotated[str, Field(max_length=40)]
    """Display name of the volunteer; empty for none."""
    round: RoundNumber
    """The round that this peer works on: it has folded all earlier ones."""
    state: Hex64
    """Hash of the state after these folds, for comparing replicas."""
    tokens: Tokens
    """Tokens trained in that round so far."""
    tokens_per_second: Speed
    doing: Activity
    parts: Annotated[int, Field(ge=1, le=2**16)]
    """Entries of the DHT that listed the volunteers when this was sent (`barnraise.contract.heartbeat`)."""
    keeps: RoundNumber
    """The oldest round whose contributions this peer still serves, for volunteers who join late."""
    log: Hex64 | None = None
    """The blob of what certifies the newest log entry of which this peer has a copy (`Certified`)."""
    proof: Hex64 | None = None
    """The blob of a proof that the run's keys signed two histories (`DoubleSigned`)."""
    at: Time


class Commit(Extensible):
    """The signed description of a contribution, whose blob is fetched by its hash."""

    DOMAIN = b"barnraise/Commit/1\n"

    run: Run
    round: RoundNumber
    base_state: Hex64
    """Hash of the state[round] that it was trained from."""
    owner: Hex64
    admission: Embedded
    blob: Hex64
    size: Annotated[int, Field(gt=0, lt=2**40)]
    """Bytes of the blob."""
    pieces: Hex64
    """SHA-256 of the blob's piece list (`barnraise.contract.pieces`), which verifies each piece."""
    tokens: Annotated[int, Field(gt=0, le=MAX_TOKENS)]
    """Tokens trained on: the contribution's weight."""
    samples: Annotated[int, Field(gt=0, le=MAX_TOKENS)]
    loss: Loss
    """Mean training loss, for display and for `barnraise.contract.divergence`."""
    ranges: SampleRanges = Field(default=(), exclude_if=lambda ranges: not ranges)
    """The samples trained on, in the owner's assignments, oldest first. A round takes no commit without."""


class JoinClaim(Extensible):
    """A key's signed request to take part in one run."""

    DOMAIN = b"barnraise/JoinClaim/1\n"

    run: Run
    owner: Hex64
    instance: Instance = UNKNOWN_INSTANCE
    """Older journals have claims without one."""
    name: Annotated[str, Field(max_length=40)]
    credit: bool
    """Whether model cards may name the owner."""
    invitation: Annotated[InvitationText | Literal[""], Field(exclude_if=lambda text: not text)] = ""
    """Of the owner's invite (`barnraise.contract.invitation`); empty for none."""
    protocol: Protocol = OWN
    at: Time


class Evaluation(Extensible):
    """A checkpoint's held-out loss, by a vouched volunteer."""

    DOMAIN = b"barnraise/Evaluation/1\n"

    run: Run
    round: RoundNumber
    state: Hex64
    """Hash of the state[round] that was evaluated."""
    panel: Hex64
    """SHA-256 of the held-out set's index of shards."""
    owner: Hex64
    loss: Loss
    """Mean cross entropy in nats a token."""
    tokens: Annotated[int, Field(ge=1, lt=2**40)]
    """Tokens that the mean covers."""
    at: Time


class Head(Extensible):
    """The position of the run. The newest one of the latest epoch is valid."""

    DOMAIN = b"barnraise/Head/1\n"

    run: Run
    round: RoundNumber
    """The open round."""
    epoch: Epoch
    """A head of a later epoch is newer than one of an earlier epoch."""
    height: Height
    """Entries of the log."""
    entry: Hex64
    """Name of the newest entry; the charter's digest while there is none."""
    certificate: Certificate | None
    """Of that entry."""
    state: Hex64 | None
    """Hash of state[round], once the coordinator has folded it: a peer with another one resyncs."""
    opens: Time
    """Start of the open round's TRAIN phase. Moved forward when too few contributed in time."""
    turns: Turns
    volunteers: Count
    """Volunteers who are present."""
    tokens: Count
    """Tokens of the open round that they report."""
    checkpoint: Hex64
    """Blob hash of the newest checkpoint's manifest."""
    checkpoint_round: RoundNumber
    at: Time
    bootstrap: Annotated[tuple[Annotated[str, Field(max_length=450)], ...], Field(max_length=16)]
    """libp2p multiaddresses of the coordinator."""
    api: Annotated[tuple[HostPort, ...], Field(max_length=MAX_HOSTS)] = ()
    """HOST:PORT of the coordinator's gRPC service."""
    gateways: Annotated[tuple[WebAddress, ...], Field(max_length=MAX_HOSTS)] = ()
    """http(s) addresses of the run's archive."""
    successors: Successors = ()
    """Of the charter's run key: they show that the signer is one."""
    standings: ListName = None
    """In force."""
    ended_after: RoundNumber | None = Field(default=None, exclude_if=lambda ended: ended is None)
    """Rounds that are folded, where the run has ended: for those who join. The others read the log."""
    protocol: Protocol = OWN
    """What the coordinator speaks."""

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Raises CoordinatorDoesNotFit where the coordinator's version does not fit to this one."""
        if (found := read_misfit(payload)) is not None:
            raise CoordinatorDoesNotFit(*found)
        return super().parse(payload)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Of the coordinator's gRPC service."""
        return tuple(map(parse_endpoint, self.api))

    @property
    def order(self) -> tuple[int, int, int]:
        """The newest head has the highest. Of several closers, one may be behind."""
        return self.epoch, self.height, self.at


Record = Presence | Commit | Head

_TAGS: dict[bytes, type[Record]] = {b"P": Presence, b"C": Commit, b"H": Head}


def seal(identity: Identity, record: Record) -> bytes:
    """Sign a record and return its wire form (`tagged`)."""
    return tagged(sign(identity, record))


def tagged(signed: Signed[Record]) -> bytes:
    """The wire form: a tag byte and the signed record."""
    tag = next(tag for tag, model in _TAGS.items() if model is type(signed.value))
    return tag + signed.wire


def open_record(value: bytes, *, run: RunId, signers: Signers, now: Millis) -> Signed[Record]:
    """Check a record from the DHT or from gossip: signature, run, owner and admission.

    signers: keys that may sign heads and admissions; a head may bring successors along. Raises
    MalformedRecord, BadSignature; CoordinatorDoesNotFit for the head of a coordinator of another protocol, by
    which a volunteer ends: a closer's word is not enough for that.
    """
    model = _TAGS.get(value[:1])
    if model is None:
        raise _refused("a record of an unknown kind")
    signer: PublicKey | None = None
    if model is Head:
        signer, signers = signer_of_head(value[1 : MAX_RECORD_BYTES + 1], run, signers)
    limit = MAX_RECORD_BYTES if model is Head else MAX_EMBEDDED_BYTES  # a close embeds commits
    try:
        signed: Signed[Record] = open_signed(model, value[1:], signer=signer, limit=limit)
    except CoordinatorDoesNotFit:
        if signer in signers.run_keys:
            raise
        raise _refused("a head of another protocol by one closer alone") from None
    record = signed.value
    if record.run != run:
        raise _refused(f"a record of the run {record.run!r}")
    if isinstance(record, Head):
        if not signers.announces(signed.signer, record.epoch):
            raise no_head_of(signed.signer)
        return signed
    owner = PublicKey(record.owner)
    _must_be(signed.signer, owner)
    check_admission(record.admission, owner, run=run, signers=signers, now=now)
    return signed


def open_claim(wire: bytes) -> Signed[JoinClaim]:
    """A claim that arrives. Raises MalformedRecord, BadSignature; ClaimantDoesNotFit for another protocol."""
    try:
        signed = open_signed(JoinClaim, wire, signer=None, limit=MAX_CLAIM_BYTES)
    except MalformedRecord:
        if (found := read_misfit(payload_of(wire[:MAX_CLAIM_BYTES]))) is not None:
            raise ClaimantDoesNotFit(found[0]) from None
        raise
    if (reason := misfit(signed.value.protocol)) is not None:
        raise ClaimantDoesNotFit(reason)
    return signed


def check_admission(text: str, peer: PublicKey, *, run: RunId, signers: Signers, now: Millis) -> Admission:
    """Raises MalformedRecord, BadSignature unless the run key or a closer admitted `peer` until later;
    BannedKey.
    """
    signed = open_text(Admission, text, signer=None)
    if signed.signer not in signers:
        raise BadSignature(
            f"an admission by {short(signed.signer)}, which may admit nobody",
            fix="It is dropped. The volunteer claims again, from the coordinator or a closer.",
        )
    if peer in signers.banned:
        raise BannedKey(f"a record of {short(peer)}, which the run has banned", fix="It is dropped.")
    admission = signed.value
    if admission.run != run or admission.peer != peer:
        raise _refused("an admission of another key or run")
    if admission.expires < now:
        raise _refused(f"an admission that ended {(now - admission.expires) // 1000} s ago")
    return admission


def blob_name(commit: Commit) -> BlobHash:
    return BlobHash(commit.blob)


def wanted(commit: Commit) -> Wanted:
    """The commit's blob, as a download needs it."""
    return Wanted(blob_name(commit), commit.size, BlobHash(commit.pieces), PublicKey(commit.owner))


def _must_be(signer: PublicKey, owner: PublicKey) -> None:
    if signer != owner:
        raise BadSignature(f"a record of {owner[:8]} signed by {signer[:8]}", fix="It is dropped.")


def _refused(what: str) -> MalformedRecord:
    return MalformedRecord(what, fix="It is dropped. If this repeats, report it to the run's maintainer.")
