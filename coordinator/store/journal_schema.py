"""The journal's tables, and how those of an older version become those of this one.

`PRAGMA user_version` has the version of the tables and of what the rows hold. A change to either is a new
version: a function in `SCHEMA.migrations` that starts from the version before, and the first release that
reads the result. Each migration is one transaction, with the new version in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from barnraise import __version__
from barnraise.core.errors import NewerVersion, StateError

Migration = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True)
class Schema:
    """What a release writes."""

    version: int
    release: str
    """The first release that reads it."""
    migrations: Mapping[int, Migration]
    """By the version that they start from; 0 is an empty file."""


def _create(db: sqlite3.Connection) -> None:
    db.execute(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, at INTEGER NOT NULL,"
        " round INTEGER NOT NULL, body BLOB NOT NULL, chained BLOB NOT NULL)"
    )
    db.execute("CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)")


def _add_entries(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, name TEXT NOT NULL, payload BLOB NOT NULL)")


SCHEMA = Schema(version=2, release="0.1", migrations={0: _create, 1: _add_entries})


def update(db: sqlite3.Connection, path: Path, schema: Schema = SCHEMA) -> None:
    """Give the file `path` the tables of `schema`. Raises NewerVersion, StateError, sqlite3.DatabaseError."""
    version = schema_version(db)
    if version > schema.version:
        raise NewerVersion(f"the journal {path}", _release(db))
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StateError(
            f"the journal {path} was written before Barnraise {schema.release}, and cannot be continued",
            fix="Begin a new run: give it another name, or another folder with --data-dir.",
        )
    while version < schema.version:
        db.execute("BEGIN IMMEDIATE")
        try:
            schema.migrations[version](db)
            version += 1
            write_about(db, "release", schema.release)
            db.execute(f"PRAGMA user_version = {version}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise


def _release(db: sqlite3.Connection) -> str:
    """The first release that reads a newer journal: each version records it in the same place."""
    try:
        return read_about(db, "release") or __version__
    except sqlite3.OperationalError:  # no such table
        return __version__


def schema_version(db: sqlite3.Connection) -> int:
    """The version of the tables; 0 where there is none."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def read_about(db: sqlite3.Connection, key: str) -> str | None:
    """A fact about the whole journal; None where it is not recorded."""
    found = db.execute("SELECT value FROM about WHERE key = ?", (key,)).fetchone()
    return None if found is None else str(found[0])


def write_about(db: sqlite3.Connection, key: str, value: str) -> None:
    """Record a fact about the whole journal."""
    db.execute("INSERT OR REPLACE INTO about (key, value) VALUES (?, ?)", (key, value))
