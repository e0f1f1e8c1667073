"""Durable files, scratch folders, and folders that one program locks.

A power cut drops what the system holds in memory and has not flushed to the disk, in any order. So what
names a file (a row of the journal, a signed record, `current.json`, a manifest, an index) is written last:

1. the bytes, under a temporary name, and `fsync` of the file;
2. the file's own name, by a rename or a hard link;
3. `fsync` of the folder that has the name, and of the parent of each folder that was made for it;
4. only then the row, record or file that names it, by the same steps or as a commit of SQLite
   (`synchronous=FULL`).

`replacing`, `write_atomic`, `keep_file` and `put_in_place` return after step 3. A `Batch` takes steps 1 to 3
for many files that one record names together: it ends with one flush of each folder. Scratch folders need no
flush: `put_in_place` flushes all that is in one before it gets its name.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from filelock import FileLock, Timeout

from barnraise.core.errors import DiskFull, FolderInUse, MachineError, StateError
from barnraise.core.identity import Identity
from barnraise.runtime.private_files import check_folder, make_private, read_key

F_FULLFSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: its fsync hands the bytes to the drive, which may still lose them."""

UNFINISHED = ".half-done-"
"""Prefix of temporary files and folders. They are renamed or removed when the work on them ends; those of a
killed program are removed at its next start."""

_making_folders = threading.RLock()
"""Held until a new folder is flushed: who finds the folder can rely on it."""


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


def flush(path: Path) -> None:
    """Have the bytes of a file, or the names in a folder, on the disk. Raises OSError."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            _sync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        # Some network file systems have no fsync of folders, and a parent may be unreadable.
        if not (error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EACCES) and path.is_dir()):
            raise


def _sync(handle: int) -> None:
    if F_FULLFSYNC is not None:
        with suppress(OSError):  # a disk that does not know it
            fcntl.fcntl(handle, F_FULLFSYNC)
            return
    os.fsync(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, each flushed into its parent. Raises OSError."""
    with _making_folders:
        new = []
        while not folder.is_dir():
            new.append(folder)
            folder = folder.parent
        for path in reversed(new):
            path.mkdir(exist_ok=True)
            flush(path.parent)


@dataclass(frozen=True)
class _Step:
    """How a file gets its name."""

    file: Path
    link: bool
    """By a hard link; else by a rename."""


@dataclass
class Batch(AbstractContextManager["Batch"]):
    """Files that get their names together when the block ends without an error.

    After an error in the block none of them has its name, and older files with these names stay. For one
    thread.
    """

    _steps: dict[Path, _Step] = field(default_factory=dict)
    """By target."""

    def rename(self, file: Path, target: Path) -> None:
        """Rename `file`, which is closed, to `target`."""
        self._steps[target] = _Step(file, link=False)

    def link(self, file: Path, target: Path) -> None:
        """Hard-link `file` to `target`, or copy it where links are not possible. An existing target stays.

        Raises FileNotFoundError.
        """
        if target in self._steps or target.exists():
            return
        if not file.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))
        self._steps[target] = _Step(file, link=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises DiskFull, MachineError, FileNotFoundError."""
        try:
            if error is None:
                self._give_names()
        finally:
            for step in self._steps.values():
                if not step.link:
                    step.file.unlink(missing_ok=True)  # missing after the rename

    def _give_names(self) -> None:
        for target, step in self._steps.items():
            with disk_errors(target):
                flush(step.file)
        for target, step in self._steps.items():
            with disk_errors(target):
                make_folder(target.parent)
                if step.link:
                    link_or_copy(step.file, target)
                else:
                    os.replace(step.file, target)
        for folder in {target.parent for target in self._steps}:
            with disk_errors(folder):
                flush(folder)


@contextmanager
def replacing(path: Path, *, mode: int = 0o644, batch: Batch | None = None) -> Iterator[BinaryIO]:
    """A file that replaces `path` when the block ends without an error, or at the end of `batch`.

    Raises DiskFull, MachineError; an older file at `path` then stays.
    """
    with disk_errors(path):
        make_folder(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_unfinished(path))
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                os.fchmod(file.fileno(), mode)
        except BaseException:
            part.unlink()
            raise
        if batch is not None:
            batch.rename(part, path)
            return
        with Batch() as alone:
            alone.rename(part, path)


def _unfinished(path: Path) -> str:
    """How the names of temporary files begin that are to replace `path`."""
    return f"{UNFINISHED}{path.name[:40]}-"


def remove_unfinished(path: Path) -> None:
    """Remove what killed programs left of files that were to replace `path`; no other program writes it now.

    For folders that no program locks, which cannot be swept. Raises DiskFull, MachineError.
    """
    with disk_errors(path):
        for part in path.parent.glob(f"{glob.escape(_unfinished(path))}*"):
            part.unlink(missing_ok=True)


def write_atomic(
    path: Path,
    data: bytes | bytearray | memoryview,
    *,
    mode: int = 0o644,
    batch: Batch | None = None,
) -> None:
    """Write `data` to `path` durably and atomically. Raises DiskFull, MachineError."""
    with replacing(path, mode=mode, batch=batch) as file:
        file.write(data)


def link_or_copy(file: Path, target: Path) -> None:
    """Hard-link `file` to `target` in a scratch folder, or copy it where links are not possible.

    Flushes nothing. Raises FileNotFoundError, DiskFull, MachineError.
    """
    try:
        os.link(file, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or a file system without links
        with replacing(target) as copy, file.open("rb") as original:
            shutil.copyfileobj(original, copy, 1 << 20)


def keep_file(part: Path, target: Path) -> None:
    """Rename a complete file to `target`, durably. Raises OSError."""
    flush(part)
    make_folder(target.parent)
    os.replace(part, target)
    flush(target.parent)


def put_in_place(work: Path, target: Path) -> None:
    """Rename a scratch folder to `target`, durably. What is at `target` is removed first. Raises OSError."""
    for folder, _, names in os.walk(work):
        for name in names:
            if not (Path(folder) / name).is_symlink():
                flush(Path(folder) / name)
        flush(Path(folder))
    make_folder(target.parent)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(work, target)
    flush(target.parent)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A temporary folder below `parent` that is removed at the end unless it was renamed.

    It is locked while it is used, so those that killed programs left in `parent` are known, and removed.
    """
    with disk_errors(parent):
        make_folder(parent)
        _remove_abandoned(parent)
        work, lock = _locked_folder(parent)
    try:
        yield work
    finally:
        os.close(lock)
        shutil.rmtree(work, ignore_errors=True)


def _locked_folder(parent: Path) -> tuple[Path, int]:
    while True:
        work = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
        lock = os.open(work, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if work.exists():  # else another program took it for abandoned before it was locked
            work.chmod(0o755)
            return work, lock
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for work in parent.glob(f"{UNFINISHED}*/"):
        try:
            lock = os.open(work, os.O_RDONLY)
        except FileNotFoundError:  # its program ended meanwhile
            continue
        try:
            with suppress(BlockingIOError):  # in use
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(work, ignore_errors=True)
        finally:
            os.close(lock)


def sweep(folder: Path) -> None:
    """Remove what a killed program left unfinished in `folder` and below. The caller holds its lock.

    Raises DiskFull, MachineError.
    """
    with disk_errors(folder):
        for place, folders, files in os.walk(folder):
            for name in [name for name in folders if name.startswith(UNFINISHED)]:
                shutil.rmtree(Path(place) / name)
                folders.remove(name)
            for name in files:
                if name.startswith(UNFINISHED):
                    (Path(place) / name).unlink()


@contextmanager
def owned_folder(folder: Path, what: str) -> Iterator[None]:
    """Lock `folder` for this program and this user, and `sweep` it.

    Raises FolderInUse, DiskFull, MachineError.
    """
    with disk_errors(folder):
        check_folder(folder)
        make_folder(folder)
        make_private(folder)
    lock = FileLock(folder / ".lock")
    with disk_errors(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FolderInUse(
                f"another {what} is running in {folder}",
                fix="Stop it first, or give this one its own folder with --data-dir.",
            ) from None
    try:
        sweep(folder)
        yield
    finally:
        lock.release()


def load_identity(path: Path, *, is_copy: bool = False) -> Identity:
    """The key in `path`, generated at the first call.

    is_copy: kept elsewhere, as on a stick without owners and modes. Raises StateError for a broken file;
    MachineError where it cannot be read, or other users may read or change it, unless it is a copy.
    """
    seed = read_key(path, is_copy=is_copy)
    if seed is not None:
        try:
            return Identity.from_seed(seed)
        except StateError as error:
            raise StateError(f"{path}: {error.problem}", fix=error.fix) from None
    identity = Identity.generate()
    write_atomic(path, identity.seed, mode=0o600)
    return identity
