"""`coordinator restore`: makes a run's folder from a backup, or repairs one whose journal is damaged.

What the folder has intact is kept; what is damaged is set aside. Of the folder's damaged journal and that of
the backup the longer one is used. The journal comes last, and is marked (`Journal.behind`): rounds may have
been closed after it, and `coordinator serve` has to ask for them before it signs anything.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

from barnraise.core.errors import FileDamaged, StateError, UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import Millis, RunId
from barnraise.runtime.blob_store import has_hash
from barnraise.runtime.damaged import DAMAGED, DamagedFiles
from barnraise.runtime.files import UNFINISHED, owned_folder, write_atomic
from coordinator.backup.checked_copy import checked_copy
from coordinator.backup.manifest import CHANGING, BackupFile, BackupManifest, needed_manifest
from coordinator.reasons.backup import BackupRestored, JournalUsed
from coordinator.run_folder import AUTHORITY_KEY, JOURNAL
from coordinator.store.journal import Journal, journal_files
from coordinator.store.journal_chain import EMPTY, Chain, read_chain
from coordinator.store.journal_salvage import replace_journal, salvage


def restore_backup(source: Path, folder: Path, key: Path | None = None) -> BackupRestored:
    """key: a file with the run's key, where neither the backup nor `folder` has it.

    Raises UserError where `folder` is of another run; StateError for a damaged backup; NewerVersion,
    FolderInUse, DiskFull, MachineError.
    """
    manifest = needed_manifest(source)
    journal = source / manifest.journal.path
    if not has_hash(journal, manifest.journal.name):
        raise StateError(f"{journal} is damaged or missing", fix="Use another backup.")
    with owned_folder(folder, "coordinator"), ExitStack() as stack:
        identity = _identity(manifest, source, folder, key)
        damaged = DamagedFiles(folder / DAMAGED)
        new = _unfinished_copy(journal, manifest, folder)
        stack.callback(_remove_journal, new)
        here, backup = _chain(folder / JOURNAL), _chain(new)
        used = _chosen(here, backup, folder)
        lost = _copy_files(manifest, source, folder, damaged)
        if identity is not None:
            write_atomic(folder / AUTHORITY_KEY, identity.seed, mode=0o600)
        if used is JournalUsed.BACKUP:
            _mark(new, Millis(manifest.taken))
            replace_journal(folder / JOURNAL, new, damaged)
        elif used is JournalUsed.SALVAGED:
            salvage(folder / JOURNAL, damaged)
    return BackupRestored(
        run=RunId(manifest.run),
        folder=folder,
        taken=Millis(manifest.taken),
        round=manifest.round,
        journal=used,
        rows=(backup if used is JournalUsed.BACKUP else here).rows,
        key=None if identity else folder / AUTHORITY_KEY,
        lost=tuple(lost),
    )


def _identity(manifest: BackupManifest, source: Path, folder: Path, key: Path | None) -> Identity | None:
    """The run's key, from the first place that has one. Raises UserError where it is of another run."""
    for path in (folder / AUTHORITY_KEY, key, source / AUTHORITY_KEY):
        if path is None or not path.exists():
            continue
        identity = Identity.from_seed(path.read_bytes())
        if identity.public not in (manifest.keys or (manifest.authority,)):
            raise UserError(
                f"{path} is not the key of the run {manifest.run} in the backup",
                fix="Restore to the run's own folder or to an empty one, with the run's own key.",
            )
        return identity
    if key is not None:
        raise UserError(f"there is no file {key}", fix="Give --key the file with the run's key.")
    return None


def _unfinished_copy(journal: Path, manifest: BackupManifest, folder: Path) -> Path:
    new = folder / f"{UNFINISHED}{JOURNAL}"
    _remove_journal(new)
    checked_copy(journal, new, manifest.journal.name)
    return new


def _remove_journal(path: Path) -> None:
    for file in journal_files(path):
        file.unlink(missing_ok=True)


def _chain(path: Path) -> Chain:
    return read_chain(path) if path.exists() else EMPTY


def _chosen(here: Chain, backup: Chain, folder: Path) -> JournalUsed:
    """The folder's own journal where it is intact or longer. Raises UserError, StateError."""
    if backup.damaged:
        raise StateError(
            "the journal in the backup was damaged before it was copied", fix="Use another backup."
        )
    if here.charter is not None and here.charter != backup.charter:
        raise UserError(
            f"{folder} has the journal of another run",
            fix="Restore to the run's own folder or to an empty one.",
        )
    if backup.continues(here):
        return JournalUsed.BACKUP if backup.rows > here.rows else JournalUsed.OWN
    if here.damaged:
        return JournalUsed.SALVAGED if here.continues(backup) else JournalUsed.BACKUP
    return JournalUsed.OWN


def _copy_files(manifest: BackupManifest, source: Path, folder: Path, damaged: DamagedFiles) -> list[str]:
    """Returns what could not be copied: `coordinator serve` fetches it from others."""
    lost = [path for path in manifest.lost if not (folder / path).exists()]
    for file in manifest.files:
        if file.path != AUTHORITY_KEY and not _brought(file, source, folder, damaged):
            lost.append(file.path)
    return lost


def _brought(file: BackupFile, source: Path, folder: Path, damaged: DamagedFiles) -> bool:
    target, changes = folder / file.path, file.path in CHANGING
    if has_hash(target, file.name) or (changes and target.exists()):
        return True
    if target.exists():
        damaged.set_aside(target)
    try:
        checked_copy(source / file.path, target, file.name, mode=0o600 if changes else 0o644)
    except (FileNotFoundError, FileDamaged):
        return False
    return True


def _mark(journal: Path, taken: Millis) -> None:
    with closing(Journal(journal)) as opened:
        opened.mark_behind(taken)
