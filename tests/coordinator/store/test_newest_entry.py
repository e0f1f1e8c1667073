"""The blob of the newest entry is damaged while the run goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.core.errors import FileDamaged
from barnraise.core.ids import blob_hash
from coordinator.store.newest_entry import keep_newest_entry
from coordinator.store.run_store import RunStore
from tests.support.coordinators import fold_round, opened_store
from tests.support.parts import ADA


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    """One round, of which nobody has a copy."""
    with opened_store(tmp_path) as made:
        fold_round(made, ADA)
        yield made


def newest_path(store: RunStore) -> Path:
    return store.blobs.path(store.snapshot.log[-1].name)


def keep(store: RunStore) -> None:
    asyncio.run(keep_newest_entry(store))


def test_before_the_first_entry_nothing_is_damaged(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        keep(store)


@pytest.mark.parametrize("data", [b"", b"other bytes", None])
def test_the_journal_has_a_copy(
    store: RunStore, caplog: pytest.LogCaptureFixture, data: bytes | None
) -> None:
    caplog.set_level(logging.WARNING)
    path = newest_path(store)
    path.unlink() if data is None else path.write_bytes(data)
    keep(store)
    keep(store)
    assert blob_hash(path.read_bytes()) == path.name
    assert len(caplog.records) == 1


def test_a_file_that_was_only_touched_stays(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = newest_path(store)
    path.write_bytes(path.read_bytes())
    keep(store)
    assert not caplog.records


def test_without_any_copy_it_is_an_error(store: RunStore) -> None:
    newest_path(store).unlink()
    store.journal._db.execute("UPDATE entries SET payload = x'00'")
    with pytest.raises(FileDamaged):
        keep(store)
