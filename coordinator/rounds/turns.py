"""Who has a turn in the open round: the newest close says it, so that a restart and other closers agree."""

from __future__ import annotations

from barnraise.contract.log_entries import Close, parse_entry
from coordinator.store.run_store import RunStore


def turns_of_open_round(store: RunStore) -> int:
    """`Close.turns` of the newest close; 1 before the first one, and where it is no longer stored."""
    for logged in reversed(store.snapshot.log):
        if logged.name not in store.blobs:
            return 1
        entry = parse_entry(store.blobs.get(logged.name))
        if isinstance(entry, Close):
            return entry.turns
    return 1
