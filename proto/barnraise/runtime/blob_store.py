"""Content-addressed files: a blob's name is its SHA-256."""

from __future__ import annotations

import errno
import hashlib
import mmap
import re
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.pieces import HASH_BYTES, Wanted, piece_count, piece_list
from barnraise.core.errors import FileDamaged, HashMismatch, Unreachable
from barnraise.core.ids import HASH_PATTERN, BlobHash, blob_hash, short
from barnraise.runtime.damaged import DAMAGED, DamagedFiles
from barnraise.runtime.files import Batch, disk_errors, keep_file, make_folder, write_atomic

PART, LISTING = ".part", ".list"
"""Suffixes of a blob's files: a sequential download, and the piece list."""
PIECES, CLAIMED = ".pieces", ".claimed"
"""Suffixes of a download in pieces, and of the piece list by which it is checked: that of one commit, which
may be false. Another commit's download of the same blob has files of its own."""


@dataclass(frozen=True)
class Intact:
    """The blob is stored, and has its hash."""


@dataclass(frozen=True)
class Absent:
    """The blob is not stored."""


@dataclass(frozen=True)
class SetAside:
    """The blob was damaged, and is not stored any more."""

    path: Path
    """Where its bytes are now."""


@dataclass(frozen=True)
class FilePart:
    """A blob's bytes in a file that is not the store's own."""

    path: Path
    offset: int
    size: int


BlobCheck = Intact | Absent | SetAside
Stamp = tuple[int, int]
"""Bytes of a file, and when it was written, in nanoseconds."""


class BlobStore:
    """Blobs in `folder/ab/abcdef…`. Every method may be called from any thread.

    A blob has its name only when all of its bytes are on the disk (`barnraise.runtime.files`). One whose
    bytes have changed since is moved to `damaged/`, next to `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged = DamagedFiles(folder.parent / DAMAGED)
        self._intact: dict[BlobHash, Stamp] = {}
        """The stamp of each file when this process wrote it or checked its hash."""
        self._lent: Mapping[BlobHash, FilePart] = {}

    def lend(self, parts: Mapping[BlobHash, FilePart]) -> None:
        """Let others fetch these parts of other files by their hashes; those that were lent before, no more.

        The store does not contain them: they are only served.
        """
        self._lent = dict(parts)

    def lent(self, name: BlobHash) -> FilePart | None:
        """The part of another file that is served as the blob `name`."""
        return self._lent.get(name)

    def path(self, name: BlobHash) -> Path:
        if not re.fullmatch(HASH_PATTERN, name):
            raise HashMismatch(
                f"{name[:80]!r} is not a SHA-256", fix="The request is refused; nothing needs to be done."
            )
        return self.folder.joinpath(name[:2], name)

    def __contains__(self, name: BlobHash) -> bool:
        return self.path(name).is_file()

    def size(self, name: BlobHash) -> int:
        return self.path(name).stat().st_size

    def put(self, data: bytes | bytearray, batch: Batch | None = None) -> BlobHash:
        """Store `data`, at once or at the end of `batch`. Raises DiskFull, MachineError."""
        name = blob_hash(data)
        if name not in self:
            write_atomic(self.path(name), data, batch=batch)
            self._note(name)
        return name

    def adopt(self, file: Path, batch: Batch) -> BlobHash:
        """Add `file` to the store at the end of `batch`, by a hard link, or by a copy across disks."""
        name = file_hash(file)
        batch.link(file, self.path(name))
        self._intact[name] = _stamp(file)
        return name

    def get(self, name: BlobHash) -> bytes:
        """Raises FileNotFoundError, and FileDamaged where the blob was damaged and is set aside."""
        try:
            data = self.path(name).read_bytes()
        except OSError as error:
            if error.errno != errno.EIO:  # the disk cannot read it any more
                raise
            data = b""
        if blob_hash(data) != name:
            raise damaged(name, self._set_aside(name))
        return data

    def check(self, name: BlobHash) -> BlobCheck:
        """Read a blob and check its hash; a damaged one is set aside. Slow: 1 s for each gigabyte or so."""
        if name not in self:
            return Absent()
        try:
            found = file_hash(self.path(name))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            found = None
        if found != name:
            return self._set_aside(name)
        self._note(name)
        return Intact()

    def is_unchanged(self, name: BlobHash) -> bool:
        """Whether this process wrote or checked the blob, and no one has written to its file since."""
        try:
            return self._intact.get(name) == _stamp(self.path(name))
        except FileNotFoundError:
            return False

    def _note(self, name: BlobHash) -> None:
        if name in self:  # else it is in a batch
            self._intact[name] = _stamp(self.path(name))

    def _set_aside(self, name: BlobHash) -> SetAside:
        self.listing(name).unlink(missing_ok=True)  # it may be of the damaged bytes
        return SetAside(self.set_file_aside(self.path(name)))

    def set_file_aside(self, file: Path) -> Path:
        """Move a damaged file to the folder of the damaged blobs. Raises DiskFull, MachineError."""
        return self._damaged.set_aside(file)

    def view(self, name: BlobHash) -> memoryview:
        """A blob's bytes, mapped from disk instead of read into memory, and not checked."""
        with self.path(name).open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def partial(self, name: BlobHash) -> Path:
        """The file of a sequential download of `name`, which can be resumed."""
        return self._sibling(name, PART)

    def in_pieces(self, wanted: Wanted) -> Path:
        """The file of a download in pieces, in any order."""
        return self._sibling(wanted.blob, f".{wanted.pieces[:16]}-{wanted.size}{PIECES}")

    def claimed_listing(self, wanted: Wanted) -> Path:
        """The file of the piece list that a download is checked by."""
        return self.in_pieces(wanted).with_suffix(CLAIMED)

    def accept(self, name: BlobHash) -> Path:
        """Check a finished download and rename it to its hash. Raises HashMismatch, and removes the file.

        Raises Unreachable where the file was removed in the meantime.
        """
        return self._accept(name, self.partial(name))

    def accept_pieces(self, wanted: Wanted) -> Path:
        """`accept` for a download in pieces, all of which fit the list that was claimed."""
        claimed = self.claimed_listing(wanted)
        try:
            path = self._accept(wanted.blob, self.in_pieces(wanted))
        except HashMismatch:
            claimed.unlink(missing_ok=True)
            raise
        with disk_errors(claimed), suppress(FileNotFoundError):
            claimed.replace(self.listing(wanted.blob))  # the blob has its hash, and so it is true
        return path

    def _accept(self, name: BlobHash, part: Path) -> Path:
        with disk_errors(part):
            try:
                found = file_hash(part)
                if found == name:
                    keep_file(part, self.path(name))
                    self._note(name)
                    return self.path(name)
            except FileNotFoundError:
                raise Unreachable(
                    f"the blob {short(name)} was removed while it was fetched",
                    fix="It is requested again where it is still needed.",
                ) from None
        part.unlink(missing_ok=True)
        raise HashMismatch(
            f"asked for {short(name)}, got bytes that hash to {short(found)}",
            fix="They were removed. Try again; another source is used where there is one.",
        )

    def listing(self, name: BlobHash) -> Path:
        """The file of the piece list of `name`."""
        return self._sibling(name, LISTING)

    def piece_list(self, name: BlobHash) -> bytes:
        """The piece list of a stored blob. The first call is slow: it reads the blob."""
        path, count = self.listing(name), piece_count(self.size(name))
        if path.is_file() and path.stat().st_size == count * HASH_BYTES:
            return path.read_bytes()
        wire = piece_list(self.view(name)) if count else b""
        write_atomic(path, wire)
        return wire

    def keep_only(self, names: Container[BlobHash]) -> None:
        """Remove all other blobs, and unfinished downloads."""
        for path in self.folder.glob("??/*"):
            name = path.name.removesuffix(LISTING)
            if BlobHash(name) not in names:
                path.unlink()

    def remove_stale_downloads(self, before: float) -> None:
        """Remove what unfinished downloads have not written to since `before`, in seconds since the epoch."""
        for end in (PART, PIECES):
            for path in self.folder.glob(f"??/*{end}"):
                if path.stat().st_mtime < before:
                    path.unlink()
        for end, of in ((LISTING, ""), (CLAIMED, PIECES)):
            for path in self.folder.glob(f"??/*{end}"):
                if not path.with_suffix(of).exists():
                    path.unlink()

    def remove(self, name: BlobHash) -> None:
        """Remove a blob, its piece list and its unfinished downloads."""
        self._intact.pop(name, None)
        path = self.path(name)
        for file in path.parent.glob(f"{name}*"):
            file.unlink(missing_ok=True)

    def remove_download(self, wanted: Wanted) -> None:
        """Remove an unfinished download in pieces, and its list."""
        for path in (self.in_pieces(wanted), self.claimed_listing(wanted)):
            path.unlink(missing_ok=True)

    def _sibling(self, name: BlobHash, end: str) -> Path:
        path = self.path(name).with_suffix(end)
        with disk_errors(path):
            make_folder(path.parent)
        return path


def _stamp(file: Path) -> Stamp:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def damaged(name: BlobHash, aside: SetAside) -> FileDamaged:
    """The error for a damaged blob."""
    return FileDamaged(
        f"the stored blob {short(name)} was damaged",
        fix=f"Its bytes are in {aside.path}; it is fetched again where another copy exists. Check the disk.",
    )


def file_hash(file: Path) -> BlobHash:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
    return BlobHash(digest.hexdigest())


def has_hash(file: Path, name: BlobHash) -> bool:
    """Whether a file is there and can be read, and has this hash. Slow: reads it."""
    try:
        return file_hash(file) == name
    except OSError:
        return False
