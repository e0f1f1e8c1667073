"""The events of a run, and how the journal records them.

`run_state.apply` says what each event changes. A journaled event is one row of the journal: its kind, its
time, a round and a body. A local event has no row: a restart finds its effect in the files, or starts without
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from barnraise.contract.charter import Charter
from barnraise.contract.manifest import Manifest
from barnraise.contract.records import Commit, Evaluation, JoinClaim
from barnraise.contract.tip import Tip
from barnraise.core.ids import Millis, PublicKey, blob_hash
from barnraise.core.signed import Signed
from barnraise.fold.log import Amendment, Link, Step, certified
from coordinator.store.snapshot import Snapshot


class Kind(Enum):
    """What a row records. The strings are part of the file format."""

    CHARTERED = "chartered"
    """body: the signed charter"""
    ADMITTED = "admitted"
    """body: the signed claim"""
    OPENED = "opened"
    """body: empty"""
    ACCEPTED = "accepted"
    """body: the signed commit"""
    CLOSED = "closed"
    """body: what certified the close, which is a blob (`barnraise.contract.double_signing.Certified`)"""
    AMENDED = "amended"
    """body: the same of a delegation or a resume"""
    CHECKPOINTED = "checkpointed"
    """body: hash of the signed manifest, which is a blob"""
    PUBLISHED = "settled"
    """body: the final signed manifest"""
    EVALUATED = "evaluated"
    """body: the signed evaluation"""
    FORGOT = "forgot"
    """body: empty"""
    SAVED = "saved"
    """body: the signed snapshot"""


ENTRIES = (Kind.CLOSED, Kind.AMENDED)
"""Rows that record an entry of the log."""


@dataclass(frozen=True)
class Row:
    """One row of the journal."""

    kind: Kind
    at: Millis
    round: int
    body: bytes


def _row_of(kind: Kind, at: Millis, signed: Signed[Commit] | Signed[Manifest] | Signed[Evaluation]) -> Row:
    return Row(kind, at, signed.value.round, signed.wire)


def _row_of_step(kind: Kind, at: Millis, step: Step) -> Row:
    return Row(kind, at, step.entry.round, certified(step).model_dump_json().encode())


@dataclass(frozen=True)
class RunChartered:
    """The run started; a restart resumes it."""

    at: Millis
    charter: Signed[Charter]

    def row(self) -> Row:
        return Row(Kind.CHARTERED, self.at, 0, self.charter.wire)


@dataclass(frozen=True)
class PeerAdmitted:
    """A peer joined, or joined again with another name or another consent to be named."""

    at: Millis
    round: int
    claim: Signed[JoinClaim]

    def row(self) -> Row:
        return Row(Kind.ADMITTED, self.at, self.round, self.claim.wire)


@dataclass(frozen=True)
class RoundOpened:
    """The TRAIN phase of the open round starts, for the first time or again."""

    at: Millis
    round: int

    def row(self) -> Row:
        return Row(Kind.OPENED, self.at, self.round, b"")


@dataclass(frozen=True)
class ContributionAccepted:
    """A contribution was fetched and checked."""

    at: Millis
    commit: Signed[Commit]

    def row(self) -> Row:
        return _row_of(Kind.ACCEPTED, self.at, self.commit)


@dataclass(frozen=True)
class RoundClosed:
    """The open round was closed; the next one opens at once."""

    at: Millis
    link: Link

    def row(self) -> Row:
        return _row_of_step(Kind.CLOSED, self.at, self.link)


@dataclass(frozen=True)
class LogAmended:
    """The log has an entry that folds nothing."""

    at: Millis
    amendment: Amendment

    def row(self) -> Row:
        return _row_of_step(Kind.AMENDED, self.at, self.amendment)


def entered(step: Step) -> RoundClosed | LogAmended:
    """The event of an entry that others made, at its own time."""
    at = Millis(step.entry.at)
    return RoundClosed(at, step) if isinstance(step, Link) else LogAmended(at, step)


@dataclass(frozen=True)
class CheckpointWritten:
    """The files of a state are in the store."""

    at: Millis
    manifest: Signed[Manifest]

    def row(self) -> Row:
        signed = self.manifest
        return Row(Kind.CHECKPOINTED, self.at, signed.value.round, bytes.fromhex(blob_hash(signed.wire)))


@dataclass(frozen=True)
class CheckpointPublished:
    """A checkpoint got its final manifest: after its evaluation, or when it could not be evaluated.

    Or a mean of states, which is evaluated before it is stored.
    """

    at: Millis
    manifest: Signed[Manifest]

    def row(self) -> Row:
        return _row_of(Kind.PUBLISHED, self.at, self.manifest)


@dataclass(frozen=True)
class EvaluationReceived:
    """A vouched volunteer evaluated a published checkpoint."""

    at: Millis
    evaluation: Signed[Evaluation]

    def row(self) -> Row:
        return _row_of(Kind.EVALUATED, self.at, self.evaluation)


@dataclass(frozen=True)
class ContributionsForgotten:
    """The store no longer keeps contributions of the rounds below `round`."""

    at: Millis
    round: int

    def row(self) -> Row:
        return Row(Kind.FORGOT, self.at, self.round, b"")


@dataclass(frozen=True)
class StateSaved:
    """The state that the rows up to here lead to: a restart begins with the newest snapshot."""

    at: Millis
    round: int
    snapshot: Signed[Snapshot]

    def row(self) -> Row:
        return Row(Kind.SAVED, self.at, self.round, self.snapshot.wire)


@dataclass(frozen=True)
class RoundFolded:
    """The state at `tip` is known: a fold finished, or a restart read a checkpoint."""

    tip: Tip
    tokens: int
    """Tokens folded up to `tip`."""
    loss: float | None
    """Token-weighted training loss of the contributions; None where a checkpoint was read."""


@dataclass(frozen=True)
class CheckpointsDropped:
    """The store no longer keeps these checkpoints. After a restart their manifests are missing."""

    rounds: tuple[int, ...]
    averages: tuple[int, ...] = ()
    """Rounds of the means of states that it no longer keeps."""


@dataclass(frozen=True)
class ContributionsLost:
    """A crash lost the blobs of contributions to the open round: their owners may contribute again."""

    owners: tuple[PublicKey, ...]


@dataclass(frozen=True)
class EvaluationStarted:
    """The coordinator evaluates this checkpoint: it is kept until `EvaluationEnded`."""

    round: int
    averaged: tuple[int, ...] = ()
    """Rounds of the checkpoints whose mean it may evaluate after it: they are kept, too."""


@dataclass(frozen=True)
class EvaluationEnded:
    """The coordinator evaluates no checkpoint."""


def payload_in(event: Journaled) -> bytes | None:
    """The payload of the log's entry that an event records; None where it records none."""
    match event:
        case RoundClosed(link=link):
            return link.entry.payload
        case LogAmended(amendment=amendment):
            return amendment.entry.payload
        case _:
            return None


Journaled = (
    RunChartered
    | PeerAdmitted
    | RoundOpened
    | ContributionAccepted
    | RoundClosed
    | LogAmended
    | CheckpointWritten
    | CheckpointPublished
    | EvaluationReceived
    | ContributionsForgotten
    | StateSaved
)
Local = RoundFolded | CheckpointsDropped | ContributionsLost | EvaluationStarted | EvaluationEnded
Event = Journaled | Local
