"""The run's key in the coordinator's folder, and the run of another key that is set aside.

A key has its name only when its charter is journaled. Until then nobody has seen it, and a start that was
interrupted goes on with it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from barnraise.core.errors import StateError
from barnraise.core.identity import Identity
from barnraise.runtime.damaged import DAMAGED
from barnraise.runtime.files import Batch, disk_errors, flush, load_identity, make_folder
from barnraise.runtime.machine_clocks import utc_now
from coordinator.run_folder import AUTHORITY_KEY, EARLIER, JOURNAL
from coordinator.store.journal import journal_files

_NEW_KEY = "new-authority.key"


def run_key(folder: Path) -> Identity | None:
    """The key of the run in `folder`; None where none began.

    Raises StateError for a broken file, MachineError for one that cannot be read.
    """
    path = folder / AUTHORITY_KEY
    if not os.path.lexists(path):  # a link to a disk that is not mounted is no reason to begin another run
        return None
    try:
        return load_identity(path)
    except StateError as error:
        raise StateError(
            error.problem,
            fix=f"Put {AUTHORITY_KEY} back from where you keep a copy: `coordinator restore --key FILE BACKUP"
            f" {folder}`, or copy the file.",
        ) from None


def new_key(folder: Path) -> Identity:
    """The key of the run that is about to begin: the same until it has. Raises DiskFull, StateError."""
    return load_identity(folder / _NEW_KEY)


def pending_key(folder: Path) -> Identity | None:
    """The key of a run whose beginning was interrupted."""
    path = folder / _NEW_KEY
    return load_identity(path) if os.path.lexists(path) else None


def keep_key(folder: Path) -> None:
    """The run has begun: its key gets its name. Does nothing where it has it. Raises DiskFull."""
    if (folder / _NEW_KEY).exists():
        with Batch() as batch:
            batch.rename(folder / _NEW_KEY, folder / AUTHORITY_KEY)


def set_journal_aside(folder: Path) -> None:
    """Move a journal away whose end others have otherwise. Raises DiskFull."""
    files = [file for file in journal_files(folder / JOURNAL) if file.exists()]
    _move(files, folder / EARLIER / f"{utc_now():%Y%m%dT%H%M%SZ}-journal")


def set_run_aside(folder: Path) -> Path:
    """Move all that `folder` has of a run into a folder below it. Raises DiskFull."""
    target = folder / EARLIER / f"{utc_now():%Y%m%dT%H%M%SZ}"
    # The key is last: with it gone, the folder is that of a new run.
    names = sorted(os.listdir(folder), key=lambda name: name == AUTHORITY_KEY)
    moved = [name for name in names if not name.startswith(".") and name not in (EARLIER, DAMAGED)]
    _move([folder / name for name in moved], target)
    return target


def _move(paths: Sequence[Path], target: Path) -> None:
    """Move files and folders into a new folder, in this order. Raises DiskFull."""
    with disk_errors(target):
        make_folder(target)
        for path in paths:
            os.replace(path, target / path.name)
        for folder in (target, *{path.parent for path in paths}):
            flush(folder)
