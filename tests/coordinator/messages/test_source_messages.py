"""The words for the files of a source."""

from __future__ import annotations

import pytest

from coordinator.messages.source_files import skip_reason, source_files
from coordinator.reasons.source_files import (
    AlreadyRead,
    DescribesData,
    FileGroup,
    HiddenFile,
    NoSplit,
    NotAFile,
    OtherConfig,
    OtherSplit,
    SkippedFiles,
    SkipReason,
    SourceFiles,
    UnknownKind,
)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (OtherSplit("test"), "split `test`"),
        (NoSplit(), "of no split"),
        (OtherConfig("fr"), "configuration `fr`"),
        (OtherConfig(""), "of no configuration"),
        (DescribesData(), "card, licence or metadata"),
        (HiddenFile(), "hidden"),
        (UnknownKind(".png"), "of an unknown kind (.png)"),
        (UnknownKind(""), "of an unknown kind"),
        (NotAFile(), "not a file"),
        (AlreadyRead(), "a link to a folder that is read already"),
    ],
)
def test_why_a_file_is_not_read(reason: SkipReason, words: str) -> None:
    assert skip_reason(reason) == words


def test_the_files_of_a_source() -> None:
    assert source_files(SourceFiles("a/b.txt", FileGroup(1, ("b.txt",)), ())) == ["a/b.txt"]
    skipped = SkippedFiles(HiddenFile(), FileGroup(1, (".git/",)))
    assert source_files(SourceFiles("a", FileGroup(1200, ("b.txt", "c.txt")), (skipped,))) == [
        "a: b.txt, c.txt and 1,198 more",
        "not read, hidden: .git/",
    ]
