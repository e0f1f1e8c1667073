"""From the journal's rows to events: opens the signed records that the rows hold or name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.double_signing import Certified
from barnraise.contract.field_types import MAX_EMBEDDED_BYTES
from barnraise.contract.manifest import Manifest, open_manifest
from barnraise.contract.records import Commit, Evaluation, JoinClaim
from barnraise.contract.run_keys import Signers
from barnraise.contract.tip import Position, first_position
from barnraise.core.errors import BadSignature, FileDamaged, MalformedRecord, NewerVersion, TrustError
from barnraise.core.ids import BlobHash, PublicKey, short
from barnraise.core.signed import Signed, open_signed
from barnraise.fold.log import Amendment, Link, Unreadable, check_step, read_step
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.peer_faults import BY_DATA
from coordinator.reasons.recovery import EntryFile
from coordinator.store.events import (
    CheckpointPublished,
    CheckpointWritten,
    ContributionAccepted,
    ContributionsForgotten,
    EvaluationReceived,
    Journaled,
    Kind,
    LogAmended,
    PeerAdmitted,
    RoundClosed,
    RoundOpened,
    Row,
    RunChartered,
)
from coordinator.store.snapshot import MAX_SNAPSHOT_BYTES, Snapshot

log = logging.getLogger("coordinator.store.row_reader")

FROM_PEERS = frozenset({Kind.ADMITTED, Kind.ACCEPTED, Kind.EVALUATED})
"""Rows with what a volunteer signed. The others are the run's own: without them it is another run."""


def certified_in(row: Row) -> Certified:
    """What certified the entry of a row. Raises MalformedRecord."""
    try:
        return Certified.model_validate_json(row.body)
    except ValidationError:
        raise MalformedRecord(
            f"the journal's certificate of round {row.round} is none",
            fix="Bring it back from a backup: coordinator restore BACKUP FOLDER",
        ) from None


def entry_file(certified: Certified) -> EntryFile:
    """The file of the entry that was certified."""
    vote = certified.vote
    return EntryFile(BlobHash(vote.entry), vote.epoch, vote.height)


def find_charter(rows: Iterable[Row], authority: PublicKey | None) -> Signed[Charter] | None:
    """The charter of the run; None where the journal records no run yet.

    authority: the key that must have signed it; None: any. Raises MalformedRecord, BadSignature.
    """
    for row in rows:
        if row.kind is Kind.CHARTERED:
            return open_signed(Charter, row.body, signer=authority, limit=MAX_CHARTER_BYTES)
    return None


def open_snapshot(row: Row) -> Signed[Snapshot]:
    """The snapshot in a row, by any key. Raises MalformedRecord, BadSignature."""
    return open_signed(Snapshot, row.body, signer=None, limit=MAX_SNAPSHOT_BYTES)


def open_own_snapshot(row: Row, own: PublicKey | None, charter: Charter) -> Signed[Snapshot]:
    """A snapshot by a run key, or, in a follower's folder, by its key.

    Raises MalformedRecord, BadSignature.
    """
    signed = open_snapshot(row)
    known = Signers(charter.authority_key).introduced(signed.value.position.successors, charter.run)
    if signed.signer not in (own, *known.run_keys):
        raise BadSignature(
            f"the journal's snapshot of round {row.round} is signed by {short(signed.signer)}",
            fix="Bring the journal back from a backup: coordinator restore BACKUP FOLDER",
        )
    return signed


def since_snapshot(rows: Iterable[Row]) -> tuple[Row | None, list[Row]]:
    """The newest snapshot's row, and the rows after it; all rows where there is none."""
    newest: Row | None = None
    after: list[Row] = []
    for row in rows:
        if row.kind is Kind.SAVED:
            newest, after = row, []
        else:
            after.append(row)
    return newest, after


@dataclass(frozen=True)
class RowReader:
    """Reads the journal of one run."""

    charter: Charter
    blobs: BlobStore
    entry: Callable[[Certified], bytes]
    """The payload of an entry of the log."""
    closers: frozenset[PublicKey] = frozenset()
    """Keys whose checkpoints this folder keeps, next to the run key's."""

    def events(self, rows: Iterable[Row], position: Position | None = None) -> Iterator[Journaled]:
        """The events that lead to the state which all `rows` together lead to.

        position: the place in the log before the rows; None: its beginning.

        Left out is what has no effect on that state and is slow or impossible to open: commits of closed
        rounds, which their close holds too, and manifests that were dropped or damaged since; and what peers
        said that an older version took and this one does not. Raises what
        `entry` raises, MalformedRecord, BadSignature; StateError where the entries are no chain.
        """
        accepted: list[Row] = []
        position = position or first_position(self.charter)
        for row in rows:
            if row.kind is Kind.ACCEPTED:
                accepted.append(row)
                continue
            if row.kind is Kind.CLOSED:
                accepted.clear()
            if (event := self._read_or_leave_out(row)) is None:
                continue
            if isinstance(event, RoundClosed | LogAmended):
                step = event.link if isinstance(event, RoundClosed) else event.amendment
                position = position.after(check_step(position, step, self.charter).entry)
            yield event
        for row in accepted:
            if (event := self._read_or_leave_out(row)) is not None:
                yield event

    def _read_or_leave_out(self, row: Row) -> Journaled | None:
        """As `read`. What a peer said is left out where it cannot be read: it ends no run."""
        try:
            return self.read(row)
        except (TrustError, *BY_DATA) as error:
            if row.kind not in FROM_PEERS:
                raise
            log.warning(
                "the journal's row about round %d (%s) is left out: %s", row.round, row.kind.value, error
            )
            return None

    def read(self, row: Row) -> Journaled | None:
        """The event of one row; None for a snapshot, or a checkpoint without manifest. Raises as `events`."""
        return _READERS[row.kind](self, row)

    def open_manifest(self, wire: bytes) -> Signed[Manifest]:
        """Raises MalformedRecord, BadSignature."""
        signers = Signers(self.charter.authority_key, closers=self.closers)
        return open_manifest(wire, run=self.charter.run, signers=signers)


def _chartered(reader: RowReader, row: Row) -> Journaled:
    return RunChartered(
        row.at, open_signed(Charter, row.body, signer=reader.charter.authority_key, limit=MAX_CHARTER_BYTES)
    )


def _admitted(reader: RowReader, row: Row) -> Journaled:
    return PeerAdmitted(row.at, row.round, open_signed(JoinClaim, row.body, signer=None))


def _opened(reader: RowReader, row: Row) -> Journaled:
    return RoundOpened(row.at, row.round)


def _accepted(reader: RowReader, row: Row) -> Journaled:
    return ContributionAccepted(row.at, open_signed(Commit, row.body, signer=None, limit=MAX_EMBEDDED_BYTES))


def _entered(reader: RowReader, row: Row) -> Journaled:
    """A close or an amendment: which of them the blob is decides, not the row."""
    votes = certified_in(row)
    match read_step(reader.entry(votes), votes.certificate, reader.charter):
        case Link() as link:
            return RoundClosed(row.at, link)
        case Amendment() as amendment:
            return LogAmended(row.at, amendment)
        case Unreadable(entry=entry):
            raise NewerVersion(f"the journal at round {row.round}", entry.release)


def _checkpointed(reader: RowReader, row: Row) -> Journaled | None:
    name = BlobHash(row.body.hex())
    try:
        wire = reader.blobs.get(name)
    except FileNotFoundError:
        return None
    except FileDamaged as error:
        log.warning("the manifest of the checkpoint of round %d: %s", row.round, error.problem)
        return None
    return CheckpointWritten(row.at, reader.open_manifest(wire))


def _published(reader: RowReader, row: Row) -> Journaled:
    return CheckpointPublished(row.at, reader.open_manifest(row.body))


def _evaluated(reader: RowReader, row: Row) -> Journaled:
    return EvaluationReceived(row.at, open_signed(Evaluation, row.body, signer=None))


def _saved(reader: RowReader, row: Row) -> None:
    """A snapshot changes nothing for who read the rows before it."""


def _forgot(reader: RowReader, row: Row) -> Journaled:
    return ContributionsForgotten(row.at, row.round)


_READERS: Mapping[Kind, Callable[[RowReader, Row], Journaled | None]] = {
    Kind.CHARTERED: _chartered,
    Kind.ADMITTED: _admitted,
    Kind.OPENED: _opened,
    Kind.ACCEPTED: _accepted,
    Kind.CLOSED: _entered,
    Kind.AMENDED: _entered,
    Kind.CHECKPOINTED: _checkpointed,
    Kind.PUBLISHED: _published,
    Kind.EVALUATED: _evaluated,
    Kind.FORGOT: _forgot,
    Kind.SAVED: _saved,
}
