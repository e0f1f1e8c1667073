"""Which file of a stopped program a fault damages or deletes."""

from __future__ import annotations

import json
from pathlib import Path

from barnraise.contract.manifest import Manifest
from barnraise.contract.records import Commit, blob_name
from barnraise.core.ids import BlobHash
from barnraise.core.signed import open_text
from scripts.chaos.cases import File
from scripts.chaos.evidence import JournalReader


def saved_file(folder: Path, kind: str) -> Path | None:
    """A file of a volunteer's saved work, by its kind in `current.json`."""
    current = folder / "work" / "current.json"
    if not current.exists():
        return None
    return folder / "work" / str(json.loads(current.read_bytes())["files"][kind])


def blob_of(folder: Path, file: File) -> BlobHash | None:
    """A blob by what it is."""
    if file is File.PENDING:
        return _pending(folder)
    journal = JournalReader(folder)
    rows = journal.rows()
    links = journal.links(rows)
    if file is File.ACCEPTED:
        open_round = links[-1].close.round + 1 if links else 0
        accepted = [commit for commit in journal.accepted(rows) if commit.round == open_round]
        return blob_name(accepted[0]) if accepted else None
    if not links:
        return None
    if file is File.CLOSE:
        return links[-1].hash
    if file is File.FOLDED:
        return blob_name(links[-1].commits[0])
    return _largest(journal.checkpoints(rows)[-1].manifest.value)


def _pending(folder: Path) -> BlobHash | None:
    text = json.loads((folder / "work" / "current.json").read_bytes())["pending"]
    return blob_name(open_text(Commit, text, signer=None).value) if text else None


def _largest(manifest: Manifest) -> BlobHash:
    return BlobHash(max(manifest.files, key=lambda entry: entry.size).hash)
