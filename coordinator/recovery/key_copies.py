"""Copies of a run's private key, which are kept off-line."""

from __future__ import annotations

from pathlib import Path

from barnraise.core.errors import StateError, UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.runtime.files import load_identity, write_atomic
from coordinator.recovery.key_file import run_key
from coordinator.recovery.opening import folder_facts
from coordinator.run_folder import ARCHIVE, AUTHORITY_KEY, JOURNAL


def key_path(folder: Path) -> Path:
    """Where the key of the run in `folder` is."""
    return folder / AUTHORITY_KEY


def needed_key(folder: Path) -> Identity:
    """Raises UserError where the folder has none, StateError for a broken file."""
    found = run_key(folder)
    if found is None:
        raise UserError(
            f"there is no key in {folder}",
            fix="Name a run that is served here without --data-dir, or its folder.",
        )
    return found


def copy_key(folder: Path, file: Path) -> PublicKey:
    """Raises UserError where `file` exists, DiskFull."""
    if file.exists():
        raise UserError(f"{file} exists already", fix="Choose another file; a key is never overwritten.")
    identity = needed_key(folder)
    write_atomic(file, identity.seed, mode=0o600)
    return load_identity(file, is_copy=True).public


def check_key(folder: Path, file: Path) -> PublicKey:
    """The public key of `file`. Raises UserError unless it is that of the run in `folder`."""
    if not file.is_file():
        raise UserError(f"there is no file {file}", fix="Give the file of a copy of the key.")
    public, signer = load_identity(file, is_copy=True).public, _signer(folder)
    if public != signer:
        raise UserError(
            f"{file} is another key, {public[:8]}: the run's begins with {signer[:8]}",
            fix="Look for another copy. Without the run's key nobody can go on with the run.",
        )
    return public


def put_key(folder: Path, file: Path) -> PublicKey:
    """Raises UserError, StateError, DiskFull."""
    public = check_key(folder, file)
    write_atomic(key_path(folder), load_identity(file, is_copy=True).seed, mode=0o600)
    return public


def _signer(folder: Path) -> PublicKey:
    """The run key in force, by all that the folder has of the run."""
    if not (folder / JOURNAL).exists() and not (folder / ARCHIVE).exists():
        return needed_key(folder).public
    facts = folder_facts(folder)
    signer = facts.run_key or facts.archive or facts.key
    if signer is None:
        raise StateError(f"{folder} has nothing of a run", fix="Name the folder of a run.")
    return signer
