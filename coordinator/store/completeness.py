"""Whether a journal is shorter than the archive that was written from it.

A copy of the main file without SQLite's write-ahead log, or an older copy of the journal, is intact and lacks
the newest rows. The archive next to it has the entries of the log that the missing rows recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import INDEX, parse_index
from barnraise.contract.run_keys import Successors
from barnraise.core.errors import MalformedRecord
from barnraise.core.ids import PublicKey
from coordinator.reasons.recovery import EntryFile
from coordinator.store.events import ENTRIES, Kind, Row
from coordinator.store.row_reader import certified_in, entry_file, find_charter, open_snapshot, since_snapshot


@dataclass(frozen=True)
class JournalFacts:
    """What a journal records, in short."""

    signer: PublicKey | None
    """The key that signed the charter of the run; None where it records no run."""
    entries: int
    """Entries of the log."""
    epoch: int = 0
    """Of the newest entry."""
    named: Successors = ()
    """Successors of the run key, up to the newest snapshot."""
    successions: tuple[EntryFile, ...] = ()
    """The entries after it that name successors."""


def journal_facts(rows: Iterable[Row]) -> JournalFacts:
    """Reads all rows, so that damage is found. Raises JournalDamaged, StateError, MalformedRecord."""
    rows = iter(rows)
    charter = find_charter(rows, None)  # it reads up to the charter, which is before all entries
    saved, after = since_snapshot(rows)
    before = None if saved is None else open_snapshot(saved).value.position
    amended = [certified_in(row) for row in after if row.kind is Kind.AMENDED]
    return JournalFacts(
        signer=None if charter is None else charter.signer,
        entries=sum(row.kind in ENTRIES for row in after) + (0 if before is None else before.height),
        epoch=amended[-1].vote.epoch if amended else 0 if before is None else before.epoch,
        named=() if before is None else before.successors,
        successions=tuple(entry_file(each) for each in amended if each.vote.kind == "succession"),
    )


def archived_entries(archive: Path) -> int:
    """Entries of the log that the archive names; 0 where its index cannot be read.

    A running coordinator adds to the journal first: read this before the journal that it is compared with.
    """
    try:
        return parse_index((archive / INDEX).read_bytes()).entries
    except (OSError, MalformedRecord):
        return 0
