"""The archive folder that a gateway serves: its index and manifests, read again when they change."""

from __future__ import annotations

import logging
import math
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from barnraise.contract.archive import (
    CHARTER,
    INDEX,
    MAX_INDEX_BYTES,
    ArchiveIndex,
    Revision,
    authority_of,
    parse_index,
)
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.manifest import MANIFEST, MANIFEST_JSON, MAX_MANIFEST_BYTES, FileEntry, open_manifest
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import MalformedRecord, TrustError
from barnraise.core.ids import RunId, blob_hash
from barnraise.core.signed import open_signed
from barnraise.gateway.catalogue import Catalogue, Files
from barnraise.gateway.limits import LIMITS

log = logging.getLogger("barnraise.gateway")

MAX_JSON_BYTES = 4 * MAX_MANIFEST_BYTES


@dataclass(frozen=True)
class OpenFile:
    """A regular file, open for reading, which its holder closes."""

    file: BinaryIO
    size: int
    modified: int
    """Seconds since 1970."""
    version: str
    """Changes when the file is replaced."""

    @property
    def path(self) -> str:
        return str(self.file.name)

    def read_at(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset` on. Raises OSError."""
        return os.pread(self.file.fileno(), count, offset)

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class ArchiveFolder:
    """The files below an archive's folder, and its catalogue. Calls may block: make them in threads."""

    folder: Path
    clock: Callable[[], float] = time.monotonic
    rescan_seconds: float = LIMITS.rescan_seconds
    """As of `GatewayLimits`."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _version: str = field(default="", init=False)
    _catalogue: Catalogue | None = field(default=None, init=False)
    _again: float = field(default=math.inf, init=False)
    """When to scan again although the index is the same."""

    def catalogue(self) -> Catalogue | None:
        """What the archive contains now; None until there is a valid index.

        A broken index does not replace the last valid one.
        """
        opened = self.open(INDEX)
        if opened is None:
            return self._catalogue
        with opened.file as file, self._lock:
            if opened.version != self._version or self.clock() >= self._again:
                self._version, self._again = opened.version, math.inf
                try:
                    index = parse_index(file.read(MAX_INDEX_BYTES + 1))
                    self._catalogue = self._catalogue_of(index)
                except MalformedRecord as error:
                    log.warning("%s: %s", self.folder, error.problem)
            return self._catalogue

    def open(self, path: str) -> OpenFile | None:
        """A file by its path, which `routes` or a manifest has checked; None if it is absent."""
        root = os.path.realpath(self.folder)
        target = os.path.realpath(os.path.join(root, path))
        if os.path.commonpath([root, target]) != root:
            return None  # a link that leads out of the archive
        try:
            file = open(target, "rb", buffering=0, opener=_nonblocking)  # noqa: SIM115 (handed on)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            log.warning("cannot read %s: %s", target, error.strerror)
            return None
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            file.close()
            return None
        version = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
        return OpenFile(file, found.st_size, int(found.st_mtime), version)

    def _catalogue_of(self, index: ArchiveIndex) -> Catalogue:
        files, charter = self._all_files(index), self._charter(index)
        if charter is None:
            return Catalogue(index, files)
        return Catalogue(index, files, charter.rehearsed, charter.spec.train.schedule.rounds)

    def _charter(self, index: ArchiveIndex) -> Charter | None:
        wire = self._read(CHARTER, MAX_CHARTER_BYTES)
        if wire is None:
            return None
        try:
            charter = open_signed(Charter, wire, signer=authority_of(index), limit=MAX_CHARTER_BYTES)
        except TrustError as error:
            log.warning("%s of %s: %s", CHARTER, self.folder, error.problem)
            return None
        return charter.value

    def _all_files(self, index: ArchiveIndex) -> dict[str, Files]:
        known = self._catalogue.files if self._catalogue is not None else {}
        files: dict[str, Files] = {}
        for repo in index.repos:
            for revision in repo.revisions:
                found = known.get(revision.manifest) or self._files(index, revision)
                if found is not None:
                    files[revision.manifest] = found
                else:
                    self._again = self.clock() + self.rescan_seconds
        return files

    def _files(self, index: ArchiveIndex, revision: Revision) -> Files | None:
        """A manifest and what it lists. None, with a warning, if its hash or signature is wrong."""
        wire = self._read(f"{revision.folder}/{MANIFEST}", MAX_MANIFEST_BYTES)
        if wire is None or blob_hash(wire) != revision.manifest:
            log.warning("%s is not served: its %s is not what %s says", revision.folder, MANIFEST, INDEX)
            return None
        try:
            manifest = open_manifest(wire, run=RunId(index.run), signers=Signers(authority_of(index))).value
        except TrustError as error:
            log.warning("%s is not served: %s", revision.folder, error.problem)
            return None
        extra = [FileEntry(name=MANIFEST, hash=revision.manifest, size=len(wire))]
        view = self._read(f"{revision.folder}/{MANIFEST_JSON}", MAX_JSON_BYTES)
        if view is not None:
            extra.append(FileEntry(name=MANIFEST_JSON, hash=blob_hash(view), size=len(view)))
        return tuple(sorted([*manifest.files, *extra], key=lambda entry: entry.name))

    def _read(self, path: str, limit: int) -> bytes | None:
        opened = self.open(path)
        if opened is None:
            return None
        with opened.file as file:
            return file.read() if opened.size <= limit else None


def _nonblocking(path: str, flags: int) -> int:
    """Without O_NONBLOCK, opening a named pipe would block until it has a writer."""
    return os.open(path, flags | os.O_NONBLOCK)
