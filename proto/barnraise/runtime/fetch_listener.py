"""Progress of files that are fetched. Pure."""

from __future__ import annotations

from typing import Protocol


class FetchListener(Protocol):
    """Receives the progress of each file that is fetched."""

    def file(self, name: str, length: int, got: int) -> None:
        """A file that is going to be fetched, and how many of its bytes are here."""
        ...

    def got(self, name: str, count: int) -> None:
        """`count` more bytes of a file are here."""
        ...

    def again(self, name: str) -> None:
        """A file is fetched again from its start, because its bytes were wrong."""
        ...

    def done(self, name: str) -> None:
        """A file is complete, and its hash is right."""
        ...

    def say(self, text: str) -> None:
        """A line about what is done."""
        ...
