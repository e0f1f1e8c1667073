"""The journal: a crash at any moment loses no row that was appended."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barnraise.core.errors import DiskFull, NewerVersion, StateError
from barnraise.core.ids import Millis, blob_hash
from barnraise.runtime.damaged import DamagedFiles
from coordinator.store.events import Kind, Row
from coordinator.store.journal import (
    KEPT_ENTRIES,
    Journal,
    JournalDamaged,
    Pruned,
    copy_journal,
    journal_files,
)
from coordinator.store.journal_chain import read_chain
from coordinator.store.journal_salvage import salvage
from coordinator.store.journal_schema import SCHEMA, Schema

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

_RAW_ROW = "INSERT INTO events (kind, at, round, body, chained) VALUES ('{}', 1, 0, x'00', x'00')"
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


def test_the_newest_time_is_the_latest_of_all_rows(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "events.db")) as journal:
        assert journal.newest_time() == 0
        for at in (5, 7, 6):  # a clock that went back
            journal.append(replace(HISTORY[0], at=Millis(at)))
        assert journal.newest_time() == 7


def test_an_interrupted_write_leaves_no_row(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    journal = Journal(path)
    for one in HISTORY[:5]:
        journal.append(one)
    torn = sqlite3.connect(path, isolation_level=None)
    torn.execute("BEGIN IMMEDIATE")
    torn.execute(_RAW_ROW.format("closed"))
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


def test_the_payloads_of_the_newest_entries_are_kept(tmp_path: Path) -> None:
    payloads = [b"entry %d" % number for number in range(KEPT_ENTRIES + 3)]
    with closing(Journal(tmp_path / "events.db")) as journal:
        for payload in payloads:
            journal.append(HISTORY[4], payload)
        journal.append(HISTORY[0])
    with closing(Journal(tmp_path / "events.db")) as again:
        kept = [again.entry(blob_hash(payload)) for payload in payloads]
        assert kept == [None] * 3 + payloads[3:]
        assert read(again) == [HISTORY[4]] * len(payloads) + [HISTORY[0]]


def test_a_damaged_payload_is_not_used(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "events.db")) as journal:
        journal.append(HISTORY[4], b"an entry")
        journal._db.execute("UPDATE entries SET payload = ?", (b"another",))
        assert journal.entry(blob_hash(b"an entry")) is None


def test_a_full_disk_keeps_neither_the_row_nor_its_payload(tmp_path: Path) -> None:
    journal, large = Journal(tmp_path / "events.db"), bytes(10**6)
    journal.append(HISTORY[0])
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(DiskFull):
        journal.append(HISTORY[4], large)
    journal._db.execute("PRAGMA max_page_count=1000000")
    journal.append(HISTORY[1])
    assert read(journal) == HISTORY[:2]
    assert journal.entry(blob_hash(large)) is None
    journal.close()


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


def test_another_file_is_a_damaged_journal(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(JournalDamaged):
        Journal(tmp_path / "events.db")


def test_an_empty_journal_is_an_empty_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "er" / "events.db")
    assert read(journal) == []
    journal.close()


def test_an_unknown_kind_is_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.db")
    journal._db.execute(_RAW_ROW.format("renamed"))
    with pytest.raises(JournalDamaged):
        read(journal)
    journal.close()


# Damage


def written(path: Path, rows: list[Row]) -> None:
    """A closed journal."""
    journal = Journal(path)
    for row in rows:
        journal.append(row)
    journal.close()


def read_into(found: list[Row], path: Path) -> None:
    with closing(Journal(path)) as journal:
        for row in journal.rows():
            found.append(row)


MANY = [Row(Kind.ACCEPTED, Millis(at), at, b"%d " % at * 200) for at in range(100)]


@pytest.mark.parametrize("where", ["header", "middle", "truncated", "emptied row", "changed row"])
def test_damage_is_found_and_the_rows_before_it_are_kept(tmp_path: Path, where: str) -> None:
    path = tmp_path / "events.db"
    written(path, MANY)
    data = bytearray(path.read_bytes())
    match where:
        case "header":
            data[:16] = bytes(16)
        case "middle":
            middle = len(data) // 2 // 4096 * 4096
            data[middle : middle + 4096] = bytes(4096)
        case "truncated":
            del data[len(data) // 2 :]
        case "emptied row":
            at = data.index(b"50 50 50")
            data[at : at + 200] = bytes(200)
        case "changed row":
            data[data.index(b"50 50 50") + 1] ^= 1
    path.write_bytes(data)
    found: list[Row] = []
    with pytest.raises(JournalDamaged):
        read_into(found, path)
    assert found == MANY[: len(found)]
    kept = salvage(path, DamagedFiles(tmp_path / "damaged"))
    assert kept == len(found)
    assert kept > 10 or where in ("header", "truncated")
    journal = Journal(path)
    assert read(journal) == MANY[:kept]
    assert journal.behind == (found[-1].at if found else 0)
    journal.append(HISTORY[0])
    journal.close()
    assert len(list((tmp_path / "damaged").iterdir())) >= 1


def test_a_row_missing_in_the_middle_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    written(path, MANY)
    db = sqlite3.connect(path)
    db.execute("DELETE FROM events WHERE id = 50")
    db.commit()
    db.close()
    journal = Journal(path)
    with pytest.raises(JournalDamaged):
        read(journal)
    journal.close()
    assert salvage(path, DamagedFiles(tmp_path / "damaged")) == 49


# Copies and versions


def test_a_copy_has_what_is_in_the_write_ahead_log(tmp_path: Path) -> None:
    path, copy = tmp_path / "events.db", tmp_path / "copy.db"
    journal = Journal(path)
    for row in HISTORY:
        journal.append(row)
    copy_journal(path, copy)
    journal.append(HISTORY[0])
    journal.close()
    assert [file for file in journal_files(copy) if file.exists()] == [copy]
    again = Journal(copy)
    assert read(again) == HISTORY
    assert again.behind is None
    again.mark_behind(Millis(7))
    assert again.behind == 7
    again.mark_behind(None)
    assert again.behind is None
    again.close()


def test_a_chain_continues_those_that_it_begins_with(tmp_path: Path) -> None:
    written(tmp_path / "short", MANY[:3])
    written(tmp_path / "long", MANY[:5])
    written(tmp_path / "other", [*MANY[:2], MANY[7], MANY[4]])
    written(tmp_path / "empty", [])
    short, long, other, empty = (read_chain(tmp_path / name) for name in ("short", "long", "other", "empty"))
    assert long.continues(short)
    assert long.continues(long)
    assert long.continues(empty)
    assert not short.continues(long)
    assert not other.continues(short)


# Pruned rows


CHARTERED, SAVED = (next(row for row in HISTORY if row.kind is kind) for kind in (Kind.CHARTERED, Kind.SAVED))
COVERED = [CHARTERED, *MANY[:4], CHARTERED, SAVED, *MANY[4:6]]


def test_pruning_keeps_the_rows_from_the_newest_snapshot_but_one_on(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    written(path, COVERED)
    with closing(Journal(path)) as journal:
        journal.prune()
        assert read(journal) == COVERED, "it has one snapshot, which may be damaged"
        for row in (CHARTERED, SAVED, MANY[6]):
            journal.append(row)
        journal.prune()
        assert read(journal) == [*COVERED[5:], CHARTERED, SAVED, MANY[6]]
        assert journal.pruned.rows == 5
        journal.prune()
        journal.append(MANY[7])
    with closing(Journal(path)) as again:
        assert read(again) == [*COVERED[5:], CHARTERED, SAVED, MANY[6], MANY[7]]
        for row in (CHARTERED, SAVED):
            again.append(row)
        again.prune()
        assert read(again) == [CHARTERED, SAVED, MANY[6], MANY[7], CHARTERED, SAVED]
        assert again.pruned.rows == 9


def pruned_journal(path: Path) -> list[Row]:
    """A journal that has pruned its first five rows; all of its rows."""
    written(path, recorded := [*COVERED, CHARTERED, SAVED, MANY[6]])
    with closing(Journal(path)) as journal:
        journal.prune()
    return recorded


@pytest.mark.parametrize("id", [6, 7, 9])
def test_a_pruned_journal_is_damaged_where_a_kept_row_is_missing(tmp_path: Path, id: int) -> None:
    pruned_journal(path := tmp_path / "events.db")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM events WHERE id = ?", (id,))
    with closing(Journal(path)) as journal, pytest.raises(JournalDamaged) as damaged:
        read(journal)
    assert f"row {id} " in damaged.value.problem
    assert salvage(path, DamagedFiles(tmp_path / "damaged")) == id - 6


def test_an_altered_note_of_pruned_rows_is_damage(tmp_path: Path) -> None:
    pruned_journal(path := tmp_path / "events.db")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE about SET value = 'five' WHERE key = 'pruned'")
    with pytest.raises(JournalDamaged):
        Journal(path)


def test_the_rest_of_a_pruned_journal_continues_the_same_rows(tmp_path: Path) -> None:
    recorded = pruned_journal(tmp_path / "pruned")
    written(tmp_path / "whole", recorded)
    written(tmp_path / "old", recorded[:3])
    written(tmp_path / "new", [*recorded, MANY[7]])
    written(tmp_path / "other", [*recorded[:8], MANY[8], *recorded[9:]])
    names = ("pruned", "whole", "old", "new", "other")
    pruned, whole, old, new, other = (read_chain(tmp_path / name) for name in names)
    assert pruned.rows == whole.rows == len(recorded)
    assert pruned.continues(whole)
    assert whole.continues(pruned)
    assert pruned.continues(old)
    assert new.continues(pruned)
    assert not old.continues(pruned)
    assert not other.continues(pruned)
    with closing(sqlite3.connect(tmp_path / "pruned")) as db, db:
        db.execute("DELETE FROM events WHERE id = 12")  # the last
        db.execute("UPDATE events SET body = x'00' WHERE id = 11")
    assert salvage(tmp_path / "pruned", DamagedFiles(tmp_path / "damaged")) == 5
    salvaged = read_chain(tmp_path / "pruned")
    assert salvaged.pruned == pruned.pruned
    assert whole.continues(salvaged)


def test_a_journal_of_another_run_continues_none(tmp_path: Path) -> None:
    pruned_journal(tmp_path / "pruned")
    written(tmp_path / "other", [replace(CHARTERED, body=b"another charter"), MANY[0]])
    assert not read_chain(tmp_path / "pruned").continues(read_chain(tmp_path / "other"))


def test_a_journal_that_begins_after_pruned_rows_continues_their_hash(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "events.db")) as journal:
        journal.begin_after(Pruned(5, b"hash"))
        journal.append(CHARTERED)
        assert read(journal) == [CHARTERED]
    with closing(Journal(tmp_path / "events.db")) as again:
        assert read(again) == [CHARTERED]
        assert again.pruned == Pruned(5, b"hash")


def test_a_snapshot_that_was_not_written_stays_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.store.journal.SNAPSHOT_ROWS", 1)

    def interrupted() -> Iterator[Row]:
        yield Row(Kind.SAVED, Millis(1), 0, b"")
        raise KeyboardInterrupt

    with closing(Journal(tmp_path / "events.db")) as journal:
        journal.append(CHARTERED)
        with pytest.raises(KeyboardInterrupt):
            journal.extend(interrupted())
        assert journal.snapshot_due
        assert read(journal) == [CHARTERED]


@pytest.mark.parametrize(
    "write",
    [
        lambda journal: journal.mark_behind(Millis(1)),
        lambda journal: journal.mark_behind(None),
        lambda journal: journal.begin_after(Pruned(5, b"hash")),
    ],
)
def test_a_journal_that_another_program_writes_is_a_state_error(
    tmp_path: Path, write: Callable[[Journal], None]
) -> None:
    path = tmp_path / "events.db"
    with closing(Journal(path)) as journal, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        journal._db.execute("PRAGMA busy_timeout=0")
        with pytest.raises(StateError, match="cannot be used"):
            write(journal)
        assert (journal.behind, journal.pruned) == (None, Pruned())


def _with_a_column(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE events ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0")


def _failing(db: sqlite3.Connection) -> None:
    _with_a_column(db)
    raise KeyboardInterrupt


def later(migration: Callable[[sqlite3.Connection], None]) -> Schema:
    """The schema of a later release."""
    return Schema(SCHEMA.version + 1, "9.1", {**SCHEMA.migrations, SCHEMA.version: migration})


def test_a_later_release_continues_a_journal_and_this_one_then_refuses_it(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    written(path, HISTORY)
    with pytest.raises(KeyboardInterrupt):
        Journal(path, later(_failing))
    again = Journal(path)
    assert read(again) == HISTORY, "an interrupted migration changes nothing"
    again.close()
    new = Journal(path, later(_with_a_column))
    assert read(new) == HISTORY
    new.append(HISTORY[0])
    new.close()
    with pytest.raises(NewerVersion) as refused:
        Journal(path)
    assert refused.value.release == "9.1"


def test_a_journal_of_before_the_first_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    db = sqlite3.connect(path)
    db.execute(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, kind TEXT, at INTEGER, round INTEGER, body BLOB)"
    )
    db.close()
    with pytest.raises(StateError) as refused:
        Journal(path)
    assert "--data-dir" in refused.value.fix
