"""Messages about the sources of a download."""

from __future__ import annotations

from typing_extensions import assert_never

from peer.archive.events import (
    ArchiveEvent,
    FarSlower,
    FileMismatched,
    NoRanges,
    SourceDropped,
    SourceRetried,
    SourceSilent,
    SourceStandsBy,
    StandByReason,
)


def archive_message(event: ArchiveEvent) -> str:
    match event:
        case SourceStandsBy(source, reason):
            return f"not using {source} for now: {_stand_by(reason)}"
        case SourceSilent(source):
            return f"{source} sends nothing; another source continues"
        case SourceRetried(_, failure):
            return f"{failure.problem}; trying again"
        case SourceDropped(source, problem):
            return f"dropped {source}: {problem}"
        case FileMismatched(name):
            return f"{name} does not match its hash: fetching it from one source at a time"
        case _:
            assert_never(event)


def _stand_by(reason: StandByReason) -> str:
    match reason:
        case NoRanges():
            return "it cannot start in the middle of a file"
        case FarSlower(rate, fastest):
            return f"it delivers {rate / 1000:,.0f} kB/s, another source {fastest / 1000:,.0f} kB/s"
        case _:
            assert_never(reason)
