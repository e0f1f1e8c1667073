"""The blobs that an event makes or leaves behind where it changes standings.

The newest lists are kept: who enters the log in the middle reads one by its name.
"""

from __future__ import annotations

from barnraise.contract.records import blob_name
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import BlobStore
from coordinator.store.run_state import RunState


def keep_list(blobs: BlobStore, before: RunState, after: RunState) -> set[BlobHash]:
    """Put the list that an event made into the store.

    Returns the names of lists that are kept no longer, and of contributions to the open round by keys that
    are banned now. Raises DiskFull.
    """
    if after.lists == before.lists:
        return set()
    blobs.put(after.position.standings.payload)
    banned = before.accepted.keys() & after.position.standings.banned
    return {*before.lists, *(blob_name(before.accepted[key].value) for key in banned)} - {*after.lists}
