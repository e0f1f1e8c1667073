"""Lists the files below a folder on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barnraise.core.errors import DatasetError
from coordinator.dataset.sources.kinds import kind_of
from coordinator.reasons.source_files import AlreadyRead, HiddenFile, NotAFile, SkipReason


@dataclass
class FolderFiles:
    """Paths relative to a folder, with `/`."""

    names: list[str] = field(default_factory=list)
    skipped: dict[str, SkipReason] = field(default_factory=dict)


def list_folder(folder: Path) -> FolderFiles:
    """All files below `folder`; links to folders are followed, each folder is read once.

    Raises DatasetError for a folder that cannot be read, and for a link to data that does not exist.
    """
    found = FolderFiles()
    _list(folder, "", found, {_identity(folder)})
    return found


def _list(folder: Path, prefix: str, found: FolderFiles, seen: set[tuple[int, int]]) -> None:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise cannot_read(folder, error) from None
    for entry in entries:
        name = f"{prefix}{entry.name}"
        if entry.name.startswith((".", "__")):
            found.skipped[name + ("/" if _is(entry.is_dir) else "")] = HiddenFile()
        elif _is(entry.is_file):
            found.names.append(name)
        elif not _is(entry.is_dir):
            found.skipped[name] = _not_a_file(Path(entry.path))
        elif (identity := _identity(Path(entry.path))) in seen:
            found.skipped[name + "/"] = AlreadyRead()
        else:
            seen.add(identity)
            _list(Path(entry.path), name + "/", found, seen)


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry is of a kind; a link that leads to itself is of none."""
    try:
        return kind()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise cannot_read(folder, error) from None
    return status.st_dev, status.st_ino


def _not_a_file(path: Path) -> NotAFile:
    if path.is_symlink() and kind_of(path.name):
        raise DatasetError(
            f"{path} is a link to {os.readlink(path)}, which does not exist",
            fix="Remove the link, or put its target back.",
        )
    return NotAFile()


def cannot_read(path: Path, error: Exception) -> DatasetError:
    """The error for a path that the system, or a library, refuses to read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    denied = isinstance(error, PermissionError)
    return DatasetError(
        f"cannot read {path}: {reason}",
        fix=f"Give yourself the right to read it: `chmod -R u+rX '{path}'`."
        if denied
        else "Copy or download it once more: it may be truncated or damaged.",
    )


def read_card(readme: Path) -> dict[str, Any] | None:
    """The YAML front matter of a README.md; None without any. Raises DatasetError for invalid YAML."""
    from huggingface_hub import metadata_load
    from yaml import YAMLError

    if not readme.is_file():
        return None
    try:
        return metadata_load(readme)
    except (OSError, ValueError, YAMLError) as error:
        raise DatasetError(
            f"the front matter of {readme} is not valid YAML: {(str(error).splitlines() or [''])[0]}",
            fix="Correct it, or remove it: it may say which files belong to which split.",
        ) from None
