"""The intact rows of a journal, by their hashes: which of two journals of a run is the longer one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from barnraise.core.ids import BlobHash, blob_hash
from coordinator.store.events import Kind
from coordinator.store.journal import Journal, JournalDamaged, Pruned, chained


@dataclass(frozen=True)
class Chain:
    """Each hash names all rows before it, also those that were pruned."""

    pruned: Pruned
    hashes: tuple[bytes, ...]
    """Of the rows after the pruned ones."""
    charter: BlobHash | None
    """Of the run; None where no row has it."""
    damaged: bool
    """Rows follow that are not intact, or the file cannot be read."""

    @property
    def rows(self) -> int:
        """Rows that were recorded, also those that were pruned."""
        return self.pruned.rows + len(self.hashes)

    def continues(self, other: Chain) -> bool:
        """Whether it begins with all rows of `other`. Those that were pruned here count as the same."""
        if other.rows > self.rows or (other.charter and self.charter not in (None, other.charter)):
            return False
        return other.rows < self.pruned.rows or self._at(other.rows) == other._at(other.rows)

    def _at(self, count: int) -> bytes:
        """The hash after that many rows."""
        kept = count - self.pruned.rows
        return self.hashes[kept - 1] if kept else self.pruned.chained


EMPTY = Chain(Pruned(), (), None, damaged=True)
"""Of a file that cannot be read."""


def read_chain(path: Path) -> Chain:
    """Raises NewerVersion, StateError."""
    pruned, hashes, charter, damaged = Pruned(), list[bytes](), None, False
    try:
        with closing(Journal(path)) as journal:
            pruned = journal.pruned
            for row in journal.rows():
                hashes.append(chained(hashes[-1] if hashes else pruned.chained, row))
                if row.kind is Kind.CHARTERED:
                    charter = blob_hash(row.body)
    except JournalDamaged:
        damaged = True
    return Chain(pruned, tuple(hashes), charter, damaged)
