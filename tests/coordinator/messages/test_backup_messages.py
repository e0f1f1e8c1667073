"""The words of backups and restored folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from barnraise.core.ids import Millis, RunId
from coordinator.messages.backup import restored_lines, taken_lines
from coordinator.reasons.backup import BackupRestored, BackupTaken, JournalUsed

RUN, AT = RunId("barn"), Millis(1_700_000_000_000)


def taken(*, has_key: bool = False, lost: tuple[str, ...] = ()) -> BackupTaken:
    return BackupTaken(RUN, Path("run"), Path("copy"), AT, 3, 54, 2_570_000, has_key, lost)


def restored(used: JournalUsed, key: Path | None = None, lost: tuple[str, ...] = ()) -> BackupRestored:
    return BackupRestored(RUN, Path("run"), AT, 3, used, 40, key, lost)


def test_a_backup_says_what_it_has_and_where_the_key_is() -> None:
    first, last = taken_lines(taken())
    assert first == "copy has the run barn as of 2023-11-14 22:13:20 UTC: round 3, 54 files, 2.57 MB"
    assert last == "The run's key is not in it: keep a copy of run/authority.key in another safe place."
    *_, last = taken_lines(taken(has_key=True))
    assert last == "The run's key is in it, as authority.key: who has this backup can sign for the run."


def test_a_backup_names_what_it_lacks() -> None:
    _, lacks, _ = taken_lines(taken(lost=("a", "b", "c", "d")))
    assert lacks == (
        "run does not have a, b, c and 1 more files intact, so the backup lacks that."
        " Stop `coordinator serve` and start it again: it fetches what is missing."
    )


@pytest.mark.parametrize(
    ("used", "words"),
    [
        (JournalUsed.BACKUP, "run has the run barn as of 2023-11-14 22:13:20 UTC, round 3"),
        (
            JournalUsed.SALVAGED,
            "run has the run barn: 40 intact rows of its damaged journal, more than the backup has",
        ),
        (JournalUsed.OWN, "run has the run barn: its own journal is intact, and not older than the backup"),
    ],
)
def test_a_restored_folder_says_which_journal_it_has(used: JournalUsed, words: str) -> None:
    assert list(restored_lines(restored(used))) == [words]


def test_a_restored_folder_names_what_it_needs() -> None:
    _, lost, key = restored_lines(restored(JournalUsed.BACKUP, Path("run/authority.key"), ("a",)))
    assert lost == (
        "Neither it nor the backup has a intact: `coordinator serve` fetches what is missing from the"
        " archive, mirrors and volunteers."
    )
    assert key == "Put the run's key into run/authority.key before you serve it."
