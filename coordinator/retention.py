"""What a coordinator may forget: pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from barnraise.ids import BlobHash
from barnraise.manifest import Manifest


def outdated(checkpoints: Mapping[int, Manifest], keep: int) -> list[int]:
    """Rounds of the checkpoints to remove: all but the newest `keep`."""
    return sorted(checkpoints)[:-keep]


def orphaned(removed: Collection[Manifest], kept: Collection[Manifest]) -> set[BlobHash]:
    """Files of removed checkpoints that no kept one has too."""
    needed = {entry.hash for manifest in kept for entry in manifest.files}
    return {BlobHash(entry.hash) for manifest in removed for entry in manifest.files} - {
        BlobHash(name) for name in needed
    }
