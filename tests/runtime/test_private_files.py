"""Folders and keys that only their owner may use."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from barnraise.core.errors import MachineError
from barnraise.runtime.files import load_identity, owned_folder
from coordinator.recovery.key_file import run_key
from coordinator.run_folder import AUTHORITY_KEY
from peer.data_dir import PEER_KEY, own_key


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


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(MachineError, match="cannot be read: Is a directory"):
        load_identity(tmp_path / "folder")
    load_identity(tmp_path / "key")

    def refused(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(MachineError, match="cannot be read: Permission denied") as found:
        load_identity(tmp_path / "key")
    assert "chown" in found.value.fix


def test_no_key_is_made_in_place_of_a_link_to_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    kept, link = tmp_path / "stick" / "key", tmp_path / "key"
    link.symlink_to(kept)
    for is_copy in (False, True):
        with pytest.raises(MachineError, match=r"a link to .*stick/key, which is not there"):
            load_identity(link, is_copy=is_copy)
    assert link.is_symlink()
    kept.parent.mkdir()
    made = load_identity(kept)
    assert load_identity(link).public == made.public


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    file, link, loop = tmp_path / "file", tmp_path / "link", tmp_path / "loop"
    file.write_text("")
    link.symlink_to(tmp_path / "stick")
    loop.symlink_to(loop)
    for folder in (file, link, loop):
        with pytest.raises(MachineError, match="no folder"), owned_folder(folder, "peer"):
            pass


def test_a_link_to_a_folder_makes_that_folder_private(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o777)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with owned_folder(tmp_path / "link", "peer"):
        assert mode(tmp_path / "disk") == 0o700


def test_a_key_that_a_command_makes_is_in_a_private_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    made = own_key(tmp_path)
    assert (mode(tmp_path), mode(tmp_path / PEER_KEY)) == (0o700, 0o600)
    assert own_key(tmp_path).public == made.public


def test_a_run_whose_key_is_on_a_disk_that_is_not_mounted_is_not_begun_again(tmp_path: Path) -> None:
    (tmp_path / AUTHORITY_KEY).symlink_to(tmp_path / "stick")
    with pytest.raises(MachineError, match="which is not there"):
        run_key(tmp_path)
