"""The folder of the libp2p daemon's sockets: a new one for each program, which no other user can enter.

It is in the folder for temporary files, since the path of a socket has at most 104 bytes. Any user of the
machine may make files there, with names like ours too: they are neither used nor touched.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path

PREFIX = "barnraise-"
"""Folders carry the process id of their program: `barnraise-PID-…`."""


def socket_folder() -> Path:
    """This program's, made at the first call, and again where it was removed or another user has its name."""
    folder = _made(os.getpid())
    if not _is_own_folder(folder):
        _made.cache_clear()
        folder = _made(os.getpid())
    return folder


@functools.cache
def _made(process: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{process}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def remove_stale_sockets() -> None:
    """Remove folders of our programs that were killed, and sockets of this program's daemons that did not
    start."""
    for path in socket_folder().glob("*.sock"):
        if not _answers(path):
            path.unlink(missing_ok=True)
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        process = folder.name.split("-")[1]
        if process.isdecimal() and _is_own_folder(folder) and not _lives(int(process)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_own_folder(path: Path) -> bool:
    """Whether it is a folder, and no link, that this user made."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0


def _lives(process: int) -> bool:
    """Whether there is such a process of this user: another user's has the number of one that ended."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, PermissionError, OverflowError):
        return False
    return True
