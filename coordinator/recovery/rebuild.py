"""Brings the journal up to a log that others hold. All of it is written, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.manifest import Manifest
from barnraise.core.ids import Millis
from barnraise.core.signed import Signed
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.files import Batch
from coordinator.recovery.chain import Chain, checkpoint_rows, entry_of, rows_before, shared_height
from coordinator.recovery.key_file import set_journal_aside
from coordinator.run_folder import BLOBS, JOURNAL
from coordinator.store.events import ENTRIES, ContributionsForgotten, Kind, Row, RunChartered
from coordinator.store.journal import Journal
from coordinator.store.row_reader import certified_in


@dataclass(frozen=True)
class Rebuilt:
    """What a recovery added to the journal."""

    entries: int
    """Entries of the log that the journal did not have."""
    replaced: int
    """Entries that it had, and that others have otherwise or not at all."""


def rebuild_journal(
    folder: Path, chain: Chain, manifests: Sequence[Signed[Manifest]], replay_from: int, now: Millis
) -> Rebuilt:
    """Record `chain` in the journal of `folder`, unless the journal has a longer log.

    The journal stays marked as one that may lack rounds until the run resumes. Raises DiskFull, StateError.
    """
    path = folder / JOURNAL
    with closing(Journal(path)) as journal:
        rows = list(journal.rows())
        own = [certified_in(row) for row in rows if row.kind in ENTRIES]
        newest = own[-1].vote if own else None
        longer = newest is None or chain.length > (newest.epoch, newest.height + 1)
        if not longer:
            return Rebuilt(0, 0)
        journal.mark_behind(now)
        shared = shared_height([entry_of(votes) for votes in own], chain)
        _store(folder, chain, shared, manifests)
        added = _added(rows, chain, shared, manifests, replay_from)
        if shared == len(own):
            journal.extend(added)
            return Rebuilt(len(chain.steps) - shared, 0)
        kept = rows_before(rows, shared)
    set_journal_aside(folder)
    with closing(Journal(path)) as journal:
        journal.mark_behind(now)
        journal.extend([*kept, *added])
    return Rebuilt(len(chain.steps) - shared, len(own) - shared)


def _store(folder: Path, chain: Chain, shared: int, manifests: Sequence[Signed[Manifest]]) -> None:
    """What the rows name is on disk before they are."""
    blobs = BlobStore(folder / BLOBS)
    with Batch() as batch:
        for step in chain.steps[shared:]:
            blobs.put(step.entry.payload, batch)
        for signed in manifests:
            blobs.put(signed.wire, batch)


def _added(
    rows: Sequence[Row], chain: Chain, shared: int, manifests: Sequence[Signed[Manifest]], replay_from: int
) -> list[Row]:
    first = [] if rows else [RunChartered(Millis(0), chain.charter).row()]
    known = {row.round for row in rows if row.kind is Kind.CHECKPOINTED}
    forgot = max((row.round for row in rows if row.kind is Kind.FORGOT), default=0)
    added = [*first, *chain.rows(shared), *checkpoint_rows(manifests, chain, known)]
    if replay_from > forgot:
        at = added[-1].at if added else Millis(0)
        added.append(ContributionsForgotten(at, replay_from).row())
    return added
