"""What a journal records of the log: by its rows, and by a snapshot where rows were pruned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from barnraise.core.ids import BlobHash
from coordinator.store.events import ENTRIES, Kind, Row
from coordinator.store.row_reader import certified_in, open_snapshot, since_snapshot
from coordinator.store.snapshot import Snapshot
from coordinator.store.state_snapshot import names_in


@dataclass(frozen=True)
class OwnLog:
    """The log that a journal records."""

    rows: tuple[Row, ...]
    """All that the journal has."""
    names: tuple[BlobHash, ...] = ()
    """Of the log's entries, by height."""
    epoch: int = 0
    """Of the newest entry."""
    checkpoints: frozenset[int] = frozenset()
    """Rounds of the checkpoints that were recorded."""
    replay_from: int = 0
    """Contributions to earlier rounds were dropped."""

    @classmethod
    def of(cls, rows: Iterable[Row]) -> OwnLog:
        """Raises MalformedRecord, BadSignature."""
        rows = tuple(rows)
        saved, after = since_snapshot(rows)
        own = cls(rows) if saved is None else _of_snapshot(rows, open_snapshot(saved).value)
        votes = [certified_in(row).vote for row in after if row.kind in ENTRIES]
        return replace(
            own,
            names=(*own.names, *(BlobHash(vote.entry) for vote in votes)),
            epoch=votes[-1].epoch if votes else own.epoch,
            checkpoints=own.checkpoints | _rounds(after, Kind.CHECKPOINTED),
            replay_from=max({own.replay_from, *_rounds(after, Kind.FORGOT)}),
        )

    @property
    def length(self) -> tuple[int, int]:
        """As `Chain.length`."""
        return self.epoch, len(self.names)

    @property
    def pruned(self) -> int:
        """Entries whose rows were pruned."""
        return len(self.names) - sum(row.kind in ENTRIES for row in self.rows)

    def before(self, height: int) -> OwnLog:
        """What stays true where the log continues otherwise from `height` on.

        Where the rows of that place were pruned, no entry stays: a recovery has them from others.
        """
        kept, entries = list[Row](), self.pruned
        for row in self.rows:
            entries += row.kind in ENTRIES
            lasting = row.kind is Kind.ADMITTED or (row.kind is Kind.CHARTERED and not kept)
            if entries <= height or lasting:
                kept.append(row)
        return OwnLog.of(kept)


def _of_snapshot(rows: tuple[Row, ...], saved: Snapshot) -> OwnLog:
    return OwnLog(
        rows=rows,
        names=tuple(names_in(saved)),
        epoch=saved.position.epoch,
        checkpoints=frozenset(saved.shown),
        replay_from=saved.replay_from,
    )


def _rounds(rows: Iterable[Row], kind: Kind) -> set[int]:
    return {row.round for row in rows if row.kind is kind}
