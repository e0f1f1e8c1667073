"""The interface of what watches a download."""

from __future__ import annotations

from typing import Protocol, TypeVar

from peer.archive.checkpoint_download import DownloadListener

Event = TypeVar("Event", contravariant=True)


class EventListener(DownloadListener, Protocol[Event]):
    """Receives the progress of each file and the events of a download."""

    def report(self, event: Event) -> None: ...
