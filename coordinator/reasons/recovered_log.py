"""What a start of `coordinator serve` finds of the run's log, here and with others, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barnraise.core.ids import PublicKey
from barnraise.core.reason import Reason


@dataclass(frozen=True)
class JournalSalvaged(Reason):
    """The journal was damaged: the rows before the damage are kept."""

    problem: str
    """Of the error that says where."""
    rows: int


@dataclass(frozen=True)
class JournalOlder(Reason):
    """The journal lacks entries that the archive in the same folder has."""

    folder: Path


@dataclass(frozen=True)
class NewRunIgnored(Reason):
    """A new run was asked for, and the folder has a complete one."""

    folder: Path


@dataclass(frozen=True)
class RunSetAside(Reason):
    """The run that was in a folder was moved."""

    folder: Path
    aside: Path


@dataclass(frozen=True)
class OwnArchiveUnused(Reason):
    """The archive in the run's own folder cannot be read."""

    folder: Path
    problem: str
    """Of the error that says why."""


@dataclass(frozen=True)
class AskingVolunteers(Reason):
    """The volunteers are asked for their copies of the log."""

    seconds: float
    """At most."""


@dataclass(frozen=True)
class NoLogHeld(Reason):
    """No volunteer that is here holds the log."""


@dataclass(frozen=True)
class LogUnusable(Reason):
    """A log that a volunteer holds does not verify, or cannot be fetched."""

    entries: int
    problem: str
    """Of the error that says why."""


@dataclass(frozen=True)
class LogFound(Reason):
    """Others hold the log; the journal has it now, unless it had a longer one."""

    location: str | None
    """Of an archive; None: the volunteers hold it."""
    round: int
    """The log goes up to there."""
    taken: int
    """Entries that the journal did not have."""
    replaced: int
    """Entries that the journal had otherwise, or that nobody else has."""


@dataclass(frozen=True)
class RunResumed(Reason):
    """An epoch began: other ends of the log are void."""

    round: int
    epoch: int


@dataclass(frozen=True)
class KeyReplaced(Reason):
    """The successor of the run key resumed the run."""

    before: PublicKey
    now: PublicKey


FolderReason = JournalSalvaged | JournalOlder | NewRunIgnored | RunSetAside

LogReason = (
    FolderReason
    | OwnArchiveUnused
    | AskingVolunteers
    | NoLogHeld
    | LogUnusable
    | LogFound
    | RunResumed
    | KeyReplaced
)
