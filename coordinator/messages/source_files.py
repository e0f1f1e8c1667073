"""Renders which files of a source of data are read, and why others are not."""

from __future__ import annotations

from typing_extensions import assert_never

from coordinator.reasons.source_files import (
    AlreadyRead,
    DescribesData,
    FileGroup,
    HiddenFile,
    NoSplit,
    NotAFile,
    OtherConfig,
    OtherSplit,
    SkipReason,
    SourceFiles,
    UnknownKind,
)


def source_files(found: SourceFiles) -> list[str]:
    """What is read of a source, and a line for each reason why files are not."""
    alone = found.taken.count == 1 and found.source.endswith(found.taken.examples[0])
    lines = [found.source if alone else f"{found.source}: {_files(found.taken)}"]
    return lines + [f"not read, {skip_reason(each.reason)}: {_files(each.files)}" for each in found.skipped]


def skip_reason(reason: SkipReason) -> str:
    """Why a file is not read, in a few words."""
    match reason:
        case OtherSplit(split):
            return f"split `{split}`"
        case NoSplit():
            return "of no split"
        case OtherConfig(config):
            return f"configuration `{config}`" if config else "of no configuration"
        case DescribesData():
            return "card, licence or metadata"
        case HiddenFile():
            return "hidden"
        case UnknownKind(suffix):
            return f"of an unknown kind ({suffix})" if suffix else "of an unknown kind"
        case NotAFile():
            return "not a file"
        case AlreadyRead():
            return "a link to a folder that is read already"
        case _:
            assert_never(reason)


def _files(group: FileGroup) -> str:
    names = ", ".join(group.examples)
    more = group.count - len(group.examples)
    return f"{names} and {more:,} more" if more else names
