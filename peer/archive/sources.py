"""The sources of an archive's files and of one checkpoint, and their errors."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from barnraise.contract.manifest import MANIFEST, MAX_MANIFEST_BYTES
from barnraise.core.errors import MalformedRecord, Unreachable

_PATH = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,3}$")


class Missing(Unreachable):
    """The source answers, and does not have the file."""


class Source(Protocol):
    """Serves the files below one address. Of what it serves, only the length is checked here."""

    @property
    def name(self) -> str:
        """For people: its address or folder."""
        ...

    @property
    def ranges(self) -> bool:
        """Whether it can start in the middle of a file: True until a request has shown that it cannot.

        One that cannot is read from the start each time; bytes before the offset are discarded.
        """
        ...

    async def get_small(self, path: str, limit: int) -> bytes:
        """A whole file. Raises Missing, Unreachable, and MalformedRecord where it is larger than `limit`."""
        ...

    def read(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """`length` bytes of a file from `offset` on, in pieces as they arrive.

        Raises Missing, and Unreachable where they end early. Close it (`aclosing`) if you stop early.
        """
        ...


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
    """Raises Unreachable, TrustError if it does not have it."""

    @classmethod
    def first(cls, source: CheckpointSource) -> Candidate:
        """The one that served the manifest."""

        async def find() -> CheckpointSource:
            return source

        return cls(source.name, find)

    @classmethod
    def mirror(cls, source: Source, folder: str, manifest: bytes) -> Candidate:
        """One that has a copy of the archive, or only of the checkpoint.

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


def checked(path: str) -> str:
    """`path` if an archive can have it: no `..`, nothing absolute. Raises MalformedRecord."""
    if not _PATH.match(path):
        raise MalformedRecord(
            f"{path[:100]!r} is not a path in an archive", fix="It is not read. Try another source."
        )
    return path


def too_large(what: str, limit: int) -> MalformedRecord:
    """The error of a file that is longer than `limit` bytes."""
    return MalformedRecord(
        f"{what} is larger than the {limit} bytes that it may have",
        fix="It is not read. Try another source, and inform the operator of this one.",
    )


def ended_early(what: str, lacking: int) -> Unreachable:
    """The error of a source that sent `lacking` bytes too few."""
    return Unreachable(
        f"{what} ended {lacking} bytes too early", fix="Run the command again: it resumes from there."
    )
