"""What a start of `coordinator serve` finds in its folder, and the key that it goes on with."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from barnraise.contract.archive import CHARTER
from barnraise.contract.charter import MAX_CHARTER_BYTES, Charter
from barnraise.contract.keys_in_force import KeysInForce
from barnraise.contract.log_entries import Succession, parse_entry
from barnraise.contract.run_keys import Successors, agreed, first_epoch, generation_of
from barnraise.contract.spec import RunSpec
from barnraise.core.errors import TrustError
from barnraise.core.identity import Identity
from barnraise.core.ids import PublicKey
from barnraise.core.signed import Signed, open_signed
from barnraise.runtime.blob_store import BlobStore
from barnraise.runtime.damaged import DAMAGED, DamagedFiles
from coordinator.messages.recovered_log import log_message
from coordinator.reasons.recovered_log import JournalOlder, JournalSalvaged, NewRunIgnored, RunSetAside
from coordinator.recovery.beginning import Asked, Beginning, FolderFacts, NewRun, decide_beginning
from coordinator.recovery.key_file import keep_key, new_key, pending_key, run_key, set_run_aside
from coordinator.run_folder import ARCHIVE, BLOBS, JOURNAL
from coordinator.store.completeness import JournalFacts, archived_entries, journal_facts
from coordinator.store.copies import Copies
from coordinator.store.journal import Journal, JournalDamaged
from coordinator.store.journal_salvage import salvage
from coordinator.store.row_reader import find_charter

log = logging.getLogger("coordinator")


def open_folder(folder: Path, asked: Asked) -> tuple[Identity, Beginning]:
    """The run's key, and what to do about its log. Raises UserError, StateError, JournalDamaged, DiskFull."""
    try:
        facts = folder_facts(folder)
    except JournalDamaged as damaged:
        if asked.recover_from is None:
            raise
        kept = salvage(damaged.path, DamagedFiles(folder / DAMAGED))
        log.warning("%s", log_message(JournalSalvaged(damaged.problem, kept)))
        facts = folder_facts(folder)
    beginning = decide_beginning(facts, asked)
    if asked.new_run and not isinstance(beginning, NewRun):
        log.warning("%s", log_message(NewRunIgnored(folder)))
    if isinstance(beginning, NewRun) and beginning.set_aside:
        log.warning("%s", log_message(RunSetAside(folder, set_run_aside(folder))))
    key = new_key(folder) if isinstance(beginning, NewRun) else run_key(folder)
    assert key is not None, "decided above"
    return key, beginning


def known_keys(folder: Path, spec: RunSpec, own: PublicKey) -> KeysInForce:
    """Those of the run that the journal records; before it records one, those of the spec, with our key."""
    facts = folder_facts(folder)
    if facts.journal is None:
        return KeysInForce.named_in(spec, own)
    keys = KeysInForce.named_in(spec, facts.journal)
    epoch = first_epoch(facts.generation)
    keys.follow(replace(keys.position, epoch=epoch, successors=facts.successors))
    return keys


def folder_facts(folder: Path) -> FolderFacts:
    """Raises StateError, JournalDamaged, DiskFull."""
    archived = archived_entries(folder / ARCHIVE)
    with closing(Journal(folder / JOURNAL)) as journal:
        facts = journal_facts(journal.rows())
        signer = facts.signer
        if signer is not None and journal.behind is None and archived > facts.entries:
            log.warning("%s", log_message(JournalOlder(folder)))
            journal.mark_behind(journal.newest_time())
        restored = journal.behind is not None
        successors = logged_successors(folder, journal, facts)
    pending = pending_key(folder)
    if pending is not None and pending.public == signer:  # the start that began the run was interrupted
        keep_key(folder)
    key = run_key(folder)
    return FolderFacts(
        folder,
        None if key is None else key.public,
        signer,
        _archive_signer(folder),
        restored,
        successors,
        min(generation_of(facts.epoch), len(successors)),
    )


def recorded_charter(folder: Path) -> Signed[Charter] | None:
    """That in the journal; None where it records no run. Raises StateError, JournalDamaged, DiskFull."""
    with closing(Journal(folder / JOURNAL)) as journal:
        return find_charter(journal.rows(), None)


def logged_successors(folder: Path, journal: Journal, facts: JournalFacts) -> Successors:
    """Those that the log names: its entries were checked before they were journaled. Raises DiskFull."""
    blobs = BlobStore(folder / BLOBS)
    copies = Copies(blobs, folder / ARCHIVE, entry=journal.entry)
    found = facts.named
    for file in facts.successions:
        if not copies.ensure(file):
            log.warning("the successor that entry %d names is not known", file.height)
            break
        entry = parse_entry(blobs.get(file.name))
        if isinstance(entry, Succession):
            found = agreed(found, (*found[: entry.named.statement.generation - 1], entry.named))
    return found


def _archive_signer(folder: Path) -> PublicKey | None:
    try:
        wire = (folder / ARCHIVE / CHARTER).read_bytes()
        return open_signed(Charter, wire, signer=None, limit=MAX_CHARTER_BYTES).signer
    except (OSError, TrustError):
        return None
