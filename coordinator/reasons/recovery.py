"""What a restart finds damaged or missing in the coordinator's folder, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import contribution_path, entry_path, folder_of
from barnraise.contract.log_entries import MAX_ENTRY_BYTES
from barnraise.contract.records import Commit, blob_name
from barnraise.core.ids import BlobHash
from barnraise.core.reason import Reason

# What a file is


@dataclass(frozen=True)
class EntryFile:
    """An entry of the log."""

    name: BlobHash
    epoch: int
    height: int

    @property
    def archive_path(self) -> str:
        """Where archives have a copy."""
        return entry_path(self.epoch, self.height)

    @property
    def limit(self) -> int:
        """Bytes that it has at most."""
        return MAX_ENTRY_BYTES


@dataclass(frozen=True)
class ContributionFile:
    """A contribution that a close lists, or that was accepted for the open round."""

    commit: Commit

    @property
    def name(self) -> BlobHash:
        """The hash of the blob."""
        return blob_name(self.commit)

    @property
    def archive_path(self) -> str:
        """Where archives have a copy."""
        return contribution_path(self.name)

    @property
    def limit(self) -> int:
        """Bytes that it has."""
        return self.commit.size


@dataclass(frozen=True)
class OlderContribution:
    """A contribution that a checkpoint contains: it is kept so that others can replay the log."""

    name: BlobHash
    round: int
    size: int

    @property
    def archive_path(self) -> str:
        """Where archives have a copy."""
        return contribution_path(self.name)

    @property
    def limit(self) -> int:
        """Bytes that it has."""
        return self.size


@dataclass(frozen=True)
class CheckpointFile:
    """A file that the manifest of a checkpoint lists."""

    name: BlobHash
    round: int
    file: str
    size: int
    averaged: bool = False
    """The checkpoint is the mean of states up to that round."""

    @property
    def archive_path(self) -> str:
        """Where archives have a copy."""
        return f"{folder_of('trained', self.round, averaged=self.averaged)}/{self.file}"

    @property
    def limit(self) -> int:
        """Bytes that it has."""
        return self.size


RunFile = EntryFile | ContributionFile | OlderContribution | CheckpointFile
NeededFile = EntryFile | ContributionFile
"""Without it, the run cannot continue: it is fetched from volunteers where no archive has it."""

# What becomes of it


@dataclass(frozen=True)
class TakenFromJournal(Reason):
    """The journal has a copy."""


@dataclass(frozen=True)
class TakenFromArchive(Reason):
    """The archive folder has an intact copy."""


@dataclass(frozen=True)
class TakenFromMirror(Reason):
    """A mirror has an intact copy."""

    url: str


@dataclass(frozen=True)
class Unrecovered(Reason):
    """Neither the archive folder nor a mirror has a copy."""


CopyOutcome = TakenFromJournal | TakenFromArchive | TakenFromMirror | Unrecovered


@dataclass(frozen=True)
class FileLost(Reason):
    """A file was missing or damaged."""

    file: RunFile
    aside: Path | None
    """Where the damaged bytes are; None where the file was missing."""
    outcome: CopyOutcome


@dataclass(frozen=True)
class CheckpointGivenUp(Reason):
    """A checkpoint whose files are lost is dropped: the state follows from an older one and the log."""

    round: int
    averaged: bool = False
    """It is the mean of states up to that round: nothing but downloads needs it."""


@dataclass(frozen=True)
class AwaitingState(Reason):
    """No checkpoint is left: a state that the log names is fetched from a volunteer."""


@dataclass(frozen=True)
class StateFetched(Reason):
    """A volunteer has served a state."""

    round: int


@dataclass(frozen=True)
class StateTaken(Reason):
    """The run continues from a volunteer's state: what leads to it from the checkpoints before is lost."""

    round: int


@dataclass(frozen=True)
class OlderContributionsGivenUp(Reason):
    """Contributions to earlier rounds are lost: the log can be replayed from a later checkpoint only."""

    round: int
    """Of that checkpoint."""


@dataclass(frozen=True)
class OwnFileRestored(Reason):
    """A file of the folder that goes into each checkpoint was damaged or missing: the newest one has it."""

    file: str
    aside: Path | None
    """Where the damaged bytes are; None where the file was missing."""


@dataclass(frozen=True)
class FirstStateRecomputed(Reason):
    """No checkpoint is intact: the state follows from the base model and the whole log."""


@dataclass(frozen=True)
class FetchedFromVolunteer(Reason):
    """A volunteer had an intact copy."""

    file: NeededFile


@dataclass(frozen=True)
class AwaitingVolunteers(Reason):
    """The run continues as soon as volunteers that have these files connect."""

    files: tuple[NeededFile, ...]


# The prepared data


@dataclass(frozen=True)
class DataDamaged(Reason):
    """Prepared data is damaged or missing."""

    shards: int
    held_out: int
    """Shards of the held-out part."""
    index: bool
    """An index of shards is."""


@dataclass(frozen=True)
class DataRebuilt(Reason):
    """It was built from the dataset again."""


@dataclass(frozen=True)
class DataChanged(Reason):
    """The dataset gives other data than it did when the run began."""


@dataclass(frozen=True)
class DataNotRebuilt(Reason):
    """The dataset cannot be built."""

    problem: str
    """Of the error that says why."""


@dataclass(frozen=True)
class AwaitingShards(Reason):
    """Shards are fetched from volunteers, while the run goes on."""

    count: int


@dataclass(frozen=True)
class ShardsFetched(Reason):
    """All of them were fetched."""


DataReason = DataDamaged | DataRebuilt | DataChanged | DataNotRebuilt | AwaitingShards | ShardsFetched

StateReason = FirstStateRecomputed | AwaitingState | StateFetched | StateTaken

RecoveryReason = (
    FileLost
    | CheckpointGivenUp
    | OlderContributionsGivenUp
    | OwnFileRestored
    | FetchedFromVolunteer
    | AwaitingVolunteers
    | StateReason
)
