"""What the run store may forget, and which blobs that removes: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from barnraise.contract.manifest import Manifest
from barnraise.contract.records import blob_name
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.core.signed import Signed
from coordinator.store.events import CheckpointPublished, CheckpointWritten, Event, RoundClosed

KEPT_ROUNDS = 4096
"""Rounds whose contributions are kept at most, and those up to the next checkpoint. Of ten minutes each, they
are four weeks."""


@dataclass
class NamedBlobs:
    """Blobs that events named: a restart removes those that the state does not name any more."""

    files: set[BlobHash] = field(default_factory=set)
    """Contributions, and files of checkpoints."""
    manifests: set[BlobHash] = field(default_factory=set)

    def add_kept(self, manifests: Iterable[Signed[Manifest]], contributions: Iterable[BlobHash]) -> None:
        """Add what a snapshot names."""
        self.files.update(contributions)
        for signed in manifests:
            self._add_manifest(signed)

    def _add_manifest(self, signed: Signed[Manifest]) -> None:
        self.files.update(BlobHash(entry.hash) for entry in signed.value.files)
        self.manifests.add(blob_hash(signed.wire))

    def add(self, event: Event) -> None:
        """Add what `event` names."""
        match event:
            case CheckpointWritten(manifest=signed) | CheckpointPublished(manifest=signed):
                self._add_manifest(signed)
            case RoundClosed(link=link):
                self.files.update(blob_name(commit) for commit in link.commits)
            case _:
                pass


def outdated(checkpoints: Collection[int], keep: int, needed: Collection[int]) -> list[int]:
    """Rounds of the checkpoints to drop: all but the newest `keep` and those that are `needed`."""
    return [round for round in sorted(checkpoints)[:-keep] if round not in needed]


def orphaned(removed: Iterable[Signed[Manifest]], kept: Iterable[Signed[Manifest]]) -> set[BlobHash]:
    """Files of removed checkpoints that no kept one lists too."""
    needed = {entry.hash for signed in kept for entry in signed.value.files}
    files = {entry.hash for signed in removed for entry in signed.value.files}
    return {BlobHash(name) for name in files - needed}


def blobs_of_dropped(
    removed: Collection[Signed[Manifest]], kept: Iterable[Signed[Manifest]]
) -> list[BlobHash]:
    """Blobs to remove with dropped checkpoints.

    The manifests are first: a manifest that is in the store has all of its files.
    """
    return [*(blob_hash(signed.wire) for signed in removed), *orphaned(removed, kept)]


def blobs_of_replaced(before: Signed[Manifest], kept: Collection[Signed[Manifest]]) -> list[BlobHash]:
    """Blobs to remove with a checkpoint's earlier manifest, which one in `kept` replaces.

    The manifest is last: while it is in the store, a restart finds the files that only it lists.
    """
    if before in kept:
        return []
    return [*orphaned([before], kept), blob_hash(before.wire)]


def replay_start(
    start: int, sizes: Mapping[int, int], checkpoints: Collection[int], limit: float, latest: int
) -> int:
    """The round from which contributions are kept: `start`, or a later checkpoint where they are too large.

    sizes: bytes of the contributions of each closed round. limit: bytes. Contributions after the newest
    checkpoint are kept at any size, because a restart folds them, and those from the round `latest` on, for
    a rollback.
    """
    for candidate in (start, *(round for round in sorted(checkpoints) if start < round <= latest)):
        start = candidate
        kept = [size for round, size in sizes.items() if round >= start]
        if sum(kept) <= limit and len(kept) <= KEPT_ROUNDS:
            break
    return start
