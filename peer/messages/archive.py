"""Messages about the sources of a download."""

from __future__ import annotations

from typing_extensions import assert_never

from barnraise.core.units import format_bytes
from peer.archive.events import (
    ArchiveEvent,
    BaseEvent,
    BaseFromRun,
    CachedBaseDamaged,
    FarSlower,
    FileMismatched,
    NoRanges,
    OnlyInRun,
    OtherProgramFetches,
    SourceDropped,
    SourceRetried,
    SourceSilent,
    SourceStandsBy,
    SourceUnavailable,
    StandByReason,
)


def archive_message(event: ArchiveEvent | BaseEvent) -> str:
    match event:
        case BaseFromRun(why, files, size):
            count = f"{files} file{'' if files == 1 else 's'}, {format_bytes(size)}"
            return (
                f"{_why_from_run(why)}: fetching it from the run ({count})."
                " It is kept for all runs with this model."
            )
        case OtherProgramFetches():
            return "another program fetches this base model: waiting for it"
        case CachedBaseDamaged(problem):
            return f"{problem}: fetching it again"
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


def _why_from_run(why: OnlyInRun | SourceUnavailable) -> str:
    match why:
        case OnlyInRun(source):
            return f"the base model {source!r} is a file or folder of the maintainer"
        case SourceUnavailable(source, problem):
            return f"the base model cannot be used from {source} ({problem})"
        case _:
            assert_never(why)


def _stand_by(reason: StandByReason) -> str:
    match reason:
        case NoRanges():
            return "it cannot start in the middle of a file"
        case FarSlower(rate, fastest):
            return f"it delivers {rate / 1000:,.0f} kB/s, another source {fastest / 1000:,.0f} kB/s"
        case _:
            assert_never(reason)
