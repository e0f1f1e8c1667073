"""Whether a journal is shorter than the archive that was written from it.

A copy of the main file without SQLite's write-ahead log, or an older copy of the journal, is intact and lacks
the newest rows. The archive next to it has the entries of the log that the missing rows recorded.
"""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.archive import INDEX, parse_index
from barnraise.core.errors import MalformedRecord
from coordinator.store.events import Kind
from coordinator.store.journal import Journal


def archive_is_ahead(journal: Journal, archive: Path) -> bool:
    """Whether the archive names more entries of the log. False where its index cannot be read.

    Raises JournalDamaged.
    """
    try:
        entries = parse_index((archive / INDEX).read_bytes()).entries
    except (OSError, MalformedRecord):
        return False
    return entries > sum(row.kind in (Kind.CLOSED, Kind.AMENDED) for row in journal.rows())
