"""What a backup has of a run's folder: the files that the journal or the charter names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from barnraise.contract.archive import HELD_OUT_INDEX
from barnraise.contract.charter import Charter
from barnraise.contract.shards import DataIndex
from barnraise.core.errors import MalformedBlob, UserError
from barnraise.core.ids import BlobHash, blob_hash
from barnraise.core.signed import Signed
from barnraise.models.lora_files import ADAPTER_CONFIG
from barnraise.runtime.blob_store import BlobStore
from coordinator.run_folder import AUDIT_LEDGER, AUDIT_SECRET, BLOBS, CHAT_TEMPLATE, HELD_OUT
from coordinator.store.events import Row
from coordinator.store.journal import Journal
from coordinator.store.row_reader import RowReader, find_charter, open_snapshot, since_snapshot
from coordinator.store.run_state import RunState
from coordinator.store.state_snapshot import state_of
from coordinator.store.transitions import apply, lost_checkpoints


@dataclass(frozen=True)
class NamedFile:
    """A file of the run's folder."""

    path: str
    """In the folder."""
    hash: BlobHash | None
    """None where nothing that is signed names its hash."""


@dataclass(frozen=True)
class RunContents:
    """What a journal leads to."""

    folder: Path
    """The run's."""
    charter: Signed[Charter]
    state: RunState

    @classmethod
    def read(cls, path: Path, folder: Path) -> RunContents:
        """path: a copy of the journal of `folder`.

        Raises UserError where no run has begun; FileDamaged, FileNotFoundError for an entry of the log;
        JournalDamaged, TrustError.
        """
        blobs = BlobStore(folder / BLOBS)
        with closing(Journal(path)) as journal:
            charter = _charter(journal, folder)
            saved, after = since_snapshot(journal.rows())
            state = RunState.before_events(charter) if saved is None else _state_in(saved, charter)
            reader = RowReader(charter.value, blobs, lambda votes: blobs.get(BlobHash(votes.vote.entry)))
            for event in reader.events(after, state.position):
                state = apply(state, event)
        dropped = lost_checkpoints(state, lambda signed: blob_hash(signed.wire) not in blobs)
        return cls(folder, charter, apply(state, dropped))

    def files(self) -> Iterator[NamedFile]:
        """Every file but the journal and the key. What is lost is among them."""
        index = self.charter.value.data_index_hash
        log = (logged.name for logged in self.state.log)
        shards = _shards(BlobStore(self.folder / BLOBS).path(BlobHash(index)))
        names = {*log, *self.state.names(), index, *shards}
        yield from (_blob(BLOBS, name) for name in sorted(names))
        held_out = self.folder / HELD_OUT / HELD_OUT_INDEX
        yield from (_blob(HELD_OUT, name) for name in sorted(_shards(held_out)))
        unsigned = (CHAT_TEMPLATE, ADAPTER_CONFIG, AUDIT_LEDGER, AUDIT_SECRET)
        for path in (f"{HELD_OUT}/{HELD_OUT_INDEX}", *unsigned):
            if (self.folder / path).is_file():
                yield NamedFile(path, None)


def _charter(journal: Journal, folder: Path) -> Signed[Charter]:
    if (charter := find_charter(journal.rows(), None)) is None:
        raise UserError(f"the run in {folder} has not begun", fix="Start it with `coordinator serve` first.")
    return charter


def _state_in(saved: Row, charter: Signed[Charter]) -> RunState:
    """The journal's hashes are what vouches for a snapshot here: a backup may lack the key that signed it."""
    return state_of(open_snapshot(saved).value, charter)


def _shards(index: Path) -> set[BlobHash]:
    """Those of a data index; none where it is damaged or missing."""
    with suppress(OSError, MalformedBlob):
        return {BlobHash(ref.hash) for ref in DataIndex.from_bytes(index.read_bytes()).shards}
    return set()


def _blob(folder: str, name: BlobHash) -> NamedFile:
    return NamedFile(f"{folder}/{name[:2]}/{name}", name)
