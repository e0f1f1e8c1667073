"""Folders and keys that only their owner may use."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from barnraise.core.errors import MachineError
from barnraise.runtime.files import load_identity, owned_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_program_s_folder_is_its_user_s_alone(tmp_path: Path) -> None:
    made, found = tmp_path / "made", tmp_path / "found"
    found.mkdir(mode=0o755)
    for folder in (made, found):
        with owned_folder(folder, "peer"):
            assert mode(folder) == 0o700


def test_a_new_key_is_its_user_s_alone(tmp_path: Path) -> None:
    key = load_identity(tmp_path / "key")
    assert mode(tmp_path / "key") == 0o600
    assert load_identity(tmp_path / "key").public == key.public


@pytest.mark.parametrize("rights", [0o640, 0o604, 0o620, 0o602])
def test_a_key_that_others_may_read_or_change_is_not_used(tmp_path: Path, rights: int) -> None:
    load_identity(tmp_path / "a key")
    (tmp_path / "a key").chmod(rights)
    with pytest.raises(MachineError, match=f"mode {rights:o}") as refused:
        load_identity(tmp_path / "a key")
    assert f"chmod 600 '{tmp_path}/a key'" in refused.value.fix


def test_a_copy_on_a_stick_without_modes_is_read(tmp_path: Path) -> None:
    key = load_identity(tmp_path / "key")
    (tmp_path / "key").chmod(0o755)
    assert load_identity(tmp_path / "key", is_copy=True).public == key.public


def test_another_user_s_key_and_folder_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's are: it may change everything in any case."""
    load_identity(tmp_path / "key")
    owner = (tmp_path / "key").stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        os.chown(tmp_path / "key", 12345, -1)
        os.chown(tmp_path, 12345, -1)
    for use in (lambda: load_identity(tmp_path / "key"), lambda: owned_folder(tmp_path, "peer").__enter__()):
        with pytest.raises(MachineError, match="belongs to another user") as refused:
            use()
        assert "chown" in refused.value.fix
