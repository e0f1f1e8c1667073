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
    INDEX,
    MAX_INDEX_BYTES,
    ArchiveIndex,
    Revision,
    authority_of,
    parse_index,
)
from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES, FileEntry, open_manifest
from barnraise.contract.manifest_json import MANIFEST_JSON
from barnraise.core.errors import MalformedRecord, TrustError
from barnraise.core.ids import RunId, blob_hash
from barnraise.gateway.catalogue import Catalogue, Files

log = logging.getLogger("barnraise.gateway")

MAX_JSON_BYTES = 4 * MAX_MANIFEST_BYTES
LOOK_AGAIN_SECONDS = 5.0
"""Pause between two looks for what the index names and is not there yet: a mirror may just be copied."""


@dataclass(frozen=True)
class OpenFile:
    """A regular file; whoever has it closes it."""

    file: BinaryIO
    size: int
    modified: int
    """Seconds since 1970."""
    version: str
    """Differs when the file was replaced."""


@dataclass
class ArchiveFolder:
    """Slow where something changed: asked in threads."""

    folder: Path
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _version: str = field(default="", init=False)
    _catalogue: Catalogue | None = field(default=None, init=False)
    _again: float = field(default=math.inf, init=False)
    """When to look again although the index is the same."""

    def catalogue(self) -> Catalogue | None:
        """What there is now; None while there is no index that can be read.

        An index that is broken does not take the place of the last good one.
        """
        opened = self.open(INDEX)
        if opened is None:
            return self._catalogue
        with opened.file as file, self._lock:
            if opened.version != self._version or self.clock() >= self._again:
                self._version, self._again = opened.version, math.inf
                try:
                    index = parse_index(file.read(MAX_INDEX_BYTES + 1))
                    self._catalogue = Catalogue(index, self._all_files(index))
                except MalformedRecord as error:
                    log.warning("%s: %s", self.folder, error.problem)
            return self._catalogue

    def open(self, path: str) -> OpenFile | None:
        """A file by its path in the archive, which `hub_routes` or a manifest has found well-formed."""
        root = os.path.realpath(self.folder)
        place = os.path.realpath(os.path.join(root, path))
        if os.path.commonpath([root, place]) != root:
            return None  # a link that leads out of the archive
        try:
            file = open(place, "rb", buffering=0, opener=_nonblocking)  # noqa: SIM115 (handed on)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            log.warning("cannot read %s: %s", place, error.strerror)
            return None
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            file.close()
            return None
        version = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
        return OpenFile(file, found.st_size, int(found.st_mtime), version)

    def _all_files(self, index: ArchiveIndex) -> dict[str, Files]:
        known = self._catalogue.files if self._catalogue is not None else {}
        files: dict[str, Files] = {}
        for repo in index.repos:
            for revision in repo.revisions:
                found = known.get(revision.manifest) or self._files(index, revision)
                if found is not None:
                    files[revision.manifest] = found
                else:
                    self._again = self.clock() + LOOK_AGAIN_SECONDS
        return files

    def _files(self, index: ArchiveIndex, revision: Revision) -> Files | None:
        """What a manifest lists, and the manifest itself. None, and a warning, where it does not fit."""
        wire = self._read(f"{revision.folder}/{MANIFEST}", MAX_MANIFEST_BYTES)
        if wire is None or blob_hash(wire) != revision.manifest:
            log.warning("%s is not served: its %s is not what %s says", revision.folder, MANIFEST, INDEX)
            return None
        try:
            manifest = open_manifest(wire, run=RunId(index.run), authority=authority_of(index)).value
        except TrustError as error:
            log.warning("%s is not served: %s", revision.folder, error.problem)
            return None
        beside = [FileEntry(name=MANIFEST, hash=revision.manifest, size=len(wire))]
        view = self._read(f"{revision.folder}/{MANIFEST_JSON}", MAX_JSON_BYTES)
        if view is not None:
            beside.append(FileEntry(name=MANIFEST_JSON, hash=blob_hash(view), size=len(view)))
        return tuple(sorted([*manifest.files, *beside], key=lambda entry: entry.name))

    def _read(self, path: str, limit: int) -> bytes | None:
        opened = self.open(path)
        if opened is None:
            return None
        with opened.file as file:
            return file.read() if opened.size <= limit else None


def _nonblocking(path: str, flags: int) -> int:
    """Opens no pipe that somebody would have to write to first."""
    return os.open(path, flags | os.O_NONBLOCK)
