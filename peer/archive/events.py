"""Why a download uses, retries or drops its sources: types that `peer.messages` renders. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

from barnraise.core.reason import Reason
from barnraise.runtime.fetch_listener import FetchListener

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

# Why the base model is fetched from the run


@dataclass(frozen=True)
class OnlyInRun(Reason):
    """The spec names files of the maintainer's machine."""

    source: str


@dataclass(frozen=True)
class SourceUnavailable(Reason):
    """The package or the Hub repository cannot be fetched, or has other files."""

    source: str
    problem: str


# Events of the search for a base model


@dataclass(frozen=True)
class BaseFromRun(Reason):
    """The base model is fetched from the run's archive and its mirrors."""

    why: OnlyInRun | SourceUnavailable
    files: int
    """How many it has."""
    size: int
    """Bytes."""


@dataclass(frozen=True)
class OtherProgramFetches(Reason):
    """Another program fetches the same base model into the same cache."""


@dataclass(frozen=True)
class CachedBaseDamaged(Reason):
    """The base model in the cache is not the run's any more: it is fetched again."""

    problem: str


BaseEvent = BaseFromRun | OtherProgramFetches | CachedBaseDamaged | ArchiveEvent


Event = TypeVar("Event", contravariant=True)


class DownloadListener(FetchListener, Protocol[Event]):
    """Receives the progress of each file and the events of a download."""

    def report(self, event: Event) -> None: ...
