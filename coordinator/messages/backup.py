"""Renders what a backup has, and what a restored folder needs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from typing_extensions import assert_never

from barnraise.core.units import format_bytes
from coordinator.reasons.backup import BackupRestored, BackupTaken, JournalUsed
from coordinator.run_folder import AUTHORITY_KEY

_NAMED = 3


def taken_lines(taken: BackupTaken) -> Iterator[str]:
    """What `coordinator backup` reports."""
    size = format_bytes(taken.bytes)
    yield (
        f"{taken.target} has the run {taken.run} as of {_time(taken.taken)}:"
        f" round {taken.round}, {taken.files} files, {size}"
    )
    if taken.lost:
        yield (
            f"{taken.folder} does not have {_names(taken.lost)} intact, so the backup lacks that."
            " Stop `coordinator serve` and start it again: it fetches what is missing."
        )
    if taken.has_key:
        yield f"The run's key is in it, as {AUTHORITY_KEY}: who has this backup can sign for the run."
    else:
        key = taken.folder / AUTHORITY_KEY
        yield f"The run's key is not in it: keep a copy of {key} in another safe place."


def restored_lines(restored: BackupRestored) -> Iterator[str]:
    """What `coordinator restore` reports."""
    yield _journal_used(restored)
    if restored.lost:
        yield (
            f"Neither it nor the backup has {_names(restored.lost)} intact: `coordinator serve` fetches what"
            " is missing from the archive, mirrors and volunteers."
        )
    if restored.key is not None:
        yield f"Put the run's key into {restored.key} before you serve it."


def _journal_used(restored: BackupRestored) -> str:
    has = f"{restored.folder} has the run {restored.run}"
    match restored.journal:
        case JournalUsed.BACKUP:
            return f"{has} as of {_time(restored.taken)}, round {restored.round}"
        case JournalUsed.SALVAGED:
            return f"{has}: {restored.rows} intact rows of its damaged journal, more than the backup has"
        case JournalUsed.OWN:
            return f"{has}: its own journal is intact, and not older than the backup"
        case _:
            assert_never(restored.journal)


def _names(paths: tuple[str, ...]) -> str:
    more = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {more} more files" if more > 0 else "")


def _time(millis: int) -> str:
    return f"{datetime.fromtimestamp(millis / 1000, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
