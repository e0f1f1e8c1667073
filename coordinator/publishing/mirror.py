"""Publishes the archive to another place: behind any web server it is a mirror of the run.

The index is sent last, so readers find all that it names at any moment. Files that are there already are
not sent again, so an interrupted publication resumes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from barnraise.contract.archive import CHARTER, INDEX, MAX_INDEX_BYTES, ArchiveIndex, Repo, parse_index
from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES, open_manifest
from barnraise.contract.run_keys import Signers
from barnraise.core.errors import TrustError
from barnraise.core.units import format_bytes
from coordinator.publishing.destination import Destination
from coordinator.publishing.local_archive import Checkpoint, LocalArchive
from coordinator.publishing.selection import joined


@dataclass
class Mirror:
    """One publication to a destination, and the count of what it sent."""

    archive: LocalArchive
    destination: Destination
    dry: bool
    """Send nothing: only say what would be sent."""
    say: Callable[[str], None]
    sent_files: int = 0
    sent_bytes: int = 0
    _there: dict[str, int] = field(default_factory=dict)
    """Bytes by path of the files at the destination."""

    def send(self, repos: Sequence[Repo], *, prune: bool) -> None:
        """Bring the destination up to the archive, for `repos` alone.

        prune: remove there what the archive no longer names. Raises ArchiveChanged, UserError, RefusedError,
        Unreachable, TrustError for damaged local files, StateError, DiskFull.
        """
        self._there = self.destination.sizes()
        added = self.archive.index_of(repos)
        existing = self._index()
        index = added if prune or existing is None else joined(existing, added)
        self._send_log()
        for repo in repos:
            for revision in repo.revisions:
                self._send_checkpoint(self.archive.checkpoint(repo.form, revision))
        if index != existing:
            self._report(f"{INDEX}: {len(index.repos)} repositories, {index.closed} rounds of the log")
            if not self.dry:
                self.destination.write(INDEX, index.model_dump_json(indent=1).encode())
        if prune:
            self._prune(index)

    def _index(self) -> ArchiveIndex | None:
        """None where there is none. Raises MalformedRecord for another version's."""
        if INDEX not in self._there:
            return None
        return parse_index(self.destination.read(INDEX, MAX_INDEX_BYTES))

    def _send_log(self) -> None:
        """Contributions before the closes that name them, and entries before the one that certifies them."""
        archive = self.archive
        self._send(CHARTER, (archive.folder / CHARTER).stat().st_size, lambda: archive.folder / CHARTER)
        before = self.sent_files, self.sent_bytes
        for path, size in archive.contributions().items():
            self._send(path, size, partial(archive.checked_contribution, path))
        for height, (path, size) in enumerate(archive.entries().items()):
            self._send(path, size, partial(archive.checked_entry, height))
        self._report_since("the log", before)

    def _send_checkpoint(self, checkpoint: Checkpoint) -> None:
        folder = checkpoint.revision.folder
        known, before = self._attested(folder), (self.sent_files, self.sent_bytes)
        for name, expected in checkpoint.hashes.items():
            path, size = f"{folder}/{name}", checkpoint.sizes[name]
            same = (
                self._there.get(path) == size and (known.get(name) or self.destination.hash(path)) == expected
            )
            if not same:
                self._there.pop(path, None)
            self._send(path, size, partial(self.archive.checked_file, checkpoint, name))
        self._report_since(folder, before)

    def _attested(self, folder: str) -> dict[str, str]:
        """Hash by name of the files there, by a manifest there: it is sent last, so they are complete."""
        path = f"{folder}/{MANIFEST}"
        if path not in self._there:
            return {}
        wire = self.destination.read(path, MAX_MANIFEST_BYTES)
        charter = self.archive.charter
        try:
            manifest = open_manifest(wire, run=charter.run, signers=Signers(charter.authority_key)).value
        except TrustError:  # cut off, or another key's: then its files are hashed themselves
            return {}
        return {entry.name: entry.hash for entry in manifest.files}

    def _send(self, path: str, size: int, checked: Callable[[], Path]) -> None:
        if self._there.get(path) == size:
            return
        if not self.dry:
            self.destination.put(checked(), path)
        self._there[path] = size
        self.sent_files += 1
        self.sent_bytes += size

    def _prune(self, index: ArchiveIndex) -> None:
        folders = {revision.folder for repo in index.repos for revision in repo.revisions}
        needed = {INDEX, CHARTER, *self.archive.contributions(), *self.archive.entries()}
        obsolete = [
            path for path in self._there if path not in needed and path.rpartition("/")[0] not in folders
        ]
        for path in obsolete:
            if not self.dry:
                self.destination.remove(path)
        if obsolete:
            self._report(f"removed: {len(obsolete)} files that the archive no longer has")

    def _report_since(self, what: str, before: tuple[int, int]) -> None:
        files, size = self.sent_files - before[0], self.sent_bytes - before[1]
        if files:
            self._report(f"{what}: {files} file{'s' if files > 1 else ''}, {format_bytes(size)}")

    def _report(self, line: str) -> None:
        self.say(f"would send {line}" if self.dry else line)
