"""The journal: every event of a run in SQLite. A restart replays it, so a crash loses nothing accepted."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from barnraise.core.errors import DiskFull, StateError
from barnraise.core.ids import BlobHash, Millis, blob_hash
from barnraise.runtime.files import disk_errors

_SQLITE_FULL = 13  # sqlite.org/rescode.html; the module names it from Python 3.11 on


class Kind(Enum):
    CHARTERED = "chartered"
    """body: the signed charter"""
    ADMITTED = "admitted"
    """body: its signed claim"""
    OPENED = "opened"
    """a round's TRAIN phase begins; body: nothing"""
    ACCEPTED = "accepted"
    """a contribution was fetched and checked; body: its signed commit"""
    CLOSED = "closed"
    """body: hash of the close, which is a blob"""
    CHECKPOINTED = "checkpointed"
    """body: hash of the signed manifest, which is a blob"""
    SETTLED = "settled"
    """a checkpoint was evaluated, or could not be; body: its final signed manifest"""
    EVALUATED = "evaluated"
    """by a vouched volunteer; body: the signed evaluation"""
    FORGOT = "forgot"
    """contributions of the rounds below this event's round are gone; body: nothing"""


@dataclass(frozen=True)
class Event:
    kind: Kind
    at: Millis
    round: int
    body: bytes


@dataclass
class Replay:
    """What the events add up to."""

    charter: bytes | None = None
    round: int = 0
    """The open round."""
    opens: Millis | None = None
    """Begin of its TRAIN phase; None before the run was ever served."""
    accepted: list[bytes] = field(default_factory=list)
    """Signed commits of the open round."""
    closes: list[BlobHash] = field(default_factory=list)
    """closes[r] closed round r."""
    checkpoints: dict[int, BlobHash] = field(default_factory=dict)
    """Manifest by the round whose base state it is."""
    settled: dict[int, bytes] = field(default_factory=dict)
    """Final manifests of the checkpoints that are shown to everybody, and of those that once were."""
    superseded: list[BlobHash] = field(default_factory=list)
    """Manifests of the same checkpoints as they were before."""
    evaluations: list[bytes] = field(default_factory=list)
    """Signed evaluations of vouched volunteers, in the order in which they came."""
    replay_from: int = 0
    """Contributions of the rounds from this one on are kept."""
    claims: list[bytes] = field(default_factory=list)
    """Signed claims of those who were admitted, oldest first."""

    def apply(self, event: Event) -> None:
        match event.kind:
            case Kind.CHARTERED:
                self.charter = event.body
            case Kind.ADMITTED:
                self.claims.append(event.body)
            case Kind.OPENED:
                self.opens = event.at
            case Kind.ACCEPTED:
                if event.round == self.round:
                    self.accepted.append(event.body)
            case Kind.CLOSED:
                self.closes.append(BlobHash(event.body.hex()))
                self.round, self.opens, self.accepted = event.round + 1, event.at, []
            case Kind.CHECKPOINTED:
                self.checkpoints[event.round] = BlobHash(event.body.hex())
            case Kind.SETTLED:
                name, before = blob_hash(event.body), self.checkpoints.get(event.round)
                if before is not None and before != name:
                    self.superseded.append(before)
                self.checkpoints[event.round] = name
                self.settled[event.round] = event.body
            case Kind.EVALUATED:
                self.evaluations.append(event.body)
            case Kind.FORGOT:
                self.replay_from = event.round


class Journal:
    """Append-only. Used from one thread."""

    def __init__(self, path: Path) -> None:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL,"
                " at INTEGER NOT NULL, round INTEGER NOT NULL, body BLOB NOT NULL)"
            )
        except sqlite3.DatabaseError as error:
            raise _unreadable(path, error) from None

    def append(self, event: Event) -> None:
        """On disk when this returns. Raises DiskFull."""
        try:
            self._db.execute(
                "INSERT INTO events (kind, at, round, body) VALUES (?, ?, ?, ?)",
                (event.kind.value, event.at, event.round, event.body),
            )
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == _SQLITE_FULL or "full" in str(error):
                raise DiskFull(
                    f"the journal cannot be written: {error}",
                    fix="Free disk space and start `coordinator serve` again: it goes on where it was.",
                ) from None
            raise _unreadable(self._path, error) from None

    def replay(self) -> Replay:
        result = Replay()
        try:
            rows = self._db.execute("SELECT kind, at, round, body FROM events ORDER BY id")
            for kind, at, round, body in rows:
                result.apply(Event(Kind(kind), Millis(at), round, body))
        except (sqlite3.DatabaseError, ValueError) as error:  # ValueError: a kind of another version
            raise _unreadable(self._path, error) from None
        return result

    def close(self) -> None:
        self._db.close()


def _unreadable(path: Path, error: Exception) -> StateError:
    return StateError(
        f"the journal {path} cannot be used: {error}",
        fix="See that nothing else uses it and that its disk is writable; else restore it from a backup.",
    )
