"""Whether a journal is shorter than the archive that was written from it.

A copy of the main file without SQLite's write-ahead log, or an older copy of the journal, is intact and lacks
the newest rows. The archive next to it has the entries of the log that the missing rows recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import INDEX, parse_index
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import PublicKey
from coordinator.store.events import ENTRIES, Kind, Row
from coordinator.store.row_reader import find_charter, open_snapshot


@dataclass(frozen=True)
class JournalFacts:
    """What a journal records, in short."""

    signer: PublicKey | None
    """The key that signed the charter of the run; None where it records no run."""
    entries: int
    """Entries of the log."""


def journal_facts(rows: Iterable[Row]) -> JournalFacts:
    """Reads all rows, so that damage is found. Raises JournalDamaged, StateError, MalformedRecord."""
    rows = iter(rows)
    charter = find_charter(rows, None)  # it reads up to the charter, which is before all entries
    saved, entries = None, 0
    for row in rows:
        saved, entries = (row, 0) if row.kind is Kind.SAVED else (saved, entries + (row.kind in ENTRIES))
    if saved is not None:
        entries += open_snapshot(saved, None).value.position.height
    return JournalFacts(None if charter is None else charter.signer, entries)


def archive_is_ahead(entries: int, archive: Path) -> bool:
    """Whether the archive names more entries of the log. False where its index cannot be read."""
    try:
        return parse_index((archive / INDEX).read_bytes()).entries > entries
    except (OSError, MalformedRecord):
        return False
