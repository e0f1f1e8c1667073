"""`coordinator key`: a copy of the run's key, kept off-line, brings a run back whose key is lost."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from barnraise.core.errors import UserError
from barnraise.runtime.files import write_atomic
from coordinator.cli.main import main
from coordinator.recovery.key_copies import check_key, copy_key, put_key
from coordinator.run_folder import AUTHORITY_KEY
from coordinator.store.run_store import RunStore
from tests.support import parts
from tests.support.coordinators import opened_store
from tests.support.programs import restored_logging


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with opened_store(tmp_path / "run") as made:
        write_atomic(made.folder / AUTHORITY_KEY, parts.AUTHORITY.seed, mode=0o600)
        yield made


def test_a_copy_is_private_and_brings_a_lost_key_back(store: RunStore, tmp_path: Path) -> None:
    copy = tmp_path / "stick" / "run.key"
    assert copy_key(store.folder, copy) == parts.AUTHORITY.public
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    (store.folder / AUTHORITY_KEY).unlink()
    assert check_key(store.folder, copy) == parts.AUTHORITY.public
    assert put_key(store.folder, copy) == parts.AUTHORITY.public
    assert (store.folder / AUTHORITY_KEY).read_bytes() == parts.AUTHORITY.seed


def test_nothing_is_overwritten_and_another_key_is_named(store: RunStore, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    write_atomic(other, parts.STRANGER.seed)
    with pytest.raises(UserError) as refused:
        copy_key(store.folder, other)
    with pytest.raises(UserError) as wrong:
        put_key(store.folder, other)
    assert parts.STRANGER.public[:8] in wrong.value.problem
    assert parts.AUTHORITY.public[:8] in wrong.value.problem
    assert other.read_bytes() == parts.STRANGER.seed, refused.value.problem
    with pytest.raises(UserError):
        check_key(store.folder, tmp_path / "none")
    with pytest.raises(UserError):
        copy_key(tmp_path / "nowhere", tmp_path / "new.key")


def test_the_commands(store: RunStore, tmp_path: Path) -> None:
    run, copy = str(store.folder), str(tmp_path / "run.key")
    with restored_logging():
        for arguments in (["show", run], ["copy", run, copy], ["check", run, copy], ["put", run, copy]):
            done = CliRunner().invoke(main, ["key", *arguments])
            assert done.exit_code == 0, done.output
            assert parts.AUTHORITY.public[:8] in done.output
        assert CliRunner().invoke(main, ["key", "copy", run, copy]).exit_code == 2
