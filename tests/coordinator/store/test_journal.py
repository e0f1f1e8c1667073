"""The journal: whatever moment the coordinator dies at, it comes back to what it had promised."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnraise.core.errors import DiskFull, StateError
from barnraise.core.ids import Millis, blob_hash
from coordinator.store.journal import Event, Journal, Kind, Replay

NAMES = [bytes.fromhex(blob_hash(bytes([n]))) for n in range(4)]
events = st.lists(
    st.builds(
        Event,
        st.sampled_from(Kind),
        st.integers(0, 2**50).map(Millis),
        st.integers(0, 5),
        st.sampled_from(NAMES),
    ),
    max_size=12,
)


def applied(recorded: list[Event]) -> Replay:
    result = Replay()
    for event in recorded:
        result.apply(event)
    return result


def event(kind: Kind, round: int = 0, body: bytes = b"", at: int = 1) -> Event:
    return Event(kind, Millis(at), round, body)


HISTORY = [
    event(Kind.CHECKPOINTED, 0, NAMES[0]),
    event(Kind.CHARTERED, 0, b"charter"),
    event(Kind.OPENED, at=10),
    event(Kind.ADMITTED, 0, b"key"),
    event(Kind.ACCEPTED, 0, b"first"),
    event(Kind.OPENED, at=20),
    event(Kind.ACCEPTED, 0, b"second"),
    event(Kind.CLOSED, 0, NAMES[1], at=30),
    event(Kind.ACCEPTED, 1, b"third"),
    event(Kind.ACCEPTED, 0, b"late"),
    event(Kind.CHECKPOINTED, 1, NAMES[2]),
    event(Kind.SETTLED, 0, b"final 0"),
    event(Kind.SETTLED, 1, b"final 1"),
    event(Kind.FORGOT, 1),
    event(Kind.ADMITTED, 1, b"again"),
]


def test_a_history_adds_up() -> None:
    found = applied(HISTORY)
    assert (found.charter, found.round, found.opens) == (b"charter", 1, 30)
    assert found.accepted == [b"third"]
    assert found.closes == [NAMES[1].hex()]
    assert found.checkpoints == {0: blob_hash(b"final 0"), 1: blob_hash(b"final 1")}
    assert found.settled == {0: b"final 0", 1: b"final 1"}
    assert found.superseded == [NAMES[0].hex(), NAMES[2].hex()]
    assert found.replay_from == 1
    assert found.claims == [b"key", b"again"]


def test_a_checkpoint_that_is_not_settled_is_known_by_what_was_written_first() -> None:
    found = applied(HISTORY[:11])
    assert found.checkpoints == {0: NAMES[0].hex(), 1: NAMES[2].hex()}
    assert (found.settled, found.superseded, found.replay_from) == ({}, [], 0)


def test_before_a_close_accepted_work_waits_for_it() -> None:
    found = applied(HISTORY[:7])
    assert (found.round, found.opens, found.accepted) == (0, 20, [b"first", b"second"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(events, st.integers(0, 12))
def test_a_replay_is_what_was_there_before_the_crash(
    tmp_path_factory: pytest.TempPathFactory, recorded: list[Event], crash: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.db"
    journal = Journal(path)
    for one in recorded[:crash]:
        journal.append(one)
    again = Journal(path)  # the first is not closed: nobody closes it in a crash
    assert again.replay() == applied(recorded[:crash])
    for one in recorded[crash:]:
        again.append(one)
    journal.close()
    again.close()
    last = Journal(path)
    assert last.replay() == applied(recorded)
    last.close()


def test_a_write_that_was_killed_in_the_middle_never_was(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    journal = Journal(path)
    for one in HISTORY[:5]:
        journal.append(one)
    torn = sqlite3.connect(path, isolation_level=None)
    torn.execute("BEGIN IMMEDIATE")
    torn.execute("INSERT INTO events (kind, at, round, body) VALUES ('closed', 1, 0, x'00')")
    torn.close()
    journal.append(HISTORY[6])
    assert journal.replay() == applied([*HISTORY[:5], HISTORY[6]])
    journal.close()


def test_a_log_that_was_cut_anywhere_gives_a_beginning_of_the_history(tmp_path: Path) -> None:
    """As after a power cut: the write-ahead log ends in the middle of a page."""
    path, lived = tmp_path / "events.db", Journal(tmp_path / "events.db")
    for one in HISTORY:
        lived.append(one)
    database, written = path.read_bytes(), (tmp_path / "events.db-wal").read_bytes()
    lived.close()
    beginnings = [applied(HISTORY[:count]) for count in range(len(HISTORY) + 1)]
    seen = set()
    for number, cut in enumerate(range(0, len(written) + 1, 1000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "events.db").write_bytes(database)
        (folder / "events.db-wal").write_bytes(written[:cut])
        journal = Journal(folder / "events.db")
        found = journal.replay()
        journal.close()
        assert found in beginnings
        seen.add(beginnings.index(found))
    assert len(seen) > len(HISTORY) // 2


def test_a_disk_that_is_full_is_told_and_nothing_is_half_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.db")
    journal.append(HISTORY[0])
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count={pages}")  # how SQLite itself plays a full disk
    with pytest.raises(DiskFull) as caught:
        journal.append(event(Kind.ACCEPTED, 0, bytes(10**6)))
    assert "Free disk space" in caught.value.fix
    assert journal.replay() == applied(HISTORY[:1])
    journal._db.execute("PRAGMA max_page_count=1000000")
    journal.append(HISTORY[1])
    assert journal.replay() == applied(HISTORY[:2])
    journal.close()


def test_a_file_that_is_no_journal_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StateError, match="cannot be used: file is not a database"):
        Journal(tmp_path / "events.db")


def test_an_empty_journal_is_an_empty_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "er" / "events.db")
    assert journal.replay() == Replay()
    journal.close()
