"""Copies of files that are checked by their hash while they are written."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

from barnraise.core.errors import FileDamaged
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import has_hash
from barnraise.runtime.files import replacing


def checked_copy(source: Path, target: Path, expected: BlobHash | None, mode: int = 0o644) -> BlobHash:
    """Copy a file durably, unless `target` has its bytes. Returns the hash.

    expected: None for a file whose hash is not known. Raises FileNotFoundError; FileDamaged where the source
    has another hash, and then an older target stays; DiskFull, MachineError.
    """
    if expected is not None and has_hash(target, expected):
        return expected
    digest = hashlib.sha256()
    with source.open("rb") as original, replacing(target, mode=mode) as copy:
        for piece in _pieces(source, iter(lambda: original.read(1 << 20), b"")):
            digest.update(piece)
            copy.write(piece)
        found = BlobHash(digest.hexdigest())
        if expected is not None and found != expected:
            raise _damaged(source)
    return found


def _pieces(source: Path, pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    except OSError as error:
        if error.errno == errno.EIO:  # the disk cannot read it any more
            raise _damaged(source) from error
        raise


def _damaged(source: Path) -> FileDamaged:
    return FileDamaged(
        f"{source} is damaged",
        fix="Start `coordinator serve`: it sets the file aside and fetches another copy. Check the disk.",
    )
