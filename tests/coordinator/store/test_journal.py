"""The journal: a crash at any moment loses no row that was appended."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnraise.core.errors import DiskFull, StateError
from barnraise.core.ids import Millis
from coordinator.store.events import Kind, Row
from coordinator.store.journal import Journal

rows = st.lists(
    st.builds(
        Row,
        st.sampled_from(Kind),
        st.integers(0, 2**50).map(Millis),
        st.integers(0, 5),
        st.binary(max_size=40),
    ),
    max_size=12,
)

HISTORY = [Row(kind, Millis(at), at % 3, b"body of " + kind.value.encode()) for at, kind in enumerate(Kind)]


def read(journal: Journal) -> list[Row]:
    return list(journal.rows())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(rows, st.integers(0, 12))
def test_a_restart_reads_every_row_from_before_the_crash(
    tmp_path_factory: pytest.TempPathFactory, recorded: list[Row], crash: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.db"
    journal = Journal(path)
    for one in recorded[:crash]:
        journal.append(one)
    again = Journal(path)  # a crash leaves the first one open
    assert read(again) == recorded[:crash]
    for one in recorded[crash:]:
        again.append(one)
    journal.close()
    again.close()
    last = Journal(path)
    assert read(last) == recorded
    last.close()


def test_an_interrupted_write_leaves_no_row(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    journal = Journal(path)
    for one in HISTORY[:5]:
        journal.append(one)
    torn = sqlite3.connect(path, isolation_level=None)
    torn.execute("BEGIN IMMEDIATE")
    torn.execute("INSERT INTO events (kind, at, round, body) VALUES ('closed', 1, 0, x'00')")
    torn.close()
    journal.append(HISTORY[6])
    assert read(journal) == [*HISTORY[:5], HISTORY[6]]
    journal.close()


def test_a_write_ahead_log_cut_anywhere_gives_the_first_rows(tmp_path: Path) -> None:
    """As after a power cut: the write-ahead log ends in the middle of a page."""
    path, lived = tmp_path / "events.db", Journal(tmp_path / "events.db")
    for one in HISTORY:
        lived.append(one)
    database, written = path.read_bytes(), (tmp_path / "events.db-wal").read_bytes()
    lived.close()
    seen = set()
    for number, cut in enumerate(range(0, len(written) + 1, 1000)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "events.db").write_bytes(database)
        (folder / "events.db-wal").write_bytes(written[:cut])
        journal = Journal(folder / "events.db")
        found = read(journal)
        journal.close()
        assert found == HISTORY[: len(found)]
        seen.add(len(found))
    assert len(seen) > len(HISTORY) // 2


def test_a_full_disk_raises_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.db")
    journal.append(HISTORY[0])
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count={pages}")  # SQLite then reports a full disk
    with pytest.raises(DiskFull) as caught:
        journal.append(Row(Kind.ACCEPTED, Millis(1), 0, bytes(10**6)))
    assert "Free disk space" in caught.value.fix
    assert read(journal) == HISTORY[:1]
    journal._db.execute("PRAGMA max_page_count=1000000")
    journal.append(HISTORY[1])
    assert read(journal) == HISTORY[:2]
    journal.close()


def test_another_file_is_a_state_error(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StateError, match="cannot be used: file is not a database"):
        Journal(tmp_path / "events.db")


def test_an_empty_journal_is_an_empty_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "er" / "events.db")
    assert read(journal) == []
    journal.close()


def test_a_kind_of_another_version_is_a_state_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.db")
    journal._db.execute("INSERT INTO events (kind, at, round, body) VALUES ('renamed', 1, 0, x'00')")
    with pytest.raises(StateError, match="cannot be used"):
        read(journal)
    journal.close()
