"""The journal: every journaled event of a run as a row in SQLite. A crash loses no appended row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from barnraise.core.errors import DiskFull, StateError
from barnraise.core.ids import Millis
from barnraise.runtime.files import disk_errors, make_folder
from coordinator.store.events import Kind, Row

_SQLITE_FULL = 13  # sqlite.org/rescode.html; the module names it from Python 3.11 on


class Journal:
    """Append-only. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        with disk_errors(path):
            make_folder(path.parent)
        self._path = path
        try:
            self._db = _connected(path)
        except sqlite3.DatabaseError as error:
            raise _unreadable(path, error) from None

    def append(self, row: Row) -> None:
        """Write `row` to disk before this returns. Raises DiskFull, StateError."""
        try:
            self._db.execute(
                "INSERT INTO events (kind, at, round, body) VALUES (?, ?, ?, ?)",
                (row.kind.value, row.at, row.round, row.body),
            )
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == _SQLITE_FULL or "full" in str(error):
                raise DiskFull(
                    f"the journal cannot be written: {error}",
                    fix="Free disk space and start `coordinator serve` again: it resumes.",
                ) from None
            raise _unreadable(self._path, error) from None

    def rows(self) -> Iterator[Row]:
        """All rows, oldest first. Raises StateError, also for a kind of row that another version wrote."""
        try:
            found = self._db.execute("SELECT kind, at, round, body FROM events ORDER BY id")
            for kind, at, round, body in found:
                yield Row(Kind(kind), Millis(at), round, body)
        except (sqlite3.DatabaseError, ValueError) as error:
            raise _unreadable(self._path, error) from None

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA fullfsync=ON")  # macOS: as `barnraise.runtime.files` flushes
        connection.execute(
            "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL,"
            " at INTEGER NOT NULL, round INTEGER NOT NULL, body BLOB NOT NULL)"
        )
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _unreadable(path: Path, error: Exception) -> StateError:
    return StateError(
        f"the journal {path} cannot be used: {error}",
        fix="Check that no other program uses it and that its disk is writable, or restore it from a backup.",
    )
