"""Reads one checkpoint of an archive: its manifest, its files, its state."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from barnraise.contract.archive import Revision, find_revision, place_of
from barnraise.contract.charter import Charter
from barnraise.contract.manifest import MANIFEST, Manifest
from barnraise.contract.state import TrainState
from barnraise.core.errors import MalformedBlob, StateError, TrustError, UserError
from barnraise.core.ids import BlobHash
from barnraise.fold.replay import Cause, Difference
from barnraise.models.checkpoint_files import read_state
from peer.archive.reading import RunArchive
from peer.archive.sources import Missing
from peer.verify.archive_reader import NOT_THERE, ArchiveReader


def revision_of(archive: RunArchive, wanted: str) -> Revision:
    """The revision of the trained form. Raises UserError where there is none."""
    repo = archive.index.repo("trained")
    if repo is None:
        raise UserError("this run has no checkpoint yet", fix="Try again after its first one.")
    return find_revision(repo, wanted)


async def manifest_of(archive: RunArchive, revision: Revision) -> Manifest | Difference:
    """Raises Unreachable."""
    path, expected = f"{revision.folder}/{MANIFEST}", "the manifest, signed by the run's key"
    try:
        return (await archive.manifest(revision, "trained")).value
    except Missing:
        return Difference("manifest", path, expected, NOT_THERE, Cause.ABSENT)
    except TrustError as error:
        return Difference("manifest", path, expected, error.problem, Cause.SOURCE)


async def files_in(
    archive_reader: ArchiveReader, folder: str, manifest: Manifest
) -> dict[BlobHash, Path] | Difference:
    """A checkpoint's files by their hashes; each is checked. Raises Unreachable, DiskFull."""
    paths: dict[BlobHash, Path] = {}
    for entry in manifest.files:
        path = await archive_reader.file(folder, entry)
        if isinstance(path, Difference):
            return path
        paths[BlobHash(entry.hash)] = path
    return paths


async def state_in(
    files: Mapping[BlobHash, Path], folder: str, manifest: Manifest, charter: Charter
) -> TrainState | Difference:
    """What a checkpoint holds. files: by their hashes. folder: in the source; empty if it is the source."""
    try:
        return await asyncio.to_thread(read_state, manifest, charter.layout, files.__getitem__)
    except (StateError, MalformedBlob) as error:
        where = folder or place_of(manifest)
        return Difference("file", where, f"the state {manifest.state}", error.problem, Cause.COORDINATOR)
