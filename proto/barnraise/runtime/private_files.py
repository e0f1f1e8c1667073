"""Folders and keys that no other user of the machine may read or change."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from barnraise.core.errors import MachineError

FOLDER_MODE = 0o700
_OTHERS = 0o077
"""Rights of the group and of others."""


def check_folder(folder: Path) -> None:
    """Raise MachineError for what is there and is no folder, such as a link to a disk that is not mounted."""
    if folder.is_dir() or not (folder.exists() or folder.is_symlink()):
        return
    if folder.is_symlink():
        raise MachineError(
            f"{folder} is a link to {os.readlink(folder)}, which is no folder",
            fix="Mount the disk that has it, or name another folder.",
        )
    raise MachineError(f"{folder} is no folder", fix="Name another one, or move away what is there.")


def make_private(folder: Path) -> None:
    """Take all rights on a folder from other users. Raises MachineError where it is another's, OSError."""
    found = folder.stat()
    _check_owner(folder, found.st_uid)
    if stat.S_IMODE(found.st_mode) & _OTHERS and found.st_uid == os.geteuid():
        folder.chmod(FOLDER_MODE)


def check_private(key: Path) -> None:
    """Check the file of a key before it is read. Raises MachineError unless it is this user's alone."""
    found = key.stat()
    _check_owner(key, found.st_uid)
    if stat.S_IMODE(found.st_mode) & _OTHERS:
        raise MachineError(
            f"other users of this machine may read or change the key {key}"
            f" (mode {stat.S_IMODE(found.st_mode):o})",
            fix=f"Type chmod 600 {shlex.quote(str(key))} if nobody else can have it. Where chmod has no"
            " effect, as on a Windows drive, move the folder to your home folder.",
        )


def read_key(key: Path, *, is_copy: bool) -> bytes | None:
    """The bytes of a key's file; None where there is none. is_copy: other users may have rights on it.

    Raises MachineError where it cannot be read, also by a link to nothing: in its place another key would be
    made, and the volunteer or the run would be another one.
    """
    try:
        if not is_copy and key.exists():
            check_private(key)
        return key.read_bytes()
    except FileNotFoundError:
        if not key.is_symlink():
            return None
        raise MachineError(
            f"the key {key} is a link to {os.readlink(key)}, which is not there",
            fix="Mount the disk that has it, or remove the link to begin with another key.",
        ) from None
    except OSError as error:
        raise MachineError(
            f"the key {key} cannot be read: {error.strerror}",
            fix=f"Make it yours to read, by chmod u+r {shlex.quote(str(key))}, or by chown as root.",
        ) from None


def _check_owner(path: Path, owner: int) -> None:
    """Root's is as good as ours: it can read and change everything."""
    if owner not in (os.geteuid(), 0):
        raise MachineError(
            f"{path} belongs to another user, number {owner}; this program runs as number {os.geteuid()}",
            fix=f"Run it as that user, or type chown -R {os.geteuid()} {shlex.quote(str(path))} as root.",
        )
