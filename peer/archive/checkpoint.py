"""Downloads a checkpoint into a folder. The manifest is there only if every file is as it says."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from barnraise.contract.manifest import MANIFEST, FileEntry, Manifest
from barnraise.core.errors import DiskFull
from barnraise.core.signed import Signed
from barnraise.core.units import format_bytes
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.files import disk_errors, write_atomic
from peer.archive.checkpoint_download import CheckpointDownload
from peer.archive.events import ArchiveEvent, DownloadListener
from peer.archive.partial_file import PartialFile
from peer.archive.sources import Candidate
from peer.timing import TIMING, Timing


async def fetch_checkpoint(
    signed: Signed[Manifest],
    folder: Path,
    candidates: Sequence[Candidate],
    listener: DownloadListener[ArchiveEvent],
    clock: Callable[[], float],
    timing: Timing = TIMING,
) -> None:
    """Fetch the files that are not in the folder, and resume those that are there in part.

    The manifest is written last. clock: seconds.
    Raises Unreachable, HashMismatch, DiskFull, MachineError.
    """
    lacking = await asyncio.to_thread(_lacking, signed, folder)
    parts = [PartialFile(folder, entry) for entry in lacking]
    _check_free_space(folder, sum(part.entry.size - part.got for part in parts))
    await CheckpointDownload(parts, listener, clock, timing).run(candidates)
    write_atomic(folder / MANIFEST, signed.wire)


def _lacking(signed: Signed[Manifest], folder: Path) -> list[FileEntry]:
    """The files to fetch. The manifest of another checkpoint is removed before its files are."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / MANIFEST
        if manifest.is_file() and manifest.read_bytes() != signed.wire:
            manifest.unlink()
        return [entry for entry in signed.value.files if not _whole(folder / entry.name, entry)]


def _whole(file: Path, entry: FileEntry) -> bool:
    return file.is_file() and file.stat().st_size == entry.size and file_hash(file) == entry.hash


def _check_free_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"{folder} needs {format_bytes(needed)} more, its disk has {format_bytes(free)} left",
            fix="Free some space, or choose another folder with -o.",
        )
