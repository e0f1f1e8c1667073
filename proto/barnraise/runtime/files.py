"""Atomic writes, scratch folders, and folders that one program locks."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from barnraise.core.errors import DiskFull, FolderInUse, MachineError, StateError
from barnraise.core.identity import Identity


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError about `path` into DiskFull or MachineError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"no space left on the disk of {path}",
                fix="Free some space and start again: the work so far is kept.",
            ) from error
        raise MachineError(f"cannot write {path}: {error.strerror}", fix="Check its permissions.") from error


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """A file that replaces `path` when the block ends without an error.

    Raises DiskFull, MachineError; an older file at `path` then stays.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                os.fchmod(file.fileno(), mode)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)  # missing after the rename


def write_atomic(path: Path, data: bytes | bytearray | memoryview, *, mode: int = 0o644) -> None:
    """Write `data` to `path` atomically. Raises DiskFull, MachineError."""
    with replacing(path, mode=mode) as file:
        file.write(data)


def link_or_copy(file: Path, target: Path) -> None:
    """Hard-link `file` to `target`, or copy it where links are not possible.

    Raises FileNotFoundError, DiskFull, MachineError.
    """
    try:
        os.link(file, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or a file system without links
        with replacing(target) as copy, file.open("rb") as original:
            shutil.copyfileobj(original, copy, 1 << 20)


SCRATCH = ".half-done-"
"""Prefix of temporary folders, which are removed or renamed when the work on them ends."""


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder below `parent` that is removed at the end unless it was renamed."""
    with disk_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=parent))
        work.chmod(0o755)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def clear_scratch(parent: Path) -> None:
    """Remove the scratch folders that a killed program left below `parent`."""
    with disk_errors(parent):
        for left_over in parent.glob(f"{SCRATCH}*"):
            shutil.rmtree(left_over)


@contextmanager
def owned_folder(folder: Path, what: str) -> Iterator[None]:
    """Lock `folder` for this program. Raises FolderInUse."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderInUse(
            f"another {what} is running in {folder}",
            fix="Stop it first, or give this one its own folder with --data-dir.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def load_identity(path: Path) -> Identity:
    """The key in `path`, generated at the first call. Raises StateError for a broken file."""
    if path.exists():
        try:
            return Identity.from_seed(path.read_bytes())
        except StateError as error:
            raise StateError(f"{path}: {error.problem}", fix=error.fix) from None
    identity = Identity.generate()
    write_atomic(path, identity.seed, mode=0o600)
    return identity
