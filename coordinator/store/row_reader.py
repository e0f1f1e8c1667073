"""From the journal's rows to events: opens the signed records that the rows hold or name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from barnraise.contract.charter import Charter
from barnraise.contract.manifest import Manifest, open_manifest
from barnraise.contract.records import Commit, Evaluation, JoinClaim
from barnraise.core.errors import FileDamaged
from barnraise.core.ids import BlobHash, PublicKey, Round
from barnraise.core.signed import Signed, open_signed
from barnraise.fold.log import check_link
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.events import (
    CheckpointPublished,
    CheckpointWritten,
    ContributionAccepted,
    ContributionsForgotten,
    EvaluationReceived,
    Journaled,
    Kind,
    PeerAdmitted,
    RoundClosed,
    RoundOpened,
    Row,
    RunChartered,
)

log = logging.getLogger("coordinator.store.row_reader")


def find_charter(rows: Iterable[Row], authority: PublicKey) -> Signed[Charter] | None:
    """The charter of the run; None where the journal records no run yet.

    Raises MalformedRecord, BadSignature.
    """
    for row in rows:
        if row.kind is Kind.CHARTERED:
            return open_signed(Charter, row.body, signer=authority)
    return None


@dataclass(frozen=True)
class RowReader:
    """Reads the journal of one run."""

    charter: Charter
    blobs: BlobStore
    close: Callable[[BlobHash, int], bytes]
    """The close of a round, by its hash."""

    def events(self, rows: Iterable[Row]) -> Iterator[Journaled]:
        """The events that lead to the state which all `rows` together lead to.

        Left out is what has no effect on that state and is slow or impossible to open: commits of closed
        rounds, which their close holds too, and manifests that were dropped or damaged since. Raises what
        `close` raises, MalformedRecord, BadSignature.
        """
        accepted: list[Row] = []
        for row in rows:
            if row.kind is Kind.ACCEPTED:
                accepted.append(row)
                continue
            if row.kind is Kind.CLOSED:
                accepted.clear()
            if (event := self.read(row)) is not None:
                yield event
        for row in accepted:
            yield _accepted(self, row)

    def read(self, row: Row) -> Journaled | None:
        """The event of one row; None for a checkpoint whose manifest is missing. Raises as `events`."""
        return _READERS[row.kind](self, row)

    def open_manifest(self, wire: bytes) -> Signed[Manifest]:
        """Raises MalformedRecord, BadSignature."""
        return open_manifest(wire, run=self.charter.run, authority=self.charter.authority_key)


def _chartered(reader: RowReader, row: Row) -> Journaled:
    return RunChartered(row.at, open_signed(Charter, row.body, signer=reader.charter.authority_key))


def _admitted(reader: RowReader, row: Row) -> Journaled:
    return PeerAdmitted(row.at, row.round, open_signed(JoinClaim, row.body, signer=None))


def _opened(reader: RowReader, row: Row) -> Journaled:
    return RoundOpened(row.at, row.round)


def _accepted(reader: RowReader, row: Row) -> Journaled:
    return ContributionAccepted(row.at, open_signed(Commit, row.body, signer=None))


def _closed(reader: RowReader, row: Row) -> Journaled:
    wire = reader.close(BlobHash(row.body.hex()), row.round)
    return RoundClosed(row.at, check_link(wire, reader.charter, Round(row.round)))


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


def _forgot(reader: RowReader, row: Row) -> Journaled:
    return ContributionsForgotten(row.at, row.round)


_READERS: Mapping[Kind, Callable[[RowReader, Row], Journaled | None]] = {
    Kind.CHARTERED: _chartered,
    Kind.ADMITTED: _admitted,
    Kind.OPENED: _opened,
    Kind.ACCEPTED: _accepted,
    Kind.CLOSED: _closed,
    Kind.CHECKPOINTED: _checkpointed,
    Kind.PUBLISHED: _published,
    Kind.EVALUATED: _evaluated,
    Kind.FORGOT: _forgot,
}
