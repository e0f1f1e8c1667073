"""Standings survive a restart, a snapshot and a checkpoint, and their newest lists are served as blobs."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.log_entries import Change
from barnraise.contract.standing import STANDINGS_FILE, read_standings
from barnraise.core.identity import Identity
from barnraise.models.checkpoint_files import read_tip
from coordinator.store.next_entry import standing_change_of
from coordinator.store.run_store import RunStore
from coordinator.store.transitions import MOST_LISTS
from peer.volunteer.saved_state import SavedState, SavedWork
from tests.support import parts
from tests.support.coordinators import checkpoint, head_of, opened_store, reopened, train_round


def ban(store: RunStore, *banned: Identity) -> None:
    changes = [Change(key=key.public, level="banned", cause="order") for key in banned]
    store.amend(standing_change_of(store.snapshot, changes, (), parts.NOW), parts.NOW)


def test_a_restart_has_the_standings_and_their_list(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        train_round(store, parts.ADA, parts.BEN)
        ban(store, parts.BEN)
        for saved in (False, True):
            if saved:
                store.save(parts.NOW)
            name = store.snapshot.position.standings.name
            assert name is not None
            store.blobs.remove(name)
            with reopened(store) as again:
                assert again.snapshot.position == store.snapshot.position
                assert again.snapshot.position.standings.bans(parts.BEN.public)
                assert read_standings(again.blobs.get(name), name) == store.snapshot.position.standings
                assert head_of(again).standings == name


def test_a_checkpoint_has_the_list_as_a_file(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        train_round(store, parts.ADA)
        assert not (checkpoint(store, 1) / STANDINGS_FILE).exists()
        ban(store, parts.BEN)
        train_round(store, parts.ADA)
        standings = store.snapshot.position.standings
        assert (checkpoint(store, 2) / STANDINGS_FILE).read_bytes() == standings.payload
        manifest = store.snapshot.checkpoints[2].value
        assert read_tip(manifest, store.blobs.path) == store.snapshot.tip


def test_the_newest_lists_are_kept(tmp_path: Path) -> None:
    with opened_store(tmp_path) as store:
        names = []
        for number in range(MOST_LISTS + 2):
            ban(store, Identity.from_seed(bytes([number]) * 32))
            names.append(store.snapshot.position.standings.name)
        assert [name in store.blobs for name in names if name] == [False] * 2 + [True] * MOST_LISTS


def test_a_volunteer_that_is_killed_goes_on_with_the_standings(tmp_path: Path) -> None:
    with opened_store(tmp_path / "run") as store:
        ban(store, parts.BEN)
        saved = SavedState(tmp_path, store.charter.digest)
        saved.save_state(store.snapshot.tip, store.state, {}, {}, "")
        found = SavedState(tmp_path, store.charter.digest).load()
        assert isinstance(found, SavedWork)
        assert found.tip == store.snapshot.tip
