"""The interface of what watches a download."""

from __future__ import annotations

from typing import Protocol, TypeVar

from peer.archive.events import FileProgress

Event = TypeVar("Event", contravariant=True)


class EventListener(FileProgress, Protocol[Event]):
    """Receives the progress of each file and the events of a download."""

    def report(self, event: Event) -> None: ...

    def say(self, text: str) -> None:
        """Shows a line about the search for a base model, which reports no events."""
        ...
