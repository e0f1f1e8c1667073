"""What a backup has, and what a restored folder needs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from barnraise.core.ids import Millis, RunId
from barnraise.core.reason import Reason


@dataclass(frozen=True)
class BackupTaken(Reason):
    """A backup is complete."""

    run: RunId
    folder: Path
    """The run's."""
    target: Path
    taken: Millis
    round: int
    """The open one."""
    files: int
    bytes: int
    has_key: bool
    lost: tuple[str, ...]
    """Paths of files that the journal names, and that the run's folder does not have intact."""


class JournalUsed(Enum):
    """Which journal a restored folder has."""

    BACKUP = "backup"
    SALVAGED = "salvaged"
    """The intact rows of the folder's own: they are more than the backup has."""
    OWN = "own"
    """The folder's own, which is intact."""


@dataclass(frozen=True)
class BackupRestored(Reason):
    """A folder has what `coordinator serve` continues."""

    run: RunId
    folder: Path
    taken: Millis
    round: int
    """Of the backup."""
    journal: JournalUsed
    rows: int
    """Of the journal that is in the folder now."""
    key: Path | None
    """Where the run's key has to be put; None where it is there."""
    lost: tuple[str, ...]
    """Paths of files that neither the backup nor the folder has intact."""
