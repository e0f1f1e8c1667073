"""The successor of a run's key: made and named beforehand, kept off-line, and put in the key's place."""

from __future__ import annotations

from pathlib import Path

from barnraise.contract.run_keys import name_successor
from barnraise.core.errors import UserError
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey, short
from barnraise.runtime.files import Batch, load_identity, owned_folder, write_atomic
from coordinator.recovery.beginning import FolderFacts
from coordinator.recovery.key_copies import key_path, needed_key
from coordinator.recovery.key_file import run_key
from coordinator.recovery.opening import folder_facts, recorded_charter
from coordinator.run_folder import JOURNAL, SUCCESSOR
from coordinator.store.naming_successor import read_named, write_named

_REPLACED = "replaced-{}.key"


def make_successor(folder: Path, file: Path) -> PublicKey:
    """Make a successor of the run key in `file`, and have the run name it.

    The statement is on disk before the key is returned: a run that names a key which is lost has no other
    successor. Raises UserError, StateError, DiskFull.
    """
    key, facts = needed_key(folder), folder_facts(folder)
    if facts.run_key is None or facts.run_key != key.public:
        raise UserError(
            f"{folder} has no run that its key signs", fix="Begin the run first: `coordinator serve`."
        )
    if len(facts.successors) > facts.generation:
        raise UserError(
            f"the log names the successor {short(facts.successors[-1].successor)}, and that stands",
            fix="Where its file is lost, or somebody else has it: docs/RUN_KEY.md.",
        )
    if read_named(folder) is not None:
        raise UserError(
            f"{folder / SUCCESSOR} names a successor that is not in the log yet",
            fix=f"Serve the run until it is. Where the file of that key is lost, remove {SUCCESSOR} first.",
        )
    _check_place(folder, file)
    charter = recorded_charter(folder)
    assert charter is not None, "the facts say so"
    successor = Identity.generate()
    write_atomic(file, successor.seed, mode=0o600)
    kept = load_identity(file, is_copy=True)
    write_named(folder, name_successor(charter.value.run, 1 + facts.generation, key, kept))
    return kept.public


def rotate(folder: Path, file: Path) -> PublicKey:
    """Put the successor in `file` in the place of the run key, which is moved aside.

    The run goes on under it with the next start of `coordinator serve`. Raises UserError, StateError,
    FolderInUse, DiskFull.
    """
    if not file.is_file():
        raise UserError(f"there is no file {file}", fix="Give the file of the successor key.")
    successor = load_identity(file, is_copy=True)
    with owned_folder(folder, "coordinator"):
        if (folder / JOURNAL).exists():
            _check_named(folder_facts(folder), successor.public, file)
        _set_aside(folder, successor.public)
        write_atomic(key_path(folder), successor.seed, mode=0o600)
    return successor.public


def has_journal(folder: Path) -> bool:
    """Whether the folder has a journal; without one the run is recovered from elsewhere."""
    return recorded_charter(folder) is not None


def named_successor(folder: Path) -> PublicKey | None:
    """The successor of the run key in force, by the log; None where none is named."""
    if not (folder / JOURNAL).exists():
        return None
    facts = folder_facts(folder)
    return facts.successors[-1].successor if len(facts.successors) > facts.generation else None


def _check_named(facts: FolderFacts, successor: PublicKey, file: Path) -> None:
    """Raises UserError unless the log names the key. A journal that was lost says nothing."""
    if facts.journal is None or successor in facts.run_keys[facts.generation + 1 :]:
        return
    if successor == facts.run_key:
        raise UserError(
            f"{file} is the run key in force, {short(successor)}", fix="Nothing: `coordinator serve` goes on."
        )
    raise UserError(
        f"the log in {facts.folder} does not name {short(successor)}, the key in {file}, as the successor",
        fix="Look for another file. A successor counts once a running coordinator has entered it in the log.",
    )


def _set_aside(folder: Path, successor: PublicKey) -> None:
    before = run_key(folder)
    if before is not None and before.public != successor:
        with Batch() as batch:
            batch.rename(key_path(folder), folder / _REPLACED.format(short(before.public)))


def _check_place(folder: Path, file: Path) -> None:
    if file.exists():
        raise UserError(f"{file} exists already", fix="Choose another file; a key is never overwritten.")
    if folder.resolve() in file.resolve().parents:
        raise UserError(
            f"{file} is in the folder of the run: who takes that has both keys",
            fix="Give a file on a stick, or elsewhere, that is kept off-line.",
        )
