"""Keeps the intact first rows of a damaged journal, and sets the file aside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from barnraise.core.ids import Millis
from barnraise.runtime.damaged import DamagedFiles
from barnraise.runtime.files import UNFINISHED, disk_errors, keep_file
from coordinator.store.events import Row
from coordinator.store.journal import Journal, JournalDamaged, Pruned, journal_files


def salvage(path: Path, damaged: DamagedFiles) -> int:
    """Set a damaged journal aside, and keep its intact first rows, marked as `behind`. Returns their number.

    Raises DiskFull, StateError.
    """
    kept = path.with_name(f"{UNFINISHED}{path.name}")
    for file in journal_files(kept):
        file.unlink(missing_ok=True)
    rows = _Intact(path)
    with closing(Journal(kept)) as journal:
        journal.begin_after(rows.pruned())
        journal.extend(rows)
        journal.mark_behind(Millis(rows.newest))
    replace_journal(path, kept, damaged)
    return rows.count


def replace_journal(path: Path, new: Path, damaged: DamagedFiles) -> None:
    """Set the journal `path` aside, if there is one, and rename `new` to it.

    Raises DiskFull, MachineError.
    """
    rows, log, index = journal_files(path)
    for file in (rows, log):
        if file.exists():
            damaged.set_aside(file)
    with disk_errors(path):
        index.unlink(missing_ok=True)
        keep_file(new, path)


@dataclass
class _Intact:
    """The rows before the damage."""

    path: Path
    count: int = 0
    newest: int = 0

    def pruned(self) -> Pruned:
        with suppress(JournalDamaged), closing(Journal(self.path)) as journal:
            return journal.pruned
        return Pruned()

    def __iter__(self) -> Iterator[Row]:
        with suppress(JournalDamaged), closing(Journal(self.path)) as journal:
            for row in journal.rows():
                self.count += 1
                self.newest = row.at
                yield row
