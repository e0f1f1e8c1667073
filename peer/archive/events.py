"""Why a download uses, retries or drops its sources: types that `peer.messages` renders. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from barnraise.core.reason import Reason

# Why a source is not used while others work


@dataclass(frozen=True)
class NoRanges(Reason):
    """It cannot start in the middle of a file."""


@dataclass(frozen=True)
class FarSlower(Reason):
    """Another source is much faster."""

    rate: float
    """Bytes a second."""
    fastest: float
    """Bytes a second of the other one."""


StandByReason = NoRanges | FarSlower

# Failures of a source


@dataclass(frozen=True)
class SentNothing(Reason):
    """No byte arrived for too long."""


@dataclass(frozen=True)
class RequestFailed(Reason):
    """A request ended with an error."""

    problem: str


SourceFailure = SentNothing | RequestFailed

# Events of a download


@dataclass(frozen=True)
class SourceStandsBy(Reason):
    """A source is not used while others work."""

    source: str
    reason: StandByReason


@dataclass(frozen=True)
class SourceSilent(Reason):
    """Another source continues the range of a silent one."""

    source: str


@dataclass(frozen=True)
class SourceRetried(Reason):
    """A source failed, and is asked again."""

    source: str
    failure: RequestFailed


@dataclass(frozen=True)
class SourceDropped(Reason):
    """A source is not asked again."""

    source: str
    problem: str


@dataclass(frozen=True)
class FileMismatched(Reason):
    """Bytes from several sources do not match the file's hash: it is fetched from one source at a time."""

    name: str


ArchiveEvent = SourceStandsBy | SourceSilent | SourceRetried | SourceDropped | FileMismatched


Event = TypeVar("Event", contravariant=True)


class DownloadListener(Protocol[Event]):
    """Receives the progress of each file and the events of a download."""

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

    def report(self, event: Event) -> None: ...

    def say(self, text: str) -> None:
        """A line about the search for a base model, which reports no events."""
        ...
