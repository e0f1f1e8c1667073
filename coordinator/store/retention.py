"""What a coordinator may forget: pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from barnraise.contract.manifest import Manifest
from barnraise.core.ids import BlobHash


def outdated(checkpoints: Collection[int], keep: int, needed: Collection[int]) -> list[int]:
    """Rounds of the checkpoints to remove: all but the newest `keep` and those that are `needed`."""
    return [round for round in sorted(checkpoints)[:-keep] if round not in needed]


def orphaned(removed: Collection[Manifest], kept: Collection[Manifest]) -> set[BlobHash]:
    """Files of removed checkpoints that no kept one has too."""
    needed = {entry.hash for manifest in kept for entry in manifest.files}
    return {BlobHash(entry.hash) for manifest in removed for entry in manifest.files} - {
        BlobHash(name) for name in needed
    }


def replay_start(start: int, sizes: Mapping[int, int], checkpoints: Collection[int], limit: float) -> int:
    """The round from which contributions are kept: `start`, or a checkpoint after it where they are too many.

    sizes: bytes of the contributions of each round that is closed. limit: bytes. Those after the newest
    checkpoint are kept whatever they weigh, since a restart folds them.
    """
    for candidate in (start, *(round for round in sorted(checkpoints) if round > start)):
        start = candidate
        if sum(size for round, size in sizes.items() if round >= start) <= limit:
            break
    return start
