"""The repositories that a gateway serves: an archive's index and the files that its manifests list. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from barnraise.contract.archive import ArchiveIndex, Repo
from barnraise.contract.manifest import FileEntry
from barnraise.gateway.routes import Kind

Files = tuple[FileEntry, ...]


@dataclass(frozen=True)
class Catalogue:
    """An index, and the files of those revisions whose manifest was read and is valid."""

    index: ArchiveIndex
    files: Mapping[str, Files]
    """By the hash of the manifest."""
    rehearsed: bool = True
    """As the charter has it; True where the archive has no valid charter."""
    planned: int | None = None
    """Rounds, as the charter has them; None for no number."""

    def repos(self, kind: Kind) -> list[Repo]:
        return [repo for whole in self.index.repos if whole.kind == kind and (repo := self._readable(whole))]

    def entry(self, folder: str, name: str) -> FileEntry | None:
        """The manifest entry of a file in a folder of the archive."""
        for repo in self.index.repos:
            for revision in repo.revisions:
                if revision.folder == folder:
                    return find_file(self.files.get(revision.manifest, ()), name)
        return None

    def _readable(self, repo: Repo) -> Repo | None:
        revisions = tuple(revision for revision in repo.revisions if revision.manifest in self.files)
        return repo.model_copy(update={"revisions": revisions}) if revisions else None


def find_file(files: Files, name: str) -> FileEntry | None:
    return next((entry for entry in files if entry.name == name), None)
