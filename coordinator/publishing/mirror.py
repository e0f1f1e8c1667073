"""A copy of the archive elsewhere: any web server over it is a mirror of the run.

What the index names is sent before it, so whoever reads the copy meanwhile finds everything. What is there
already is not sent again, so a publication that broke off goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from barnraise.contract.archive import CHARTER, INDEX, MAX_INDEX_BYTES, ArchiveIndex, Repo, parse_index
from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES, open_manifest
from barnraise.core.errors import TrustError
from barnraise.core.units import format_bytes
from coordinator.publishing.destination import Destination
from coordinator.publishing.local_archive import Checkpoint, LocalArchive
from coordinator.publishing.selection import joined


@dataclass
class Mirror:
    archive: LocalArchive
    place: Destination
    dry: bool
    """Send nothing: only tell what would be."""
    say: Callable[[str], None]
    sent_files: int = 0
    sent_bytes: int = 0
    _there: dict[str, int] = field(default_factory=dict)
    """Bytes by path of what the place has."""

    def send(self, repos: Sequence[Repo], *, prune: bool) -> None:
        """Bring the place up to the archive, as far as `repos` go.

        prune: remove there what the archive no longer names. Raises ArchiveChanged, UserError, RefusedError,
        Unreachable, TrustError for damaged files of ours, StateError, DiskFull.
        """
        self._there = self.place.sizes()
        ours = self.archive.index.model_copy(update={"repos": tuple(repos)})
        theirs = self._index()
        index = ours if prune or theirs is None else joined(theirs, ours)
        self._send_log()
        for repo in repos:
            for revision in repo.revisions:
                self._send_checkpoint(self.archive.checkpoint(repo.form, revision))
        if index != theirs:
            self._tell(f"{INDEX}: {len(index.repos)} repositories, {index.closed} rounds of the log")
            if not self.dry:
                self.place.write(INDEX, index.model_dump_json(indent=1).encode())
        if prune:
            self._prune(index)

    def _index(self) -> ArchiveIndex | None:
        """None where there is none. Raises MalformedRecord for one that is not of this version."""
        if INDEX not in self._there:
            return None
        return parse_index(self.place.read(INDEX, MAX_INDEX_BYTES))

    def _send_log(self) -> None:
        """Contributions before the closes that name them."""
        archive = self.archive
        self._send(CHARTER, (archive.folder / CHARTER).stat().st_size, lambda: archive.folder / CHARTER)
        before = self.sent_files, self.sent_bytes
        for path, size in archive.contributions().items():
            self._send(path, size, partial(archive.checked_contribution, path))
        for round, (path, size) in enumerate(archive.closes().items()):
            self._send(path, size, partial(archive.checked_close, round))
        self._tell_since("the log", before)

    def _send_checkpoint(self, checkpoint: Checkpoint) -> None:
        folder = checkpoint.revision.folder
        known, before = self._attested(folder), (self.sent_files, self.sent_bytes)
        for name, expected in checkpoint.hashes.items():
            path, size = f"{folder}/{name}", checkpoint.sizes[name]
            same = self._there.get(path) == size and (known.get(name) or self.place.hash(path)) == expected
            if not same:
                self._there.pop(path, None)
            self._send(path, size, partial(self.archive.checked_file, checkpoint, name))
        self._tell_since(folder, before)

    def _attested(self, folder: str) -> dict[str, str]:
        """Hash by name of the files there, where a manifest there tells: it is the last to be sent."""
        path = f"{folder}/{MANIFEST}"
        if path not in self._there:
            return {}
        wire = self.place.read(path, MAX_MANIFEST_BYTES)
        charter = self.archive.charter
        try:
            manifest = open_manifest(wire, run=charter.run, authority=charter.authority_key).value
        except TrustError:  # cut off, or somebody else's: then its files are looked at themselves
            return {}
        return {entry.name: entry.hash for entry in manifest.files}

    def _send(self, path: str, size: int, checked: Callable[[], Path]) -> None:
        if self._there.get(path) == size:
            return
        if not self.dry:
            self.place.put(checked(), path)
        self._there[path] = size
        self.sent_files += 1
        self.sent_bytes += size

    def _prune(self, index: ArchiveIndex) -> None:
        folders = {revision.folder for repo in index.repos for revision in repo.revisions}
        needed = {INDEX, CHARTER, *self.archive.contributions(), *self.archive.closes()}
        gone = [path for path in self._there if path not in needed and path.rpartition("/")[0] not in folders]
        for path in gone:
            if not self.dry:
                self.place.remove(path)
        if gone:
            self._tell(f"removed: {len(gone)} files that the archive no longer has")

    def _tell_since(self, what: str, before: tuple[int, int]) -> None:
        files, size = self.sent_files - before[0], self.sent_bytes - before[1]
        if files:
            self._tell(f"{what}: {files} file{'s' if files > 1 else ''}, {format_bytes(size)}")

    def _tell(self, line: str) -> None:
        self.say(f"would send {line}" if self.dry else line)
