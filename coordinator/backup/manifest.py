"""`backup.json`: what a backup has. It is written last, so all that it lists is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.core.errors import NewerVersion, StateError, UserError
from barnraise.core.ids import RUN_PATTERN, BlobHash
from barnraise.core.strict import Hex64, Strict
from barnraise.models.lora_files import ADAPTER_CONFIG
from coordinator.run_folder import AUDIT_LEDGER, AUDIT_SECRET, AUTHORITY_KEY, BLOBS, CHAT_TEMPLATE, HELD_OUT

BACKUP = "backup.json"
JOURNALS = "journals"
"""Folder of the copy of the journal, which its hash names."""
VERSION = 1
_BLOB = f"({BLOBS}|{HELD_OUT})/[0-9a-f]{{2}}/[0-9a-f]{{64}}"
CHANGING = (AUDIT_LEDGER, AUDIT_SECRET)
"""Files of the maintainer's own that a run changes: a backup has them private, and a folder keeps its own."""
_NAMED = "|".join(re.escape(name) for name in (CHAT_TEMPLATE, ADAPTER_CONFIG, AUTHORITY_KEY, *CHANGING))
_PATH = rf"^({_BLOB}|{HELD_OUT}/{re.escape(HELD_OUT_INDEX)}|{_NAMED}|{JOURNALS}/[0-9a-f]{{64}})$"
"""All that a backup has: a vote of a closer is not restored from any."""


class BackupFile(Strict):
    """One file of a backup, at the same path as in the run's folder."""

    path: Annotated[str, Field(pattern=_PATH)]
    hash: Hex64
    size: Annotated[int, Field(ge=0)]

    @property
    def name(self) -> BlobHash:
        return BlobHash(self.hash)


class BackupManifest(Strict):
    """The content of `backup.json`."""

    version: int
    release: str
    """The release that wrote it."""
    run: Annotated[str, Field(pattern=RUN_PATTERN)]
    """Its name."""
    authority: Hex64
    """The run's first public key, which names it."""
    keys: tuple[Hex64, ...] = ()
    """The run key in force, and its successor where the log names one."""
    taken: int
    """When the journal was copied, in milliseconds since the epoch."""
    round: int
    """The open round."""
    journal: BackupFile
    files: tuple[BackupFile, ...]
    """Without the journal."""
    lost: tuple[str, ...]
    """Paths of files that the journal names, and that the run's folder did not have intact."""


def read_manifest(folder: Path) -> BackupManifest | None:
    """The manifest of the backup in `folder`; None where there is none. Raises StateError, NewerVersion."""
    try:
        wire = (folder / BACKUP).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        header = _Header.model_validate_json(wire)
        if header.version > VERSION:
            raise NewerVersion(f"the backup in {folder}", header.release)
        return BackupManifest.model_validate_json(wire)
    except ValidationError:
        raise StateError(
            f"{folder / BACKUP} is damaged", fix="Use another backup, or take a new one in an empty folder."
        ) from None


def needed_manifest(folder: Path) -> BackupManifest:
    """Raises UserError where `folder` has no backup, StateError, NewerVersion."""
    if (found := read_manifest(folder)) is None:
        raise UserError(
            f"{folder} has no backup",
            fix="Give the folder that `coordinator backup` wrote: it has backup.json.",
        )
    return found


class _Header(Strict):
    """What every version has."""

    model_config = ConfigDict(extra="ignore")

    version: int
    release: str
