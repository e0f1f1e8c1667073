"""What gives the files of an archive, and how it fails."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Protocol

from barnraise.core.errors import MalformedRecord, Unreachable

_PATH = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){0,3}$")


class Missing(Unreachable):
    """The source answers, and does not have the file."""


class Source(Protocol):
    """Gives the files below one address. Nothing that it gives is checked here but its length."""

    @property
    def name(self) -> str:
        """For people: its address or folder."""
        ...

    @property
    def ranges(self) -> bool:
        """Whether it can begin in the middle of a file: True until it showed that it cannot.

        One that cannot is read from the start each time; what comes before the offset is thrown away.
        """
        ...

    async def get_small(self, path: str, limit: int) -> bytes:
        """A whole file. Raises Missing, Unreachable, and MalformedRecord where it is larger than `limit`."""
        ...

    def read(self, path: str, offset: int, length: int) -> AsyncGenerator[bytes, None]:
        """`length` bytes of a file from `offset` on, in pieces as they come.

        Raises Missing, and Unreachable where they break off. Close it (`aclosing`) where you leave it early.
        """
        ...


def checked(path: str) -> str:
    """`path` where it is one that an archive can have: no `..`, nothing absolute. Raises MalformedRecord."""
    if not _PATH.match(path):
        raise MalformedRecord(
            f"{path[:100]!r} is no place in an archive", fix="It is not read. Try another source."
        )
    return path


def too_large(what: str, limit: int) -> MalformedRecord:
    return MalformedRecord(
        f"{what} is larger than the {limit} bytes that it may have",
        fix="It is not read. Try another source, and tell whoever runs this one.",
    )


def ended_early(what: str, lacking: int) -> Unreachable:
    return Unreachable(
        f"{what} ended {lacking} bytes too early", fix="Run the command again: it goes on from there."
    )
