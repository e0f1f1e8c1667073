"""The sources of a checkpoint: the one that was asked for, and mirrors that may have the same checkpoint."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES
from barnraise.core.errors import MalformedRecord
from peer.archive.sources import Missing, Source


@dataclass(frozen=True)
class CheckpointSource:
    """A source that has the checkpoint."""

    source: Source
    folder: str
    """Its folder below the source's address; empty for the address itself."""

    @property
    def name(self) -> str:
        """For people."""
        return self.source.name

    @property
    def ranges(self) -> bool:
        """As `Source.ranges`."""
        return self.source.ranges

    def path(self, name: str) -> str:
        """The path of a file of the checkpoint."""
        return f"{self.folder}/{name}" if self.folder else name

    def read(self, name: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """As `Source.read`, of a file of the checkpoint."""
        return self.source.read(self.path(name), offset, length)


@dataclass(frozen=True)
class Candidate:
    """A source that may have it."""

    name: str
    find: Callable[[], Awaitable[CheckpointSource]]
    """Raises Unreachable, TrustError where it has not."""

    @classmethod
    def first(cls, source: CheckpointSource) -> Candidate:
        """The one that served the manifest."""

        async def find() -> CheckpointSource:
            return source

        return cls(source.name, find)

    @classmethod
    def mirror(cls, source: Source, folder: str, manifest: bytes) -> Candidate:
        """One that has a copy of the archive, or of the checkpoint alone.

        folder: the checkpoint's, in an archive. manifest: the signed one of the checkpoint that is wanted.
        """

        async def find() -> CheckpointSource:
            for place in dict.fromkeys((folder, "")):
                mirror = CheckpointSource(source, place)
                try:
                    found = await source.get_small(mirror.path(MANIFEST), MAX_MANIFEST_BYTES)
                except Missing:
                    continue
                if found == manifest:
                    return mirror
                raise MalformedRecord(
                    f"{source.name} has another checkpoint", fix="Copy it there again, or leave it out."
                )
            raise Missing(f"{source.name} has no such checkpoint", fix="Check its address, or leave it out.")

        return cls(source.name, find)
