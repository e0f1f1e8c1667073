"""Keeps the blob of the log's newest entry intact while a run goes on.

Nobody else may have a copy yet, and nobody can follow the log without it. The journal has one.
"""

from __future__ import annotations

import asyncio

from barnraise.core.errors import FileDamaged
from coordinator.reasons.recovery import EntryFile
from coordinator.run_folder import ARCHIVE
from coordinator.store.copies import Copies
from coordinator.store.run_store import RunStore


async def keep_newest_entry(store: RunStore) -> None:
    """Replace it by a copy where it is damaged or missing. Raises FileDamaged, DiskFull."""
    log = store.snapshot.log
    if log and not store.blobs.is_unchanged(log[-1].name):
        await asyncio.to_thread(_restore, store, EntryFile(log[-1].name, log[-1].epoch, len(log) - 1))


def _restore(store: RunStore, newest: EntryFile) -> None:
    copies = Copies(store.blobs, store.folder / ARCHIVE, entry=store.journal.entry)
    if not copies.ensure(newest):
        raise FileDamaged(
            f"entry {newest.height} of the log was damaged, and the journal's copy as well",
            fix="Check the disk, and start `coordinator serve` again: it is fetched from volunteers.",
        )
