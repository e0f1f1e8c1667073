"""The daemon's sockets are in a folder that no other user enters; what others made is not touched."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from barnraise.network.socket_folder import remove_stale_sockets, socket_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        monkeypatch.setattr(tempfile, "tempdir", folder)
        shutil.rmtree(socket_folder())
        yield Path(folder)
        shutil.rmtree(socket_folder())


@pytest.fixture
def ended() -> int:
    program = subprocess.Popen([sys.executable, "-c", ""])
    program.wait()
    return program.pid


def test_only_this_user_enters_the_folder_and_nobody_guesses_its_name() -> None:
    first = socket_folder()
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    assert socket_folder() == first
    shutil.rmtree(first)
    assert socket_folder() != first


def test_a_link_in_place_of_the_folder_is_not_used(tmp_path: Path) -> None:
    first = socket_folder()
    shutil.rmtree(first)
    first.symlink_to(tmp_path)
    assert socket_folder() != first
    assert socket_folder().is_dir()


def test_a_socket_path_is_short_enough_for_every_system() -> None:
    assert len(str(socket_folder() / "p2pclient-0123456789abcdefghijklmnopqrstuv.sock")) < 104


def test_the_socket_of_a_daemon_that_did_not_start_is_removed() -> None:
    used, unused = (socket_folder() / f"p2pd-{name}.sock" for name in "ab")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(used))
        listening.listen()
        unused.touch()
        remove_stale_sockets()
        assert [path.exists() for path in (used, unused)] == [True, False]


def test_folders_of_dead_programs_are_removed_and_no_others(temporary: Path, ended: int) -> None:
    names = (f"{ended}-a", f"{os.getppid()}-a", "x-a", "rehearsal")
    folders = [temporary / f"barnraise-{name}" for name in names]
    for folder in folders:
        folder.mkdir()
        (folder / "p2pd-a.sock").touch()
    remove_stale_sockets()
    assert [folder.exists() for folder in folders] == [False, True, True, True]


def test_another_user_s_folder_and_a_link_to_ours_stay(temporary: Path, ended: int) -> None:
    ours = temporary / "ours"
    ours.mkdir()
    link = temporary / f"barnraise-{ended}-link"
    link.symlink_to(ours)
    paths = [ours, link]
    if os.geteuid() == 0:
        theirs = temporary / f"barnraise-{ended}-theirs"
        theirs.mkdir()
        os.chown(theirs, 12345, 12345)
        paths.append(theirs)
    remove_stale_sockets()
    assert all(path.exists() for path in paths)
