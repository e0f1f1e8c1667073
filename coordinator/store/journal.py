"""The journal: every journaled event of a run as a row in SQLite. A crash loses no appended row.

Each row has a hash over itself and all rows before it. A row that a disk altered, or that is missing between
others, is found when the journal is read; the rows before it are intact.

A snapshot covers the rows before it. Those before the newest snapshot but one are pruned: where the newest is
damaged, a restart begins with the one before it. Of the pruned rows the number and the hash are kept.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from barnraise.core.errors import DiskFull, StateError
from barnraise.core.ids import BlobHash, Millis, blob_hash
from barnraise.runtime.files import disk_errors, make_folder
from coordinator.store.events import Kind, Row
from coordinator.store.journal_schema import SCHEMA, Schema, read_about, update, write_about

_SQLITE_FULL = 13  # sqlite.org/rescode.html; the module names it from Python 3.11 on
_DAMAGED = ("malformed", "not a database", "disk I/O error")
"""What SQLite's messages have for SQLITE_CORRUPT, SQLITE_NOTADB and SQLITE_IOERR."""
_BEHIND = "behind"
_PRUNED = "pruned"
_LAST_UNNEEDED = (
    "SELECT last.id, last.chained FROM events AS saved"
    " JOIN events AS chartered ON chartered.id = saved.id - 1 AND chartered.kind = ?"
    " JOIN events AS last ON last.id = saved.id - 2"
    " WHERE saved.kind = ? ORDER BY saved.id DESC LIMIT 1 OFFSET 1"
)
"""The last row that no restart needs: the one before the charter with the newest snapshot but one."""


@dataclass(frozen=True)
class Pruned:
    """The rows that were removed, since a snapshot covers them."""

    rows: int = 0
    chained: bytes = b""
    """The hash of the last of them, which that of the first row continues."""


class JournalDamaged(StateError):
    """The disk altered the journal, or lost a part of it."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"the journal {path} is damaged: {problem}",
            fix=f"Restore it: `coordinator restore BACKUP {path.parent}` keeps what is intact in the folder."
            " Without a backup, `coordinator serve RUN.TOML --recover-from SOURCE` keeps its first rows, and"
            " takes the rest from an archive, a mirror or the run's volunteers. Check the disk.",
        )
        self.path = path


SNAPSHOT_ROWS = 2**15
"""Rows of the journal after which the next close takes a snapshot: some 900 rounds of 32 contributions. A
restart opens at most the records of about that many."""
KEPT_ENTRIES = 8
"""Payloads of the newest entries of the log that the journal has too: until an archive or a volunteer has a
copy, that of the blob store is the only one."""


class Journal:
    """Append-only. Used by one thread at a time."""

    def __init__(self, path: Path, schema: Schema = SCHEMA) -> None:
        """Raises JournalDamaged, NewerVersion, StateError, DiskFull, MachineError."""
        with disk_errors(path):
            make_folder(path.parent)
        self._path = path
        self._since_snapshot = 0
        """Rows after the newest snapshot, of those that were read or appended."""
        try:
            self._db = _connected(path, schema)
            self._pruned, self._chained = self._ends()
        except sqlite3.DatabaseError as error:
            raise _unusable(path, error) from None

    def append(self, row: Row, entry: bytes | None = None) -> None:
        """Write `row` to disk before this returns. Raises DiskFull, StateError.

        entry: the payload of the log's entry that the row records; the newest `KEPT_ENTRIES` are kept.
        """
        with self._writing():
            if entry is None:
                self._insert(row)
            else:
                with self._transaction():
                    self._insert(row)
                    self._keep_entry(entry)
        self._count(row)

    def entry(self, name: BlobHash) -> bytes | None:
        """The payload of an entry of the log; None where it is not one of the newest, or is damaged."""
        try:
            found = self._db.execute("SELECT payload FROM entries WHERE name = ?", (name,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, error) from None
        return None if found is None or blob_hash(bytes(found[0])) != name else bytes(found[0])

    def _insert(self, row: Row) -> None:
        hashed = chained(self._chained, row)
        self._db.execute(
            "INSERT INTO events (kind, at, round, body, chained) VALUES (?, ?, ?, ?, ?)",
            (row.kind.value, row.at, row.round, row.body, hashed),
        )
        self._chained = hashed

    def _keep_entry(self, payload: bytes) -> None:
        self._db.execute("INSERT INTO entries (name, payload) VALUES (?, ?)", (blob_hash(payload), payload))
        self._db.execute("DELETE FROM entries WHERE id <= (SELECT MAX(id) FROM entries) - ?", (KEPT_ENTRIES,))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == _SQLITE_FULL or "full" in str(error):
                raise DiskFull(
                    f"the journal cannot be written: {error}",
                    fix="Free disk space and start `coordinator serve` again: it resumes.",
                ) from None
            raise _unusable(self._path, error) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of the block is written, or nothing."""
        before = self._chained, self._since_snapshot
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite ends it itself where the disk is full
                self._db.execute("ROLLBACK")
            self._chained, self._since_snapshot = before
            raise

    def newest_time(self) -> Millis:
        """The latest time of a row; 0 without any. `rows` have to be read before: they are checked there."""
        try:
            (newest,) = self._db.execute("SELECT COALESCE(MAX(at), 0) FROM events").fetchone()
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, error) from None
        return Millis(newest)

    def rows(self) -> Iterator[Row]:
        """All that are kept, oldest first. Raises JournalDamaged after the intact ones, and StateError."""
        before, number = self._pruned.chained, self._pruned.rows
        self._since_snapshot = 0
        try:
            found = self._db.execute("SELECT kind, at, round, body, chained FROM events ORDER BY id")
            for kind, at, round, body, hashed in found:
                number += 1
                row = Row(Kind(kind), Millis(at), round, body)
                before = chained(before, row)
                if hashed != before:
                    raise JournalDamaged(self._path, f"row {number} has changed since it was written")
                self._count(row)
                yield row
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, error, f" after row {number}") from None
        except (ValueError, TypeError) as error:  # no kind, no number or no bytes
            raise JournalDamaged(self._path, f"row {number}: {error}") from None

    def extend(self, rows: Iterable[Row]) -> None:
        """Append all of `rows`, or none where `rows` raises. Raises DiskFull, StateError."""
        with self._writing(), self._transaction():
            for row in rows:
                self.append(row)

    @property
    def pruned(self) -> Pruned:
        """The rows before those that are kept."""
        return self._pruned

    def begin_after(self, pruned: Pruned) -> None:
        """Let a journal without rows begin after those that another journal of the run has pruned.

        Raises DiskFull, StateError.
        """
        with self._writing():
            self._write_pruned(pruned)
        self._pruned, self._chained = pruned, pruned.chained

    def prune(self) -> None:
        """Remove the rows before the charter that was recorded with the newest snapshot but one.

        Raises DiskFull, StateError.
        """
        with self._writing():
            found = self._db.execute(_LAST_UNNEEDED, (Kind.CHARTERED.value, Kind.SAVED.value)).fetchone()
            if found is None:
                return
            last, hashed = found
            with self._transaction():
                removed = self._db.execute("DELETE FROM events WHERE id <= ?", (last,)).rowcount
                pruned = Pruned(self._pruned.rows + removed, bytes(hashed))
                self._write_pruned(pruned)
        self._pruned = pruned

    def _write_pruned(self, pruned: Pruned) -> None:
        write_about(self._db, _PRUNED, f"{pruned.rows} {pruned.chained.hex()}")

    @property
    def behind(self) -> Millis | None:
        """When the journal was complete last; None where it is complete.

        It is from a backup of that time, or was cut short by damage: rounds may have been closed after it.
        """
        found = read_about(self._db, _BEHIND)
        return None if found is None else Millis(int(found))

    def mark_behind(self, complete: Millis | None) -> None:
        """Set `behind`; None: what others hold of the run's log is in the journal now.

        Raises DiskFull, StateError.
        """
        with self._writing():
            if complete is None:
                self._db.execute("DELETE FROM about WHERE key = ?", (_BEHIND,))
            else:
                write_about(self._db, _BEHIND, str(complete))

    @property
    def snapshot_due(self) -> bool:
        """Whether enough rows are after the newest snapshot for the next one."""
        return self._since_snapshot >= SNAPSHOT_ROWS

    def _count(self, row: Row) -> None:
        self._since_snapshot = 0 if row.kind is Kind.SAVED else self._since_snapshot + 1

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _ends(self) -> tuple[Pruned, bytes]:
        """What was pruned, and the hash of the newest row."""
        try:
            pruned = _pruned_in(read_about(self._db, _PRUNED))
            newest = self._db.execute("SELECT chained FROM events ORDER BY id DESC LIMIT 1").fetchone()
        except sqlite3.DatabaseError:
            self._db.close()
            raise
        except ValueError as error:
            self._db.close()
            raise JournalDamaged(self._path, str(error)) from None
        return pruned, pruned.chained if newest is None else bytes(newest[0])


def _pruned_in(value: str | None) -> Pruned:
    """Raises ValueError."""
    if value is None:
        return Pruned()
    rows, _, hashed = value.partition(" ")
    return Pruned(int(rows), bytes.fromhex(hashed))


def journal_files(path: Path) -> tuple[Path, ...]:
    """Those that SQLite has for the journal `path`: the newest rows may be in the second alone."""
    return (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))


def copy_journal(path: Path, target: Path) -> None:
    """Write all that the journal `path` has now, also while a coordinator appends to it, as one file.

    Raises JournalDamaged, StateError.
    """
    try:
        with closing(_read_only(path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # the file is whole without a write-ahead log
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from None


def chained(before: bytes, row: Row) -> bytes:
    """The hash of a row, given the hash of the row before it."""
    return hashlib.sha256(
        b"%b %b %d %d %b" % (before, row.kind.value.encode(), row.at, row.round, row.body)
    ).digest()


def _connected(path: Path, schema: Schema) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA fullfsync=ON")  # macOS: as `barnraise.runtime.files` flushes
        update(connection, path, schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _unusable(path: Path, error: sqlite3.DatabaseError, where: str = "") -> StateError:
    if any(part in str(error) for part in _DAMAGED):
        return JournalDamaged(path, f"{error}{where}")
    return StateError(
        f"the journal {path} cannot be used: {error}",
        fix="Check that no other program uses it, and that its disk is writable.",
    )
