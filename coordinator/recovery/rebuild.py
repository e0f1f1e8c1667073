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
from coordinator.recovery.chain import Chain, checkpoint_rows, shared_height
from coordinator.recovery.key_file import set_journal_aside
from coordinator.recovery.own_log import OwnLog
from coordinator.run_folder import BLOBS, JOURNAL
from coordinator.store.events import ContributionsForgotten, Row, RunChartered
from coordinator.store.journal import Journal, Pruned


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
        own = OwnLog.of(journal.rows())
        if own.names and chain.length <= own.length:
            return Rebuilt(0, 0)
        journal.mark_behind(now)
        shared = shared_height(own.names, chain)
        _store(folder, chain, shared, manifests)
        if shared == len(own.names):
            journal.extend(_added(own, chain, manifests, replay_from))
            return Rebuilt(len(chain.steps) - shared, 0)
        kept = own.before(shared)
        pruned = journal.pruned if kept.names else Pruned()
    set_journal_aside(folder)
    with closing(Journal(path)) as journal:
        journal.mark_behind(now)
        journal.begin_after(pruned)
        journal.extend([*kept.rows, *_added(kept, chain, manifests, replay_from)])
    return Rebuilt(len(chain.steps) - shared, len(own.names) - shared)


def _store(folder: Path, chain: Chain, shared: int, manifests: Sequence[Signed[Manifest]]) -> None:
    """What the rows name is on disk before they are."""
    blobs = BlobStore(folder / BLOBS)
    with Batch() as batch:
        for step in chain.steps[shared:]:
            blobs.put(step.entry.payload, batch)
        for signed in manifests:
            blobs.put(signed.wire, batch)


def _added(own: OwnLog, chain: Chain, manifests: Sequence[Signed[Manifest]], replay_from: int) -> list[Row]:
    """The rows behind those of `own`, all of whose entries `chain` has."""
    first = [] if own.rows else [RunChartered(Millis(0), chain.charter).row()]
    added = [*first, *chain.rows(len(own.names)), *checkpoint_rows(manifests, chain, own.checkpoints)]
    if replay_from > own.replay_from:
        at = added[-1].at if added else Millis(0)
        added.append(ContributionsForgotten(at, replay_from).row())
    return added
