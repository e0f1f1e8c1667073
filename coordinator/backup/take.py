"""`coordinator backup`: copies a run's folder while `coordinator serve` may be running.

The journal is copied first, by SQLite's backup function, so it is the journal of one moment. Then each file
that it names is copied. `serve` may drop some of them meanwhile: then a newer journal is copied, and what it
names. `backup.json` is written last and names the copy of the journal, so an interrupted backup leaves the
one before it usable.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from barnraise import __version__
from barnraise.core.errors import FileDamaged, StateError, UserError
from barnraise.core.ids import Millis, RunId
from barnraise.models.lora_files import ADAPTER_CONFIG
from barnraise.runtime.blob_store import file_hash
from barnraise.runtime.files import (
    UNFINISHED,
    disk_errors,
    keep_file,
    owned_folder,
    scratch_folder,
    write_atomic,
)
from coordinator.backup.checked_copy import checked_copy
from coordinator.backup.contents import RunContents
from coordinator.backup.manifest import (
    BACKUP,
    CHANGING,
    JOURNALS,
    VERSION,
    BackupFile,
    BackupManifest,
    read_manifest,
)
from coordinator.reasons.backup import BackupTaken
from coordinator.run_folder import AUDITS, AUTHORITY_KEY, BLOBS, CHAT_TEMPLATE, HELD_OUT, JOURNAL
from coordinator.store.journal import copy_journal


def take_backup(
    folder: Path, target: Path, now: Callable[[], Millis], *, with_key: bool = False
) -> BackupTaken:
    """Write a backup of the run in `folder` to `target`: an empty folder, or an older backup of the run.

    Raises UserError; StateError where the journal or an entry of the log is damaged; DiskFull, MachineError.
    """
    if not (folder / JOURNAL).is_file():
        raise UserError(
            f"{folder} is not the folder of a run", fix="Give the one that `coordinator serve` named."
        )
    older = _older(target)
    with owned_folder(target, "backup"):
        manifest = _copied(folder, target, older, now)
        if with_key or (target / AUTHORITY_KEY).exists():  # a copy of the key is never removed
            manifest = _with_key(manifest, folder, target)
        write_atomic(target / BACKUP, manifest.model_dump_json(indent=1).encode())
        _remove_others(manifest, target)
    files = (manifest.journal, *manifest.files)
    return BackupTaken(
        run=RunId(manifest.run),
        folder=folder,
        target=target,
        taken=Millis(manifest.taken),
        round=manifest.round,
        files=len(files),
        bytes=sum(file.size for file in files),
        has_key=any(file.path == AUTHORITY_KEY for file in files),
        lost=manifest.lost,
    )


def _copied(
    folder: Path, target: Path, older: BackupManifest | None, now: Callable[[], Millis]
) -> BackupManifest:
    """Copy all but the key. A file is lost if two journals in a row name it, and it was there for neither."""
    lost_before: set[str] | None = None
    while True:
        with scratch_folder(target) as work:
            copy, taken = work / JOURNAL, now()
            copy_journal(folder / JOURNAL, copy)
            contents = _read(copy, folder)
            charter = contents.charter.value
            if older is not None and older.authority != charter.authority:
                raise UserError(
                    f"{target} has a backup of another run, {older.run}", fix="Give another folder."
                )
            files, lost = _copy_files(contents, target)
            if lost and lost != lost_before:
                lost_before = lost
                continue
            return BackupManifest(
                version=VERSION,
                release=__version__,
                run=charter.run,
                authority=charter.authority,
                keys=contents.state.signers.current,
                taken=taken,
                round=contents.state.round,
                journal=_keep_journal(copy, target),
                files=tuple(files),
                lost=tuple(sorted(lost)),
            )


def _older(target: Path) -> BackupManifest | None:
    """The backup in `target`. Raises UserError where something else is there, StateError."""
    known = {
        JOURNALS,
        BLOBS,
        HELD_OUT,
        CHAT_TEMPLATE,
        ADAPTER_CONFIG,
        AUDITS,
        ".lock",
    }  # of an interrupted one
    found = read_manifest(target)
    if found is None and target.exists() and not (target.is_dir() and _names(target) <= known):
        raise UserError(
            f"{target} has other files than a backup", fix="Give an empty folder, or one that has a backup."
        )
    return found


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(UNFINISHED)}


def _read(journal: Path, folder: Path) -> RunContents:
    try:
        return RunContents.read(journal, folder)
    except (FileNotFoundError, FileDamaged) as error:
        raise StateError(
            f"an entry of the log of {folder} is damaged or missing: {error}",
            fix="Stop `coordinator serve` and start it again: it fetches a copy. Then take the backup.",
        ) from None


def _copy_files(contents: RunContents, target: Path) -> tuple[list[BackupFile], set[str]]:
    """The files that are in the backup now, and the paths of those that are damaged or missing."""
    files, lost = list[BackupFile](), set[str]()
    for named in contents.files():
        path, mode = target / named.path, 0o600 if named.path in CHANGING else 0o644
        try:
            found = checked_copy(contents.folder / named.path, path, named.hash, mode=mode)
        except (FileNotFoundError, FileDamaged):
            lost.add(named.path)
        else:
            files.append(BackupFile(path=named.path, hash=found, size=path.stat().st_size))
    return files, lost


def _keep_journal(copy: Path, target: Path) -> BackupFile:
    name = file_hash(copy)
    path = target / JOURNALS / name
    size = copy.stat().st_size
    with disk_errors(path):
        keep_file(copy, path)
    return BackupFile(path=f"{JOURNALS}/{name}", hash=name, size=size)


def _with_key(manifest: BackupManifest, folder: Path, target: Path) -> BackupManifest:
    try:
        found = checked_copy(folder / AUTHORITY_KEY, target / AUTHORITY_KEY, None, mode=0o600)
    except FileNotFoundError:
        raise UserError(
            f"{folder} does not have the run's key, {AUTHORITY_KEY}",
            fix="Take the backup without --with-key, and keep the key where you keep it now.",
        ) from None
    entry = BackupFile(path=AUTHORITY_KEY, hash=found, size=(target / AUTHORITY_KEY).stat().st_size)
    return manifest.model_copy(update={"files": (*manifest.files, entry)})


def _remove_others(manifest: BackupManifest, target: Path) -> None:
    """Remove what an older backup had and this one has not."""
    named = {target / file.path for file in (manifest.journal, *manifest.files)}
    with disk_errors(target):
        found = [path for folder in (JOURNALS, BLOBS, HELD_OUT) for path in (target / folder).rglob("*")]
        for path in found:
            if path.is_file() and path not in named:
                path.unlink()
