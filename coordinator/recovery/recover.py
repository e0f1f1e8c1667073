"""Continues a run from what others hold: the log first, then what it names, then a resume."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from barnraise.core.identity import Identity
from barnraise.core.ids import Millis
from barnraise.fold.log import Link
from barnraise.runtime.blob_store import BlobStore
from coordinator.reasons.recovery import ContributionFile
from coordinator.recovery.archive_copy import ArchiveCopy, ArchivedRun
from coordinator.recovery.rebuild import rebuild_journal
from coordinator.run_folder import ARCHIVE, BLOBS
from coordinator.store.copies import Copies
from coordinator.store.journal import Journal
from coordinator.store.run_store import RunStore

log = logging.getLogger("coordinator")


@dataclass(frozen=True)
class Recovery:
    """Of one run's folder. Synchronous."""

    folder: Path
    authority: Identity
    run: str
    clock: Callable[[], Millis]

    def from_archive(self, source: str) -> str:
        """Take an archive's log where it is longer; returns where copies of its files are.

        Raises UserError, Unreachable, TrustError, StateError, DiskFull.
        """
        copy = ArchiveCopy.at(source)
        found = copy.read_run(self.authority.public)
        start = self._fetch_contributions(copy, found)
        rebuilt = rebuild_journal(self.folder, found.chain, found.manifests, start, self.clock())
        log.info(
            "%s has the log up to round %d: %d entries taken, %d of ours replaced",
            copy.location, found.chain.position.round, rebuilt.entries, rebuilt.replaced,
        )  # fmt: skip
        return copy.location

    def _fetch_contributions(self, copy: ArchiveCopy, found: ArchivedRun) -> int:
        """The round from which on all contributions are here: that of a checkpoint, or 0."""
        copies = Copies(BlobStore(self.folder / BLOBS), self.folder / ARCHIVE, (copy.location,))
        lost = -1
        for step in found.chain.steps:
            for commit in step.commits if isinstance(step, Link) else ():
                if commit.round >= found.replay_from and not copies.fetch(ContributionFile(commit)):
                    lost = max(lost, commit.round)
        later = [signed.value.round for signed in found.manifests if signed.value.round > lost]
        return found.replay_from if lost < 0 else min(later, default=found.replay_from)


def resume_after_recovery(store: RunStore, journal: Journal, now: Millis, *, after_epoch: int = 0) -> None:
    """Begin an epoch where the journal may lack rounds: others' ends of the log are void then."""
    if journal.behind is None:
        return
    resumed = store.resume(now, after_epoch=after_epoch)
    journal.mark_behind(None)
    log.warning(
        "the run resumes with round %d in epoch %d: what the journal did not know of later rounds is void",
        resumed.entry.round, resumed.entry.epoch,
    )  # fmt: skip
