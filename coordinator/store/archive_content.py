"""What the archive has to hold, as the run store says it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from barnraise.contract.manifest import Manifest
from barnraise.core.ids import BlobHash
from barnraise.core.signed import Signed
from coordinator.store.promotion import Standing


@dataclass(frozen=True)
class ArchiveContent:
    """What the archive has to hold."""

    charter: bytes
    closes: Sequence[BlobHash]
    """closes[r] closed round r."""
    contributions: Mapping[int, Collection[BlobHash]]
    """Blobs of each round from which a replay can start."""
    replay_from: int
    checkpoints: Mapping[int, Signed[Manifest]]
    """Those that are settled."""
    standing: Standing | None
    """None while none is settled."""
    mirrors: Sequence[str] = ()
