"""What `scripts/power_cut` checks after each cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.contract.records import blob_name
from barnraise.runtime.files import write_atomic
from coordinator.run_folder import AUTHORITY_KEY
from coordinator.store.run_store import RunStore
from scripts.chaos.inject import flip_a_bit
from scripts.power_cut import Promised, check_files
from scripts.stage import DemoFailed
from tests.support import parts
from tests.support.coordinators import fold_round, opened_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path) as made:
        write_atomic(tmp_path / AUTHORITY_KEY, parts.AUTHORITY.seed, mode=0o600)
        fold_round(made, parts.ADA, parts.BEN)
        fold_round(made, parts.ADA)
        yield made


def test_whole_files_are_counted(store: RunStore) -> None:
    assert check_files(store.folder, Promised({1: "aaaaaaaa"}, accepted=3)) == (2, 3)


def test_a_promise_that_the_journal_lacks_is_found(store: RunStore) -> None:
    with pytest.raises(DemoFailed, match="2 closes are left"):
        check_files(store.folder, Promised({2: "aaaaaaaa"}))
    with pytest.raises(DemoFailed, match="3 accepted contributions are left of 4"):
        check_files(store.folder, Promised(accepted=4))


def test_a_damaged_close_or_contribution_is_found(store: RunStore) -> None:
    link = fold_round(store, parts.BEN)
    for name in (link.hash, blob_name(link.commits[0])):
        data = store.blobs.get(name)
        flip_a_bit(store.blobs.path(name))
        with pytest.raises(DemoFailed, match=name):
            check_files(store.folder, Promised())
        store.blobs.put(data)
