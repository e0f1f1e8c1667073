"""Copies of the run's files: in the archive folder of this coordinator, in the journal, and on mirrors.

A mirror is the address of a web server, or another folder.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

from barnraise.contract.manifest import MANIFEST
from barnraise.core.errors import HashMismatch, Unreachable
from barnraise.core.ids import BlobHash
from barnraise.runtime.blob_store import Absent, BlobStore, Intact, SetAside, has_hash
from barnraise.runtime.files import Batch
from barnraise.runtime.http_client import is_web_address
from coordinator.messages.recovery import recovery_message
from coordinator.reasons.recovery import (
    CheckpointFile,
    CopyOutcome,
    EntryFile,
    FileLost,
    RunFile,
    TakenFromArchive,
    TakenFromJournal,
    TakenFromMirror,
    Unrecovered,
)

log = logging.getLogger("coordinator.store.copies")

MIRROR_SECONDS = 30.0
"""A mirror that sends nothing for this long is given up: the next one is asked."""


@dataclass(frozen=True)
class Copies:
    """Replaces damaged and missing blobs by copies, each checked by its hash. Slow: uses the network."""

    blobs: BlobStore
    archive: Path
    mirrors: Sequence[str] = ()
    entry: Callable[[BlobHash], bytes | None] = lambda _: None
    """The payload of an entry of the log that the journal keeps."""

    def ensure(self, file: RunFile) -> bool:
        """Whether the store has `file` intact, by now. A damaged one is set aside. Raises DiskFull."""
        found = self.blobs.check(file.name)
        match found:
            case Intact():
                return True
            case SetAside(path):
                return self._bring(file, path)
            case Absent():
                return self._bring(file, None)

    def fetch(self, file: RunFile) -> bool:
        """Whether the store has `file` by now; not whether it is intact. Logs nothing. Raises DiskFull."""
        if file.name in self.blobs:
            return True
        return (self._from_archive(file) or self._from_mirrors(file)) is not None

    def _bring(self, file: RunFile, aside: Path | None) -> bool:
        found = self._from_archive(file) or self._from_journal(file) or self._from_mirrors(file)
        outcome = found or Unrecovered()
        log.warning("%s", recovery_message(FileLost(file, aside, outcome)))
        return not isinstance(outcome, Unrecovered)

    def _from_journal(self, file: RunFile) -> CopyOutcome | None:
        payload = self.entry(file.name) if isinstance(file, EntryFile) else None
        if payload is None:
            return None
        self.blobs.put(payload)
        return TakenFromJournal()

    def _from_archive(self, file: RunFile) -> CopyOutcome | None:
        """The archive may link the damaged file; then its link is set aside, and made again."""
        there = self.archive / file.archive_path
        if not there.is_file():
            return None
        if not has_hash(there, file.name):
            self.blobs.set_file_aside(there)
            if isinstance(file, CheckpointFile):  # a folder without its manifest is laid out again
                (there.parent / MANIFEST).unlink(missing_ok=True)
            return None
        with Batch() as batch:
            self.blobs.adopt(there, batch)
        return TakenFromArchive()

    def _from_mirrors(self, file: RunFile) -> CopyOutcome | None:
        for mirror in self.mirrors:
            url = f"{mirror.rstrip('/')}/{file.archive_path}"
            if not is_web_address(mirror):
                if (found := self._from_folder(Path(url), file.name)) is not None:
                    return found
                continue
            try:
                self._download(url, file.name, file.limit)
                return TakenFromMirror(url)
            except (httpx2.HTTPError, httpx2.InvalidURL, Unreachable, HashMismatch) as error:
                log.info("%s: %s", url, error)
        return None

    def _from_folder(self, there: Path, name: BlobHash) -> CopyOutcome | None:
        """The folder is a copy that somebody made: nothing in it is changed."""
        if not there.is_file() or not has_hash(there, name):
            return None
        with Batch() as batch:
            self.blobs.adopt(there, batch)
        return TakenFromMirror(str(there))

    def _download(self, url: str, name: BlobHash, limit: int) -> None:
        part, got = self.blobs.partial(name), 0
        with (
            httpx2.stream("GET", url, timeout=MIRROR_SECONDS, follow_redirects=True) as response,
            part.open("wb") as file,
        ):
            response.raise_for_status()
            for piece in response.iter_bytes():
                got += len(piece)
                if got > limit:
                    raise Unreachable(f"more than {limit} bytes", fix="Another mirror is asked.")
                file.write(piece)
        self.blobs.accept(name)
