"""Which files of a source of data are read, and why others are not."""

from __future__ import annotations

from dataclasses import dataclass

from barnraise.core.reason import Reason


@dataclass(frozen=True)
class OtherSplit(Reason):
    """The file belongs to a split that is not trained on."""

    split: str


@dataclass(frozen=True)
class NoSplit(Reason):
    """The name of the file says no split, and other files are called `train`."""


@dataclass(frozen=True)
class OtherConfig(Reason):
    """The file belongs to another configuration, or to none."""

    config: str
    """Empty for none."""


@dataclass(frozen=True)
class DescribesData(Reason):
    """The file is a card, a licence or metadata, not data."""


@dataclass(frozen=True)
class HiddenFile(Reason):
    """The name of the file, or of a folder above it, begins with a dot or two underscores."""


@dataclass(frozen=True)
class UnknownKind(Reason):
    """No reader knows files of this suffix."""

    suffix: str


@dataclass(frozen=True)
class NotAFile(Reason):
    """It is a socket, a device, or a link that leads nowhere."""


@dataclass(frozen=True)
class AlreadyRead(Reason):
    """The folder is a link to one that is read already."""


SkipReason = (
    OtherSplit | NoSplit | OtherConfig | DescribesData | HiddenFile | UnknownKind | NotAFile | AlreadyRead
)
"""Why a file of a source is not read."""


@dataclass(frozen=True)
class FileGroup:
    """Some files of a source."""

    count: int
    examples: tuple[str, ...]
    """The first of their names."""


@dataclass(frozen=True)
class SkippedFiles:
    """Files that are not read, for one reason."""

    reason: SkipReason
    files: FileGroup


@dataclass(frozen=True)
class SourceFiles:
    """What is read of a source."""

    source: str
    taken: FileGroup
    skipped: tuple[SkippedFiles, ...]
