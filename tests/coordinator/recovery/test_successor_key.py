"""`coordinator key successor` and `rotate`: a successor is named once, kept elsewhere, and put in place."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from barnraise.contract.records import blob_name
from barnraise.contract.run_keys import EPOCHS_PER_KEY
from barnraise.core.errors import StateError, UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import blob_hash
from barnraise.runtime.damaged import DAMAGED
from barnraise.runtime.files import load_identity, write_atomic
from coordinator.backup.restore import restore_backup
from coordinator.backup.take import take_backup
from coordinator.cli.main import main
from coordinator.recovery.archive_copy import ArchiveCopy
from coordinator.recovery.beginning import Asked, Continue, Recover
from coordinator.recovery.opening import folder_facts, known_keys, open_folder
from coordinator.recovery.recover import Recovery, resume_after_recovery
from coordinator.recovery.successor_key import make_successor, named_successor, rotate
from coordinator.run_folder import AUTHORITY_KEY, SUCCESSOR
from coordinator.store.journal import Journal
from coordinator.store.naming_successor import NamingSuccessor
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import archive, fold_round, opened_store, reopened, show, train_round
from tests.support.programs import restored_logging


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "run") as made:
        write_atomic(made.folder / AUTHORITY_KEY, parts.AUTHORITY.seed, mode=0o600)
        train_round(made, parts.BEN)
        yield made


def enter(store: RunStore) -> None:
    """As a running coordinator does."""
    entry = NamingSuccessor(store).entry(parts.NOW)
    assert entry is not None
    store.amend(entry, parts.NOW)


def successor_of(store: RunStore, tmp_path: Path) -> tuple[Identity, Path]:
    """One that the log names."""
    file = tmp_path / "stick" / "next.key"
    make_successor(store.folder, file)
    enter(store)
    return load_identity(file), file


def test_a_successor_is_private_kept_elsewhere_and_named_once(store: RunStore, tmp_path: Path) -> None:
    file = tmp_path / "stick" / "next.key"
    with pytest.raises(UserError, match="both keys"):
        make_successor(store.folder, store.folder / "next.key")
    public = make_successor(store.folder, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert named_successor(store.folder) is None
    with pytest.raises(UserError):
        make_successor(store.folder, tmp_path / "other.key")
    enter(store)
    assert named_successor(store.folder) == public
    assert NamingSuccessor(store).entry(parts.NOW) is None
    assert not (store.folder / SUCCESSOR).exists()
    with pytest.raises(UserError):
        make_successor(store.folder, tmp_path / "other.key")
    assert not (tmp_path / "other.key").exists()


def test_a_file_that_cannot_be_entered_is_set_aside(
    store: RunStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_successor(store.folder, tmp_path / "next.key")
    stale = (store.folder / SUCCESSOR).read_bytes()
    enter(store)
    with reopened(store, by=load_identity(tmp_path / "next.key")) as rotated:
        rotated.resume(parts.NOW)
        for wire in (b"\xff\x00", stale):
            (store.folder / SUCCESSOR).write_bytes(wire)
            assert NamingSuccessor(rotated).entry(parts.NOW) is None
            assert not (store.folder / SUCCESSOR).exists()
    asides = sorted((store.folder / DAMAGED).iterdir())
    assert [aside.read_bytes() for aside in asides] == [b"\xff\x00", stale]
    messages = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert [str(aside) in message for aside, message in zip(asides, messages, strict=True)] == [True, True]


def test_it_takes_the_place_of_the_run_key(store: RunStore, tmp_path: Path) -> None:
    successor, file = successor_of(store, tmp_path)
    assert rotate(store.folder, file) == successor.public
    replaced = store.folder / f"replaced-{parts.AUTHORITY.public[:8]}.key"
    assert replaced.read_bytes() == parts.AUTHORITY.seed
    key, beginning = open_folder(store.folder, Asked())
    assert (key.public, beginning) == (successor.public, Continue())
    with reopened(store, by=key) as rotated:
        resume_after_recovery(rotated, rotated.journal, parts.NOW)
        assert rotated.snapshot.position.epoch == EPOCHS_PER_KEY
        resume_after_recovery(rotated, rotated.journal, parts.NOW)
        assert rotated.snapshot.position.epoch == EPOCHS_PER_KEY, "once"
        fold_round(rotated, parts.BEN)
        rotated.write_checkpoint(parts.NOW)
        rotated.save(parts.NOW)
    with reopened(store, by=key) as again:
        assert again.snapshot.round == 2
        assert again.snapshot.run_key == successor.public
        assert known_keys(store.folder, again.snapshot.spec, key.public).run_key == successor.public
    shutil.copy(replaced, store.folder / AUTHORITY_KEY)
    with pytest.raises(StateError, match="nobody follows it"):
        open_folder(store.folder, Asked())


def test_a_key_that_the_log_does_not_name_is_put_nowhere(store: RunStore, tmp_path: Path) -> None:
    file = tmp_path / "next.key"
    make_successor(store.folder, file)
    for refused in (file, store.folder / AUTHORITY_KEY, tmp_path / "none"):
        with pytest.raises(UserError):
            rotate(store.folder, refused)
    assert (store.folder / AUTHORITY_KEY).read_bytes() == parts.AUTHORITY.seed
    with reopened(store, by=load_identity(file)) as taken, pytest.raises(StateError, match="does not name"):
        taken.resume(parts.NOW)


def test_a_machine_that_is_gone_is_recovered_from_an_archive(store: RunStore, tmp_path: Path) -> None:
    successor, file = successor_of(store, tmp_path)
    fold_round(store, parts.BEN)
    store.write_checkpoint(parts.NOW)
    show(store)
    new = tmp_path / "new"
    rotate(new, file)
    recovery = Recovery(new, successor, parts.RUN, lambda: parts.NOW)
    mirrors = recovery.begin(Recover(str(archive(store))))
    recovery.check_recovered()
    facts = folder_facts(new)
    assert (facts.journal, facts.run_keys[1:]) == (parts.AUTHORITY.public, (successor.public,))
    journal = Journal(new / "journal.sqlite")
    try:
        with reopened(replace(store, folder=new), mirrors, by=successor) as rotated:
            resume_after_recovery(rotated, journal, parts.NOW)
            assert (rotated.snapshot.round, rotated.snapshot.run_key) == (2, successor.public)
    finally:
        journal.close()
    with pytest.raises(UserError):
        ArchiveCopy.at(str(archive(store))).read_run(parts.STRANGER.public)


@pytest.mark.parametrize("has_copy", ["journal", "archive"])
def test_it_is_known_where_the_entry_that_names_it_is_damaged(
    store: RunStore, tmp_path: Path, has_copy: str
) -> None:
    successor, file = successor_of(store, tmp_path)
    show(store)
    rotate(store.folder, file)
    with reopened(store, by=successor) as rotated:
        resume_after_recovery(rotated, rotated.journal, parts.NOW)
    entry = store.snapshot.log[-1].name
    store.blobs.path(entry).unlink()  # the archive links it
    store.blobs.path(entry).write_bytes(b"damaged")
    if has_copy == "journal":
        shutil.rmtree(archive(store))
    else:
        store.journal._db.execute("DELETE FROM entries")
    key, beginning = open_folder(store.folder, Asked())
    assert (key.public, beginning) == (successor.public, Continue())
    assert blob_hash(store.blobs.get(entry)) == entry


def test_the_successor_goes_on_from_a_state_where_contributions_are_lost(
    store: RunStore, tmp_path: Path
) -> None:
    successor, _ = successor_of(store, tmp_path)
    with reopened(store, by=successor) as rotated:
        rotated.resume(parts.NOW)
        lost = fold_round(rotated, parts.BEN)
        for blob in parts.state_blobs(rotated.state).values():
            store.blobs.put(blob)
        fold_round(rotated, parts.ADA)
    for commit in lost.commits:
        store.blobs.remove(blob_name(commit))
    with reopened(store, by=successor) as again:
        assert again.state.hash() == rotated.state.hash()
        assert again.snapshot.newest_checkpoint.signer == successor.public
        show(again)
    with reopened(store, by=successor) as once_more:
        assert once_more.snapshot.replay_from == max(once_more.snapshot.checkpoints) == 2


def test_a_backup_is_restored_with_the_successor(store: RunStore, tmp_path: Path) -> None:
    _, file = successor_of(store, tmp_path)
    take_backup(store.folder, tmp_path / "backup", lambda: parts.NOW)
    restore_backup(tmp_path / "backup", tmp_path / "restored", file)
    assert (tmp_path / "restored" / AUTHORITY_KEY).read_bytes() == file.read_bytes()


def test_the_commands(store: RunStore, tmp_path: Path) -> None:
    run, file = str(store.folder), tmp_path / "next.key"
    with restored_logging():

        def key(*arguments: str) -> str:
            done = CliRunner().invoke(main, ["key", *arguments])
            assert done.exit_code == 0, done.output
            return done.output

        assert "keep it" in key("successor", run, str(file))
        enter(store)
        public = load_identity(file).public
        assert public in key("show", run)
        assert CliRunner().invoke(main, ["key", "put", run, str(file)]).exit_code == 2
        assert public[:8] in key("rotate", run, str(file))
        assert public in key("show", run)
        assert "--recover-from" in key("rotate", str(tmp_path / "new"), str(file))
