"""Who has a checkpoint: where it was asked for, and mirrors that may have the same one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES
from barnraise.core.errors import MalformedRecord
from peer.archive.sources import Missing, Source


@dataclass(frozen=True)
class CheckpointSource:
    """A source that has the checkpoint."""

    source: Source
    folder: str
    """Where, below its address; empty for the address itself."""

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name


@dataclass(frozen=True)
class Candidate:
    """A source that may have it."""

    name: str
    find: Callable[[], Awaitable[CheckpointSource]]
    """Raises Unreachable, TrustError where it has not."""

    @classmethod
    def first(cls, source_found: CheckpointSource) -> Candidate:
        """The one that gave the manifest."""

        async def find() -> CheckpointSource:
            return source_found

        return cls(source_found.source.name, find)

    @classmethod
    def mirror(cls, source: Source, folder: str, manifest: bytes) -> Candidate:
        """One that has a copy of the archive, or of the checkpoint alone.

        folder: the checkpoint's, in an archive. manifest: the signed one of the checkpoint that is wanted.
        """

        async def find() -> CheckpointSource:
            for place in dict.fromkeys((folder, "")):
                source_found = CheckpointSource(source, place)
                try:
                    found = await source.get_small(source_found.path(MANIFEST), MAX_MANIFEST_BYTES)
                except Missing:
                    continue
                if found == manifest:
                    return source_found
                raise MalformedRecord(
                    f"{source.name} has another checkpoint", fix="Copy it there anew, or leave it out."
                )
            raise Missing(f"{source.name} has no such checkpoint", fix="Check its address, or leave it out.")

        return cls(source.name, find)
