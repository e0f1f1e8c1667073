"""What the archive has to hold at one moment of the run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from barnraise.contract.manifest import Manifest
from barnraise.core.ids import BlobHash
from barnraise.core.signed import Signed
from coordinator.store.promotion import Promotion
from coordinator.store.run_state import RunState


@dataclass(frozen=True)
class ArchiveContent:
    """What the archive has to hold."""

    charter: bytes
    """The signed charter."""
    closes: Sequence[BlobHash]
    """closes[r] closed round r."""
    contributions: Mapping[int, Collection[BlobHash]]
    """Blobs of each round from which a replay can start."""
    replay_from: int
    checkpoints: Mapping[int, Signed[Manifest]]
    """Those that are published."""
    promotion: Promotion | None
    """None while none is published."""
    mirrors: Sequence[str] = ()
    """Addresses of other servers with a copy."""

    @classmethod
    def of(cls, state: RunState, mirrors: Sequence[str]) -> ArchiveContent:
        """What the archive has to hold in `state`."""
        return cls(
            charter=state.signed_charter.wire,
            closes=state.closes,
            contributions={round: frozenset(blobs) for round, blobs in state.history.blobs.items()},
            replay_from=state.replay_from,
            checkpoints={round: state.checkpoints[round] for round in sorted(state.published)},
            promotion=state.promotion(),
            mirrors=mirrors,
        )
