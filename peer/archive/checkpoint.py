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
from barnraise.runtime.files import disk_errors, make_folder, remove_unfinished, write_atomic
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
    await asyncio.to_thread(_remove_other_manifest, signed, folder)
    await fetch_files(signed.value.files, folder, "-o", candidates, listener, clock, timing)
    write_atomic(folder / MANIFEST, signed.wire)
    remove_unfinished(folder / MANIFEST)


async def fetch_files(
    entries: Sequence[FileEntry],
    folder: Path,
    option: str,
    candidates: Sequence[Candidate],
    listener: DownloadListener[ArchiveEvent],
    clock: Callable[[], float],
    timing: Timing = TIMING,
) -> None:
    """Fetch what the folder lacks of `entries`. option: the one that chooses the folder.

    Raises as `fetch_checkpoint`.
    """
    lacking = await asyncio.to_thread(_lacking, entries, folder)
    parts = [PartialFile(folder, entry) for entry in lacking]
    _check_free_space(folder, sum(part.entry.size - part.got for part in parts), option)
    await CheckpointDownload(parts, listener, clock, timing).run(candidates)


def _remove_other_manifest(signed: Signed[Manifest], folder: Path) -> None:
    """The manifest of another checkpoint is removed before its files are."""
    with disk_errors(folder):
        manifest = folder / MANIFEST
        if manifest.is_file() and manifest.read_bytes() != signed.wire:
            manifest.unlink()


def _lacking(entries: Sequence[FileEntry], folder: Path) -> list[FileEntry]:
    """The files to fetch."""
    with disk_errors(folder):
        make_folder(folder)
        return [entry for entry in entries if not _whole(folder / entry.name, entry)]


def _whole(file: Path, entry: FileEntry) -> bool:
    return file.is_file() and file.stat().st_size == entry.size and file_hash(file) == entry.hash


def _check_free_space(folder: Path, needed: int, option: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(
            f"{folder} needs {format_bytes(needed)} more, its disk has {format_bytes(free)} left",
            fix=f"Free some space, or choose another folder with {option}.",
        )
