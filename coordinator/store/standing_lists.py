"""Keeps the newest lists of standings as blobs: who enters the log in the middle reads one by its name."""

from __future__ import annotations

from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.run_state import RunState


def keep_list(blobs: BlobStore, before: RunState, after: RunState) -> set[BlobHash]:
    """Put the list that an event made into the store; the names of those that are kept no longer.

    Raises DiskFull.
    """
    if after.lists == before.lists:
        return set()
    blobs.put(after.position.standings.payload)
    return {*before.lists} - {*after.lists}
